"""Carrying leaf probabilities up the hypernym graph, in exact integers.

A column's mass is the sum of the probabilities of the distinct labels it holds: one product with a 0/1 matrix. It is
never a sum along edges, which counts a label once for every path that leads up, and never a mean of children, which
makes a category weaker than its strongest member.

The laws, with masses in ten-thousandths of a photo
  1. Leaf probabilities are floored to units of 1/10,240,000 and what is missing goes to the largest, so a photo always
     has exactly 10,240,000 units; a column's mass is the sum of its units, divided by 1024 and rounded down.
  2. So the root is exactly 10,000; a child is never above its parent; and children that share no label never add up to
     more than their parent.
  3. Every sum stays below 2^24, where float32 is exact: any order of addition, on any device, gives the same integers.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxonomy.errors import BadScores
from taxonomy.graph import Taxonomy

UNITS = 10_240_000  # units of one photo: 1024 times its mass, and below 2^24
UNITS_PER_MASS = 1024  # a power of two, so that a device divides by shifting
WHOLE = UNITS // UNITS_PER_MASS  # mass of one photo at the root: 10,000
SUM_TOLERANCE = 1e-3  # a softmax in half precision is off by less


class Rollup:
    """The roll-up over one taxonomy. Stateless once made; safe to share between threads."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._classes = taxonomy.classes
        self._sums, self._source = _plan(taxonomy)

    def masses(self, probabilities: ArrayLike) -> NDArray[np.int16]:
        """Masses [B, C] in ten-thousandths of a photo from leaf probabilities [B, L].

        Raises:
            BadScores: not [B, L], or a row is not finite, has a negative entry, or does not sum to 1 within 0.001.
        """
        units = leaf_units(probabilities)
        if units.shape[1] != self._classes:
            raise BadScores(f"{units.shape[1]} scores per photo do not fit {self._classes} labels.")
        parts = np.concatenate([units, (units.astype(np.float32) @ self._sums).astype(np.int32)], axis=1)
        whole = (parts // UNITS_PER_MASS).astype(np.int16)
        return np.take(whole, self._source, axis=1)


def leaf_units(probabilities: ArrayLike) -> NDArray[np.int32]:
    """Leaf probabilities [B, L] as integers that sum to exactly 10,240,000 in each row (law 1).

    Rows are brought to a sum of 1 in float64 first. Among equally large leaves the first gets the residue.

    Raises:
        BadScores: not two-dimensional, or a row is no probability distribution; the message names the row.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise BadScores(f"Scores of shape {scores.shape} are not photos by labels; pass a [B, L] array.")
    totals = scores.sum(axis=1)
    _refuse(~np.isfinite(totals), "has a score that is not a finite number")
    _refuse(scores.min(axis=1) < 0, "has a negative score")
    _refuse(np.abs(totals - 1) > SUM_TOLERANCE, "does not sum to 1")
    units: NDArray[np.int32] = (scores * (UNITS / totals)[:, None]).astype(np.int32)
    units[np.arange(len(units)), scores.argmax(axis=1)] += UNITS - units.sum(axis=1, dtype=np.int32)
    return units


def _plan(taxonomy: Taxonomy) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The distinct sets of labels that are no single label, as [L, D], and by column where its units are found.

    Most columns hold one label, or the same labels as another; only what differs is multiplied. A column's place is a
    class, or L plus a column of D.
    """
    place = {frozenset({label}): label for label in range(taxonomy.classes)}
    source = [place.setdefault(held, len(place)) for held in taxonomy.column_sets]
    sums = np.zeros((taxonomy.classes, len(place) - taxonomy.classes), dtype=np.float32)
    for held, position in place.items():
        if position >= taxonomy.classes:
            sums[list(held), position - taxonomy.classes] = 1
    return sums, np.array(source, dtype=np.intp)


def _refuse(bad: NDArray[np.bool_], what: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise BadScores(f"Row {row} {what}; the model's output for this photo cannot be used.")
