"""Where the results of a job go, and who is told: what an operator wrote, checked before the job is submitted. Pure.

A target that ends with a slash is a folder, which gets ``results.jsonl`` (or ``.csv``) and ``summary.json``. Any other
is the file of the results itself, and the summary lies beside it: ``night.jsonl`` and ``night.summary.json``. ``{job}``
in it stands for the job's number.
"""

import base64
import binascii
import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pipeline.address import parse_uri
from pipeline.errors import ConfigurationError, SourceError
from pipeline.ledger.requests import JobRequest, Output
from pipeline.settings import PREFIX, Settings
from pipeline.sources.allowed import LOCAL, Allowed, Place

FORMATS = ("jsonl", "csv")
JOB = "{job}"
LEAST_SECRET_BYTES = 24  # as Standard Webhooks wants it
MOST_URL_CHARACTERS = 2_000
_WHSEC = "whsec_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The two files that a delivery of results writes."""

    bucket: str | None  # of S3; None: local files
    results: str  # key, or absolute path
    summary: str

    @property
    def results_uri(self) -> str:
        """The results as a manifest names them."""
        return f"s3://{self.bucket}/{self.results}" if self.bucket else self.results


def parse_output(target: str, form: str | None = None) -> Output:
    """What ``--output`` means: s3://bucket/prefix/, s3://bucket/key, or a local file or folder, made absolute.

    Args:
        target: as it was typed.
        form: "jsonl" or "csv"; None: by the target's ending, else JSON lines.

    Raises:
        ConfigurationError: it is neither.
    """
    if form is None:
        form = "csv" if target.lower().endswith(".csv") else "jsonl"
    if form not in FORMATS:
        raise ConfigurationError(f"Results are written as {' or '.join(FORMATS)}, not as {form!r}.")
    if not target.isprintable():
        raise ConfigurationError("--output holds characters that cannot be shown; choose another name.")
    if target.startswith("s3://"):
        bucket, key = parse_uri(target)
        if {".", ".."} & set(key.split("/")):
            raise SourceError(f"--output {target} goes up; write the address as it is.")
        return Output(target=f"s3://{bucket}/{key}", format=form)
    if "://" in target or not target.strip():
        raise ConfigurationError(f"--output {target!r} is neither s3://bucket/prefix/ nor a file.")
    path = os.path.abspath(Path(target).expanduser())  # it need not be there
    return Output(target=path + "/" if target.endswith("/") or Path(path).is_dir() else path, format=form)


def target_of(target: str, form: str, job_id: int) -> Target:
    """The files that an output means for one job."""
    bucket, name = parse_uri(target) if target.startswith("s3://") else (None, target)
    name = name.replace(JOB, str(job_id))
    if not name or name.endswith("/"):
        return Target(bucket=bucket, results=f"{name}results.{form}", summary=f"{name}summary.json")
    stem = str(PurePosixPath(name).with_suffix("")) if name.endswith(f".{form}") else name
    return Target(bucket=bucket, results=name, summary=f"{stem}.summary.json")


def check_outputs(settings: Settings, request: JobRequest) -> None:
    """Refuse what could not be delivered when the job has ended.

    Raises:
        ConfigurationError: two outputs are one file, one lies outside of the places that may be written, a notice goes
            where none may go, or there is no secret to sign it with.
    """
    files = [each for output in request.outputs for each in _files(output)]
    for bucket, name in files:
        if files.count((bucket, name)) > 1:  # often the summary: night.csv and night.jsonl share theirs
            place = f"s3://{bucket}/{name}" if bucket else name
            raise ConfigurationError(f"Two outputs would write the same file, {place}; give each a name of its own.")
    for output in request.outputs:
        check_allowed(settings, target_of(output.target, output.format, 0))
    for url in request.notify:
        check_url(url)
    if request.notify:
        secret_of(settings)


def _files(output: Output) -> tuple[tuple[str | None, str], ...]:
    target = target_of(output.target, output.format, 0)
    return (target.bucket, target.results), (target.bucket, target.summary)


def check_allowed(settings: Settings, target: Target) -> None:
    """SourceError unless the target lies in a place that PICTOGRAPH_OUTPUTS lists, if it lists any."""
    if settings.outputs is None:
        return
    allowed = Allowed(places=tuple(map(Place.named, settings.outputs)))
    name = target.results if target.bucket else str(Path(target.results).resolve())
    if not allowed.holds(f"s3://{target.bucket}" if target.bucket else LOCAL, name):
        raise SourceError(
            f"{target.results_uri} lies outside of the places that {PREFIX}OUTPUTS lists; have it added to them."
        )


def check_url(url: str) -> None:
    """ConfigurationError unless notices may go there: https, or http on this machine alone; no password in it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - computed, and checked, when it is asked for
    except ValueError as exc:
        raise ConfigurationError("--notify is no address; write https://host/path.") from exc
    if not url.isprintable() or " " in url or len(url) > MOST_URL_CHARACTERS:
        raise ConfigurationError("--notify is no address; write https://host/path.")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("--notify holds a user or a password, which jobs would show; leave them out.")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _loopback(host))):
        raise ConfigurationError(f"--notify {url} is not https://host/path; http is for this machine alone.")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def secret_of(settings: Settings) -> bytes:
    """The key that notices are signed with, by PICTOGRAPH_WEBHOOK_SECRET: whsec_ and base64, or any other text.

    Raises:
        ConfigurationError: there is none, or it is too short or no base64.
    """
    name = f"{PREFIX}WEBHOOK_SECRET"
    if settings.webhook_secret is None:
        raise ConfigurationError(f"Notices are signed, and there is no secret to do it with; set {name}.")
    text = settings.webhook_secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(_WHSEC), validate=True) if text.startswith(_WHSEC) else text.encode()
    except binascii.Error as exc:
        raise ConfigurationError(f"{name} begins with {_WHSEC}, and what follows is no base64.") from exc
    if len(key) < LEAST_SECRET_BYTES:
        raise ConfigurationError(f"{name} must have at least {LEAST_SECRET_BYTES} bytes, and has {len(key)}.")
    return key
