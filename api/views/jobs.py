"""What routes and pages show of jobs. Pure of HTTP: a transaction and parameters in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline.errors import ConfigurationError
from pipeline.ledger import delivery, items, jobs, why
from pipeline.ledger.delivery import Delivery
from pipeline.ledger.items import ItemPage
from pipeline.ledger.jobs import Job
from pipeline.ledger.progress import Progress, progress
from pipeline.ledger.why import Reason
from pipeline.records import Code, ItemState, JobState

OPEN = tuple(state for state in JobState if not state.ended)
ENDED = tuple(state for state in JobState if state.ended)

#: By the word that asks for them.
STATES: Mapping[str, tuple[JobState, ...]] = {
    "open": OPEN,
    "ended": ENDED,
    **{state.name.lower(): (state,) for state in JobState},
}

#: Why no small picture of a photo is shown, by how it failed.
NO_PICTURE = {
    Code.UNSUPPORTED: "no image that can be read",
    Code.TOO_LARGE: "too large to be shown",
    Code.CORRUPT: "broken or cut off",
    Code.GONE: "no longer there",
    Code.QUARANTINED: "kept aside",
    Code.FORBIDDEN: "closed to us",
    Code.INFRASTRUCTURE: "its store did not answer",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPage:
    """Some jobs, newest first."""

    jobs: tuple[Job, ...]
    following: int | None  # the job below which the next page begins; None: there is none


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDetail:
    """A job, how far it is, and what is brought somewhere at its end."""

    job: Job
    progress: Progress
    deliveries: tuple[Delivery, ...]


def listed(connection: Connection, *, states: tuple[JobState, ...] = (), before: int | None, limit: int) -> JobPage:
    """The newest jobs, newest first, in these states (none given: in any)."""
    found = jobs.newest(connection, limit + 1, states=states, before=before)
    return JobPage(jobs=tuple(found[:limit]), following=found[limit - 1].job_id if len(found) > limit else None)


def job(connection: Connection, job_id: int) -> Job | None:
    """The job as it stands; None if there is none."""
    try:
        return jobs.find(connection, job_id)
    except ConfigurationError:
        return None


def detail(connection: Connection, job_id: int) -> JobDetail | None:
    """The job and what belongs to it; None if there is none."""
    found = job(connection, job_id)
    if found is None:
        return None
    return JobDetail(job=found, progress=progress(found), deliveries=tuple(delivery.of_job(connection, job_id)))


def item_page(
    connection: Connection, job_id: int, state: ItemState | None, code: Code | None, after: int, limit: int
) -> ItemPage:
    """Photos of a job in this state, for this reason; by id, after one."""
    return items.page(connection, job_id, state=state, code=code, after=after, limit=limit)


def reason(connection: Connection, job_id: int) -> Reason | None:
    """Why the job does not move; None if there is none. The transaction is to be of one moment."""
    if job(connection, job_id) is None:
        return None
    return why.explain(why.gather(connection, job_id))
