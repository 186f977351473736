"""Users, what they photograph, and their photos."""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from api.answers import answered, cacheable, preferred, stamped, unchanged
from api.asking import (
    NAMELIKE,
    PAGE,
    PAGE_PARAMETERS,
    PHOTOS_PARAMETERS,
    PROFILE_PARAMETERS,
    PageSize,
    PageToken,
    ProfileAsked,
    User,
    UserPhotosAsked,
)
from api.auth import ProfileDesk, RefreshDesk, Scope
from api.drawing import Drawing
from api.names import encoded
from api.parameters import only
from api.schemas.profiles import MonthsOut, OwnPhotosOut, ProfileOut, RefreshingOut, RefreshOut, UsersOut
from api.services import active_model
from api.tokens import invalid, next_link, opened, seal
from api.views import profiles
from api.views.profiles import EDITION, UserProfile
from pipeline import treemap
from pipeline.ledger.refresh import refresh, standing
from pipeline.sources.allowed import Allowed
from pipeline.store import queries
from pipeline.store.own_photos import Position

router = APIRouter(prefix="/v1/users", tags=["users"])

JSON, SVG, PNG, CSV = "application/json", "image/svg+xml", "image/png", "text/csv"
KINDS = (JSON, SVG, PNG, CSV)
SHAPES = {
    SVG: {"schema": {"type": "string"}},
    PNG: {"schema": {"type": "string", "contentMediaType": PNG, "format": "binary"}},
    CSV: {"schema": {"type": "string"}},
}
SUFFIXES = ((".svg", SVG), (".png", PNG), (".csv", CSV), ("", None))  # None: the Accept header chooses

Pixels = Annotated[
    int, Query(ge=64, le=4096, description="size of the picture; a PNG has twice as many, up to ten million in all")
]


def chosen(request: Request, kind: str | None) -> str:
    """The media type that is answered: the suffix's, or that which the Accept header likes best."""
    return kind or preferred(request.headers.get("accept", ""), KINDS)


def content(kind: str | None) -> dict[int | str, dict[str, Any]]:
    """What a route of one kind, or of all, says of its answers."""
    return {200: {"content": {each: SHAPES[each] for each in (KINDS if kind is None else (kind,)) if each in SHAPES}}}


@router.get(
    "", response_model=UsersOut, operation_id="list_users", dependencies=[only(*PAGE_PARAMETERS, "limit", "after")]
)
def list_users(
    request: Request,
    desk: ProfileDesk,
    page_size: PageSize = PAGE,
    page_token: PageToken = None,
    limit: Annotated[int | None, Query(ge=1, le=500, deprecated=True, description="an older name of page_size")] = None,
    after: Annotated[
        str, Query(deprecated=True, pattern=NAMELIKE, description="an older form of page_token: a name")
    ] = "",
) -> Response:
    """Users in the byte order of their names."""
    size, behind = limit or page_size, _name(opened(request, page_token)) if page_token else after
    with desk.transaction() as connection:
        found = queries.users(connection, active_model(connection).model_id, size + 1, behind)
    shown = found[:size]
    token = seal(request, [shown[-1].name]) if len(found) > size else None
    answer = cacheable(request, UsersOut.of(shown, token).model_dump_json(), JSON)
    answer.headers.update(next_link(request, token))
    return answer


def _name(position: list[Any]) -> str:
    match position:
        case [str(name)]:
            return name
    raise invalid()


# ---- the profile


def _bodies(found: UserProfile, width: int, height: int, drawing: Drawing) -> dict[str, Callable[[], str | bytes]]:
    def picture() -> str:
        return treemap.svg(found.profile, f"What {found.user} photographs", width, height)

    return {
        JSON: lambda: ProfileOut.of(found).model_dump_json(by_alias=True),
        SVG: picture,
        PNG: lambda: drawing.png(picture(), width, height),
        CSV: lambda: treemap.csv(found.profile),
    }


