"""Whether the process lives, and whether it can answer."""

from http import HTTPStatus

from fastapi import APIRouter

from api.errors import Problem
from api.parameters import only
from api.services import Wired
from pipeline.store import migrate

router = APIRouter(tags=["health"])


@router.get("/livez", dependencies=[only()])
def livez() -> dict[str, str]:
    """The process answers; nothing else is asked."""
    return {"status": "alive"}


@router.get("/readyz", dependencies=[only()])
def readyz(services: Wired) -> dict[str, str]:
    """The database answers and has the tables that this code needs."""
    current, needed = migrate.current(services.database), migrate.newest()
    if current != needed:
        detail = f"The database is at revision {current}, this server needs {needed}; run `pictograph migrate`."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_migrated", detail, retry=10)
    return {"status": "ready", "revision": needed}
