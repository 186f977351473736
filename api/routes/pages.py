"""The pages that people look at."""


from fastapi import APIRouter, Request, Response

from api.answers import cacheable
from api.auth import ProfileDesk
from api.pages.render import page
from api.parameters import only
from api.services import active_model
from pipeline.store import queries

router = APIRouter(include_in_schema=False)

HTML = "text/html; charset=utf-8"
USERS_PER_PAGE = 24
JOBS_SHOWN = 50


@router.get("/", dependencies=[only("after")])
def index(request: Request, desk: ProfileDesk, after: str = "") -> Response:
    """Everyone, each with a small treemap."""
    with desk.transaction() as connection:
        found = queries.users(connection, active_model(connection).model_id, USERS_PER_PAGE + 1, after)
    shown = found[:USERS_PER_PAGE]
    following = shown[-1].name if len(found) > USERS_PER_PAGE else None
    return cacheable(request, page("index.html", users=shown, after=after, following=following), HTML)
