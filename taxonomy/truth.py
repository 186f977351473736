"""What labelled photos really show, as the categories that are right for them.

A category is right for a photo if it is the photo's true synset or one of its hypernyms. It is finer if it lies below
the true synset: it may be right, which cannot be checked. Any other category is wrong. The true synset need not be a
label, nor in the graph at all: an okapi is a mammal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxonomy.errors import BadTruth, UnknownSynset
from taxonomy.graph import Ints, Taxonomy


class Verdict(IntEnum):
    """What becomes of a photo's headline."""

    ABSTAINED = 0  # nothing was shown
    RIGHT = 1
    FINER = 2
    WRONG = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a synset stands among the nodes of a graph that need not hold it."""

    above: frozenset[int]  # the nodes that are it or its hypernyms, the root included
    below: frozenset[int] = frozenset()  # the nodes that are its hyponyms


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """The truth about N photos of K different synsets, over V nodes."""

    wnids: tuple[str, ...]  # [K], ascending; empty where what photos show is not known by one synset
    which: Ints  # [N]: each photo's place in `wnids`
    right: NDArray[np.bool_]  # [K, V]
    finer: NDArray[np.bool_]  # [K, V]; nowhere where `right` is

    @classmethod
    def of(cls, taxonomy: Taxonomy, wnids: Sequence[str], places: Mapping[str, Place] | None = None) -> "Truth":
        """The truth about photos whose true synsets are given by id.

        Args:
            taxonomy: the graph whose nodes are judged.
            wnids: the true synset of each photo.
            places: where the synsets stand that the graph does not have.

        Raises:
            UnknownSynset: a synset is neither in the graph nor among the places; the message names it.
            BadTruth: a place names a node that is not there, or leaves out the root.
        """
        known = tuple(sorted(set(wnids)))
        right = np.zeros((len(known), taxonomy.nodes), dtype=bool)
        finer = np.zeros_like(right)
        for row, wnid in enumerate(known):
            place = _place(taxonomy, wnid, places or {})
            right[row, sorted(place.above)] = True
            finer[row, sorted(place.below - place.above)] = True
        row_of = {wnid: row for row, wnid in enumerate(known)}
        which = np.array([row_of[wnid] for wnid in wnids], dtype=np.int32)
        return cls(wnids=known, which=which, right=right, finer=finer)

    @classmethod
    def known(cls, right: NDArray[np.bool_]) -> "Truth":
        """The truth about N photos of which just these categories [N, V] are right; all others are wrong."""
        finer = np.broadcast_to(np.False_, right.shape)
        return cls(wnids=(), which=np.arange(len(right), dtype=np.int32), right=right, finer=finer)

    def __len__(self) -> int:
        return len(self.which)

    def take(self, photos: ArrayLike) -> "Truth":
        """The truth about some of the photos, by index or by mask."""
        which: Ints = self.which[np.asarray(photos)]
        return Truth(wnids=self.wnids, which=which, right=self.right, finer=self.finer)

    def verdicts(self, nodes: Ints) -> NDArray[np.int8]:
        """The `Verdict` on one node [N] per photo; -1 is abstaining.

        Raises:
            BadTruth: there is not one node per photo.
        """
        if nodes.shape != self.which.shape:
            raise BadTruth(f"{len(nodes)} decisions do not fit the truth about {len(self)} photos; pass one for each.")
        return np.where(nodes < 0, Verdict.ABSTAINED, self.judge(np.arange(len(self)), nodes)).astype(np.int8)

    def judge(self, photos: NDArray[np.intp], nodes: Ints) -> NDArray[np.int8]:
        """The `Verdict` on pairs of a photo and a node."""
        rows = self.which[photos]
        shown = np.where(self.finer[rows, nodes], Verdict.FINER, Verdict.WRONG)
        return np.where(self.right[rows, nodes], Verdict.RIGHT, shown).astype(np.int8)


def _place(taxonomy: Taxonomy, wnid: str, places: Mapping[str, Place]) -> Place:
    if wnid in places:
        place = places[wnid]
        if not all(0 <= node < taxonomy.nodes for node in place.above | place.below) or 0 not in place.above:
            raise BadTruth(f"The place of {wnid} is not one in {taxonomy.name}; it needs the root and known nodes.")
        return place
    try:
        node = taxonomy.node(wnid)
    except UnknownSynset as error:
        raise UnknownSynset(f"{taxonomy.name} has no synset {wnid}; say what lies above it to judge it.") from error
    below = frozenset(other for other in range(taxonomy.nodes) if other != node and taxonomy.is_under(other, node))
    return Place(above=frozenset(taxonomy.distances[node]), below=below)
