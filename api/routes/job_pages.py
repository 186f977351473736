"""Pages about jobs: what runs and what ran, one of them as it goes, and the forms that command it."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import tokens
from api.answers import cacheable
from api.auth import Desk, JobDesk, OperatorDesk, Scope
from api.errors import not_found
from api.jobs import commands
from api.jobs.bodies import ItemCodes, ItemStates, Text
from api.pages.render import page
from api.parameters import only
from api.routes.jobs import JobId, PageToken, detail_of, job_out, position
from api.schemas.jobs import JobOut
from api.views import jobs as views
from pipeline.ledger.items import Item, ItemPage
from pipeline.ledger.jobs import Job, forgotten
from pipeline.records import Code, ItemState, JobState

router = APIRouter(include_in_schema=False)

HTML = "text/html; charset=utf-8"
OPEN_SHOWN = 100
PAST_SHOWN = 25
FAILURES_SHOWN = 6  # of each reason, on the job's own page
PHOTOS_SHOWN = 60  # of a list of them

#: How long a pause may be asked for, in seconds; 0: until somebody resumes the job.
RESTS = {"0": "until somebody resumes it", "3600": "for an hour", "28800": "for 8 hours", "86400": "for a day"}
Rest = Literal["0", "3600", "28800", "86400"]

#: How a state looks: good, warn, bad, or neither.
LOOKS = {
    "succeeded": "good",
    "succeeded_with_errors": "warn",
    "paused": "warn",
    "pausing": "warn",
    "cancelling": "warn",
    "failing": "bad",
    "failed": "bad",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A job in a list."""

    job: JobOut
    failed: int

    @property
    def look(self) -> str:
        """The class of its state."""
        return LOOKS.get(self.job.state, "")


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo of a job."""

    item: Item
    name: str  # of its file
    missing: str | None  # why there is no small picture

    @classmethod
    def of(cls, item: Item) -> "Photo":
        """An item as pages show it."""
        return cls(item=item, name=item.uri.rpartition("/")[2], missing=_missing(item))


def _missing(item: Item) -> str | None:
    if item.presentable:
        return None
    return views.NO_PICTURE.get(item.code, "no picture")


@dataclass(frozen=True, kw_only=True)
class Group:
    """The photos that failed for one reason."""

    code: str
    photos: int  # all of them
    shown: tuple[Photo, ...]


# ---- the list


@router.get("/jobs", dependencies=[only("page_token")])
def job_list(request: Request, desk: JobDesk, page_token: PageToken = None) -> Response:
    """What runs, and what ran."""
    before = position(request, page_token)
    with desk.transaction() as connection:
        running = None
        if before is None:
            running = views.listed(connection, states=views.OPEN, before=None, limit=OPEN_SHOWN)
        past = views.listed(connection, states=views.ENDED, before=before, limit=PAST_SHOWN)
    token = None if past.following is None else tokens.seal(request, [past.following])
    body = page(
        "jobs.html",
        principal=desk.principal,
        running=None if running is None else [_row(job) for job in running.jobs],
        past=[_row(job) for job in past.jobs],
        older=None if token is None else tokens.following(request, token),
    )
    return cacheable(request, body, HTML)


def _row(job: Job) -> Row:
    return Row(job=job_out(job), failed=job.count(ItemState.FAILED))


# ---- one job


@router.get("/jobs/{job_id}", dependencies=[only()])
def job_page(request: Request, desk: JobDesk, job_id: JobId) -> Response:
    """One job: how far it is, why it does not move, what failed, where its results are."""
    found = detail_of(desk, job_id)
    job = found.job
    with desk.transaction(of_one_moment=True) as connection:
        reason = views.reason(connection, job_id)
    with desk.transaction() as connection:
        pages = {
            code: views.item_page(connection, job_id, ItemState.FAILED, code, 0, FAILURES_SHOWN)
            for code in job.by_code(ItemState.FAILED)
        }
    body = page(
        "job.html",
        principal=desk.principal,
        row=_row(job),
        detail=found,
        reason=reason,
        groups=_groups(job, pages),
        forgotten=forgotten(job) if job.tidying_at else None,
        orders=_orders(desk, job),
        rests=RESTS,
    )
    return cacheable(request, body, HTML)


def _groups(job: Job, pages: dict[Code, ItemPage]) -> list[Group]:
    return [
        Group(code=code.name.lower(), photos=photos, shown=tuple(map(Photo.of, pages[code].items)))
        for code, photos in job.by_code(ItemState.FAILED).items()
    ]


def _orders(desk: Desk, job: Job) -> frozenset[str]:
    """What whoever looks may order now."""
    if not desk.principal.may(Scope.JOB_WRITE) or job.state is JobState.CANCELLING:
        return frozenset()
    if job.state.ended:
        return frozenset({"retry"} if job.count(ItemState.FAILED) and job.tidying_at is None else ())
    return frozenset({"cancel", "resume" if job.state is JobState.PAUSED else "pause"})


@router.get("/jobs/{job_id}/photos", dependencies=[only("state", "code", "page_token")])
def job_photos(
    request: Request,
    desk: JobDesk,
    job_id: JobId,
    state: ItemStates = "failed",
    code: ItemCodes | None = None,
    page_token: PageToken = None,
) -> Response:
    """The photos of a job that stand so, page by page."""
    after = position(request, page_token) or 0
    wanted, why = ItemState[state.upper()], Code[code.upper()] if code else None
    with desk.transaction() as connection:
        job = views.job(connection, job_id)
        if job is None:
            raise not_found(f"There is no job {job_id}.")
        found = views.item_page(connection, job_id, wanted, why, after, PHOTOS_SHOWN)
    token = None if found.following is None else tokens.seal(request, [found.following])
    body = page(
        "job_photos.html",
        principal=desk.principal,
        job=job,
        state=state,
        code=code,
        photos=[Photo.of(item) for item in found.items],
        total=job.counts.get((wanted, why), 0) if why else job.count(wanted),
        first=page_token is None,
        following=None if token is None else tokens.following(request, token),
    )
    return cacheable(request, body, HTML)


# ---- orders


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PauseForm(_Form):
    """Why a job is to rest, and for how long."""

    reason: Text = Field(default="", max_length=500)
    rest: Rest = "0"


class RetryForm(_Form):
    """Which failures are to be tried again."""

    everything: bool = False


@router.post("/jobs/{job_id}/pause", dependencies=[only()])
def pause(desk: OperatorDesk, job_id: JobId, form: Annotated[PauseForm, Form()]) -> Response:
    """Let the job rest."""
    seconds = float(form.rest) or None
    commands.pause(desk, job_id, reason=form.reason.strip() or None, seconds=seconds)
    return _to(job_id)


@router.post("/jobs/{job_id}/resume", dependencies=[only()])
def resume(desk: OperatorDesk, job_id: JobId, ignore_window: Annotated[bool, Form()] = False) -> Response:
    """Let the job go on."""
    commands.resume(desk, job_id, ignore_window=ignore_window)
    return _to(job_id)


@router.get("/jobs/{job_id}/cancel", dependencies=[only()])
def confirm_cancel(request: Request, desk: OperatorDesk, job_id: JobId) -> Response:
    """Ask whether the job is to be stopped for good."""
    found = detail_of(desk, job_id)
    return cacheable(request, page("job_cancel.html", principal=desk.principal, job=found.job), HTML)


@router.post("/jobs/{job_id}/cancel", dependencies=[only()])
def cancel(desk: OperatorDesk, job_id: JobId) -> Response:
    """Stop the job for good."""
    commands.cancel(desk, job_id)
    return _to(job_id)


@router.post("/jobs/{job_id}/retry", dependencies=[only()])
def retry(desk: OperatorDesk, job_id: JobId, form: Annotated[RetryForm, Form()]) -> Response:
    """Try again what failed, by a new job."""
    return _to(commands.retry_failed(desk, job_id, (), None, everything=form.everything).job_id)


def _to(job_id: int) -> Response:
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": f"/jobs/{job_id}"})
