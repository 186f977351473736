"""Jobs: what runs and what ran, started and commanded."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse

from api import tokens
from api.answers import cacheable
from api.auth import Desk, JobDesk, OperatorDesk
from api.errors import not_found
from api.jobs import commands
from api.jobs.bodies import ItemCodes, ItemStates, JobIn, JobStates, PauseIn, ResumeIn, RetryIn
from api.jobs.commands import Done
from api.jobs.watching import Seen
from api.parameters import only
from api.schemas.jobs import (
    ControlOut,
    ForecastOut,
    ItemOut,
    ItemsOut,
    JobDetailOut,
    JobOut,
    JobsOut,
    WhyOut,
    job_facts,
)
from api.views import jobs as views
from pipeline.ledger.jobs import Job
from pipeline.ledger.progress import progress
from pipeline.records import Code, ItemState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JSON = "application/json"
LARGEST_ID = 2**63 - 1
LOOK_AGAIN_SECONDS = 5  # after a job was submitted

JobId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="the job")]
PageSize = Annotated[int, Query(ge=1, le=500, description="entries at most")]
PageToken = Annotated[str | None, Query(description="next_page_token of the page before; without it, the first page")]
IdempotencyKey = Annotated[
    str | None, Header(description="the same key and the same body again are the same job, not another")
]
_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}
_COMMAND: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such job.", **_PROBLEM},
    409: {"description": "The job's state does not allow it.", **_PROBLEM},
}
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    400: {"description": "It cannot be understood.", **_PROBLEM},
    403: {"description": "It names a place that may not be named.", **_PROBLEM},
    409: {"description": "The Idempotency-Key was used for another request, or a state contradicts.", **_PROBLEM},
    422: {"description": "The place that it names cannot be used.", **_PROBLEM},
}


# ---- the list, and one of it


@router.get(
    "",
    response_model=JobsOut,
    dependencies=[only("state", "page_size", "page_token")],
    operation_id="list_jobs",
)
def list_jobs(
    request: Request,
    desk: JobDesk,
    state: Annotated[JobStates | None, Query(description="open: not ended; ended: any of the last four")] = None,
    page_size: PageSize = 50,
    page_token: PageToken = None,
) -> Response:
    """Jobs, newest first."""
    before = position(request, page_token)
    states = () if state is None else views.STATES[state]
    with desk.transaction() as connection:
        found = views.listed(connection, states=states, before=before, limit=page_size)
    token = None if found.following is None else tokens.seal(request, [found.following])
    answer = JobsOut(jobs=[job_out(job) for job in found.jobs], next_page_token=token)
    return _with_link(cacheable(request, answer.model_dump_json(), JSON), request, token)


def job_out(job: Job) -> JobOut:
    """The answer for a job."""
    return JobOut.of(job, progress(job))


def position(request: Request, token: str | None) -> int | None:
    """The job or photo after which a page begins; None: the first page."""
    if token is None:
        return None
    found = tokens.opened(request, token)
    if len(found) != 1 or not isinstance(found[0], int):
        raise tokens.invalid()
    return found[0]


def _with_link(response: Response, request: Request, token: str | None) -> Response:
    response.headers.update(tokens.next_link(request, token))
    return response


@router.get(
    "/{job_id:word}",
    response_model=JobDetailOut,
    dependencies=[only()],
    operation_id="get_job",
)
def get_job(request: Request, desk: JobDesk, job_id: JobId) -> Response:
    """One job as it stands: states, counts, how far it is, and what is brought somewhere at its end."""
    found = detail_of(desk, job_id)
    answer = JobDetailOut.of_all(found.job, found.progress, found.deliveries)
    return cacheable(request, answer.model_dump_json(), JSON)


def detail_of(desk: Desk, job_id: int) -> views.JobDetail:
    """The job; a Problem where there is none."""
    with desk.transaction() as connection:
        found = views.detail(connection, job_id)
    if found is None:
        raise not_found(f"There is no job {job_id}.")
    return found


@router.get(
    "/{job_id:word}/items",
    response_model=ItemsOut,
    dependencies=[only("state", "code", "page_size", "page_token")],
    operation_id="list_job_items",
)
def list_items(
    request: Request,
    desk: JobDesk,
    job_id: JobId,
    state: Annotated[ItemStates | None, Query(description="only these; unless given, all")] = None,
    code: Annotated[ItemCodes | None, Query(description="only those with that reason")] = None,
    page_size: PageSize = 50,
    page_token: PageToken = None,
) -> Response:
    """Photos that the job works on, by id. What its listing settled by itself is counted, and is no item."""
    after = position(request, page_token) or 0
    wanted = ItemState[state.upper()] if state else None
    reason = Code[code.upper()] if code else None
    with desk.transaction() as connection:
        if views.job(connection, job_id) is None:
            raise not_found(f"There is no job {job_id}.")
        found = views.item_page(connection, job_id, wanted, reason, after, page_size)
    token = None if found.following is None else tokens.seal(request, [found.following])
    answer = ItemsOut(items=[ItemOut.of(item) for item in found.items], next_page_token=token)
    return _with_link(cacheable(request, answer.model_dump_json(), JSON), request, token)


@router.get(
    "/{job_id:word}/why",
    response_model=WhyOut,
    dependencies=[only()],
    operation_id="get_job_why",
)
def get_why(request: Request, desk: JobDesk, job_id: JobId) -> Response:
    """Why the job does not move, in one sentence; or that it moves, or how it ended."""
    with desk.transaction(of_one_moment=True) as connection:
        reason = views.reason(connection, job_id)
    if reason is None:
        raise not_found(f"There is no job {job_id}.")
    return cacheable(request, WhyOut.of(job_id, reason).model_dump_json(), JSON)


# ---- as it changes


@router.get(
    "/{job_id:word}/events",
    response_class=Response,  # FastAPI's own way begins to answer before it is known whether the job is there
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "`job` events, each a job as it stands; `end` when it has ended",
        }
    },
    dependencies=[only()],
    operation_id="watch_job",
)
async def watch_job(desk: JobDesk, job_id: JobId) -> Response:
    """The job as it changes, as server-sent events; ends with the job. Reconnect whenever it breaks off."""
    watching = desk.services.watching
    watching.check_room()
    look = partial(_look, desk, job_id)
    await watching.check_there(job_id, look)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies pass each event on at once
    return EventSourceResponse(watching.events(job_id, look), headers=headers)


def _look(desk: Desk, job_id: int) -> Seen:
    with desk.transaction() as connection:
        job = views.job(connection, job_id)
    if job is None:
        raise not_found(f"There is no job {job_id}.")
    return Seen(what=job, body=job_out(job).model_dump_json(), ended=job.state.ended)


# ---- new jobs


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobOut,
    responses={200: {"model": ForecastOut, "description": "dry_run: what the job would do"}, **_ACCEPTED},
    dependencies=[only()],
    operation_id="create_job",
)
def create_job(desk: OperatorDesk, body: JobIn, idempotency_key: IdempotencyKey = None) -> Response:
    """Start a job, as `pictograph tag` does. With `dry_run` nothing is started, and what it would do is answered."""
    if body.dry_run:
        return Response(ForecastOut.of(commands.foresee(desk, body)).model_dump_json(), media_type=JSON)
    return _accepted(commands.submit(desk, body, idempotency_key))


def _accepted(job: Job) -> Response:
    headers = {"Location": f"/v1/jobs/{job.job_id}", "Retry-After": str(LOOK_AGAIN_SECONDS)}
    return Response(job_out(job).model_dump_json(), HTTPStatus.ACCEPTED, headers, JSON)


@router.post(
    "/{job_id:word}:retry_failed",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobOut,
    responses={**_ACCEPTED, **_COMMAND},
    dependencies=[only()],
    operation_id="retry_failed",
)
def retry_failed(
    desk: OperatorDesk, job_id: JobId, body: RetryIn | None = None, idempotency_key: IdempotencyKey = None
) -> Response:
    """Try the photos again that the job failed on: a new job, with the same model and priority."""
    asked = body or RetryIn()
    return _accepted(commands.retry_failed(desk, job_id, asked.outputs, idempotency_key, everything=asked.everything))


# ---- orders


@router.post(
    "/{job_id:word}:pause",
    response_model=ControlOut,
    responses=_COMMAND,
    dependencies=[only()],
    operation_id="pause_job",
)
def pause_job(desk: OperatorDesk, job_id: JobId, body: PauseIn | None = None) -> Response:
    """Let the job rest: no more of it is begun, and what workers hold of it is finished."""
    asked = body or PauseIn()
    return _done(commands.pause(desk, job_id, reason=asked.reason, until=asked.until))


@router.post(
    "/{job_id:word}:resume",
    response_model=ControlOut,
    responses=_COMMAND,
    dependencies=[only()],
    operation_id="resume_job",
)
def resume_job(desk: OperatorDesk, job_id: JobId, body: ResumeIn | None = None) -> Response:
    """Let the paused job go on, as soon as its window is open if it has one."""
    return _done(commands.resume(desk, job_id, ignore_window=(body or ResumeIn()).ignore_window))


@router.post(
    "/{job_id:word}:cancel",
    response_model=ControlOut,
    responses=_COMMAND,
    dependencies=[only()],
    operation_id="cancel_job",
)
def cancel_job(desk: OperatorDesk, job_id: JobId) -> Response:
    """Stop the job for good: what is open of it becomes cancelled, what is done stays. Its results are delivered."""
    return _done(commands.cancel(desk, job_id))


def _done(done: Done) -> Response:
    answer = ControlOut(**job_facts(done.job, progress(done.job)), changed=done.changed)
    return Response(answer.model_dump_json(), media_type=JSON)
