"""Whether the process lives, and whether it can answer."""

from functools import cache
from http import HTTPStatus

from fastapi import APIRouter, Request

from api.errors import Problem
from api.parameters import only
from api.services import services_of
from pipeline.store import migrate

router = APIRouter(tags=["health"])


@router.get("/livez", dependencies=[only()], operation_id="livez")
async def livez() -> dict[str, str]:
    """The process answers; nothing else is asked, and no thread is waited for."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    dependencies=[only()],
    responses={503: {"description": "The database does not answer, or lacks tables."}},
    operation_id="readyz",
)
def readyz(request: Request) -> dict[str, str]:
    """The database answers and has the tables that this code needs."""
    current, needed = migrate.current(services_of(request).database), _needed()
    if current != needed:
        detail = f"The database is at revision {current}, this server needs {needed}; run `pictograph migrate`."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_migrated", detail, retry=10)
    return {"status": "ready", "revision": needed}


@cache
def _needed() -> str:
    """What this code needs; read from its files once, as they do not change while it runs."""
    return migrate.newest()
