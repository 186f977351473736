"""Everyone's photos by category, as whoever asks may see them: names, places in the tree, counts, lists, people.

Every function takes the connection of a desk's `gallery` and the reader, and raises the problem of a thing that is not
there for a category that there is none of, or that the policy hides. Of categories with the same labels one stands for
all, and answers for all. `api.views.gallery` says which counts are withheld from whom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from api.errors import not_found
from api.tokens import invalid
from api.views.cards import Card, Told, by_photos, cards, place, sampled, together, told
from api.views.gallery import Count, Overview, Reader, overview
from api.views.shots import Shot, Shots, Sort, listed
from pipeline.profile import broadest_shown
from pipeline.store import categories as store
from pipeline.store.categories import Person
from pipeline.store.queries import ActiveModel
from pipeline.store.revisions import ModelStamp, model_stamp
from taxonomy import kin
from taxonomy import search as words
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy

__all__ = ["Card", "Person", "Reader", "Shot", "Shots", "Sort", "Told"]

CHILDREN = 24  # cards on a category's page
SIBLINGS = 12
PEOPLE = 10
MOST_PEOPLE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """A category by its id and name."""

    wnid: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sense:
    """One meaning of a name."""

    wnid: str
    name: str
    aliases: tuple[str, ...]
    gloss: str
    path: tuple[Ref, ...]  # in the display tree, root first, without itself
    photos: int | None  # that carry the tag; None: withheld, or vague
    withheld: bool  # too few users, or it would give such away
    vague: bool  # so broad that no photo is tagged with it
    own: int | None  # the reader's own; None: of one who is bound to nobody


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a name may mean."""

    senses: tuple[Sense, ...]
    near: tuple[str, ...]  # names that look alike, where there is no sense
    model: ActiveModel
    policy_version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Children:
    """The categories right below one."""

    cards: tuple[Card, ...]
    total: int  # on all pages
    following: list[int | str] | None  # where the next page begins; None: nowhere
    model: ActiveModel
    policy_version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryView:
    """A category, and what lies around it."""

    wnid: str
    name: str
    aliases: tuple[str, ...]
    gloss: str
    depth: int  # in the display tree; the root has 0
    bits: float  # its information; 0 at the root
    labels: int  # of the model's, at or under it
    path: tuple[Ref, ...]
    parents: tuple[Ref, ...]  # all of them, that of the path first
    photos: int | None
    withheld: bool
    vague: bool
    own: int | None
    least_users: int  # what fewer have is withheld
    children: tuple[Card, ...]  # the first of them; what nobody has is left out
    children_total: int
    siblings: tuple[Card, ...]
    together: tuple[Card, ...]  # seen on the same photos, most of it first
    people: tuple[Person, ...]
    model: ActiveModel
    policy_version: int


def stamp(connection: Connection) -> ModelStamp:
    """What all answers here rest on, together with the reader and the overview."""
    return model_stamp(connection)


# ---- by name


def senses(connection: Connection, reader: Reader, name: str) -> Found:
    """Every category of that name; where there is none, names that look like it."""
    over = overview(connection)
    found = words.senses(name, over.taxonomy, _shown(over))
    near = () if found else tuple(words.near(name, over.taxonomy, _shown(over)))
    return _found(connection, reader, found, near, over)


def beginning(connection: Connection, reader: Reader, prefix: str, limit: int) -> Found:
    """Categories of which a name, or a word in one, begins so: by photos, then by how common the word is."""
    over = overview(connection)
    return _found(connection, reader, _beginning(prefix, limit, over, reader), (), over)


def search(connection: Connection, reader: Reader, q: str, limit: int = 50) -> tuple[Sense, ...]:
    """What people may mean: the senses of the name first, then what begins so."""
    over = overview(connection)
    exact = words.senses(q, over.taxonomy, _shown(over))
    nodes = list(dict.fromkeys([*exact, *_beginning(q, limit, over, reader)]))[:limit]
    return _found(connection, reader, nodes, (), over).senses


