"""Pages about people: everybody, one user's pictograph, and two users compared."""

from datetime import date
from http import HTTPStatus
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from api.answers import answered, cacheable, unchanged
from api.asking import NAMELIKE
from api.auth import Principal, ProfileDesk
from api.errors import Problem, not_found
from api.names import encoded, named
from api.pages import mosaic
from api.pages.look import CHOICES, Look, bars, following, within
from api.pages.render import PAGES, page
from api.pages.steps import everyday
from api.parameters import only
from api.services import active_model
from api.views import comparisons, profiles
from api.views.comparisons import Compared, ComparedAsked
from api.views.profiles import Ref
from pipeline.profile import BROAD, CELLS, MOST_CELLS, Unit
from pipeline.store import queries

router = APIRouter(include_in_schema=False)

HTML = "text/html; charset=utf-8"
FOR_EVER = "public, max-age=31536000, immutable"
USERS_PER_PAGE = 24
NEWEST_SHOWN = 24


@router.get("/people", dependencies=[only("after")])
def people(request: Request, desk: ProfileDesk, after: Annotated[str, Query(pattern=NAMELIKE)] = "") -> Response:
    """Everyone, each with a small treemap."""
    with desk.transaction() as connection:
        found = queries.users(connection, active_model(connection).model_id, USERS_PER_PAGE + 1, after)
    shown = found[:USERS_PER_PAGE]
    following = shown[-1].name if len(found) > USERS_PER_PAGE else None
    return cacheable(
        request, page("people.html", users=shown, after=after, following=following, principal=desk.principal), HTML
    )


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
        month = date.fromisoformat(f"{given}-01")
        following(month)
    except ValueError:  # or there is none after it, in which its files would end
        raise _refused(name, f"{name} is a month, such as 2025-01, and not {given!r}.") from None
    return month


def _refused(name: str, detail: str) -> Problem:
    error = {"pointer": f"query.{name}", "code": "invalid_parameter", "detail": detail}
    return Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", detail, [error])


@router.get("/u/{user:anything}", dependencies=[only("under", "k", "unit", "from", "to")])
def pictograph(request: Request, desk: ProfileDesk, look: Annotated[Look, Depends(look_at)]) -> Response:
    """One user's pictograph."""
    with desk.transaction(of_one_moment=True) as connection:
        stands = profiles.standing(connection, look.user, look.asked.model)
        etag = profiles.profile_etag(stands, look.asked, PAGES, look, desk.principal)
        known = unchanged(request, etag)
        if known is not None:
            return known
        body = _pictograph(connection, look, desk.principal)
    return answered(body, HTML, etag)


def _pictograph(connection: Connection, look: Look, principal: Principal) -> str:
    months = profiles.months(connection, look.user)
    found = profiles.user_profile(connection, look.user, look.asked)
    tiles = mosaic.tiles(found.profile, profiles.covers(connection, found))
    look = within(look, months)
    trail = profiles.trail(found)
    common = everyday((ref.wnid for ref in trail), found.taxonomy)
    return page(
        "user.html",
        found=found,
        look=look,
        trail=[ref for ref in trail if ref.wnid in common or ref is trail[-1]],
        tiles=tiles,
        sheet=mosaic.sheet_address(tile.mass for tile in tiles) if tiles else None,
        months=bars(months, look),
        choices=CHOICES,
        newest=profiles.photos(connection, look.user, look.photos, None, NEWEST_SHOWN).photos,
        principal=principal,
    )


# ---- two users

COMPARED_CELLS = 8  # more than of one user: most are small where two are drawn as one
COMPARED_ENTRIES = 8  # of a list


@router.get("/compare", dependencies=[only("a", "b")])
def choose_two(request: Request, desk: ProfileDesk, a: str = "", b: str = "") -> Response:
    """A form for two names; with both of them, the way to their comparison."""
    if a and b:
        return RedirectResponse(f"/compare/{encoded(a)}/{encoded(b)}", HTTPStatus.SEE_OTHER)
    return cacheable(request, page("compare_choose.html", a=a, b=b, principal=desk.principal), HTML)


@router.get("/compare/{names:anything}", dependencies=[only("k")])
def compared(
    request: Request, desk: ProfileDesk, k: Annotated[int, Query(ge=1, le=MOST_CELLS)] = COMPARED_CELLS
) -> Response:
    """Two users on one map, and in lists."""
    a, b = _two(request)
    asked, viewer = ComparedAsked(k=k, most=COMPARED_ENTRIES), desk.principal.user

    def stamp(connection: Connection) -> str:
        return comparisons.compared_stamp(connection, (a, b), asked, None, PAGES, desk.principal)

    with desk.gallery(of_one_moment=True) as connection:
        etag = stamp(connection)
        known = unchanged(request, etag)
        if known is not None:
            return known
        found = comparisons.compared(connection, a, b, asked, viewer)
    tiles = mosaic.shared_tiles(found.cells)
    return answered(
        page(
            "compare.html",
            found=found,
            tiles=tiles,
            sheet=mosaic.sheet_address(tile.mass for tile in tiles),
            widest=_telling(found),
            principal=desk.principal,
        ),
        HTML,
        etag,
    )


def _telling(found: Compared) -> list[Ref]:
    """Where the two differ most, without the categories that are too broad to be shown anywhere."""
    most = BROAD * found.taxonomy.classes
    leaves = found.taxonomy.leaf_count
    return [ref for ref, _ in found.widest if leaves[found.taxonomy.node(ref.wnid)] < most]


def _two(request: Request) -> tuple[str, str]:
    """The names in the path as it was sent: they may hold slashes, and then those are encoded there."""
    raw = request.scope["raw_path"].decode("ascii", "replace").partition("/compare/")[2]
    names = [named(unquote(name)) for name in raw.split("/")]
    if len(names) != 2 or not all(names):
        raise not_found("A comparison is of two names, /compare/ONE/OTHER; slashes in them are written %2F.")
    return names[0], names[1]
