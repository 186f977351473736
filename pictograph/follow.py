"""Watching a job from outside: a progress bar on the way, a report at the end."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Task as Bar
from rich.text import Text
from sqlalchemy import Connection

from pictograph.supervisor import Supervisor
from pipeline.errors import ServiceDown
from pipeline.ledger import jobs, roster
from pipeline.ledger.control import held_by_window
from pipeline.ledger.jobs import Job
from pipeline.ledger.publish import INGEST_QUEUE, annotate_queue
from pipeline.records import Code, ItemState, JobState
from pipeline.store.session import Database

LOOK_SECONDS = 0.3
RESTING_LOOK_SECONDS = 2.0  # at a job that is paused
LONELY_SECONDS = 15.0  # without any worker for so long, say so

REPORTED = (
    ItemState.SUCCEEDED,
    ItemState.FAILED,
    ItemState.SKIPPED_UNCHANGED,
    ItemState.DUPLICATE,
    ItemState.EXCLUDED,
    ItemState.CANCELLED,
    ItemState.ERASED,
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A job at its end, as people and machines are told."""

    job: int
    state: str
    counts: dict[str, int]
    reasons: dict[str, int]
    subtracted: int
    seconds: float  # from the first work to the end, or until now
    photos_per_s: float
    error: str | None
    notes: tuple[str, ...]


def report(job: Job) -> Report:
    """What is to be said of a job."""
    counts = {"total": job.total, **{state.name.lower(): job.count(state) for state in REPORTED}}
    if job.waiting:
        counts["waiting"] = job.waiting
    reasons = {code.name.lower(): n for code, n in job.by_code(*REPORTED).items() if code is not Code.NONE}
    return Report(
        job=job.job_id,
        state=job.condition,
        counts=counts,
        reasons=reasons,
        subtracted=job.subtracted,
        seconds=round(seconds(job), 1),
        photos_per_s=round(rate(job), 1),
        error=job.error,
        notes=job.notes,
    )


def seconds(job: Job) -> float:
    """How long the job took, from its first work to its end; how long it has been running, if it is."""
    if job.started_at is None:
        return 0.0
    return ((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds()


def rate(job: Job) -> float:
    """Photos fetched and looked at per second of the job; 0 if there were none."""
    photos = job.tagged + job.count(ItemState.FAILED)
    return photos / max(seconds(job), 0.001) if photos else 0.0


class Rate(ProgressColumn):
    """Photos per second, and how long it will take at that."""

    def render(self, task: Bar) -> Text:
        """One column of the bar."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        left = task.time_remaining
        return Text(f"{speed:,.0f} photos/s" + (f", {left:.0f} s left" if left else ""), style="cyan")


def follow(
    database: Database, job_id: int, console: Console, *, show: bool, supervisor: Supervisor | None = None
) -> Job:
    """Wait until the job has ended, with a progress bar on a terminal. The supervisor's workers do it, if one is given.

    The database may be away for a while; the job is not lost by that, and neither is the watch.

    Raises:
        ConfigurationError: there is no such job, or the supervisor's workers cannot run as they are configured.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("{task.fields[failures]}", style="yellow"),
    )
    drawn = show and console.is_terminal
    with Progress(*columns, console=console, disable=not drawn, transient=True) as progress:
        bar = progress.add_task(f"job {job_id}", total=None, failures="")
        watch = _Watch(database, console, supervisor)
        while True:
            if supervisor is not None:
                supervisor.start_if_free()
            job = watch.look(job_id)
            if job is not None:
                _draw(progress, bar, job, alone=watch.alone)
                if job.state.ended:
                    return job
            resting = job is not None and job.state is JobState.PAUSED
            time.sleep(RESTING_LOOK_SECONDS if resting else LOOK_SECONDS)


def _draw(progress: Progress, bar: TaskID, job: Job, *, alone: bool) -> None:
    open_total = None if job.listing and not job.total else job.total - _settled_by_listing(job)
    done = job.tagged + job.count(ItemState.FAILED, ItemState.CANCELLED)
    troubles = [f"{n} {code.name.lower().replace('_', ' ')}" for code, n in job.by_code(ItemState.FAILED).items()]
    if job.count(ItemState.RETRY):
        troubles.append(f"{job.count(ItemState.RETRY)} to be tried again")
    doing = "waiting for a worker" if alone else "listing" if job.listing else "tagging"
    doing = job.condition if job.state in (JobState.PAUSED, JobState.CANCELLING) else doing
    progress.update(
        bar, description=f"job {job.job_id}: {doing}", total=open_total, completed=done, failures=", ".join(troubles)
    )


def _settled_by_listing(job: Job) -> int:
    twice = job.counts.get((ItemState.DUPLICATE, Code.LISTED_TWICE), 0)
    return twice + job.count(ItemState.SKIPPED_UNCHANGED, ItemState.EXCLUDED, ItemState.ERASED)


class _Watch:
    """Looks at a job, and says once when it is paused, nobody works on it, or the database is away."""

    def __init__(self, database: Database, console: Console, supervisor: Supervisor | None) -> None:
        self._database = database
        self._console = console
        self._supervisor = supervisor
        self.alone = False  # no worker was there at the last look
        self._since = time.monotonic()
        self._told = ""
        self._resting = False  # it was paused at the last look

    def look(self, job_id: int) -> Job | None:
        try:
            with self._database.transaction() as connection:
                job = jobs.find(connection, job_id)
                if job.state is JobState.PAUSED:
                    self._since = time.monotonic()
                    self._tell(_rests(job))
                elif self._lonely(connection, job):
                    self._tell(self._nobody(job))
                elif self._resting:
                    self._tell(f"Job {job.job_id} goes on.")
                self._resting = job.state is JobState.PAUSED
        except ServiceDown as exc:
            self._tell(f"{exc} Still waiting.")
            return None
        return job

    def _lonely(self, connection: Connection, job: Job) -> bool:
        queue = INGEST_QUEUE if job.listing else annotate_queue(job.model)
        self.alone = not (job.state.ended or roster.living(connection, queue))
        if not self.alone:
            self._since = time.monotonic()
        return time.monotonic() - self._since > LONELY_SECONDS

    def _tell(self, sentence: str) -> None:
        if sentence != self._told:
            self._console.print(sentence, style="yellow")
        self._told = sentence

    def _nobody(self, job: Job) -> str:
        role = "ingest" if job.listing else "annotate"
        if self._supervisor is not None and self._supervisor.start_if_free():  # else they are another one's, and differ
            return f"Job {job.job_id} waits: no {role} worker has come up; see {self._supervisor.log_of(role)}."
        command = role if job.listing else f"{role} --model {job.model}"
        return f"Job {job.job_id} waits: no worker is there for it; start one with `pictograph worker {command}`."


def _rests(job: Job) -> str:
    who, when = job.paused_by or "somebody", f" at {job.paused_at:%H:%M:%S} UTC" if job.paused_at else ""
    until = f" until {job.pause_until:%Y-%m-%d %H:%M:%S} UTC" if job.pause_until else ""
    if held_by_window(job):
        resume = f"`pictograph jobs resume {job.job_id} --ignore-window` lets it go on now"
        return f"Job {job.job_id} rests{until}, as its {who} is closed; still waiting: {resume}."
    why = f" ({job.pause_reason.rstrip('.')})" if job.pause_reason else ""
    resume = f"`pictograph jobs resume {job.job_id}` lets it go on"
    return f"Job {job.job_id} was paused by {who}{when}{until}{why}; still waiting: {resume}."
