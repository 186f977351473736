"""Two users, or two periods of one, side by side."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Connection

from api.answers import answered, unchanged
from api.asking import COMPARED_PARAMETERS, DIFF_PARAMETERS, PeriodsCompared, User, UsersCompared
from api.auth import ProfileDesk
from api.drawing import Drawing
from api.parameters import only
from api.routes.profiles import CSV, JSON, PNG, SUFFIXES, SVG, Pixels, chosen, content
from api.schemas.profiles import ComparedOut
from api.views import comparisons
from api.views.comparisons import Compared
from pipeline import compare_map
from pipeline.store.revisions import user_stamp

router = APIRouter(prefix="/v1/users", tags=["users"])

SIZE = ("width", "height")
NOTHING: dict[int | str, dict[str, Any]] = {422: {"description": "One of the two has no analysed photos."}}


def _bodies(
    found: Compared, title: str, width: int, height: int, drawing: Drawing
) -> dict[str, Callable[[], str | bytes]]:
    def picture() -> str:
        return compare_map.svg(found.cells, (found.a.name, found.b.name), title, width, height)

    return {
        JSON: lambda: ComparedOut.of(found).model_dump_json(by_alias=True),
        SVG: picture,
        PNG: lambda: drawing.png(picture(), width, height),
        CSV: lambda: compare_map.csv(found.cells, found.lists.scored()),
    }


def _compare_route(suffix: str, kind: str | None) -> None:
    @router.get(
        f"/{{a:anything}}/compare/{{b:anything}}{suffix}",
        response_model=ComparedOut if kind is None else None,
        response_class=JSONResponse if kind is None else Response,
        responses=content(kind) | NOTHING,
        dependencies=[only(*COMPARED_PARAMETERS, *SIZE)],
        operation_id=f"compare_users{suffix.replace('.', '_')}",
    )
    def compare_users(
        request: Request,
        desk: ProfileDesk,
        a: User,
        b: User,
        asked: UsersCompared,
        width: Pixels = 960,
        height: Pixels = 600,
    ) -> Response:
        """Two users side by side: as JSON, as one treemap coloured by their differences (SVG, PNG), or as lists (CSV).

        Both must be seen by whoever asks: themselves, and users who consent to be seen.
        """
        viewer = desk.principal.user
        with desk.gallery(of_one_moment=True) as connection:
            media_type, other = chosen(request, kind), b
            if kind is not None and user_stamp(connection, b + suffix) is not None:  # a name that ends like a file's
                media_type, other = chosen(request, None), b + suffix

            def stamp(connection: Connection) -> str:
                more = (viewer is None, media_type, width, height)
                return comparisons.compared_stamp(connection, (a, other), asked, asked.model, *more)

            etag = stamp(connection)
            known = unchanged(request, etag, vary="Accept")
            if known is not None:
                return known
            found = comparisons.compared(connection, a, other, asked, viewer)
        title = f"What {a} and {other} photograph"
        return answered(
            _bodies(found, title, width, height, desk.services.drawing)[media_type](), media_type, etag, vary="Accept"
        )


def _diff_route(suffix: str, kind: str | None) -> None:
    @router.get(
        f"/{{user:anything}}/profile/diff{suffix}",
        response_model=ComparedOut if kind is None else None,
        response_class=JSONResponse if kind is None else Response,
        responses=content(kind) | NOTHING,
        dependencies=[only(*DIFF_PARAMETERS, *SIZE)],
        operation_id=f"diff_profile{suffix.replace('.', '_')}",
    )
    def diff_profile(
        request: Request,
        desk: ProfileDesk,
        user: User,
        asked: PeriodsCompared,
        width: Pixels = 960,
        height: Pixels = 600,
    ) -> Response:
        """A period of the user (a) beside an earlier one (b): the one before, or the one that is named."""
        viewer, media_type = desk.principal.user, chosen(request, kind)

        def stamp(connection: Connection) -> str:
            more = (viewer is None, media_type, width, height)
            return comparisons.compared_stamp(connection, (user,), asked, asked.model, *more)

        with desk.transaction(of_one_moment=True) as connection:
            etag = stamp(connection)
            known = unchanged(request, etag, vary="Accept")
            if known is not None:
                return known
            found = comparisons.changed(connection, user, asked, viewer)
        title = f"What {user} photographs, {found.a.name} and {found.b.name}"
        return answered(
            _bodies(found, title, width, height, desk.services.drawing)[media_type](), media_type, etag, vary="Accept"
        )


for _suffix, _kind in SUFFIXES:
    _diff_route(_suffix, _kind)
    _compare_route(_suffix, _kind)
