"""What is done to jobs over the network, for routes and pages alike: each a transaction or two at the asker's desk.

Whoever commands signs: pauses and cancellations bear the name of the key. Servers of this machine alone that run
without keys know nobody's name.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus

from sqlalchemy import Connection

from api.auth import OPEN, Desk, Principal
from api.errors import Problem, not_found
from api.jobs.bodies import JobIn, OutputIn
from api.jobs.requests import Reach, check_delivery, checked_key, outputs_of, request_of, spoken, understood
from api.views import jobs as views
from pipeline.errors import ServiceDown, SourceError
from pipeline.ledger import control, ending, jobs, selection
from pipeline.ledger.forecast import Forecast, forecast
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import JobRequest, Output
from pipeline.settings import Settings
from pipeline.sinks import output_access
from pipeline.sources.allowed import Allowed
from pipeline.sources.opening import open_source
from pipeline.sources.s3 import S3Access, check_bucket
from pipeline.sources.source import Source
from pipeline.sources.user_rule import UserRule
from pipeline.store import promotions

FORECAST_SECONDS = 20.0  # a larger place is forecast on the command line
FORECASTS_AT_ONCE = 2
WIND_UP_ROUNDS = 3  # batches that whoever cancels winds up; redrivers do the rest

_forecasts = threading.BoundedSemaphore(FORECASTS_AT_ONCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A command that was carried out."""

    job: Job  # as it stands now
    changed: bool  # False: it was so already


def signature(principal: Principal) -> str:
    """Who orders, for others to read."""
    return "somebody" if principal is OPEN else principal.name


def reach_of(desk: Desk) -> Reach:
    """What whoever asks may name."""
    return Reach(settings=desk.services.settings, here=desk.principal is OPEN)


# ---- new jobs


def submit(desk: Desk, body: JobIn, key: str | None) -> Job:
    """Create the job that is asked for, or find the one that the same request made before.

    Raises:
        Problem: it cannot be understood, or would be of no use.
        Conflict: the key was used for another request.
    """
    request = request_of(body, key, reach_of(desk))
    with desk.commanding() as connection:
        model_id = _model_id(connection, body.model, desk.services.settings)
        before = jobs.submitted_before(connection, request, model_id)
        if before is not None:
            return jobs.find(connection, before)
        _check_ledger(connection, request)
    _check_places(desk.services.settings, request)
    return _submitted(desk, request, model_id)


def _submitted(desk: Desk, request: JobRequest, model_id: int) -> Job:
    with desk.commanding() as connection:
        with understood("model"):
            job_id = jobs.submit(connection, request, model_id)
        return jobs.find(connection, job_id)


def _model_id(connection: Connection, name: str | None, settings: Settings) -> int:
    with understood("model"):
        return promotions.find_model(connection, name or settings.model).model_id


def _check_ledger(connection: Connection, request: JobRequest) -> None:
    if request.kind == selection.KIND:
        with understood("source"):
            selection.check(connection, request.source)


def _check_places(settings: Settings, request: JobRequest) -> None:
    """Ask the store whether the source can be listed and the bucket of the results is there."""
    with _usable():
        if request.kind != selection.KIND:
            _source(settings, request).check(may_be_empty=request.allow_mass_delete)
        for bucket in sorted({each.target.removeprefix("s3://").partition("/")[0] for each in _in_s3(request)}):
            check_bucket(output_access(settings), bucket)


def _in_s3(request: JobRequest) -> Iterator[Output]:
    return (each for each in request.outputs if each.target.startswith("s3://"))


@contextmanager
def _usable() -> Iterator[None]:
    """Make a place that cannot be used a problem of whoever named it."""
    try:
        yield
    except SourceError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "place_unusable", spoken(str(error))) from error


def _source(settings: Settings, request: JobRequest) -> Source:
    rule = UserRule.parse(request.user_rule, request.fixed_user)
    return open_source(request.kind, request.source, rule, S3Access.of(settings), Allowed.of(settings))


# ---- forecasts


