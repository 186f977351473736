"""How far a job is, how fast it goes, and how long that leaves. Pure.

Law: the rate is of the photos that were fetched and looked at, over the seconds in which the job was not resting. What
the listing settled by itself costs next to nothing and is no work. How long it takes is only said where the listing
knows how much there is, and where something moves.
"""

from dataclasses import dataclass

from pipeline.ledger.jobs import Job
from pipeline.records import ItemState, JobState


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a job is at one moment."""

    done: int  # photos in a state that stays
    total: int  # photos met so far; more come while the source is being listed
    share: float | None  # done / total; None: nothing was met yet
    worked: int  # photos that were fetched and looked at
    seconds: float  # from the first work to the end, or until now, without the pauses
    photos_per_s: float  # worked / seconds
    seconds_left: float | None  # at that rate; None: it cannot be told


def progress(job: Job) -> Progress:
    """How far the job was when it was seen."""
    total = sum(job.counts.values())
    done = total - job.waiting
    worked = job.tagged + job.count(ItemState.FAILED)
    seconds = _seconds(job)
    rate = worked / seconds if worked and seconds > 0 else 0.0
    known = job.state is JobState.RUNNING and not job.listing and rate > 0
    return Progress(
        done=done,
        total=total,
        share=done / total if total else None,
        worked=worked,
        seconds=round(seconds, 1),
        photos_per_s=round(rate, 1),
        seconds_left=round(job.waiting / rate, 1) if known else None,
    )


def _seconds(job: Job) -> float:
    """How long the job has worked: a pause that goes on is not yet among those that it has rested."""
    if job.started_at is None:
        return 0.0
    end = job.finished_at or job.seen_at or job.started_at
    if job.state is JobState.PAUSED and job.paused_at is not None:
        end = max(job.started_at, job.paused_at)
    return max(0.0, (end - job.started_at).total_seconds() - job.rested_seconds)