def _beginning(prefix: str, limit: int, over: Overview, reader: Reader) -> list[int]:
    photos, synsets = over.photos(reader), over.taxonomy.synsets

    def worth(node: int) -> tuple[int, int]:
        return photos.get(node, 0), synsets[node].uses

    return words.beginning(prefix, over.taxonomy, _shown(over), worth, limit)


def _found(
    connection: Connection, reader: Reader, nodes: Sequence[int], near: tuple[str, ...], over: Overview
) -> Found:
    known = told(connection, reader, nodes, over)
    return Found(
        senses=tuple(_sense(node, known[node], over) for node in nodes),
        near=near,
        model=over.stamp.model,
        policy_version=over.policy.version,
    )


def _sense(node: int, count: Count, over: Overview) -> Sense:
    synset = over.taxonomy.synsets[node]
    return Sense(
        wnid=synset.wnid,
        name=synset.name,
        aliases=_aliases(node, over.taxonomy),
        gloss=synset.gloss,
        path=_refs(kin.path(node, over.taxonomy), over.taxonomy),
        photos=count.photos,
        withheld=count.withheld,
        vague=node not in over.showable,
        own=count.own,
    )


def _aliases(node: int, taxonomy: Taxonomy) -> tuple[str, ...]:
    synset = taxonomy.synsets[node]
    names = dict.fromkeys(lemma.replace("_", " ") for lemma in synset.lemmas)
    return tuple(name for name in names if name != synset.name)


# ---- one category


def category(connection: Connection, reader: Reader, wnid: str) -> CategoryView:
    """The category, what lies around it, and who photographs it most."""
    over = overview(connection)
    node, taxonomy = node_of(wnid, over), over.taxonomy
    (count,) = told(connection, reader, [node], over).values()
    sample = sampled(connection, node, count, over)
    below = _children(connection, reader, node, over)
    held = [(v, known) for v, known in below if known.photos != 0]
    beside = _beside(node, over, reader)
    seen = [v for v in together(node, sample, over, reader) if v not in beside]
    around = told(connection, reader, [*beside, *seen], over)
    synset = taxonomy.synsets[node]
    return CategoryView(
        wnid=synset.wnid,
        name=synset.name,
        aliases=_aliases(node, taxonomy),
        gloss=synset.gloss,
        depth=int(taxonomy.depth[node]),
        bits=round(float(taxonomy.bits[node]), 4),
        labels=int(taxonomy.leaf_count[node]),
        path=_refs(kin.path(node, taxonomy), taxonomy),
        parents=_refs(kin.above(taxonomy)[node], taxonomy),
        photos=count.photos,
        withheld=count.withheld,
        vague=node not in over.showable,
        own=count.own,
        least_users=reader.fewest,
        children=cards(connection, reader, held[:CHILDREN], over, sample),
        children_total=len(below),
        siblings=cards(connection, reader, by_photos([(v, around[v]) for v in beside]), over),
        together=cards(connection, reader, [(v, around[v]) for v in seen], over),
        people=_people(connection, reader, node, count, PEOPLE, over),
        model=over.stamp.model,
        policy_version=over.policy.version,
    )


def children(
    connection: Connection, reader: Reader, wnid: str, after: Sequence[int | str] | None = None, limit: int = 50
) -> Children:
    """The categories right below one: those with most photos first, then the withheld ones."""
    over = overview(connection)
    node = node_of(wnid, over)
    below = _children(connection, reader, node, over)
    begin = 0 if after is None else sum(place(row, over) <= _where(after) for row in below)
    page = below[begin : begin + limit]
    (count,) = told(connection, reader, [node], over).values()
    return Children(
        cards=cards(connection, reader, page, over, sampled(connection, node, count, over)),
        total=len(below),
        following=list(place(page[-1], over)) if len(below) > begin + limit else None,
        model=over.stamp.model,
        policy_version=over.policy.version,
    )


