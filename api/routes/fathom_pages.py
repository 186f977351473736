"""Everyone's photos by category: the entrance with its search, a category, and one photo with what is said of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from api.answers import answered, cacheable, unchanged
from api.auth import CategoryDesk, Desk, PhotoDesk, Scope
from api.pages.render import PAGES, page
from api.pages.steps import everyday
from api.parameters import only
from api.routes.categories import stamp_of
from api.services import active_model, taxonomy_of
from api.tokens import following, opened, seal, signature
from api.views import categories, photos
from api.views.naming import Tag
from api.views.photos import PhotoView
from pipeline.explain import Explanation
from pipeline.profile import broadest_shown
from pipeline.store import queries
from pipeline.store.queries import UserSummary
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy

router = APIRouter(include_in_schema=False)

HTML = "text/html; charset=utf-8"
LARGEST_ID = 2**63 - 1
LONGEST_WORD = 100  # letters of a search
SENSES = 50  # found at most
PEOPLE = 12  # on the entrance; all of them are at /people
MOSAIC = (21, 15, 9)  # tiles that fill whole rows of six, the first of them being as large as four
SHOTS = 48  # photos per page of a category: whole rows of 2, 3, 4, 6, 8 and 12
MOST_SHOTS = 200
MOST_STEPS = 6  # to the right, of a tag below another
CLAUSES = {"confirm": "it is", "reject": "it is not", "generalise": "it is some kind of"}
SORTS = (("probability", "Most certain"), ("newest", "Newest"), ("diverse", "Diverse"))

Sort = Literal["probability", "newest", "diverse"]
Wnid = Annotated[str, Path(pattern=r"^n\d{8}$")]
PhotoId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A tag in the list from broad to fine."""

    tag: Tag
    step: int  # how far it is set in


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A category to choose."""

    wnid: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What whoever looks has just said, and whether there is something to take back."""

    words: str
    undo: bool
    wnid: str


# ---- the entrance


@router.get("/", dependencies=[only("q")])
def explore(request: Request, desk: CategoryDesk, q: Annotated[str, Query(max_length=LONGEST_WORD)] = "") -> Response:
    """The broadest categories and the people; with `q`, all categories of that name."""
    asked = " ".join(q.split())
    reader = categories.Reader.of(desk)
    values: dict[str, object]
    with desk.gallery() as connection:
        if asked:
            found = categories.search(connection, reader, asked, SENSES)
            values = {"senses": found, "alike": sum(_called(sense, asked) for sense in found)}
        else:
            cards = categories.broadest(connection, reader)
            whole = next((tiles for tiles in MOSAIC if tiles <= len(cards)), len(cards))
            values = {"cards": cards[:whole], "further": cards[whole:]}
    if not asked:
        values |= _people(desk)
    return cacheable(request, page("index.html", principal=desk.principal, asked=asked, q=asked, **values), HTML)


def _called(sense: categories.Sense, asked: str) -> bool:
    return asked.casefold() in (name.casefold() for name in (sense.name, *sense.aliases))


def _people(desk: Desk) -> dict[str, object]:
    """The first of those whose profiles whoever asks may see."""
    found: list[UserSummary] = []
    if desk.principal.may(Scope.PROFILE_READ):
        with desk.transaction() as connection:
            found = queries.users(connection, active_model(connection).model_id, PEOPLE + 1)
    return {"users": found[:PEOPLE], "more_people": len(found) > PEOPLE}


# ---- a category


@router.get("/c/{wnid}", dependencies=[only("sort", "page_size", "page_token")])
def category(
    request: Request,
    desk: CategoryDesk,
    wnid: Wnid,
    sort: Sort = "probability",
    page_size: Annotated[int, Query(ge=1, le=MOST_SHOTS)] = SHOTS,
    page_token: str = "",
) -> Response:
    """A category, the kinds of it, and its photos."""
    reader = categories.Reader.of(desk)
    after = opened(request, page_token) if page_token else None
    rests_on = (signature(request), PAGES, desk.principal)
    with desk.gallery() as connection:
        etag = stamp_of(request, connection, reader, *rests_on)
        known = unchanged(request, etag)
        if known is not None:
            return known
        found = categories.category(connection, reader, wnid)
        listed = categories.photos(connection, reader, wnid, sort, after, page_size)
        still = stamp_of(request, connection, reader, *rests_on) == etag
    body = page(
        "category.html",
        principal=desk.principal,
        found=found,
        common=everyday((ref.wnid for ref in found.path), taxonomy_of(found.model)),
        shots=listed.shots,
        sorts=SORTS,
        chosen=sort,
        paged=after is not None,
        address=_address(request),
        following=None if listed.following is None else following(request, seal(request, listed.following)),
    )
    return answered(body, HTML, etag) if still else cacheable(request, body, HTML)