def _profile_route(suffix: str, kind: str | None) -> None:
    """One address of the profile: `kind` None lets the Accept header choose."""

    @router.get(
        f"/{{user:anything}}/profile{suffix}",
        response_model=ProfileOut if kind is None else None,
        response_class=JSONResponse if kind is None else Response,
        responses=content(kind),
        dependencies=[only(*PROFILE_PARAMETERS, "width", "height")],
        operation_id=f"get_profile{suffix.replace('.', '_')}",
    )
    def get_profile(
        request: Request, desk: ProfileDesk, user: User, asked: ProfileAsked, width: Pixels = 960, height: Pixels = 600
    ) -> Response:
        """What the user photographs: as JSON, as a treemap (SVG, PNG), or as a table (CSV)."""
        media_type = chosen(request, kind)

        with desk.transaction(of_one_moment=True) as connection:
            stands = profiles.standing(connection, user, asked.model)
            etag = profiles.profile_etag(stands, asked, media_type, width, height)
            known = unchanged(request, etag, vary="Accept")
            if known is not None:
                return known
            found = profiles.user_profile(connection, user, asked, stands)
        bodies = _bodies(found, width, height, desk.services.drawing)
        return answered(bodies[media_type](), media_type, etag, vary="Accept")


for _suffix, _kind in SUFFIXES:
    _profile_route(_suffix, _kind)


# ---- months and photos


@router.get("/{user:anything}/months", response_model=MonthsOut, operation_id="list_months", dependencies=[only()])
def list_months(request: Request, desk: ProfileDesk, user: User) -> Response:
    """The months in which the user took photos that are there, with their number; in UTC."""
    with desk.transaction(of_one_moment=True) as connection:
        etag = stamped(EDITION, profiles.known_user(connection, user), "months")
        known = unchanged(request, etag)
        if known is not None:
            return known
        found = profiles.months(connection, user)
    return answered(MonthsOut.of(user, found).model_dump_json(), JSON, etag)


@router.get(
    "/{user:anything}/photos",
    response_model=OwnPhotosOut,
    operation_id="list_user_photos",
    dependencies=[only(*PHOTOS_PARAMETERS, *PAGE_PARAMETERS)],
)
def list_photos(
    request: Request,
    desk: ProfileDesk,
    user: User,
    asked: UserPhotosAsked,
    page_size: PageSize = PAGE,
    page_token: PageToken = None,
) -> Response:
    """The user's photos, newest first; `under` a category, those that carry its tag."""
    after = _position(opened(request, page_token)) if page_token else None
    with desk.transaction() as connection:
        found = profiles.photos(connection, user, asked, after, page_size)
    token = seal(request, [found.after[0].isoformat(), found.after[1]]) if found.after else None
    answer = cacheable(request, OwnPhotosOut.of(found, token).model_dump_json(), JSON)
    answer.headers.update(next_link(request, token))
    return answer


def _position(position: list[Any]) -> Position:
    match position:
        case [str(moment), int(photo_id)]:
            return datetime.fromisoformat(moment), photo_id
    raise invalid()


# ---- new photos


@router.post(
    "/{user:anything}:refresh",
    status_code=HTTPStatus.ACCEPTED,
    response_model=RefreshOut,
    operation_id="refresh_user",
    dependencies=[only()],
)
def refresh_user(desk: RefreshDesk, user: User) -> Response:
    """Have the user's new photos tagged now, ahead of bulk work; while that goes on, asking again is the same job.

    What the ledger knows is one job. Where an earlier listing has met the user's photos, what is new at their place is
    another. Jobs are read by principals who see everybody's; how far it is, is told to all who may ask for it.
    """
    with desk.transaction() as connection:
        profiles.known_user(connection, user)
        model_id = active_model(connection).model_id
    with desk.refreshing(user) as connection:
        found = refresh(connection, user, model_id, Allowed.of(desk.services.settings))
    body = RefreshOut.of(user, found).model_dump_json()
    sees_jobs = desk.principal.user is None and desk.principal.may(Scope.JOB_READ)
    place = f"/v1/jobs/{found.job_id}" if sees_jobs else f"/v1/users/{encoded(user)}:refresh"
    return Response(body, HTTPStatus.ACCEPTED, {"Location": place, "Retry-After": "5"}, JSON)


@router.get("/{user:anything}:refresh", response_model=RefreshingOut, operation_id="get_refresh", dependencies=[only()])
def get_refresh(request: Request, desk: RefreshDesk, user: User) -> Response:
    """How far it is that the user's new photos are tagged, as it was asked for last."""
    with desk.transaction() as connection:
        profiles.known_user(connection, user)
    with desk.refreshing(user) as connection:  # jobs are nobody's, so whoever is bound to a user sees none
        found = standing(connection, user)
    return cacheable(request, RefreshingOut.of(user, found).model_dump_json(), JSON)
