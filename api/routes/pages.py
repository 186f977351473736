"""The pages that people look at."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.answers import cacheable
from api.pages.render import page
from api.parameters import only
from api.routes.profiles import Cells
from api.schemas import JobOut
from api.services import UserProfile, Wired, active_model, taxonomy_of, user_profile
from pipeline import treemap
from pipeline.ledger import jobs
from pipeline.palette import paints
from pipeline.profile import CELLS, Cell
from pipeline.store import queries

router = APIRouter(include_in_schema=False)

HTML = "text/html; charset=utf-8"
USERS_PER_PAGE = 24
JOBS_SHOWN = 50
NEWEST_SHOWN = 24
CHOICES = (2, 4, 6, 8, 12)  # of k


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table of numbers."""

    cell: Cell
    mille: int  # share in thousandths
    fill: str
    cover: int | None  # photo id


@router.get("/", dependencies=[only("after")])
def index(request: Request, services: Wired, after: str = "") -> Response:
    """Everyone, each with a small treemap."""
    with services.transaction() as connection:
        found = queries.users(connection, active_model(connection).model_id, USERS_PER_PAGE + 1, after)
    shown = found[:USERS_PER_PAGE]
    following = shown[-1].name if len(found) > USERS_PER_PAGE else None
    return cacheable(request, page("index.html", users=shown, after=after, following=following), HTML)


@router.get("/u/{user:anything}", dependencies=[only("k")])
def user(request: Request, services: Wired, user: str, k: Cells = CELLS) -> Response:
    """One user's pictograph."""
    with services.transaction() as connection:
        found = user_profile(connection, user, k)
        model_id, cells = found.model.model_id, found.profile.cells
        area_column = taxonomy_of(found.model).area_column
        areas = {cell.node: int(area_column[cell.node]) for cell in cells if cell.node is not None}
        covers = queries.covers(connection, model_id, found.user_id, areas)
        newest = queries.newest_photos(connection, model_id, found.user_id, NEWEST_SHOWN)
    body = page(
        "user.html",
        found=found,
        rows=_rows(found, covers),
        wide=_treemap(found, 1120, 560, "wide"),
        tall=_treemap(found, 360, 480, "tall"),
        newest=newest,
        k=k,
        choices=CHOICES,
    )
    return cacheable(request, body, HTML)


def _treemap(found: UserProfile, width: int, height: int, name: str) -> str:
    return treemap.svg(found.profile, f"What {found.user} photographs", width, height, name=name)


def _rows(found: UserProfile, covers: dict[int, int]) -> list[Row]:
    cells = found.profile.cells
    parts = zip(cells, found.profile.per_mille(), paints(cells), strict=True)
    return [
        Row(cell=cell, mille=mille, fill=paint.fill, cover=None if cell.node is None else covers.get(cell.node))
        for cell, mille, paint in parts
    ]


@router.get("/jobs", dependencies=[only("limit")])
def job_list(request: Request, services: Wired, limit: Annotated[int, Query(ge=1, le=500)] = JOBS_SHOWN) -> Response:
    """The newest jobs."""
    with services.transaction() as connection:
        found = [JobOut.of(job) for job in jobs.newest(connection, limit)]
    return cacheable(request, page("jobs.html", jobs=found), HTML)