def _address(request: Request) -> str:
    """Of this page, without the host."""
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


# ---- a photo


@router.get("/p/{photo_id}", dependencies=[only("why", "said")])
def one_photo(
    request: Request,
    desk: PhotoDesk,
    photo_id: PhotoId,
    why: Annotated[str, Query(pattern=r"^(n\d{8})?$")] = "",
    said: Annotated[str, Query(pattern=r"^(n\d{8})?$")] = "",
) -> Response:
    """A photo with its tags from broad to fine; `why` explains one of them, `said` names what was just judged."""
    viewer = desk.principal.user
    with desk.gallery() as connection:
        found = photos.photo(connection, photo_id, viewer)
        taxonomy = taxonomy_of(found.model)
        explained = photos.explanation(connection, photo_id, why).explanation if why else None
        older, newer = photos.neighbours(connection, photo_id)
    may_judge = desk.principal.may(Scope.VERDICT_WRITE) and (viewer is None or viewer == found.user)
    body = page(
        "photo.html",
        principal=desk.principal,
        photo=found,
        called=called(found.tags),
        tags=steps(found.tags, taxonomy),
        kinds=_kinds(found, taxonomy),
        may_judge=may_judge,
        why=explained,
        alone=explained is not None and _is_label(explained, taxonomy),
        labels=taxonomy.classes,
        told=_told(found, said, taxonomy) if said else None,
        older=older,
        newer=newer,
    )
    return cacheable(request, body, HTML)


def called(tags: Sequence[Tag]) -> str | None:
    """What to call a photo with these tags, narrowest first: as a person says, else as the model does."""
    stands = [tag for tag in tags if tag.verdict != "rejected"]
    said = [tag for tag in stands if tag.verdict == "confirmed" and tag.kind == "tag"]
    by_model = [tag for tag in stands if tag.headline]
    return next((tag.name for tag in (*said, *by_model, *stands)), None)


def steps(tags: Sequence[Tag], taxonomy: Taxonomy) -> list[Step]:
    """Tags from broad to fine, branch by branch with the surest first, set in by how many of them lie above."""
    ways = {tag.wnid: path(taxonomy.node(tag.wnid), taxonomy) for tag in tags}
    listed = {way[-1] for way in ways.values()}
    surest: dict[int, int] = {}  # by node, of what is listed at or below it
    for tag in tags:
        for node in ways[tag.wnid]:
            surest[node] = max(surest.get(node, 0), tag.mass or 0)
    in_order = sorted(tags, key=lambda tag: [(-surest[node], node) for node in ways[tag.wnid]])
    return [Step(tag=tag, step=min(MOST_STEPS, len(listed.intersection(ways[tag.wnid][:-1])))) for tag in in_order]


def path(node: int, taxonomy: Taxonomy) -> list[int]:
    """The nodes from the root down to this one, as they are drawn in each other."""
    way = [node]
    while (above := int(taxonomy.display_parent[way[-1]])) >= 0:
        way.append(above)
    return way[::-1]


def _kinds(found: PhotoView, taxonomy: Taxonomy) -> list[Kind]:
    """What it may be some kind of: what lies above its tags, or else the broadest that is ever shown."""
    above = [Kind(wnid=tag.wnid, name=tag.name) for tag in found.tags if tag.kind == "ancestor"]
    broad = (taxonomy.synsets[node] for node in broadest_shown(taxonomy) if node not in found.policy.hidden)
    return above or sorted((Kind(wnid=each.wnid, name=each.name) for each in broad), key=lambda kind: kind.name)


def _is_label(explained: Explanation, taxonomy: Taxonomy) -> bool:
    """Whether nothing lies below it, so that its certainty is its own."""
    return not taxonomy.display_children[taxonomy.node(explained.wnid)]


def _told(found: PhotoView, said: str, taxonomy: Taxonomy) -> Told | None:
    """What holds now of the category that was just judged."""
    try:
        name = taxonomy.synsets[taxonomy.node(said)].name
    except UnknownSynset:
        return None
    given = next((each for each in found.verdicts if each.wnid == said), None)
    if given is None:
        return Told(words=f"Taken back: nothing is said of {name} any more.", undo=False, wnid=said)
    return Told(words=f"Noted: {in_words(given.verdict, [name])}.", undo=True, wnid=said)


def in_words(verdict: str, names: Sequence[str]) -> str:
    """A verdict as a clause: it is dog, it is not dog or wolf, it is some kind of dog."""
    return f"{CLAUSES[verdict]} {' or '.join(names)}"