def _where(after: Sequence[int | str]) -> tuple[int, int, str]:
    try:
        row, number, wnid = after
    except ValueError as wrong:
        raise invalid() from wrong
    return int(row), int(number), str(wnid)


def broadest(connection: Connection, reader: Reader) -> tuple[Card, ...]:
    """The broadest categories that photos are tagged with, most photos first; none that nobody has."""
    over = overview(connection)
    nodes = {int(over.taxonomy.shown_as[node]) for node in broadest_shown(over.taxonomy)} & over.showable
    known = told(connection, reader, sorted(nodes), over)
    held = [(v, count) for v, count in known.items() if count.photos or (count.withheld and count.own)]
    return cards(connection, reader, by_photos(held)[:CHILDREN], over)


def people(connection: Connection, reader: Reader, wnid: str, limit: int = PEOPLE) -> tuple[Person, ...]:
    """Who has most photos of the category, of those the reader may see; nobody else where it is withheld."""
    over = overview(connection)
    node = node_of(wnid, over)
    (count,) = told(connection, reader, [node], over).values()
    return _people(connection, reader, node, count, limit, over)


def _people(
    connection: Connection, reader: Reader, node: int, count: Count, limit: int, over: Overview
) -> tuple[Person, ...]:
    myself = [Person(name=reader.user, photos=count.own)] if reader.user is not None and count.own else []
    if node not in over.showable or count.withheld:
        return tuple(myself)
    most = store.people(connection, over.stamp.model.model_id, node, limit, everybody=reader.user is None)
    others = [person for person in most if person.name != reader.user]
    return tuple(sorted([*myself, *others], key=lambda person: (-person.photos, person.name))[:limit])


def photos(
    connection: Connection,
    reader: Reader,
    wnid: str,
    sort: Sort,
    after: Sequence[object] | None,
    limit: int,
    least: int = 0,
) -> Shots:
    """The photos that carry the tag, a page of them; `least`: with at least this mass in it, in ten-thousandths."""
    over = overview(connection)
    node = node_of(wnid, over)
    (count,) = told(connection, reader, [node], over).values()
    return listed(connection, reader, node, count, sort, after, limit, least, _below(node, over), over)


def node_of(wnid: str, over: Overview) -> int:
    """The category that stands for all with the labels of this one; a problem where there is none to be shown."""
    try:
        node = int(over.taxonomy.shown_as[over.taxonomy.node(wnid)])
    except UnknownSynset:
        node = -1
    if node not in _shown(over):
        raise not_found(f"There is no category {wnid}; /v1/categories?name= looks one up by name.")
    return node


def _shown(over: Overview) -> frozenset[int]:
    """Every category that has a page: those that stand for all with their labels, and that the policy shows."""
    return kin.standing(over.taxonomy) - over.policy.hidden


def _refs(nodes: Sequence[int], taxonomy: Taxonomy) -> tuple[Ref, ...]:
    return tuple(Ref(wnid=taxonomy.synsets[node].wnid, name=taxonomy.synsets[node].name) for node in nodes)


def _below(node: int, over: Overview) -> list[int]:
    return [v for v in kin.below(over.taxonomy)[node] if v not in over.policy.hidden]


def _children(connection: Connection, reader: Reader, node: int, over: Overview) -> list[Told]:
    known = told(connection, reader, _below(node, over), over)
    return sorted(known.items(), key=lambda row: place(row, over))


def _beside(node: int, over: Overview, reader: Reader) -> list[int]:
    """Its neighbours in the display tree, those with most photos."""
    drawn_in, photos = kin.path(node, over.taxonomy)[-1:], over.photos(reader)
    near = [v for parent in drawn_in for v in _below(parent, over) if v != node and photos.get(v)]
    return sorted(near, key=lambda v: (-photos[v], v))[:SIBLINGS]
