"""From what somebody asks over the network to a `JobRequest`, and what such a one may not name. Asks no server.

Law: whoever asks over the network names no file of this machine, no place that photos may not be read from or results
not be written to, and no address inside of the house. Where the operator lists no places, none can be named. A server
of this machine alone that runs open is the exception: who can reach it can run `pictograph tag` as well.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from api.errors import Problem
from api.jobs.bodies import JobIn, OutputIn
from pipeline.errors import ConfigurationError, Conflict, SourceError
from pipeline.ledger import selection
from pipeline.ledger.clock import parse_window
from pipeline.ledger.requests import JobRequest, Output, Window
from pipeline.ledger.targets import check_outputs, parse_output
from pipeline.settings import PREFIX, Settings
from pipeline.sources.allowed import Allowed
from pipeline.sources.opening import kind_of
from pipeline.sources.rules import Rules
from pipeline.sources.user_rule import UserRule

S3 = "s3://"
LEDGER = f"{selection.KIND}:"
MOST_KEY_CHARACTERS = 200
MANIFESTS = frozenset({"manifest", "csv", "inventory"})

#: How the command line calls what is a field here; sentences of its checks come from there.
_OPTIONS = {
    "--user-from": "user_from",
    "--user": "user",
    "--window": "window",
    "--timezone": "window.timezone",
    "--output": "outputs",
    "--notify": "notify",
    "--until": "until",
    "--allow-mass-delete": "allow_mass_delete",
    "SOURCE": "source",
}
_OPTION = re.compile("|".join(sorted(map(re.escape, _OPTIONS), key=len, reverse=True)))
_INNER_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".lan")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """What whoever asks may name."""

    settings: Settings
    here: bool  # sits at this machine: its files may be named too, and any place that the settings allow


def invalid(pointer: str, detail: str) -> Problem:
    """The problem of a field that cannot be understood."""
    error = {"pointer": f"body.{pointer}", "code": "invalid_request", "detail": detail}
    return Problem(HTTPStatus.BAD_REQUEST, "invalid_request", detail, [error])


def not_allowed(pointer: str, detail: str) -> Problem:
    """The problem of a place that may not be named."""
    error = {"pointer": f"body.{pointer}", "code": "place_not_allowed", "detail": detail}
    return Problem(HTTPStatus.FORBIDDEN, "place_not_allowed", detail, [error])


@contextmanager
def understood(pointer: str) -> Iterator[None]:
    """Make what the block refuses the problem of this field; a conflict is nobody's spelling, and stays one."""
    try:
        yield
    except Conflict:
        raise
    except ConfigurationError as error:
        raise invalid(pointer, spoken(str(error))) from error


def spoken(sentence: str) -> str:
    """A sentence of the command line, with the fields of a body in the place of its options."""
    return _OPTION.sub(lambda found: _OPTIONS[found[0]], sentence)


def request_of(body: JobIn, key: str | None, reach: Reach) -> JobRequest:
    """The job that is asked for.

    Raises:
        Problem: it cannot be understood, or names what may not be named.
    """
    kind, place = _source(body, reach)
    with understood("user_from"):
        rule = UserRule.parse(body.user_from, body.user).template
    request = JobRequest(
        kind=kind,
        source=place,
        user_rule=rule,
        fixed_user=body.user,
        priority=body.priority,
        keep_missing=body.keep_missing,
        allow_mass_delete=body.allow_mass_delete,
        scope=body.scope,
        rules=Rules(**body.rules.model_dump()),
        most_failed_share=body.most_failed_share,
        window=_window(body),
        outputs=outputs_of(body.outputs, reach),
        notify=_notify(body.notify, reach),
        idempotency_key=checked_key(key),
    )
    check_delivery(request, reach)
    return request


def check_delivery(request: JobRequest, reach: Reach) -> None:
    """A Problem where the results could not be written, or nobody be told."""
    with understood("outputs" if request.outputs else "notify"):
        try:
            check_outputs(reach.settings, request)
        except SourceError as error:
            raise not_allowed("outputs", str(error)) from error


def checked_key(key: str | None) -> str | None:
    """An Idempotency-Key that can be kept."""
    if key is not None and not (0 < len(key) <= MOST_KEY_CHARACTERS and key.isprintable()):
        detail = f"Idempotency-Key must have 1 to {MOST_KEY_CHARACTERS} characters that can be seen."
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", detail)
    return key


# ---- where photos come from


def _source(body: JobIn, reach: Reach) -> tuple[str, str]:
    if (body.source is None) == (body.manifest is None):
        raise invalid("source", "Name either a source or a manifest.")
    pointer, named = ("source", body.source) if body.manifest is None else ("manifest", body.manifest)
    text = named or ""
    if text.startswith(LEDGER) and pointer == "source":
        with understood(pointer):
            about = text.removeprefix(LEDGER)
            selection.About.parse(about)
            return selection.KIND, about
    _check_place(pointer, text, reach)
    with understood(pointer):
        kind, place = kind_of(text)
    if pointer == "manifest" and kind not in MANIFESTS:
        endings = ".jsonl, .ndjson, .manifest or .csv, or is manifest.json"
        raise invalid(pointer, f"{text} is no manifest: the name of one ends in {endings}.")
    try:
        Allowed.of(reach.settings).check_source(kind, place)
    except ConfigurationError as error:
        raise not_allowed(pointer, str(error)) from error
    return kind, place


def _check_place(pointer: str, text: str, reach: Reach) -> None:
    """Before anything is looked at: whether there is a folder is not for everybody to learn."""
    if reach.here:
        return
    if not text.startswith(S3):
        raise not_allowed(pointer, "Over the network photos are named by s3:// addresses, or as those of the ledger.")
    if reach.settings.sources is None:
        raise not_allowed(
            pointer, f"No place can be named over the network before {PREFIX}SOURCES lists those that may be read."
        )


def _window(body: JobIn) -> Window | None:
    if body.window is None:
        return None
    with understood("window"):
        return parse_window(f"{body.window.begins}-{body.window.ends}", body.window.timezone)


# ---- where results go, and who is told


def outputs_of(asked: Sequence[OutputIn], reach: Reach) -> tuple[Output, ...]:
    """The outputs that are asked for; a Problem where one may not be named."""
    if asked and not reach.here:
        if any(not each.target.startswith(S3) for each in asked):
            raise not_allowed("outputs", "Over the network results are written to s3:// addresses alone.")
        if reach.settings.outputs is None:
            raise not_allowed(
                "outputs",
                f"No output can be named over the network before {PREFIX}OUTPUTS lists the places that may be "
                "written to.",
            )
    with understood("outputs"):
        return tuple(parse_output(each.target, each.format) for each in asked)


def _notify(asked: Sequence[str], reach: Reach) -> tuple[str, ...]:
    for url in () if reach.here else asked:
        if not _outside(url):
            raise not_allowed(
                "notify", "Over the network notices go to https:// addresses outside of this house; name such a one."
            )
    return tuple(asked)


def _outside(url: str) -> bool:
    """Whether this is https to a host that is by its name or number not one of ours.

    A public name may still lead inside, which only whoever resolves it can tell; a notice is a POST of a job's counts,
    follows no redirect, and nothing of its answer but the status is kept (`workers.webhook`).
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    if parts.scheme != "https" or not host:
        return False
    try:
        return ip_address(host).is_global
    except ValueError:  # a name
        numeric = not re.search(r"[a-z]", host.rpartition(".")[2])
        return "." in host and not host.endswith(_INNER_NAMES) and not numeric
