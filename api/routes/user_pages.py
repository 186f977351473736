"""Pages about people: everybody, one user's pictograph, and two users compared."""

from datetime import date
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import Connection

from api.answers import answered, cacheable, unchanged
from api.auth import ProfileDesk
from api.errors import Problem
from api.pages import mosaic
from api.pages.look import CHOICES, Look, bars, within
from api.pages.render import PAGES, page
from api.parameters import only
from api.services import active_model
from api.views import profiles
from pipeline.store.periods import Month
from pipeline.profile import CELLS, MOST_CELLS, Unit
from pipeline.store import queries

router = APIRouter(include_in_schema=False)

HTML = "text/html; charset=utf-8"
FOR_EVER = "public, max-age=31536000, immutable"
USERS_PER_PAGE = 24
NEWEST_SHOWN = 24


@router.get("/people", dependencies=[only("after")])
def people(request: Request, desk: ProfileDesk, after: str = "") -> Response:
    """Everyone, each with a small treemap."""
    with desk.transaction() as connection:
        found = queries.users(connection, active_model(connection).model_id, USERS_PER_PAGE + 1, after)
    shown = found[:USERS_PER_PAGE]
    following = shown[-1].name if len(found) > USERS_PER_PAGE else None
    return cacheable(request, page("people.html", users=shown, after=after, following=following), HTML)


@router.get("/mosaic.css", dependencies=[only("m")])
async def places(m: Annotated[str, Query(pattern=r"^[1-9]\d{0,6}(,[1-9]\d{0,6}){0,15}$")]) -> Response:
    """Where the tiles of a pictograph stand: a function of the address alone."""
    body = mosaic.style_sheet([int(mass) for mass in m.split(",")])
    return Response(body, media_type="text/css", headers={"Cache-Control": FOR_EVER})


# ---- one user


def look_at(
    user: str,
    under: str | None = None,
    k: Annotated[int, Query(ge=1, le=MOST_CELLS)] = CELLS,
    unit: Unit = "photos",
    start: Annotated[str, Query(alias="from")] = "",
    end: Annotated[str, Query(alias="to")] = "",
) -> Look:
    """The page's parameters; empty ones, as forms send them, are none."""
    look = Look(user=user, under=under or None, k=k, unit=unit, start=_month("from", start), end=_month("to", end))
    if look.start and look.end and look.start > look.end:
        raise _refused("to", "The period ends before it begins; swap from and to.")
    return look


def _month(name: str, given: str) -> date | None:
    if not given:
        return None
    try:
        return date.fromisoformat(f"{given}-01")
    except ValueError:
        raise _refused(name, f"{name} is a month, such as 2025-01, and not {given!r}.") from None


def _refused(name: str, detail: str) -> Problem:
    error = {"pointer": f"query.{name}", "code": "invalid_parameter", "detail": detail}
    return Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", detail, [error])


@router.get("/u/{user:anything}", dependencies=[only("under", "k", "unit", "from", "to")])
def pictograph(request: Request, desk: ProfileDesk, look: Annotated[Look, Depends(look_at)]) -> Response:
    """One user's pictograph."""
    with desk.transaction() as connection:
        etag = profiles.profile_stamp(connection, look.user, look.asked, PAGES, desk.principal)
        known = unchanged(request, etag)
        if known is not None:
            return known
        etag, body = profiles.steady(
            connection,
            lambda c: profiles.profile_stamp(c, look.user, look.asked, PAGES, desk.principal),
            lambda c: _pictograph(c, look, desk),
        )
    return answered(body, HTML, etag)


def _pictograph(connection: Connection, look: Look, desk: ProfileDesk) -> str:
    months: tuple[Month, ...] = profiles.months(connection, look.user)
    found = profiles.user_profile(connection, look.user, look.asked)
    tiles = mosaic.tiles(found.profile, profiles.covers(connection, found))
    look = within(look, months)
    return page(
        "user.html",
        found=found,
        look=look,
        trail=profiles.trail(found),
        tiles=tiles,
        sheet=mosaic.sheet_address(tile.mass for tile in tiles) if tiles else None,
        months=bars(months, look),
        choices=CHOICES,
        newest=profiles.photos(connection, look.user, look.photos, None, NEWEST_SHOWN).photos,
        principal=desk.principal,
    )
