"""What is answered of jobs, field by field. Names are those of the SQL columns."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from pipeline.ledger.delivery import Delivery
from pipeline.ledger.forecast import Forecast
from pipeline.ledger.items import Item
from pipeline.ledger.jobs import Job
from pipeline.ledger.progress import Progress
from pipeline.ledger.why import Reason
from pipeline.records import Code, ItemState


class ProgressOut(BaseModel):
    """How far a job is."""

    done: int = Field(description="photos in a state that stays")
    total: int = Field(description="photos met so far")
    share: float | None = Field(description="done / total, 0 to 1; null: nothing was met yet")
    seconds: float = Field(description="worked so far, without pauses")
    photos_per_s: float = Field(description="photos fetched and looked at per second")
    seconds_left: float | None = Field(description="at that rate; null: it cannot be told")

    @classmethod
    def of(cls, found: Progress) -> "ProgressOut":
        """The answer for a progress."""
        share = None if found.share is None else round(found.share, 6)
        return cls(
            done=found.done,
            total=found.total,
            share=share,
            seconds=found.seconds,
            photos_per_s=found.photos_per_s,
            seconds_left=found.seconds_left,
        )


class PauseOut(BaseModel):
    """A pause that goes on."""

    paused_by: str | None
    paused_at: datetime | None
    pause_reason: str | None
    pause_until: datetime | None


class WindowOut(BaseModel):
    """The hours in which a job runs."""

    begins: str
    ends: str
    timezone: str


class JobOut(BaseModel):
    """A job as it stands."""

    job_id: int
    kind: str
    source: str
    user_rule: str
    fixed_user: str | None
    scope: str
    model: str
    priority: int
    state: str = Field(
        description="created, running, pausing, paused, cancelling, failing, succeeded, succeeded_with_errors, failed "
        "or cancelled"
    )
    error: str | None
    notes: list[str]
    listing: bool = Field(description="whether the source is still being listed")
    total: int = Field(description="photos that the listing has met so far")
    counts: dict[str, int] = Field(description="photos by state")
    reasons: dict[str, dict[str, int]] = Field(description="photos by state and reason")
    subtracted: int = Field(description="photos found gone from the source")
    progress: ProgressOut
    pause: PauseOut | None
    window: WindowOut | None
    most_failed_share: float | None
    keeps_lines: bool = Field(description="whether what became of each line is kept")
    cancelled_by: str | None
    retry_of: int | None
    tidying_at: datetime | None = Field(description="since when its items are forgotten")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job, progress: Progress) -> "JobOut":
        """The answer for a job."""
        return cls(**job_facts(job, progress))


def job_facts(job: Job, progress: Progress) -> dict[str, Any]:
    """A job's fields, as they are answered."""
    same: tuple[str, ...] = (
        "job_id",
        "kind",
        "source",
        "user_rule",
        "fixed_user",
        "model",
        "priority",
        "error",
        "listing",
        "total",
    )
    same += ("subtracted", "most_failed_share", "keeps_lines", "cancelled_by", "retry_of", "tidying_at")
    same += ("created_at", "started_at", "finished_at")
    window = job.window
    return {name: getattr(job, name) for name in same} | {
        "scope": job.scope.value,
        "state": job.condition,
        "notes": list(job.notes),
        "counts": {state.name.lower(): job.count(state) for state in ItemState if job.count(state)},
        "reasons": {state.name.lower(): by_code for state in ItemState if (by_code := _reasons(job, state))},
        "progress": ProgressOut.of(progress),
        "pause": _pause(job),
        "window": window and WindowOut(begins=window.begins, ends=window.ends, timezone=window.timezone),
    }


def _reasons(job: Job, state: ItemState) -> dict[str, int]:
    return {code.name.lower(): n for code, n in job.by_code(state).items() if code is not Code.NONE}


def _pause(job: Job) -> PauseOut | None:
    if job.paused_at is None:
        return None
    return PauseOut(
        paused_by=job.paused_by, paused_at=job.paused_at, pause_reason=job.pause_reason, pause_until=job.pause_until
    )


class DeliveryOut(BaseModel):
    """Something that is brought somewhere when a job has ended."""

    kind: Literal["results", "webhook"]
    target: str
    format: str | None
    state: str = Field(description="waiting, waiting_to_be_tried_again, delivered or given_up")
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, found: Delivery) -> "DeliveryOut":
        """The answer for a delivery."""
        same = ("kind", "target", "format", "attempts", "next_attempt_at", "delivered_at", "error")
        return cls(**{name: getattr(found, name) for name in same}, state=found.condition.replace(" ", "_"))


class JobDetailOut(JobOut):
    """A job, and what is brought somewhere at its end."""

    deliveries: list[DeliveryOut]

    @classmethod
    def of_all(cls, job: Job, progress: Progress, deliveries: Sequence[Delivery]) -> "JobDetailOut":
        """The answer for a job and its deliveries."""
        return cls(**job_facts(job, progress), deliveries=[DeliveryOut.of(each) for each in deliveries])


class JobsOut(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobOut]
    next_page_token: str | None = Field(description="give it as page_token for the next page; null on the last one")


class ControlOut(JobOut):
    """A job after a command."""

    changed: bool = Field(description="false: it was so already, and nothing was written")


class ItemOut(BaseModel):
    """A photo of a job."""

    photo_id: int
    user: str
    key: str = Field(description="its address, s3://bucket/key or file:///path")
    state: str
    code: str | None
    message: str | None
    attempts: int
    next_attempt_at: datetime | None

    @classmethod
    def of(cls, item: Item) -> "ItemOut":
        """The answer for an item."""
        return cls(
            photo_id=item.photo_id,
            user=item.user,
            key=item.uri,
            state=item.state.name.lower(),
            code=None if item.code is Code.NONE else item.code.name.lower(),
            message=item.message or None,
            attempts=item.attempts,
            next_attempt_at=item.next_attempt_at,
        )


class ItemsOut(BaseModel):
    """Photos that a job worked on, by id. What its listing settled by itself is counted, and no item."""

    items: list[ItemOut]
    next_page_token: str | None


class WhyOut(BaseModel):
    """Why a job does not move, or that it does."""

    job_id: int
    code: str = Field(description="stable, for programs: tagging, paused, no_annotate_worker, ...")
    moves: bool
    sentence: str

    @classmethod
    def of(cls, job_id: int, reason: Reason) -> "WhyOut":
        """The answer for a reason."""
        return cls(job_id=job_id, code=reason.code, moves=reason.moves, sentence=reason.sentence)


class ForecastOut(BaseModel):
    """What a job would meet and do, were it submitted now."""

    listed: int = Field(description="entries; the sum of the next six and of excluded")
    new: int
    changed: int
    unchanged: int
    listed_twice: int
    erased: int
    not_there: int
    excluded: dict[str, int] = Field(description="by reason")
    due: int = Field(description="photos that would be worked on")
    same_version: int = Field(description="new ones that look like a photo elsewhere in the ledger")
    gone: int = Field(description="photos of the ledger that are no longer there, and would be subtracted")
    gone_kept: str | None = Field(description="why they would not be")
    seconds: float | None = Field(description="by what jobs of this model have taken here; null: nobody knows")

    @classmethod
    def of(cls, found: Forecast) -> "ForecastOut":
        """The answer for a forecast."""
        same = ("listed", "new", "changed", "unchanged", "listed_twice", "erased", "not_there", "due", "same_version")
        values = {name: getattr(found, name) for name in (*same, "gone", "gone_kept")}
        seconds = None if found.seconds is None else round(found.seconds, 1)
        return cls(**values, excluded=dict(found.excluded), seconds=seconds)
