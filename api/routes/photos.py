"""Single photos: only their thumbnails so far."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response

from api.answers import cacheable
from api.auth import PhotoDesk
from api.parameters import only

router = APIRouter(prefix="/v1/photos", tags=["photos"])

#: Pixels. A few sizes only: any other number would be one more copy of every photo in the cache.
Side = Literal["96", "192", "384", "768"]
LARGEST_ID = 2**63 - 1


@router.get(
    "/{photo_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
    dependencies=[only("side")],
)
def thumbnail(
    request: Request, desk: PhotoDesk, photo_id: Annotated[int, Path(ge=1, le=LARGEST_ID)], side: Side = "192"
) -> Response:
    """The photo as a square JPEG of `side` pixels, upright and without metadata."""
    jpeg = desk.services.thumbnails.of(desk.gallery, photo_id, int(side))
    return cacheable(request, jpeg, "image/jpeg", cache_control="private, max-age=3600")
