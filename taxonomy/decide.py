"""From masses to what a photo is said to show: a pure rule, its constants, and its outcome for a batch.

The rule "threshold": a category is shown as a tag when its mass reaches the threshold and it is no vague one (entity,
object, artifact: 40 % of the labels or more). The headline is the most informative tag, the one with the fewest labels.
A photo without a tag is abstained. One category stands for all that hold the same labels; only that one is a tag.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from taxonomy.errors import BadDecision
from taxonomy.graph import Ints, Taxonomy
from taxonomy.rollup import WHOLE

ABSTAINED = -1  # in `Decided.headline`


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The constants of a decision. Masses are ten-thousandths of a photo. Change one, and raise the revision."""

    revision: int = 1
    rule: Literal["threshold"] = "threshold"
    threshold: int = 8_000  # a tag's least mass; uncalibrated, 0.8 was right for 92 to 99 % of photos
    vague_share: float = 0.4  # a category with at least this share of the labels is never a tag
    keep_mass: int = 200  # columns below 2 % of a photo are not stored

    def __post_init__(self) -> None:
        if not 0 < self.keep_mass <= self.threshold <= WHOLE:
            raise BadDecision("A decision needs 0 < keep_mass <= threshold <= 10,000, or a tag would not be stored.")
        if not 0 < self.vague_share <= 1:
            raise BadDecision("A decision's vague_share is a share of the labels: above 0, and at most 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoDecision:
    """What one photo shows. Columns and nodes as in `taxonomy.graph`."""

    columns: Ints  # kept columns, areas included, ascending, so root first
    masses: NDArray[np.int16]  # parallel to `columns`
    tags: Ints  # shown nodes, most informative first, a subset of `columns`
    headline: int | None  # the first of `tags`; None: abstained


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """What a batch of B photos shows, laid end to end: columns[column_ends[i] : column_ends[i + 1]] are photo i's."""

    columns: Ints
    masses: NDArray[np.int16]  # parallel to `columns`
    column_ends: NDArray[np.int64]  # [B + 1], starts with 0
    tags: Ints
    tag_ends: NDArray[np.int64]  # [B + 1], starts with 0
    headline: Ints  # [B]; ABSTAINED where nothing is shown

    def __len__(self) -> int:
        return len(self.headline)

    def __getitem__(self, photo: int) -> PhotoDecision:
        if not 0 <= photo < len(self):
            raise IndexError(photo)
        kept = slice(self.column_ends[photo], self.column_ends[photo + 1])
        headline = int(self.headline[photo])
        return PhotoDecision(
            columns=self.columns[kept],
            masses=self.masses[kept],
            tags=self.tags[self.tag_ends[photo] : self.tag_ends[photo + 1]],
            headline=None if headline == ABSTAINED else headline,
        )

    def __iter__(self) -> Iterator[PhotoDecision]:
        return (self[photo] for photo in range(len(self)))


def decide(masses: NDArray[np.int16], taxonomy: Taxonomy, decision: Decision) -> Decided:
    """What each photo of a batch shows, from its masses [B, C] as `taxonomy.rollup` gives them."""
    photos = len(masses)
    rows, columns = _at_least(masses, decision.keep_mass)
    kept = masses[rows, columns]
    candidate = _candidates(taxonomy, decision)
    shown = (kept >= decision.threshold) & candidate[columns]
    tag_rows, tags = _most_informative_first(taxonomy, rows[shown], columns[shown], kept[shown])
    tag_ends = _ends(tag_rows, photos)
    headline = np.full(photos, ABSTAINED, dtype=np.int32)
    tagged = np.flatnonzero(np.diff(tag_ends))
    headline[tagged] = tags[tag_ends[tagged]]
    return Decided(
        columns=columns.astype(np.int32),
        masses=kept,
        column_ends=_ends(rows, photos),
        tags=tags.astype(np.int32),
        tag_ends=tag_ends,
        headline=headline,
    )


def _at_least(masses: NDArray[np.int16], least: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns, in that order, where the mass is at least so much."""
    flat = np.flatnonzero(masses >= least)
    rows, columns = np.divmod(flat, masses.shape[1])
    return rows, columns


def _candidates(taxonomy: Taxonomy, decision: Decision) -> NDArray[np.bool_]:
    """By column: whether it may be a tag, that is a representative, not vague, and not area-only."""
    candidate = np.zeros(taxonomy.columns, dtype=bool)
    representative = taxonomy.shown_as == np.arange(taxonomy.nodes)
    candidate[: taxonomy.nodes] = representative & (taxonomy.leaf_count < decision.vague_share * taxonomy.classes)
    return candidate


def _most_informative_first(
    taxonomy: Taxonomy, rows: NDArray[np.intp], nodes: NDArray[np.intp], masses: NDArray[np.int16]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sorted by photo, then fewest labels (the most bits), then larger mass, then smaller synset id."""
    order = np.lexsort((taxonomy.wnid_rank[nodes], -masses, taxonomy.leaf_count[nodes], rows))
    return rows[order], nodes[order]


def _ends(rows: NDArray[np.intp], photos: int) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=photos))]).astype(np.int64)
