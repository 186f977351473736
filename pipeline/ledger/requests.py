"""What somebody asks for: one job, as a value that can be kept, compared and asked for again by a schedule."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from pipeline.sources.rules import Rules


class Scope(StrEnum):
    """Which of the photos that a job meets it works on."""

    MISSING = "missing"  # those that its model has no result for, as they are now
    FAILED = "failed"  # those whose result says that they could not be tagged
    STALE = "stale"  # those whose result is of older bytes or of an older decision
    ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The hours of each day in which a job may run; one that ends before it begins goes over midnight."""

    begins: str  # "01:00"
    ends: str  # "06:00"
    timezone: str = "UTC"  # of the IANA database


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """Where the results of a job are to be written once it has ended."""

    target: str  # s3://bucket/prefix/ or an absolute path
    format: str = "jsonl"  # or "csv"


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What `pictograph tag` asks for."""

    kind: str  # as `core.job.kind`
    source: str  # absolute: s3://bucket/prefix/, /folder, the manifest's own place, or what a ledger job is about
    user_rule: str  # e.g. "{user}/{photo}"
    fixed_user: str | None = None
    priority: int = 0  # higher goes first
    keep_missing: bool = False
    allow_mass_delete: bool = False
    scope: Scope = Scope.MISSING
    rules: Rules = field(default_factory=Rules)
    most_failed_share: float | None = None  # 0 to 1; above it the job is stopped. None: never
    window: Window | None = None
    outputs: tuple[Output, ...] = ()
    notify: tuple[str, ...] = ()  # addresses that are told when the job has ended
    idempotency_key: str | None = None  # the same key and the same request: the same job
    decision_revision: int | None = None  # of a job that decides anew
    retry_of: int | None = None  # the job whose failures it tries again
    schedule_id: int | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON, for a schedule to keep; without what only one submission has."""
        facts = asdict(self)
        del facts["idempotency_key"], facts["schedule_id"]
        return facts

    def sha256(self, model_id: int) -> bytes:
        """By which a repetition is known."""
        return hashlib.sha256(json.dumps([model_id, self.facts()], sort_keys=True).encode()).digest()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "JobRequest":
        """From what `facts` gave."""
        window = facts["window"]
        return cls(
            **{
                **facts,
                "scope": Scope(facts["scope"]),
                "rules": Rules.of(facts["rules"]),
                "window": window and Window(**window),
                "outputs": tuple(Output(**output) for output in facts["outputs"]),
                "notify": tuple(facts["notify"]),
            }
        )
