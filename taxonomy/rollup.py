"""Carrying leaf probabilities up the hypernym graph, in exact integers.

A column's mass is the sum of the probabilities of the distinct labels it holds: one product with a 0/1 matrix. It is
never a sum along edges, which counts a label once for every path that leads up, and never a mean of children, which
makes a category weaker than its strongest member.

The laws, with masses in ten-thousandths of a photo
  1. Leaf probabilities are floored to units of 1/10,240,000 and what is missing goes to the largest, so a photo always
     has exactly 10,240,000 units; a column's mass is the sum of its units, divided by 1024 and rounded down.
  2. So the root is exactly 10,000; a child is never above its parent; and children that share no label never add up to
     more than their parent.
  3. Everything that is added is an integer, or a float64 multiple of 2^-40: any order of addition, on any device, gives
     the same masses.

How the product is computed. The labels are put in the order of the display tree. There a category's labels lie side by
side, but for the few that the tree draws elsewhere, so its sum is a difference of two running sums per run of labels:
ImageNet's 1,971 columns need 2,062 such runs instead of a million products per photo.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxonomy.errors import BadScores
from taxonomy.graph import Ints, Taxonomy

UNITS = 10_240_000  # units of one photo: 1024 times its mass, far inside an int32
UNITS_PER_MASS = 1024  # a power of two, so that dividing is shifting
WHOLE = UNITS // UNITS_PER_MASS  # mass of one photo at the root: 10,000
SUM_TOLERANCE = 1e-3  # a softmax in half precision is off by less
GRAIN = 2.0**40  # scores are cut to its inverse before they are added up; float64 holds such sums exactly
BLOCK = 128  # photos at a time, so that their units and running sums stay in the cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Which runs of labels each column adds up; places are those of `order`, and a run is first (in) to last (out)."""

    order: Ints  # [L]: classes in the order of the display tree
    first: Ints  # [C]: where the column's first run starts; equal to `last` for a column without labels
    last: Ints  # [C]
    more_column: Ints  # [M]: columns of the runs beyond the first, ascending
    more_first: Ints  # [M]
    more_last: Ints  # [M]

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> "Runs":
        """The runs of every column of a taxonomy."""
        order = _display_order(taxonomy)
        place = {label: at for at, label in enumerate(order)}
        runs = [_runs(place[label] for label in held) or [(0, 0)] for held in taxonomy.column_sets]
        more = [(column, *run) for column, found in enumerate(runs) for run in found[1:]]
        columns, firsts, lasts = np.array(more, dtype=np.int32).reshape(-1, 3).T
        return cls(
            order=np.array(order, dtype=np.int32),
            first=np.array([found[0][0] for found in runs], dtype=np.int32),
            last=np.array([found[0][1] for found in runs], dtype=np.int32),
            more_column=columns,
            more_first=firsts,
            more_last=lasts,
        )


class Rollup:
    """The roll-up over one taxonomy. Stateless once made; safe to share between threads."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._runs = Runs.of(taxonomy)
        self._several, self._starts = np.unique(self._runs.more_column, return_index=True)

    def masses(self, probabilities: ArrayLike) -> NDArray[np.int16]:
        """Masses [B, C] in ten-thousandths of a photo from leaf probabilities [B, L].

        Raises:
            BadScores: not [B, L], or a row is not finite, has a negative entry, or does not sum to 1 within 0.001.
        """
        scores = np.asarray(probabilities)
        check_shape(scores.shape, len(self._runs.order))
        masses = np.empty((len(scores), len(self._runs.first)), dtype=np.int16)
        for at in range(0, len(scores), BLOCK):
            masses[at : at + BLOCK] = self._sums(_units(scores[at : at + BLOCK], at)) // UNITS_PER_MASS
        return masses

    def _sums(self, units: NDArray[np.int32]) -> NDArray[np.int32]:
        runs = self._runs
        running = np.zeros((len(units), units.shape[1] + 1), dtype=np.int32)
        np.cumsum(np.take(units, runs.order, axis=1), axis=1, out=running[:, 1:])
        sums: NDArray[np.int32] = np.take(running, runs.last, axis=1) - np.take(running, runs.first, axis=1)
        if len(self._several):
            more = np.take(running, runs.more_last, axis=1) - np.take(running, runs.more_first, axis=1)
            sums[:, self._several] += np.add.reduceat(more, self._starts, axis=1)
        return sums


def leaf_units(probabilities: ArrayLike) -> NDArray[np.int32]:
    """Leaf probabilities [B, L] as integers that sum to exactly 10,240,000 in each row (law 1).

    Rows are brought to a sum of 1 in float64 first. Among equally large leaves the first gets the residue.

    Raises:
        BadScores: not two-dimensional, or a row is no probability distribution; the message names the row.
    """
    scores = np.asarray(probabilities)
    check_shape(scores.shape)
    return _units(scores, 0)


def check_shape(shape: tuple[int, ...], labels: int | None = None) -> None:
    """Refuse what is no table of scores, or one of another model.

    Raises:
        BadScores: the shape is not [B, L], with as many scores per photo as labels.
    """
    if len(shape) != 2 or shape[1] == 0:
        raise BadScores(f"Scores of shape {shape} are not photos by labels; pass a [B, L] array.")
    if labels is not None and shape[1] != labels:
        raise BadScores(f"{shape[1]} scores per photo do not fit {labels} labels.")


def check_rows(totals: NDArray[np.float64], least: NDArray[np.float64], first_row: int = 0) -> None:
    """Refuse scores that are no probabilities, given the sum and the least score of each row.

    Raises:
        BadScores: a row is not finite, has a negative entry, or does not sum to 1 within 0.001; the message names it.
    """
    problems = (
        (~np.isfinite(totals), "has a score that is not a finite number"),
        (least < 0, "has a negative score"),
        (np.abs(totals - 1) > SUM_TOLERANCE, "does not sum to 1"),
    )
    for bad, what in problems:
        if bad.any():
            row = first_row + int(bad.argmax())
            raise BadScores(f"Row {row} {what}; the model's output for this photo cannot be used.")


def _units(table: NDArray[np.floating], first_row: int) -> NDArray[np.int32]:
    scores = table.astype(np.float64)
    totals = np.floor(scores * GRAIN).sum(axis=1) / GRAIN  # the same in any order of addition
    check_rows(totals, scores.min(axis=1), first_row)
    units: NDArray[np.int32] = (scores * (UNITS / totals)[:, None]).astype(np.int32)
    units[np.arange(len(units)), scores.argmax(axis=1)] += UNITS - units.sum(axis=1, dtype=np.int32)
    return units


def _display_order(taxonomy: Taxonomy) -> list[int]:
    """The classes as a walk through the display tree meets them."""
    label = {int(node): position for position, node in enumerate(taxonomy.label_nodes)}
    order: list[int] = []
    waiting = [0]
    while waiting:
        node = waiting.pop()
        if node in label:
            order.append(label[node])
        waiting.extend(reversed(taxonomy.display_children[node]))
    return order


def _runs(places: Iterable[int]) -> list[tuple[int, int]]:
    """Places as runs of neighbours: [2, 3, 4, 7] are (2, 5) and (7, 8)."""
    runs: list[tuple[int, int]] = []
    for place in sorted(places):
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs
