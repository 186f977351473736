"""Users and what they photograph."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.answers import cacheable, preferred
from api.auth import ProfileDesk
from api.parameters import only
from api.schemas import ProfileOut, UsersOut
from api.services import UserProfile, active_model, user_profile
from pipeline import treemap
from pipeline.profile import CELLS, MOST_CELLS
from pipeline.store import queries

router = APIRouter(prefix="/v1/users", tags=["users"])

JSON, SVG, CSV = "application/json", "image/svg+xml", "text/csv"

Cells = Annotated[int, Query(ge=1, le=MOST_CELLS, description="categories shown at most, besides other and unsure")]
Pixels = Annotated[int, Query(ge=64, le=4096, description="size of the picture; for SVG only")]


@router.get("", response_model=UsersOut, dependencies=[only("limit", "after")])
def list_users(
    request: Request, desk: ProfileDesk, limit: Annotated[int, Query(ge=1, le=500)] = 50, after: str = ""
) -> Response:
    """Users in the byte order of their names."""
    with desk.transaction() as connection:
        found = queries.users(connection, active_model(connection).model_id, limit + 1, after)
    shown = found[:limit]
    answer = UsersOut.of(shown, shown[-1].name if len(found) > limit else None)
    return cacheable(request, answer.model_dump_json(), JSON)


def _picture(found: UserProfile, width: int, height: int) -> str:
    return treemap.svg(found.profile, f"What {found.user} photographs", width, height)


def _answer(request: Request, found: UserProfile, kind: str, width: int, height: int) -> Response:
    bodies: dict[str, Callable[[], str]] = {
        JSON: lambda: ProfileOut.of(found).model_dump_json(),
        SVG: lambda: _picture(found, width, height),
        CSV: lambda: treemap.csv(found.profile),
    }
    return cacheable(request, bodies[kind](), kind, vary="Accept")


def _profile_route(suffix: str, kind: str | None) -> None:
    """One address of the profile: `kind` None lets the Accept header choose."""
    content: dict[str, dict[str, str]] = {JSON: {}, SVG: {}, CSV: {}} if kind is None else {kind: {}}

    @router.get(
        f"/{{user:anything}}/profile{suffix}",
        response_model=ProfileOut if kind is None else None,
        response_class=Response,
        responses={200: {"content": content}},
        dependencies=[only("k", "width", "height")],
        operation_id=f"get_profile{suffix.replace('.', '_')}",
    )
    def get_profile(
        request: Request, desk: ProfileDesk, user: str, k: Cells = CELLS, width: Pixels = 960, height: Pixels = 600
    ) -> Response:
        """What the user photographs: as JSON, as a treemap (SVG), or as a table (CSV)."""
        with desk.transaction() as connection:
            found = user_profile(connection, user, k)
        chosen = kind or preferred(request.headers.get("accept", ""), (JSON, SVG, CSV))
        return _answer(request, found, chosen, width, height)


_profile_route(".svg", SVG)
_profile_route(".csv", CSV)
_profile_route("", None)
