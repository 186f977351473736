"""What one user photographs, in a handful of categories that overlap nowhere and add up to everything.

Law of the file, over integers and so exactly:
1. The cells partition the user's mass: chosen categories + other + unsure = root.
2. A category's mass is its *area*, what lies inside it in the display tree, so that cells never count a photo twice.
3. *unsure* is what reached no broadest shown category (each of those holds less than 40 % of the labels, and no such
   category lies above it); *other* is what reached one, but none of the chosen.
4. No chosen category lies above another, neither in the display tree nor in the graph.
5. Inside of a category the same holds with its area for the whole: cells that are drawn inside it + other = its area.
   So a cell that is subdivided is the sum of its cells, at every depth, and a profile `under` a category is the sum of
   its own. Where nothing inside is worth a cell, the category is not divided; asked for alone, it is its own one cell.

Which k are chosen: those with the greatest total worth, found exactly. The worth of a category is

    clarity x everyday x mass x photos / (photos + EVIDENCE)
    clarity = b^2 / (b^2 + BASIC^2),    b = log2(labels / labels under it)
    everyday = 1 + log2(1 + uses) / COMMON,    uses = how often WordNet's tagged texts mean it

Clarity rises steeply from the vague ("instrumentation", 0.15) to the words people use first ("dog" 0.44, "bird" 0.58)
and ever less from there to the breed (0.89); a square root or a straight line say "instrumentation" where "vehicle"
would do, or split what one word says. *everyday* prefers "dog" to "canine" and "hunting dog", "coffee" to "drink". The
last factor keeps free cells from being spent on splitting: whoever took six photos of six breeds is shown a dog, not
four kinds of dog. A category must be met a few times before it says more than the one above it.
"""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from pipeline.records import WHOLE
from taxonomy.graph import Taxonomy

BROAD = 0.4  # share of the labels from which on a category says too little to be shown
EVIDENCE = 3  # photos; with so many, a category is worth half of what it would be with very many of the same mass
SLIVER = 200  # a category with less than one part in so many of the mass could not be seen, and goes to other
BASIC = 3.5  # bits; with an eleventh of the labels, about where everyday words lie, a category has clarity 1/2
COMMON = 20.0  # the commonest words (about 90 uses) weigh 1.3 times as much as those that no text uses
STEPS = 1 << 20  # weights are rounded to so many steps per unit, so that worths are integers and ties are ties
CELLS = 4  # categories shown unless asked otherwise
MOST_CELLS = 12

MOST_DEPTH = 3

Kind = Literal["category", "other", "unsure"]
Unit = Literal["photos", "moments"]  # what is counted: see `pipeline.moments`


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryTotal:
    """One row of a user's totals."""

    column: int  # of the taxonomy
    photos: int  # distinct photos that carry the tag; 0 for area-only columns
    mass: int  # ten-thousandths of a photo, summed over the user's photos


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One part of a profile."""

    kind: Kind
    node: int | None  # of the taxonomy; None unless a category
    wnid: str | None
    name: str
    path: tuple[str, ...]  # synset ids in the display tree, from the broadest shown category down to this one
    photos: int | None  # distinct photos that carry the tag; None unless a category
    mass: int  # ten-thousandths of a photo; > 0
    share: float  # of the profile's mass, 0 to 1; of all photos' mass, where the cell is what a profile is under
    cells: tuple["Cell", ...] = ()  # what it is divided into: together its mass; nothing: it is not divided


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A user's photos in a few cells: categories by mass, largest first, then other, then unsure. No cell is empty."""

    photos: int  # analysed; under a category: that carry its tag
    mass: int  # of all cells together: ten-thousandths of a photo
    cells: tuple[Cell, ...]
    unit: Unit = "photos"
    under: Cell | None = None  # the category that is looked into, undivided; None: everything is

    def per_mille(self) -> tuple[int, ...]:
        """Each cell's share in thousandths, by largest remainders: together exactly 1000 (nothing if no photos)."""
        return apportion([cell.mass for cell in self.cells], 1000)


def apportion(masses: Sequence[int], whole: int) -> tuple[int, ...]:
    """Each mass's part of `whole`, by largest remainders: together exactly that; nothing of nothing."""
    total = sum(masses)
    floors = [whole * mass // total for mass in masses]
    left = [whole * mass % total for mass in masses]
    by_remainder = sorted(range(len(floors)), key=lambda i: (-left[i], i))
    for i in by_remainder[: (whole if floors else 0) - sum(floors)]:
        floors[i] += 1
    return tuple(floors)


def profile(
    totals: Sequence[CategoryTotal],
    taxonomy: Taxonomy,
    k: int = CELLS,
    *,
    depth: int = 1,
    under: int = 0,
    unit: Unit = "photos",
) -> Profile:
    """The profile of a user with these totals, in at most `k` (at least 1) categories besides other and unsure.

    Only categories that at least one photo is tagged with are named. A user without photos has no cells. With a `depth`
    above 1, each category is divided into its own best ones, so often. `under` a node, the profile is of what is drawn
    inside it. `unit` is what the totals are of.
    """
    if k < 1 or depth < 1:
        raise ValueError(f"A profile shows at least one category at a depth of at least 1, not {k} at {depth}.")
    user = Totals(totals, taxonomy)
    whole = user.area(under)
    if not under:
        cells = _cells(user, taxonomy, k, depth, under, whole)
        return Profile(photos=whole // WHOLE, mass=whole, cells=cells, unit=unit)
    name = taxonomy.synsets[under].name
    inside = _cells(user, taxonomy, k, depth, under, whole)
    cells = inside or tuple(cell for cell in (_category(under, name, user, taxonomy, whole),) if cell.mass)
    above = _category(under, name, user, taxonomy, user.area(0))
    return Profile(photos=user.photos(under), mass=whole, cells=cells, unit=unit, under=above)


def _cells(user: "Totals", taxonomy: Taxonomy, k: int, depth: int, within: int, whole: int) -> tuple[Cell, ...]:
    """What is drawn inside of a node, divided; nothing where nothing of it is worth a cell. `whole`: the profile's."""
    chosen = choose(worths(user, taxonomy, within), taxonomy, k)
    if within and not chosen:
        return ()
    named = names(chosen, taxonomy)
    cells = [_category(node, named[node], user, taxonomy, whole) for node in chosen]
    if depth > 1:
        cells = [replace(cell, cells=_cells(user, taxonomy, k, depth - 1, cell.node or 0, whole)) for cell in cells]
    cells.sort(key=lambda cell: (-cell.mass, cell.wnid))
    area = user.area(within)
    shown = area if within else sum(user.area(node) for node in broadest_shown(taxonomy))
    cells.append(_rest("other", shown - sum(cell.mass for cell in cells), whole))
    cells.append(_rest("unsure", area - shown, whole))
    return tuple(cell for cell in cells if cell.mass)


class Totals:
    """Totals by node."""

    def __init__(self, totals: Sequence[CategoryTotal], taxonomy: Taxonomy) -> None:
        self._totals = {total.column: total for total in totals}
        self._area_column = taxonomy.area_column.tolist()
        self.tagged = [t.column for t in totals if t.column < taxonomy.nodes and t.photos > 0]

    def area(self, node: int) -> int:
        """The mass of what is drawn inside a node."""
        total = self._totals.get(self._area_column[node])
        return total.mass if total else 0

    def photos(self, node: int) -> int:
        """Photos that carry its tag."""
        total = self._totals.get(node)
        return total.photos if total else 0


@lru_cache(maxsize=8)
def broadest_shown(taxonomy: Taxonomy) -> tuple[int, ...]:
    """The nodes below 40 % of the labels that are drawn directly inside one that is not."""
    limit = BROAD * taxonomy.classes
    parents = taxonomy.display_parent.tolist()
    counts = taxonomy.leaf_count.tolist()
    return tuple(v for v, above in enumerate(parents) if counts[v] < limit and above >= 0 and counts[above] >= limit)


def worths(user: Totals, taxonomy: Taxonomy, within: int = 0) -> dict[int, int]:
    """What showing a node would be worth, for every node drawn inside `within` that may be shown."""
    limit = BROAD * taxonomy.classes
    found = {}
    for node in sorted(user.tagged):
        mass, photos = user.area(node), user.photos(node)
        specific = taxonomy.leaf_count[node] < limit and taxonomy.shown_as[node] == node
        enough = mass > 0 and mass * SLIVER >= user.area(within)
        if specific and enough and (not within or _drawn_inside(node, within, taxonomy)):
            found[node] = _weight(node, taxonomy) * mass * photos // (photos + EVIDENCE)
    return found


def _drawn_inside(node: int, within: int, taxonomy: Taxonomy) -> bool:
    """Whether the node is drawn inside the other one, and is not that itself."""
    parents = _parents(taxonomy)
    while node > within:  # children come after their parents
        node = parents[node]
        if node == within:
            return True
    return False


def _weight(node: int, taxonomy: Taxonomy) -> int:
    bits = float(taxonomy.bits[node])
    clarity = bits**2 / (bits**2 + BASIC**2)
    everyday = 1 + math.log2(1 + taxonomy.synsets[node].uses) / COMMON
    return round(STEPS * clarity * everyday)


def choose(worth: dict[int, int], taxonomy: Taxonomy, k: int) -> tuple[int, ...]:
    """At most `k` of the nodes in `worth`, none above another, with the greatest sum of worths; ties always alike.

    A tree of choices can be maximised exactly, but the graph forbids some pairs that the tree allows (a trolley may be
    drawn among the vehicles and yet be a container). So the tree is solved without regard to them; where its best
    choice holds such a pair, it is solved again without the one and without the other, best outlook first.
    """
    order = itertools.count()
    best, nodes = _best_in_tree(worth, taxonomy, k)
    outlooks = [(-best, next(order), nodes, frozenset[int]())]
    tried = {frozenset[int]()}
    while True:
        _, _, nodes, without = heapq.heappop(outlooks)
        pair = next(_conflicts(nodes, taxonomy), None)
        if pair is None:
            return nodes
        for node in pair:
            fewer = without | {node}
            if fewer not in tried:
                tried.add(fewer)
                best, nodes = _best_in_tree({v: w for v, w in worth.items() if v not in fewer}, taxonomy, k)
                heapq.heappush(outlooks, (-best, next(order), nodes, fewer))


def _conflicts(nodes: Sequence[int], taxonomy: Taxonomy) -> Iterator[tuple[int, int]]:
    pairs = itertools.permutations(sorted(nodes), 2)
    return ((below, above) for below, above in pairs if taxonomy.is_under(below, above))


#: By j, the greatest worth of at most j nodes of a subtree, and these nodes.
Table = list[tuple[int, tuple[int, ...]]]


def _best_in_tree(worth: dict[int, int], taxonomy: Taxonomy, k: int) -> tuple[int, tuple[int, ...]]:
    """The greatest worth of at most k nodes of which none lies above another in the display tree, and these nodes."""
    tables: dict[int, Table] = {}
    for node in sorted(_around(worth, taxonomy), reverse=True):  # children come after their parents
        table = tables.pop(node, [(0, ())])
        alone = worth.get(node, 0)
        if alone:
            table = [(0, ())] + [max(best, (alone, (node,)), key=_worth) for best in table[1:] or [(0, ())]]
        if node == 0:
            return table[-1]
        if len(table) > 1:
            above = _parents(taxonomy)[node]
            tables[above] = _both(tables[above], table, k) if above in tables else table
    raise AssertionError("unreachable: the last node is the root")


def _around(worth: Iterable[int], taxonomy: Taxonomy) -> set[int]:
    """These nodes and all they are drawn in, the root included: nothing else has a say."""
    parents, found = _parents(taxonomy), {0}
    for node in worth:
        while node not in found:
            found.add(node)
            node = parents[node]  # noqa: PLW2901 - on the way up
    return found


@lru_cache(maxsize=8)
def _parents(taxonomy: Taxonomy) -> list[int]:
    parents: list[int] = taxonomy.display_parent.tolist()
    return parents


def _both(left: Table, right: Table, k: int) -> Table:
    """The table of two subtrees side by side."""
    size = min(k, len(left) + len(right) - 2)
    joined = []
    for j in range(size + 1):
        splits = range(max(0, j - len(right) + 1), min(j, len(left) - 1) + 1)
        i = max(splits, key=lambda i: left[i][0] + right[j - i][0])
        joined.append((left[i][0] + right[j - i][0], left[i][1] + right[j - i][1]))
    return joined


def _worth(option: tuple[int, tuple[int, ...]]) -> int:
    return option[0]


def names(nodes: Sequence[int], taxonomy: Taxonomy) -> dict[int, str]:
    """What to call each; those that share a name are told apart by what they are drawn in."""
    common = Counter(taxonomy.synsets[node].name for node in nodes)
    return {node: _name(node, common, taxonomy) for node in nodes}


def _name(node: int, common: Counter[str], taxonomy: Taxonomy) -> str:
    name = taxonomy.synsets[node].name
    if common[name] < 2:
        return name
    inside = int(taxonomy.display_parent[node])
    return f"{name} ({taxonomy.synsets[inside].name})"


def _category(node: int, name: str, user: Totals, taxonomy: Taxonomy, whole: int) -> Cell:
    synset = taxonomy.synsets[node]
    return Cell(
        kind="category",
        node=node,
        wnid=synset.wnid,
        name=name,
        path=_path(node, taxonomy),
        photos=user.photos(node),
        mass=user.area(node),
        share=user.area(node) / whole if whole else 0.0,
    )


def _path(node: int, taxonomy: Taxonomy) -> tuple[str, ...]:
    limit = BROAD * taxonomy.classes
    path: list[str] = []
    while node >= 0 and taxonomy.leaf_count[node] < limit:
        path.append(taxonomy.synsets[node].wnid)
        node = int(taxonomy.display_parent[node])
    return tuple(reversed(path))


def _rest(kind: Literal["other", "unsure"], mass: int, whole: int) -> Cell:
    share = mass / whole if whole else 0.0
    return Cell(kind=kind, node=None, wnid=None, name=kind, path=(), photos=None, mass=mass, share=share)
