"""Single photos: what is known of one, its tags, why it has one, and its thumbnail."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection

from api.answers import answered, stamped, unchanged
from api.auth import Desk, PhotoDesk
from api.errors import Problem
from api.parameters import only
from api.schemas.photos import ExplanationOut, PhotoOut, PhotoTagsOut
from api.views import photos
from api.views.photos import Asked
from api.views.profiles import EDITION
from pipeline.store.revisions import model_stamp

router = APIRouter(prefix="/v1/photos", tags=["photos"])

#: Pixels. A few sizes only: any other number would be one more copy of every photo in the cache.
Size = Literal["96", "192", "384", "768"]
LARGEST_ID = 2**63 - 1
MOST_TAGS = 500
MOST_CATEGORIES = 50  # in one question
THUMBNAIL_CACHE = "private, max-age=3600"

PhotoId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="the photo")]
Wnid = Annotated[str, Path(description="synset id, such as n02084071; /v1/categories?name= resolves names")]
Share = Annotated[float, Query(ge=0, le=1, description="only tags of at least that, 0 to 1")]
Wnids = Annotated[list[str], Query(max_length=MOST_CATEGORIES, description="synset id; may be given several times")]
INCLUDED = ("ancestors", "leaves")
INCLUDABLE = r"^(ancestors|leaves)?(,(ancestors|leaves)?)*$"
INCLUDE = "what lies above the tags (ancestors), labels that are no tags (leaves), or both with a comma between"
_UNREADABLE: dict[int | str, dict[str, Any]] = {
    409: {"description": "Its bytes have changed since it was listed."},
    422: {"description": "It is no photo that can be read."},
}
_NO_PROMISE: dict[int | str, dict[str, Any]] = {422: {"description": "No calibration promises that precision."}}


@router.get("/{photo_id}", response_model=PhotoOut, dependencies=[only()], operation_id="get_photo")
def get_photo(request: Request, desk: PhotoDesk, photo_id: PhotoId) -> Response:
    """A photo, one's own or one that its owner lets others see. Whose it is and where it lies is for its owner."""
    viewer = desk.principal.user
    return _answer(
        request,
        desk,
        lambda connection: etag(connection, photo_id, "photo", viewer),
        lambda connection: PhotoOut.of(photos.photo(connection, photo_id, viewer)),
    )


@router.get(
    "/{photo_id}/tags",
    response_model=PhotoTagsOut,
    responses=_NO_PROMISE,
    dependencies=[only("min_precision", "min_probability", "max_labels", "include", repeatable=("under", "not_under"))],
    operation_id="get_photo_tags",
)
def get_photo_tags(
    request: Request,
    desk: PhotoDesk,
    photo_id: PhotoId,
    min_precision: Annotated[
        float | None, Query(gt=0, lt=1, description="share of right answers that a calibration must promise")
    ] = None,
    min_probability: Share = 0.0,
    under: Wnids = [],  # noqa: B006 - FastAPI makes a new one for each request
    not_under: Wnids = [],  # noqa: B006
    max_labels: Annotated[int | None, Query(ge=1, le=MOST_TAGS, description="tags at most; unless given, all")] = None,
    include: Annotated[str, Query(description=INCLUDE, json_schema_extra={"pattern": INCLUDABLE})] = "",
) -> Response:
    """The narrowest tags of a photo, and what people say of them.

    `under` and `not_under` leave those that lie under any, and under none, of these categories. With `min_precision`
    the photo is decided anew, from what is stored, by the constants of the calibration that promises as much.
    """
    wanted = _included(include)
    asked = Asked(
        min_precision=min_precision,
        min_probability=min_probability,
        under=tuple(under),
        not_under=tuple(not_under),
        max_labels=max_labels,
        ancestors="ancestors" in wanted,
        leaves="leaves" in wanted,
    )
    return _answer(
        request,
        desk,
        lambda connection: etag(connection, photo_id, "tags", desk.principal.user, asked),
        lambda connection: PhotoTagsOut.of(photos.tags(connection, photo_id, asked)),
    )


@router.get(
    "/{photo_id}/tags/{node}/explanation",
    response_model=ExplanationOut,
    dependencies=[only()],
    operation_id="explain_photo_tag",
)
def explain_photo_tag(request: Request, desk: PhotoDesk, photo_id: PhotoId, node: Wnid) -> Response:
    """Why the photo has, or has not, this tag: labels and their masses, which add up to the number shown."""
    return _answer(
        request,
        desk,
        lambda connection: etag(connection, photo_id, "explanation", node),
        lambda connection: ExplanationOut.of(photos.explanation(connection, photo_id, node)),
    )


@router.get(
    "/{photo_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}, **_UNREADABLE},
    dependencies=[only("size", "side")],
    operation_id="get_photo_thumbnail",
)
def get_photo_thumbnail(
    request: Request,
    desk: PhotoDesk,
    photo_id: PhotoId,
    size: Annotated[Size | None, Query(description="pixels along each side; 192 unless given")] = None,
    side: Annotated[Size | None, Query(deprecated=True, description="an older name of size")] = None,
) -> Response:
    """The photo as a square JPEG of `size` pixels (192 unless given), upright and without metadata."""
    pixels = int(size or side or "192")

    def its_etag(content_rev: int) -> str:
        return stamped("thumbnail", photo_id, content_rev, pixels)

    found = desk.services.thumbnails.of(
        desk.gallery, photo_id, pixels, known=lambda rev: unchanged(request, its_etag(rev)) is not None
    )
    tag = its_etag(found.content_rev)
    response = unchanged(request, tag) if found.jpeg is None else answered(found.jpeg, "image/jpeg", tag)
    if response is None:
        raise AssertionError("a thumbnail that is known is unchanged")
    response.headers["Cache-Control"] = THUMBNAIL_CACHE
    return response


def etag(connection: Connection, photo_id: int, *more: object) -> str:
    """The strong ETag of an answer about a photo; reads no result. `more`: what else the answer depends on."""
    stands = model_stamp(connection)
    photo = photos.stamp(connection, photo_id)
    return stamped(EDITION, photo, stands.model, stands.policy_version, stands.promotion, stands.shown, *more)


def _answer(
    request: Request, desk: Desk, stamp: Callable[[Connection], str], find: Callable[[Connection], BaseModel]
) -> Response:
    with desk.gallery(of_one_moment=True) as connection:
        tag = stamp(connection)
        known = unchanged(request, tag)
        if known is not None:
            return known
        found = find(connection)
    return answered(found.model_dump_json(), "application/json", tag)


def _included(text: str) -> set[str]:
    wanted = {word for word in text.split(",") if word}
    for word in sorted(wanted - {*INCLUDED}):
        detail = f"include: there is no {word!r}; choose of {', '.join(INCLUDED)}."
        error = {"pointer": "query.include", "code": "unknown_word", "detail": detail}
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", detail, [error])
    return wanted
