"""Small counts on pages across users: which categories are withheld so that no small one can be had by subtraction.

A category is *published* with its count and its photos, to everybody alike, or *withheld*. The laws
  1. Withheld is what fewer than `fewest` users have, nobody included: that nobody has something is not told apart.
  2. What somebody has and is withheld cannot be told from its neighbours: each label under it is one of a *crowd*, the
     labels that lie in exactly the same published categories, with a label outside of it. So no intersection and no
     difference of published lists holds its photos alone.
  3. In numbers: around its photos there are at least `fewest` others that might as well be its own. Those are photos of
     its crowd: of withheld categories beside it, or of the published one around it and of nothing published inside.
  4. Where 2 or 3 fails, a further category is withheld, of those beside it and around it the one with the fewest photos
     that mends it; where none does, the narrowest around it, and so on until both hold.

What is withheld follows from exact counts of everybody alone, not from who looks. An upper bound stays, as everywhere
where totals are published: a withheld count is at most what is left over.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from taxonomy.graph import Taxonomy


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What users have of one category."""

    users: int
    photos: int  # that carry the tag


NOTHING = Held(users=0, photos=0)


def withheld(taxonomy: Taxonomy, shown: Collection[int], held: Mapping[int, Held], fewest: int) -> frozenset[int]:
    """Of the nodes in `shown`, those that are withheld; all others may be published.

    `shown` are nodes that can be tags, each standing for all with its labels.
    """
    few = {node for node in shown if held.get(node, NOTHING).users < fewest}
    found = _Publishing(taxonomy, set(shown) - few, held, fewest)
    # Broad ones first: what hides them hides their parts.
    small = sorted((v for v in few if held.get(v, NOTHING).photos), key=lambda v: (-int(taxonomy.leaf_count[v]), v))
    before = None
    while before != len(found.published):
        before = len(found.published)
        for node in small:
            found.cover(node)
    return frozenset(shown) - found.published


@dataclass(frozen=True, slots=True)
class _Places:
    """What lies above and below what, by labels: sets of labels and of nodes as bits of integers."""

    labels: tuple[int, ...]  # by node
    above: tuple[tuple[int, ...], ...]  # by node: those that stand for others and hold more, narrowest first
    below: tuple[tuple[int, ...], ...]  # by node: those that stand for others and hold less, broadest first


@lru_cache(maxsize=2)
def _places(taxonomy: Taxonomy) -> _Places:
    sets = taxonomy.label_sets
    narrow_first = sorted(set(taxonomy.shown_as.tolist()), key=lambda v: (len(sets[v]), v))
    holding: list[list[int]] = [[] for _ in taxonomy.labels]  # by label
    for node in narrow_first:
        for label in sets[node]:
            holding[label].append(node)
    above: list[tuple[int, ...]] = [()] * taxonomy.nodes
    below: list[list[int]] = [[] for _ in sets]
    for node in narrow_first:
        above[node] = tuple(v for v in holding[min(sets[node])] if sets[node] < sets[v])
        for v in above[node]:
            below[v].append(node)
    bits = tuple(sum(1 << label for label in held) for held in sets)
    return _Places(bits, tuple(above), tuple(tuple(reversed(inside)) for inside in below))


class _Publishing:
    """The published categories, fewer with each one that must be withheld."""

    def __init__(self, taxonomy: Taxonomy, published: set[int], held: Mapping[int, Held], fewest: int) -> None:
        self.published = published
        self._taxonomy = taxonomy
        self._places = _places(taxonomy)
        self._rank = taxonomy.wnid_rank.tolist()
        self._photos = [held.get(node, NOTHING).photos for node in range(taxonomy.nodes)]
        self._fewest = fewest
        self._lying_in = [0] * taxonomy.classes  # by label: the published nodes that hold it
        for node in sorted(published):
            self._publish(node)

    def cover(self, node: int) -> None:
        """Withhold what must go along with this category, which is withheld and not empty."""
        while not self._covered(node):
            around = self._around(node)
            beside = {v for above in around for v in self._inside(above)}
            fewest_photos_first = sorted({*around, *beside}, key=lambda v: (self._photos[v], self._rank[v]))
            self._withhold(next(filter(lambda v: self._would_cover(v, node), fewest_photos_first), None) or around[0])

    def _would_cover(self, further: int, node: int) -> bool:
        self._withhold(further)
        covered = self._covered(node)
        self._publish(further)
        return covered

    def _withhold(self, node: int) -> None:
        self.published.discard(node)
        for label in self._taxonomy.label_sets[node]:
            self._lying_in[label] &= ~(1 << node)

    def _publish(self, node: int) -> None:
        self.published.add(node)
        for label in self._taxonomy.label_sets[node]:
            self._lying_in[label] |= 1 << node

    def _covered(self, node: int) -> bool:
        """Laws 2 and 3, or there is nothing around it from which to subtract."""
        around = self._around(node)
        return not around or (self._in_a_crowd(node, around) and self._others(node, around) >= self._fewest)

    def _around(self, node: int) -> list[int]:
        """The narrowest published categories that hold all of its labels."""
        return self._outermost(reversed([v for v in self._places.above[node] if v in self.published]), inner=True)

    def _inside(self, node: int) -> list[int]:
        """The broadest published categories inside a published one."""
        return self._outermost(v for v in self._places.below[node] if v in self.published)

    def _outermost(self, nodes: Iterator[int], *, inner: bool = False) -> list[int]:
        """Of nodes, broadest first, those that lie in no other one; `inner`: those in which no other one lies."""
        labels = self._places.labels
        ordered = list(nodes)[::-1] if inner else list(nodes)
        kept: list[int] = []
        for v in ordered:
            hidden = any(labels[v] & labels[k] == (labels[k] if inner else labels[v]) for k in kept)
            if not hidden:
                kept.append(v)
        return kept

    def _in_a_crowd(self, node: int, around: list[int]) -> bool:
        """Law 2."""
        inside = self._taxonomy.label_sets[node]
        near = frozenset[int]().union(*(self._taxonomy.label_sets[v] for v in around)) - inside
        outside = {self._lying_in[label] for label in near}
        return all(self._lying_in[label] in outside for label in inside)

    def _others(self, node: int, around: list[int]) -> int:
        """Law 3: how many photos, at least, those of the node can be mistaken for."""
        beside = self._beside(node, around[0])
        if len(around) > 1:
            return beside
        return max(beside, self._photos[around[0]] - self._in_any(self._inside(around[0])) - self._photos[node])

    def _beside(self, node: int, above: int) -> int:
        """Photos of other withheld categories of the same crowd, none of them counted twice."""
        labels = self._places.labels
        crowd = {self._lying_in[label] for label in self._taxonomy.label_sets[node]}
        taken, photos = labels[node], 0
        for other in self._places.below[above]:
            if other in self.published or not self._photos[other] or labels[other] & taken:
                continue
            if all(self._lying_in[label] in crowd for label in self._taxonomy.label_sets[other]):
                taken, photos = taken | labels[other], photos + self._photos[other]
        return photos

    def _in_any(self, nodes: list[int]) -> int:
        """How many photos carry one of these tags, or a few more than that: each overlap is taken off once."""
        inside = {v for node in nodes for v in (node, *self._places.below[node])}
        labels = self._places.labels
        times: dict[int, int] = {}
        for v in sorted(inside, key=lambda v: (-int(self._taxonomy.leaf_count[v]), v)):
            if n := 1 - sum(m for above, m in times.items() if labels[v] & labels[above] == labels[v]):
                times[v] = n
        return sum(n * self._photos[v] for v, n in times.items())
