"""What another model says differently of the same photos, counted page by page. Pure.

Law of the file, over integers and so exactly:
1. Categories are compared by synset id, on those that both taxonomies have.
2. By category: photos of the head = photos of the base + gained - lost; a photo is gained where only the head tags it.
3. How far a photo *moved* is the earth mover's distance between its two divisions of the display tree: the sum, over
   the categories below the root, of how much more or less of the photo lies inside. So it is in edges: a photo that
   was wholly one label and is wholly its sibling moved 2, from a dog to a car it may be 20. With two different
   taxonomies it is the same sum over the categories that both have.
4. Memory is that of one page, whatever the number of photos.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.profile import Profile
from pipeline.records import SEEN, WHOLE, Code
from taxonomy.graph import Taxonomy

_NODES = 32_768  # more than any node of the ledger

Index = NDArray[np.int32]
Totals = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What one model says of a photo, as it is stored. Nodes are ledger ids."""

    outcome: int
    headline: int | None
    nodes: Sequence[int]
    masses: Sequence[int]
    tags: Sequence[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A photo that both models have met as it is now."""

    photo_id: int
    base: Said
    head: Said


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """A model's taxonomy, and which of the compared categories each of the ledger's nodes is (-1: none)."""

    taxonomy: Taxonomy
    plain: Index  # by ledger node
    areas: Index  # by ledger node: of which category it is the area; not the root


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """The categories that two taxonomies have in common, in the order of the base's nodes."""

    base: Side
    head: Side
    wnids: tuple[str, ...]

    @classmethod
    def of(cls, base: Taxonomy, base_nodes: NDArray[np.int16], head: Taxonomy, head_nodes: NDArray[np.int16]) -> "Axis":
        """What can be compared; the arrays give the ledger's node of each column."""
        there = {synset.wnid for synset in head.synsets}
        wnids = tuple(synset.wnid for synset in base.synsets if synset.wnid in there)
        place = {wnid: number for number, wnid in enumerate(wnids)}
        return cls(base=_side(base, base_nodes, place), head=_side(head, head_nodes, place), wnids=wnids)

    @cached_property
    def same(self) -> bool:
        """Whether both have the very same taxonomy."""
        return self.base.taxonomy.sha256 == self.head.taxonomy.sha256


def _side(taxonomy: Taxonomy, nodes: NDArray[np.int16], place: dict[str, int]) -> Side:
    plain, areas = (np.full(_NODES, -1, dtype=np.int32) for _ in range(2))
    for node, synset in enumerate(taxonomy.synsets):
        number = place.get(synset.wnid, -1)
        plain[nodes[node]] = number
        if node:
            areas[nodes[taxonomy.area_column[node]]] = number
    return Side(taxonomy=taxonomy, plain=plain, areas=areas)


class PhotoTally:
    """Adds up what changes, page by page."""

    def __init__(self, axis: Axis, most: int) -> None:
        self._axis, self._most = axis, most
        self.photos = 0
        self.outcomes: Counter[tuple[int, int]] = Counter()  # (base, head)
        size = len(axis.wnids)
        self.base_photos, self.head_photos, self.gained, self.lost = (np.zeros(size, np.int64) for _ in range(4))
        self.base_mass, self.head_mass = (np.zeros(size, np.int64) for _ in range(2))
        self.retagged = 0  # photos with another headline, or with one where there was none
        self._far: list[tuple[int, int, Pair]] = []  # a heap: the least moved of the most moved first

    def add(self, pairs: Sequence[Pair]) -> None:
        """Count these photos."""
        if not pairs:
            return
        self.photos += len(pairs)
        self.outcomes.update((pair.base.outcome, pair.head.outcome) for pair in pairs)
        base, head = ([getattr(pair, side) for pair in pairs] for side in ("base", "head"))
        self.base_mass += self._masses(base, self._axis.base)
        self.head_mass += self._masses(head, self._axis.head)
        self._add_tags(base, head)
        both = [pair for pair in pairs if pair.base.outcome in SEEN and pair.head.outcome in SEEN]
        self.retagged += sum(self._headlines(pair)[0] != self._headlines(pair)[1] for pair in both)
        self._add_moved(both)

    def most_moved(self) -> list[tuple[float, Pair]]:
        """The photos that moved furthest, in edges of the display tree, furthest first."""
        return [(moved / WHOLE, pair) for moved, _, pair in sorted(self._far, key=lambda far: (-far[0], -far[1]))]

    def _headlines(self, pair: Pair) -> tuple[str | None, str | None]:
        return self._wnid(pair.base, self._axis.base), self._wnid(pair.head, self._axis.head)

    def _wnid(self, said: Said, side: Side) -> str | None:
        """The synset id of a headline; "" for one that the other taxonomy has not."""
        if said.headline is None:
            return None
        number = int(side.plain[said.headline])
        return "" if number < 0 else self._axis.wnids[number]

    def _masses(self, said: Sequence[Said], side: Side) -> Totals:
        nodes = np.fromiter(chain.from_iterable(each.nodes for each in said), np.int32)
        masses = np.fromiter(chain.from_iterable(each.masses for each in said), np.int64)
        return _summed(side.plain[nodes], masses, len(self._axis.wnids))

    def _add_tags(self, base: Sequence[Said], head: Sequence[Said]) -> None:
        size = len(self._axis.wnids)
        before, after = _tagged(base, self._axis.base, size), _tagged(head, self._axis.head, size)
        self.base_photos += _counted(before, size)
        self.head_photos += _counted(after, size)
        self.gained += _counted(np.setdiff1d(after, before, assume_unique=True), size)
        self.lost += _counted(np.setdiff1d(before, after, assume_unique=True), size)

    def _add_moved(self, both: Sequence[Pair]) -> None:
        moved = self._moved(both)
        foremost = np.argsort(-moved, kind="stable")[: self._most]
        for photo in foremost.tolist():
            entry = (int(moved[photo]), -both[photo].photo_id, both[photo])
            if moved[photo] and len(self._far) < self._most:
                heapq.heappush(self._far, entry)
            elif moved[photo] and entry[:2] > self._far[0][:2]:
                heapq.heapreplace(self._far, entry)

    def _moved(self, both: Sequence[Pair]) -> Totals:
        """By photo, how much mass crosses the edges of the display tree; ten-thousandths of a photo times edges."""
        size = len(self._axis.wnids)
        there, taken = _areas([pair.base for pair in both], self._axis.base, size)
        here, given = _areas([pair.head for pair in both], self._axis.head, size)
        keys, place = np.unique(np.concatenate([there, here]), return_inverse=True)
        change = np.bincount(place, weights=np.concatenate([-taken, given]), minlength=len(keys))
        return np.bincount(keys // size, weights=np.abs(change), minlength=len(both)).astype(np.int64)


def _summed(places: Index, amounts: Totals, size: int) -> Totals:
    known = places >= 0
    # Sums of integers below 2^53 are exact in float64.
    return np.bincount(places[known], weights=amounts[known], minlength=size).astype(np.int64)


def _counted(keys: Totals, size: int) -> Totals:
    """By category, of how many photos it is."""
    return np.bincount(keys % size, minlength=size)


def _tagged(said: Sequence[Said], side: Side, size: int) -> Totals:
    """photo x size + category, for each tag; every one once."""
    rows = np.repeat(np.arange(len(said), dtype=np.int64), [len(each.tags) for each in said])
    places = side.plain[np.fromiter(chain.from_iterable(each.tags for each in said), np.int32)]
    return (rows * size + places)[places >= 0]


def _areas(said: Sequence[Said], side: Side, size: int) -> tuple[Totals, Totals]:
    """photo x size + category, and its mass, for each area that is stored."""
    rows = np.repeat(np.arange(len(said), dtype=np.int64), [len(each.nodes) for each in said])
    places = side.areas[np.fromiter(chain.from_iterable(each.nodes for each in said), np.int32)]
    masses = np.fromiter(chain.from_iterable(each.masses for each in said), np.int64)
    return (rows * size + places)[places >= 0], masses[places >= 0]


# ---- users


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileChange:
    """Two profiles of one user: as the page shows it under the base, and as it would under the head."""

    user: str
    base: tuple[str, ...]  # the categories shown, by name, largest first
    head: tuple[str, ...]
    replaced: int  # categories of the head that the base does not show, or the other way round where these are more
    moved: float  # share of the treemap that changes its category, 0 to 1; *other* and *unsure* count as categories


def profile_change(user: str, base: Profile, head: Profile) -> ProfileChange:
    """How the picture of a user changes."""
    before, after = _shares(base), _shares(head)
    shown, would = _shown(base), _shown(head)
    common = sum(min(share, after.get(cell, 0.0)) for cell, share in before.items())
    return ProfileChange(
        user=user,
        base=tuple(shown.values()),
        head=tuple(would.values()),
        replaced=max(len(would.keys() - shown.keys()), len(shown.keys() - would.keys())),
        moved=round(1 - common, 6) if before or after else 0.0,
    )


def _shares(profile: Profile) -> dict[str, float]:
    return {cell.wnid or cell.kind: cell.mass / profile.mass for cell in profile.cells}


def _shown(profile: Profile) -> dict[str | None, str]:
    return {cell.wnid: cell.name for cell in profile.cells if cell.kind == "category"}


def outcome_name(outcome: int) -> str:
    """What an outcome is called in the answer: tagged, abstained or failed."""
    return Code(outcome).name.lower() if outcome in SEEN else "failed"
