"""Everyone's photos by category, as whoever asks may see them: names, places in the tree, counts, lists, people.

Every function takes the connection of a desk's `gallery` and the reader, and raises the problem of a thing that is not
there for a category that there is none of, or that the policy hides. Of categories with the same labels one stands for
all, and answers for all. `api.views.gallery` says which counts are withheld from whom.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sqlalchemy import Connection

from api.errors import not_found
from api.views.gallery import Count, Overview, Reader, counts, overview
from api.views.shots import Shot, Shots, Sort, listed, newest_of
from pipeline.profile import broadest_shown
from pipeline.store import categories as store
from pipeline.store.categories import Person, Pictured
from pipeline.store.queries import ActiveModel
from pipeline.store.revisions import ModelStamp, model_stamp
from taxonomy import search as words
from taxonomy.decide import PhotoDecision
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy
from taxonomy.policy import coarsen_photo

__all__ = ["Reader", "Shot", "Shots", "Sort", "photos", "stamp"]

CHILDREN = 24  # cards on a category's page
SIBLINGS = 12
TOGETHER = 8
PEOPLE = 10
MOST_PEOPLE = 100
SAMPLE = 300  # of the newest photos of a category: covers and what is seen together are looked for in them
COVER = 12  # of the newest photos of a category that has none among them
SEEN = 1_000  # ten-thousandths of a photo; what has less in it was hardly seen


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
class Card:
    """A category in a row of them."""

    wnid: str
    name: str
    gloss: str
    photos: int | None
    withheld: bool
    vague: bool
    own: int | None
    cover: int | None  # a photo that shows it well, and that the reader may see


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
    told = _told(connection, reader, nodes, over)
    return Found(
        senses=tuple(_sense(node, told[node], over) for node in nodes),
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
        path=_path(node, over.taxonomy),
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
    (own_count,) = _told(connection, reader, [node], over).values()
    sample = _sample(connection, reader, node, own_count, over)
    below = _ordered_children(connection, reader, node, over)
    held = [(v, count) for v, count in below if count.photos or count.withheld or v not in over.showable]
    beside = [v for v in _beside(node, over, reader) if v not in {v for v, _ in held}]
    together = [v for v in _together(node, sample, over, reader) if v not in beside]
    around = _told(connection, reader, [*beside, *together], over)
    synset = taxonomy.synsets[node]
    return CategoryView(
        wnid=synset.wnid,
        name=synset.name,
        aliases=_aliases(node, taxonomy),
        gloss=synset.gloss,
        depth=int(taxonomy.depth[node]),
        bits=round(float(taxonomy.bits[node]), 4),
        labels=int(taxonomy.leaf_count[node]),
        path=_path(node, taxonomy),
        parents=_parents(node, over),
        photos=own_count.photos,
        withheld=own_count.withheld,
        vague=node not in over.showable,
        own=own_count.own,
        least_users=reader.fewest,
        children=_cards(connection, reader, held[:CHILDREN], sample, over),
        children_total=len(below),
        siblings=_cards(connection, reader, _by_photos([(v, around[v]) for v in beside]), (), over),
        together=_cards(connection, reader, [(v, around[v]) for v in together], (), over),
        people=_people(connection, reader, node, own_count, PEOPLE, over),
        model=over.stamp.model,
        policy_version=over.policy.version,
    )


def children(
    connection: Connection, reader: Reader, wnid: str, after: Sequence[int | str] | None = None, limit: int = 50
) -> Children:
    """The categories right below one: those with most photos first, then the withheld ones."""
    over = overview(connection)
    node = node_of(wnid, over)
    below = _ordered_children(connection, reader, node, over)
    begin = 0 if after is None else sum(_place(v, count, over) <= tuple(after) for v, count in below)
    page = below[begin : begin + limit]
    more = len(below) > begin + limit
    (count,) = _told(connection, reader, [node], over).values()
    sample = _sample(connection, reader, node, count, over)
    return Children(
        cards=_cards(connection, reader, page, sample, over),
        total=len(below),
        following=list(_place(*page[-1], over)) if more and page else None,
        model=over.stamp.model,
        policy_version=over.policy.version,
    )


def broadest(connection: Connection, reader: Reader) -> tuple[Card, ...]:
    """The broadest categories that photos are tagged with, most photos first; none that nobody has."""
    over = overview(connection)
    nodes = {int(over.taxonomy.shown_as[node]) for node in broadest_shown(over.taxonomy)} & over.showable
    told = _told(connection, reader, sorted(nodes), over)
    held = [(v, count) for v, count in told.items() if count.photos or (count.withheld and count.own)]
    return _cards(connection, reader, _by_photos(held)[:CHILDREN], (), over)


def people(connection: Connection, reader: Reader, wnid: str, limit: int = PEOPLE) -> tuple[Person, ...]:
    """Who has most photos of the category, of those the reader may see; nobody else where it is withheld."""
    over = overview(connection)
    node = node_of(wnid, over)
    (count,) = _told(connection, reader, [node], over).values()
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
    (count,) = _told(connection, reader, [node], over).values()
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


# ---- the graph around a category


def _shown(over: Overview) -> Collection[int]:
    return _standing(over.taxonomy) - over.policy.hidden if over.policy.hidden else _standing(over.taxonomy)


@lru_cache(maxsize=4)
def _standing(taxonomy: Taxonomy) -> frozenset[int]:
    """The nodes that stand for all with their labels."""
    return frozenset(int(node) for node in taxonomy.shown_as)


def _ref(node: int, taxonomy: Taxonomy) -> Ref:
    return Ref(wnid=taxonomy.synsets[node].wnid, name=taxonomy.synsets[node].name)


def _path(node: int, taxonomy: Taxonomy) -> tuple[Ref, ...]:
    """From the root down, each set of labels once, by what stands for it; without the category."""
    above, steps = int(taxonomy.display_parent[node]), []
    while above >= 0:
        steps.append(int(taxonomy.shown_as[above]))
        above = int(taxonomy.display_parent[above])
    return tuple(_ref(step, taxonomy) for step in dict.fromkeys(reversed(steps)) if step != node)


def _parents(node: int, over: Overview) -> tuple[Ref, ...]:
    drawn_in = int(over.taxonomy.display_parent[node])
    above = sorted(_above(over.taxonomy)[node], key=lambda v: (v != int(over.taxonomy.shown_as[max(0, drawn_in)]), v))
    return tuple(_ref(v, over.taxonomy) for v in above)


@lru_cache(maxsize=4)
def _below_all(taxonomy: Taxonomy) -> Mapping[int, tuple[int, ...]]:
    """By what stands for a set of labels: what stands for those right below."""
    found: dict[int, dict[int, None]] = {int(node): {} for node in taxonomy.shown_as}
    for node, parents in enumerate(taxonomy.parents):
        for parent in parents:
            above, below = int(taxonomy.shown_as[parent]), int(taxonomy.shown_as[node])
            if above != below:
                found[above][below] = None
    return {node: tuple(sorted(below)) for node, below in found.items()}


@lru_cache(maxsize=4)
def _above(taxonomy: Taxonomy) -> Mapping[int, tuple[int, ...]]:
    found: dict[int, list[int]] = {int(node): [] for node in taxonomy.shown_as}
    for above, below in _below_all(taxonomy).items():
        for node in below:
            found[node].append(above)
    return {node: tuple(above) for node, above in found.items()}


def _below(node: int, over: Overview) -> list[int]:
    return [v for v in _below_all(over.taxonomy)[node] if v not in over.policy.hidden]


def _beside(node: int, over: Overview, reader: Reader) -> list[int]:
    """Its neighbours in the display tree, those with most photos."""
    drawn_in = int(over.taxonomy.display_parent[node])
    if drawn_in < 0:
        return []
    photos = over.photos(reader)
    near = [v for v in _below(int(over.taxonomy.shown_as[drawn_in]), over) if v != node and photos.get(v)]
    return sorted(near, key=lambda v: (-photos[v], v))[:SIBLINGS]


# ---- counts and cards


def _told(connection: Connection, reader: Reader, nodes: Sequence[int], over: Overview) -> dict[int, Count]:
    tags = [node for node in nodes if node in over.showable]
    found = counts(connection, reader, tags, over) if tags else {}
    vague = Count(photos=None, withheld=False, own=None if reader.user is None else 0)
    return {node: found.get(node, vague) for node in nodes}


def _ordered_children(
    connection: Connection, reader: Reader, node: int, over: Overview
) -> list[tuple[int, Count]]:
    told = _told(connection, reader, _below(node, over), over)
    return sorted(told.items(), key=lambda each: _place(*each, over))


def _place(node: int, count: Count, over: Overview) -> tuple[int, int, str]:
    """Where a child stands: vague ones first, broadest first; then by photos; withheld ones last."""
    wnid = over.taxonomy.synsets[node].wnid
    if node not in over.showable:
        return 0, -int(over.taxonomy.leaf_count[node]), wnid
    if count.photos is not None:
        return 1, -count.photos, wnid
    return 2, -(count.own or 0), wnid


def _by_photos(told: Sequence[tuple[int, Count]]) -> list[tuple[int, Count]]:
    return sorted(told, key=lambda each: (-(each[1].photos or 0), -(each[1].own or 0), each[0]))


def _cards(
    connection: Connection,
    reader: Reader,
    told: Sequence[tuple[int, Count]],
    sample: Sequence[Pictured],
    over: Overview,
) -> tuple[Card, ...]:
    covers = _covers([node for node, count in told if not count.withheld], sample)
    found = []
    for node, count in told:
        synset = over.taxonomy.synsets[node]
        held = count.own if count.withheld else count.photos
        cover = covers.get(node) if not held or node in covers else _cover(connection, reader, node, count, over)
        found.append(
            Card(
                wnid=synset.wnid,
                name=synset.name,
                gloss=synset.gloss,
                photos=count.photos,
                withheld=count.withheld,
                vague=node not in over.showable,
                own=count.own,
                cover=cover,
            )
        )
    return tuple(found)


def _sample(connection: Connection, reader: Reader, node: int, count: Count, over: Overview) -> list[Pictured]:
    """The newest photos of the category that the reader may see, as the policy shows them."""
    return newest_of(connection, reader, node, count, SAMPLE, over) if node in over.showable else []


def _cover(connection: Connection, reader: Reader, node: int, count: Count, over: Overview) -> int | None:
    return _covers([node], newest_of(connection, reader, node, count, COVER, over)).get(node)


def _covers(nodes: Collection[int], sample: Sequence[Pictured]) -> dict[int, int]:
    """By category, the photo with most of it, the newest of equals."""
    best: dict[int, tuple[int, int]] = {}
    for photo in sample:
        for node in set(photo.decision.tags.tolist()) & set(nodes):
            mass = _mass(photo.decision, node)
            if mass > best.get(node, (0, 0))[0]:
                best[node] = (mass, photo.mark.photo_id)
    return {node: photo_id for node, (_, photo_id) in best.items()}


def _mass(decision: PhotoDecision, node: int) -> int:
    return int(decision.masses[np.searchsorted(decision.columns, node)])


def _together(node: int, sample: Sequence[Pictured], over: Overview, reader: Reader) -> list[int]:
    """What else is seen on its photos, most telling first; nothing that lies above it, below it or in it."""
    told, inside = over.photos(reader), over.taxonomy.label_sets[node]
    seen: dict[int, int] = {}
    for photo in sample:
        for column, mass in zip(photo.decision.columns.tolist(), photo.decision.masses.tolist(), strict=True):
            if mass >= SEEN and told.get(column):
                seen[column] = seen.get(column, 0) + mass
    apart = [v for v in seen if not over.taxonomy.label_sets[v] & inside]
    apart.sort(key=lambda v: (-seen[v] * float(over.taxonomy.bits[v]), v))
    chosen: list[int] = []
    for v in apart:
        if len(chosen) < TOGETHER and not any(over.taxonomy.label_sets[v] & over.taxonomy.label_sets[c] for c in chosen):
            chosen.append(v)
    return chosen
