"""Words of people about photos, said by forms: on a photo's page, and one uncertain photo after the other at /review.

Whoever reviews walks through a queue. Where they are in it, and what they have just said, is in the page's token and
nowhere else: so the way back, a reload and two windows all work, and nobody can be shown words that were never said.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from api.answers import cacheable
from api.auth import Desk, PhotoDesk, VerdictDesk
from api.errors import Problem
from api.pages.render import page
from api.parameters import only
from api.routes.fathom_pages import HTML, LARGEST_ID, LONGEST_WORD, PhotoId, in_words
from api.tokens import invalid, opened, seal
from api.views import categories, review, verdicts
from api.views.categories import Sense
from pipeline.verdicts import Kind

router = APIRouter(include_in_schema=False)

COMING = 6  # photos shown of those that come next
MOST_NODES = 12  # categories that one press of a button speaks of
TAKEN_BACK = "Taken back."

Verdict = Literal["confirm", "reject", "generalise", "undo"]
Said = Annotated[Verdict, Form()]
Node = Annotated[str, Form(pattern=r"^n\d{8}$")]
Nodes = Annotated[list[str], Form(max_length=MOST_NODES)]
Token = Annotated[str, Form(max_length=2048)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoken:
    """What whoever reviews has just said."""

    photo_id: int
    words: str
    wnids: tuple[str, ...]  # what it was said of; empty: there is nothing to take back
    back: str  # the token of the page on which the photo was asked about
    replaced: tuple[tuple[str, Kind, str], ...]  # what held before and holds no more: of what, what, and who said it

    @classmethod
    def of(
        cls, photo_id: int, words: str, wnids: Sequence[str], back: str, replaced: Sequence[tuple[str, Kind, str]]
    ) -> "Spoken":
        """What was said, as a token holds it."""
        before = tuple((wnid, kind, by) for wnid, kind, by in replaced)
        return cls(photo_id=photo_id, words=words, wnids=tuple(wnids), back=back, replaced=before)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where in the queue somebody is."""

    position: tuple[datetime, int] | None  # of `review.queue`; None: at its head
    spoken: Spoken | None = None
    word: str = ""  # that several categories, or none, are called by

    def token(self, request: Request) -> str:
        """The place as the page's token."""
        position = None if self.position is None else [self.position[0].isoformat(), self.position[1]]
        spoken = None if self.spoken is None else list(asdict(self.spoken).values())
        return seal(request, [position, spoken, self.word])

    @classmethod
    def of(cls, request: Request, token: str) -> "Place":
        """The place that a token holds."""
        if not token:
            return cls(position=None)
        try:
            position, spoken, word = opened(request, token)
            return cls(
                position=position and (datetime.fromisoformat(position[0]), int(position[1])),
                spoken=spoken and Spoken.of(*spoken),
                word=str(word),
            )
        except (TypeError, ValueError) as wrong:
            raise invalid() from wrong


@router.post("/p/{photo_id}", dependencies=[only()])
def judge(desk: VerdictDesk, photo_id: PhotoId, verdict: Said, node: Node) -> Response:
    """Say something of a photo's category, or take it back; leads back to the photo."""
    with desk.transaction() as connection:
        ((about,), _) = _say(connection, desk, photo_id, verdict, [node])
    return RedirectResponse(f"/p/{photo_id}?said={about}", HTTPStatus.SEE_OTHER)


@router.get("/review", dependencies=[only("page_token")])
def look(
    request: Request, desk: PhotoDesk, judging: VerdictDesk, page_token: Annotated[str, Query(max_length=2048)] = ""
) -> Response:
    """The next photo that the model is not certain of."""
    place = Place.of(request, page_token)
    viewer = judging.principal.user
    coming: Sequence[review.ReviewItem] = ()
    with desk.transaction() as connection:
        found = review.queue(connection, viewer, 1, place.position)
        if found.items and found.after is not None:
            coming = review.queue(connection, viewer, COMING, found.after).items
    body = page(
        "review.html",
        principal=desk.principal,
        item=found.items[0] if found.items else None,
        coming=coming,
        position=Place(position=place.position).token(request) if place.position is not None else "",
        standing=page_token,
        skip=None if found.after is None else _address(request, Place(position=found.after)),
        told=place.spoken,
        word=place.word,
        senses=_senses(desk, place.word) if place.word else None,
    )
    return cacheable(request, body, HTML)


