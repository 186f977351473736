"""From what somebody types to a `JobRequest`: one room for `tag`, schedules, and whatever else asks for jobs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from pictograph.places import prepare_outputs
from pipeline.errors import ConfigurationError
from pipeline.ledger import selection
from pipeline.ledger.clock import parse_window
from pipeline.ledger.requests import JobRequest, Scope, Window
from pipeline.ledger.targets import check_outputs, parse_output
from pipeline.settings import Settings
from pipeline.sources.allowed import Allowed
from pipeline.sources.opening import kind_of, open_source
from pipeline.sources.rules import Rules
from pipeline.sources.s3 import S3Access
from pipeline.sources.source import Source, storable
from pipeline.sources.user_rule import UserRule

LEDGER = f"{selection.KIND}:"  # in front of what a job is about whose photos come from the ledger
MOST_KEY_CHARACTERS = 200
USER_FROM = "{user}/{photo}"

_FILTER = re.compile(r"(prefix|user)(!?=)(.+)", re.DOTALL)
_FIELDS = {
    ("prefix", "="): "include_prefixes",
    ("prefix", "!="): "exclude_prefixes",
    ("user", "="): "include_users",
    ("user", "!="): "exclude_users",
}
_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s?%", re.ASCII)

# The options that a job takes, for every command that asks for one.
Place = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="s3://bucket/prefix, a folder, a manifest; or ledger:photos, ledger:user:NAME, ledger:job:NUMBER for "
        "photos that the ledger knows.",
    ),
]
UserFrom = Annotated[
    str, typer.Option(help="How a key below SOURCE names its owner: {user} is one path segment, {photo} the rest.")
]
User = Annotated[str | None, typer.Option(help="All photos belong to this user.")]
Priority = Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")]
KeepMissing = Annotated[bool, typer.Option("--keep-missing", help="Keep what is gone from the source.")]
AllowMassDelete = Annotated[
    bool, typer.Option("--allow-mass-delete", help="Subtract what is gone even if it is more than 20 %.")
]
Scopes = Annotated[
    Scope,
    typer.Option(
        help="missing: without a result, or changed since. failed: could not be tagged. stale: of older bytes, or of "
        "an older decision. all: whatever is there."
    ),
]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="RULE",
        help="prefix=KEYS, prefix!=KEYS, user=NAME, user!=NAME or consent. May be given several times: one of each "
        "inclusion must fit and no exclusion may.",
    ),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        metavar="TARGET",
        help="Write what became of each line to s3://bucket/prefix/, or to a file on the ingest worker's machine, when "
        "the job has ended; a name that ends in .csv gets CSV, {job} is the job's number. May be given several times.",
    ),
]
Notify = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        metavar="URL",
        help="Tell this address when the job has ended, signed with PICTOGRAPH_WEBHOOK_SECRET.",
    ),
]
MaxFailed = Annotated[
    str | None, typer.Option("--max-failed", metavar="SHARE", help="Stop the job above this share of failures: 5%.")
]
Hours = Annotated[
    str | None, typer.Option("--window", metavar="SPAN", help="Work only in these hours of the day: 01:00-06:00.")
]
Timezone = Annotated[str | None, typer.Option(help="Of the window, such as Europe/Berlin; unless given, UTC.")]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key and the same request again are the same job, not another."),
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What somebody typed, as it was typed."""

    source: str
    user_from: str = USER_FROM
    user: str | None = None
    priority: int = 0
    keep_missing: bool = False
    allow_mass_delete: bool = False
    scope: Scope = Scope.MISSING
    filters: Sequence[str] = ()
    outputs: Sequence[str] = ()
    notify: Sequence[str] = ()
    max_failed: str | None = None
    window: str | None = None
    timezone: str | None = None
    idempotency_key: str | None = None


def request_of(asked: Asked) -> JobRequest:
    """The request that was typed; nobody is asked for anything but whether a path is a folder or a file.

    Raises:
        ConfigurationError: it cannot be understood.
    """
    kind, place = _source(asked.source)
    return JobRequest(
        kind=kind,
        source=place,
        user_rule=UserRule.parse(asked.user_from, asked.user).template,
        fixed_user=asked.user,
        priority=asked.priority,
        keep_missing=asked.keep_missing,
        allow_mass_delete=asked.allow_mass_delete,
        scope=asked.scope,
        rules=parse_filters(asked.filters),
        most_failed_share=parse_share(asked.max_failed),
        window=_window(asked.window, asked.timezone),
        outputs=tuple(map(parse_output, asked.outputs)),
        notify=tuple(asked.notify),
        idempotency_key=_key(asked.idempotency_key),
    )


def check(settings: Settings, request: JobRequest) -> None:
    """Ask the place whether it can be listed, and whether the results can be written where they shall be.

    Raises:
        ConfigurationError, ServiceDown: it would be of no use to submit this.
    """
    check_outputs(settings, request)
    prepare_outputs(settings, request)
    if request.kind != selection.KIND:
        source_of(settings, request).check(may_be_empty=request.allow_mass_delete)


def source_of(settings: Settings, request: JobRequest) -> Source:
    """The place that a request names, ready to be listed."""
    rule = UserRule.parse(request.user_rule, request.fixed_user)
    return open_source(request.kind, request.source, rule, S3Access.of(settings), Allowed.of(settings))


def _source(text: str) -> tuple[str, str]:
    if not text.startswith(LEDGER):
        return kind_of(text)
    about = text.removeprefix(LEDGER)
    selection.About.parse(about)
    return selection.KIND, about


def parse_filters(filters: Sequence[str]) -> Rules:
    """The rules that `--filter` gives: prefix=KEYS, prefix!=KEYS, user=NAME, user!=NAME, consent.

    Raises:
        ConfigurationError: one of them is none of these.
    """
    chosen: dict[str, tuple[str, ...]] = {}
    for one in filters:
        match = _FILTER.fullmatch(one)
        if one != "consent" and (match is None or not storable(one)):
            raise ConfigurationError(
                f"--filter {one!r} is no rule; write prefix=KEYS, prefix!=KEYS, user=NAME, user!=NAME or consent."
            )
        if match is not None:
            field = _FIELDS[match[1], match[2]]
            chosen[field] = (*chosen.get(field, ()), match[3])
    return Rules(**chosen, need_consent="consent" in filters)


def parse_share(text: str | None) -> float | None:
    """0.05 of "5%".

    Raises:
        ConfigurationError: it is no share.
    """
    if text is None:
        return None
    match = _SHARE.fullmatch(text.strip())
    share = float(match[1]) / 100 if match else None
    if share is None or share > 1:
        raise ConfigurationError(f"--max-failed {text!r} is no share; write it as 5%, from 0% to 100%.")
    return share


def _window(span: str | None, timezone: str | None) -> Window | None:
    if span is None and timezone is not None:
        raise ConfigurationError("--timezone is that of a window; give --window too, or leave it out.")
    return None if span is None else parse_window(span, timezone or "UTC")


def _key(key: str | None) -> str | None:
    if key is not None and not (0 < len(key) <= MOST_KEY_CHARACTERS and key.isprintable()):
        raise ConfigurationError(f"--idempotency-key must have 1 to {MOST_KEY_CHARACTERS} characters that can be seen.")
    return key