def foresee(desk: Desk, body: JobIn) -> Forecast:
    """What the job that is asked for would do; nothing is written.

    Raises:
        Problem: it cannot be understood, would be of no use, or its place is too large to be gone through meanwhile.
    """
    settings = desk.services.settings
    request = request_of(body, None, reach_of(desk))
    with desk.commanding() as connection:
        model_id = _model_id(connection, body.model, settings)
        _check_ledger(connection, request)
    with _turn(), _usable():
        source = None
        if request.kind != selection.KIND:
            source = _source(settings, request)
            source.check(may_be_empty=request.allow_mass_delete)
        ledger = _Hurried(desk, time.monotonic() + FORECAST_SECONDS)
        return forecast(ledger, request, model_id, source, settings.page_keys)


@contextmanager
def _turn() -> Iterator[None]:
    if not _forecasts.acquire(blocking=False):
        detail = "Other forecasts are being made; ask again in a moment."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry=5)
    try:
        yield
    finally:
        _forecasts.release()


@dataclass(frozen=True, slots=True)
class _Hurried:
    """Where forecasts ask the ledger, once for each page of the place: for so long only."""

    desk: Desk
    until: float  # of the monotonic clock

    def transaction(self) -> AbstractContextManager[Connection]:
        if time.monotonic() > self.until:
            detail = (
                f"This place is too large to be gone through in {FORECAST_SECONDS:g} seconds; "
                "`pictograph tag --dry-run` takes its time."
            )
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_large_to_forecast", detail)
        return self.desk.commanding()


# ---- orders to jobs that are there


def pause(
    desk: Desk, job_id: int, *, reason: str | None, until: datetime | None = None, seconds: float | None = None
) -> Done:
    """Let a job rest, until a moment or for so long; Conflict where it has ended or is ending."""
    by = signature(desk.principal)
    with desk.commanding() as connection:
        _there(connection, job_id)
        with understood("until"):
            changed = control.pause(connection, job_id, by, reason=reason, until=until, seconds=seconds)
        return Done(job=jobs.find(connection, job_id), changed=changed)


def resume(desk: Desk, job_id: int, *, ignore_window: bool) -> Done:
    """Let a paused job go on; Conflict where it has ended or is ending."""
    with desk.commanding() as connection:
        _there(connection, job_id)
        changed = control.resume(connection, job_id, ignore_window=ignore_window)
        return Done(job=jobs.find(connection, job_id), changed=changed)


def cancel(desk: Desk, job_id: int) -> Done:
    """Stop a job for good; Conflict where it has ended. What is left to count when it is large, redrivers count."""
    with desk.commanding() as connection:
        _there(connection, job_id)
        changed = ending.cancel(connection, job_id, signature(desk.principal))
    with suppress(ServiceDown):  # a batch that takes longer than a page may take is the redrivers', as all others are
        any(_wound_up(desk, job_id) for _ in range(WIND_UP_ROUNDS))
    with desk.commanding() as connection:
        return Done(job=jobs.find(connection, job_id), changed=changed)


def _wound_up(desk: Desk, job_id: int) -> bool:
    with desk.commanding() as connection:
        return ending.wind_up(connection, job_id)


def retry_failed(desk: Desk, job_id: int, outputs: tuple[OutputIn, ...], key: str | None, *, everything: bool) -> Job:
    """A new job for the photos that one failed on; Conflict where it goes on, is forgotten, or failed on none."""
    reach = reach_of(desk)
    with desk.commanding() as connection:
        before = _there(connection, job_id)
        failed = len(jobs.failures(connection, job_id, limit=1))
    request = control.retry_of(before, failed=failed, everything=everything, outputs=outputs_of(outputs, reach))
    request = replace(request, idempotency_key=checked_key(key))
    check_delivery(request, reach)
    _check_places(reach.settings, request)
    return _submitted(desk, request, before.model_id)


def _there(connection: Connection, job_id: int) -> Job:
    found = views.job(connection, job_id)
    if found is None:
        raise not_found(f"There is no job {job_id}.")
    return found