@router.post("/review", dependencies=[only()])
def say(
    request: Request,
    desk: VerdictDesk,
    photo: Annotated[int, Form(ge=1, le=LARGEST_ID)],
    verdict: Said,
    node: Nodes = [],  # noqa: B006 - FastAPI copies it
    word: Annotated[str, Form(max_length=LONGEST_WORD)] = "",
    here: Token = "",
) -> Response:
    """Say something of the photo that was asked about; leads to the next one. After `undo`: to the same again."""
    place = Place.of(request, here)
    if verdict == "undo" and place.spoken is not None:
        return _undone(request, desk, place.spoken)
    word = " ".join(word.split())
    nodes = list(node) or [sense.wnid for sense in _senses(desk, word, exact=True)]
    if not nodes and not word:
        detail = "Choose a category, or write what kind it is."
        raise Problem(HTTPStatus.BAD_REQUEST, "nothing_said", detail)
    if not node and len(nodes) != 1:
        return _to(request, Place(position=place.position, word=word))
    with desk.transaction() as connection:
        about, replaced = _say(connection, desk, photo, verdict, nodes)
        words = _words(connection, photo, verdict, about)
    spoken = Spoken.of(photo, words, () if verdict == "undo" else about, here, replaced)
    return _to(request, Place(position=place.position, spoken=spoken))


def _undone(request: Request, desk: Desk, spoken: Spoken) -> Response:
    """Take back what was just said, and let hold again what held before; leads to the same photo again."""
    with desk.transaction() as connection:
        _say(connection, desk, spoken.photo_id, "undo", spoken.wnids)
        for wnid, kind, by in spoken.replaced:
            verdicts.give(connection, spoken.photo_id, wnid, kind, by=by)
    told = Spoken.of(spoken.photo_id, TAKEN_BACK, (), "", ())
    return _to(request, Place(position=Place.of(request, spoken.back).position, spoken=told))


def _say(
    connection: Connection, desk: Desk, photo_id: int, verdict: Verdict, nodes: Sequence[str]
) -> tuple[list[str], list[tuple[str, Kind, str]]]:
    """Give verdicts, or take them back; returns the categories they are then about, and what they replaced."""
    if verdict == "undo":
        for node in nodes:
            verdicts.take_back(connection, photo_id, node)
        return list(nodes), []
    given = [verdicts.give(connection, photo_id, node, verdict, by=desk.principal.name) for node in nodes]
    about = list(dict.fromkeys(each.verdict.wnid for each in given))
    replaced = [(old.wnid, old.verdict, old.given_by) for each in given for old in each.replaced]
    return about, replaced


def _words(connection: Connection, photo_id: int, verdict: Verdict, about: Sequence[str]) -> str:
    if verdict == "undo":
        return TAKEN_BACK
    names = {each.wnid: each.name for each in verdicts.of_photo(connection, photo_id).verdicts}
    return f"Noted: {in_words(verdict, [names.get(wnid, wnid) for wnid in about])}."


def _senses(desk: Desk, word: str, *, exact: bool = False) -> Sequence[Sense]:
    """The categories of that name; unless exact, those that begin with it where there is none."""
    if not word:
        return ()
    reader = categories.Reader.of(desk)
    with desk.gallery() as connection:
        found = categories.senses(connection, reader, word).senses
        return found if found or exact else categories.search(connection, reader, word, COMING)


def _address(request: Request, place: Place) -> str:
    return f"/review?page_token={place.token(request)}"


def _to(request: Request, place: Place) -> Response:
    return RedirectResponse(_address(request, place), HTTPStatus.SEE_OTHER)
