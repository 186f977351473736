"""What people say of photos, and the photos that want it said."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.answers import cacheable
from api.auth import PhotoDesk, VerdictDesk
from api.parameters import only
from api.routes.photos import PhotoId, Wnid
from api.schemas.photos import GivenOut, ReviewOut, VerdictIn, VerdictsOut
from api.tokens import invalid, next_link, opened, seal
from api.views import review, verdicts
from api.views.review import REASONS
from pipeline.store.photos import Reason

router = APIRouter(prefix="/v1", tags=["verdicts"])

JSON = "application/json"


@router.get(
    "/photos/{photo_id}/verdicts", response_model=VerdictsOut, dependencies=[only()], operation_id="list_verdicts"
)
def list_verdicts(request: Request, desk: PhotoDesk, photo_id: PhotoId) -> Response:
    """What people say of one's own photo, as it is now."""
    with desk.transaction() as connection:
        found = verdicts.of_photo(connection, photo_id)
    return cacheable(request, VerdictsOut.of(found).model_dump_json(), JSON)


@router.post(
    "/photos/{photo_id}/verdicts",
    response_model=GivenOut,
    status_code=HTTPStatus.CREATED,
    dependencies=[only()],
    operation_id="give_verdict",
)
def give_verdict(desk: VerdictDesk, photo_id: PhotoId, said: VerdictIn, response: Response) -> GivenOut:
    """Confirm, reject or generalise a category of one's own photo. The newest word holds.

    Confirming says yes to everything above the category, rejecting says no to everything below it. Words that
    contradict this one are taken back, and named in the answer. The model's tags stay as they are.
    """
    with desk.transaction() as connection:
        given = verdicts.give(connection, photo_id, said.node, said.verdict, desk.principal.name)
    response.headers["Location"] = f"/v1/photos/{photo_id}/verdicts/{given.verdict.wnid}"
    return GivenOut.of(given)


@router.delete(
    "/photos/{photo_id}/verdicts/{node}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,  # without a body there is no type of one
    dependencies=[only()],
    operation_id="take_back_verdict",
)
def take_back_verdict(desk: VerdictDesk, photo_id: PhotoId, node: Wnid) -> None:
    """Take back what was said of this category of one's own photo. What it had replaced does not come back."""
    with desk.transaction() as connection:
        verdicts.take_back(connection, photo_id, node)


@router.get(
    "/review",
    response_model=ReviewOut,
    dependencies=[only("reason", "page_size", "page_token")],
    operation_id="list_review",
)
def list_review(
    request: Request,
    desk: PhotoDesk,
    reason: Annotated[Reason | None, Query(description="only these; unless given, all")] = None,
    page_size: Annotated[int, Query(ge=1, le=500, description="photos on a page, at most")] = 50,
    page_token: Annotated[str | None, Query(description="next_page_token of the page before")] = None,
) -> Response:
    """One's own photos that want a look, newest first: nothing certain is shown of them, or the headline is unsure.

    Photos of which somebody has said something are left out.
    """
    after = None if page_token is None else _position(opened(request, page_token))
    reasons = REASONS if reason is None else (reason,)
    with desk.transaction() as connection:
        found = review.queue(connection, desk.principal.user, page_size, after, reasons)
    token = None if found.after is None else seal(request, [found.after[0].isoformat(), found.after[1]])
    answer = cacheable(request, ReviewOut.of(found, token).model_dump_json(), JSON)
    answer.headers.update(next_link(request, token))
    return answer


def _position(said: list[Any]) -> tuple[datetime, int]:
    match said:
        case [str() as at, int() as photo_id]:
            return datetime.fromisoformat(at), photo_id
    raise invalid()
