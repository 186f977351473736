"""From masses to what a photo is said to show: a pure rule, its constants, and its outcome for a batch.

Each category that stands for all with the same labels has a worth, and the headline is the one with the largest:
  "threshold": its information, if its mass reaches the threshold (the most informative category that is sure enough);
  "expected":  mass times (utility + lam), utility = sqrt(bits / bits of a single label): the expected utility of saying
               it, where lam is paid for being right at all. After Deng et al., "Hedging your bets" (CVPR 2012), with a
               concave utility; lam comes from calibration (`taxonomy.calibrate`).

The laws
  1. Ties go to the larger mass, then to fewer labels, then to the smaller synset id.
  2. Vague categories (40 % of the labels or more: entity, object, artifact) compete and are never shown. Where one
     wins, the photo is abstained: it has no headline and no tags. Abstaining is never wrong.
  3. The tags are the headline, everything above it, and every category whose mass reaches the threshold, without the
     vague ones. So the headline is a tag, and what lies above a tag is a tag.
  4. Only columns that are stored compete, so deciding again from stored arrays says the same.
  5. Utility and lam are integers in ten-thousandths, as masses are, and a worth is their exact product: a GPU, which
     adds floats in another order, decides the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from taxonomy.ballot import ABSTAINED, NO_HEADLINE, RANK_BITS, Rule, ballot
from taxonomy.errors import BadDecision
from taxonomy.graph import Ints, Taxonomy
from taxonomy.rollup import WHOLE

NO_TAG = WHOLE + 1  # the largest threshold: a mass that nothing reaches

Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The constants of a decision. Masses are ten-thousandths of a photo. Change one, and raise the revision.

    Raises:
        BadDecision: the constants contradict each other, or are out of range.
    """

    revision: int = 1
    rule: Rule = "threshold"
    lam: int = 0  # ten-thousandths; of the rule "expected"
    threshold: int = 8_000  # a tag's least mass; uncalibrated, 0.8 was right for 92 to 99 % of photos
    vague_share: float = 0.4  # a category with at least this share of the labels is never a tag
    ambiguous_mass: int = 3_000  # the least mass of each of two categories between which a photo is undecided
    keep_mass: int = 200  # columns below 2 % of a photo are not stored

    def __post_init__(self) -> None:
        if self.rule not in ("threshold", "expected"):
            raise BadDecision(f"There is no rule {self.rule!r}; choose threshold or expected.")
        if not 0 < self.keep_mass <= min(self.threshold, self.ambiguous_mass):
            raise BadDecision("A decision needs 0 < keep_mass <= every other mass, or a tag would not be stored.")
        if self.threshold > NO_TAG:
            raise BadDecision(f"A decision's threshold is at most {NO_TAG:,}, which shows nothing.")
        if not 0 <= self.lam <= NO_HEADLINE:
            raise BadDecision(f"A decision's lam lies between 0 and {NO_HEADLINE:,}, which shows nothing.")
        if not 0 < self.vague_share <= 1:
            raise BadDecision("A decision's vague_share is a share of the labels: above 0, and at most 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What is stored of the masses of B photos, laid end to end: columns[ends[i] : ends[i + 1]] are photo i's."""

    columns: Ints  # ascending within a photo
    masses: NDArray[np.int16]  # parallel to `columns`
    ends: NDArray[np.int64]  # [B + 1], starts with 0

    def __len__(self) -> int:
        return len(self.ends) - 1

    @property
    def rows(self) -> Rows:
        """The photo of each column."""
        return np.repeat(np.arange(len(self)), np.diff(self.ends))


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoDecision:
    """What one photo shows, as it is stored. Columns and nodes as in `taxonomy.graph`."""

    columns: Ints  # kept columns, areas included, ascending, so root first
    masses: NDArray[np.int16]  # parallel to `columns`
    tags: Ints  # shown nodes, most informative first, a subset of `columns`
    headline: int | None  # one of `tags`; None: abstained


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """What a batch of B photos shows. Nodes laid end to end: tags[tag_ends[i] : tag_ends[i + 1]] are photo i's."""

    kept: Kept
    tags: Ints
    tag_ends: NDArray[np.int64]  # [B + 1], starts with 0
    minimal: NDArray[np.bool_]  # parallel to `tags`: whether no other tag of the photo lies below it
    headline: Ints  # [B]; ABSTAINED where nothing is shown
    winner: Ints  # [B]: what the rule chose before vague ones were dropped; ABSTAINED where it chose nothing

    def __len__(self) -> int:
        return len(self.headline)

    @property
    def tag_rows(self) -> Rows:
        """The photo of each tag."""
        return np.repeat(np.arange(len(self)), np.diff(self.tag_ends))

    @property
    def headline_mass(self) -> NDArray[np.int16]:
        """[B]: the mass of the headline; 0 where nothing is shown."""
        rows = self.kept.rows
        its = self.kept.columns == self.headline[rows]
        mass = np.zeros(len(self), dtype=np.int16)
        mass[rows[its]] = self.kept.masses[its]
        return mass

    def __getitem__(self, photo: int) -> PhotoDecision:
        if not 0 <= photo < len(self):
            raise IndexError(photo)
        kept = slice(self.kept.ends[photo], self.kept.ends[photo + 1])
        headline = int(self.headline[photo])
        return PhotoDecision(
            columns=self.kept.columns[kept],
            masses=self.kept.masses[kept],
            tags=self.tags[self._tags_of(photo)],
            headline=None if headline == ABSTAINED else headline,
        )

    def frontier(self, photo: int) -> Ints:
        """The photo's tags with no tag below them, most informative first; nearly always one."""
        shown = self._tags_of(photo)
        return self.tags[shown][self.minimal[shown]]

    def __iter__(self) -> Iterator[PhotoDecision]:
        return (self[photo] for photo in range(len(self)))

    def _tags_of(self, photo: int) -> slice:
        return slice(self.tag_ends[photo], self.tag_ends[photo + 1])


def decide(masses: NDArray[np.int16], taxonomy: Taxonomy, decision: Decision) -> Decided:
    """What each photo of a batch shows, from its masses [B, C] as `taxonomy.rollup` gives them."""
    return decide_kept(keep(masses, decision.keep_mass), taxonomy, decision)


def keep(masses: NDArray[np.int16], least: int) -> Kept:
    """The columns of masses [B, C] that hold at least so much."""
    flat = np.flatnonzero(masses >= least)
    rows, columns = np.divmod(flat, masses.shape[1])
    return Kept(columns=columns.astype(np.int32), masses=masses.reshape(-1)[flat], ends=_ends(rows, len(masses)))


def decide_kept(kept: Kept, taxonomy: Taxonomy, decision: Decision) -> Decided:
    """As `decide`, from stored arrays, which hold just the columns with `decision.keep_mass` or more."""
    return show(kept, winners(kept, taxonomy, decision), taxonomy, decision)


def winners(kept: Kept, taxonomy: Taxonomy, decision: Decision) -> Ints:
    """By photo, the node that the rule chooses, vague ones included; ABSTAINED where it chooses none."""
    votes = ballot(taxonomy, decision.rule, decision.vague_share)
    masses = kept.masses.astype(np.int64)
    worths = votes.worths(kept.columns, masses, decision.lam, decision.threshold)
    return votes.elected(_best(len(kept), kept.rows, worths, votes.ties(kept.columns, masses)))


def show(kept: Kept, winner: Ints, taxonomy: Taxonomy, decision: Decision) -> Decided:
    """The outcome for a batch, given the node that won on each photo."""
    votes = ballot(taxonomy, decision.rule, decision.vague_share)
    headline = np.where(votes.vague[winner], ABSTAINED, winner).astype(np.int32)
    rows = kept.rows
    below = np.zeros((len(kept), taxonomy.columns), dtype=bool)  # what the headline lies below, itself included
    shown_rows = np.flatnonzero(headline != ABSTAINED)
    below[lineages(taxonomy).of(shown_rows, headline[shown_rows])] = True
    sure = (kept.masses >= decision.threshold) & (headline != ABSTAINED)[rows]
    shown = votes.showable[kept.columns] & (sure | below[rows, kept.columns])
    tag_rows, tags = _most_informative_first(taxonomy, rows[shown], kept.columns[shown], kept.masses[shown])
    return Decided(
        kept=kept,
        tags=tags,
        tag_ends=_ends(tag_rows, len(kept)),
        minimal=_minimal(taxonomy, tag_rows, tags, len(kept)),
        headline=headline,
        winner=winner,
    )


def ambiguous(kept: Kept, taxonomy: Taxonomy, decision: Decision) -> list[tuple[int, int] | None]:
    """By photo, the two categories between which it is undecided, the better first; None where there are none.

    Both are showable and have at least `ambiguous_mass`; the first is the best of those by expected utility, the second
    the best that is far from it: it shares no label with it, and only vague categories lie above both. An explanation:
    it changes nothing that is shown, and takes longer than the decision.
    """
    votes = ballot(taxonomy, "expected", decision.vague_share)
    able = votes.showable[kept.columns] & (kept.masses >= decision.ambiguous_mass)
    rows, nodes, masses = kept.rows[able], kept.columns[able], kept.masses[able].astype(np.int64)
    worths, ties = votes.worths(nodes, masses, decision.lam, decision.threshold), votes.ties(nodes, masses)
    best = _best(len(kept), rows, worths, ties)
    first, first_mass = votes.elected(best), best >> RANK_BITS
    rivals = np.flatnonzero((worths >= 0) & (masses + first_mass[rows] <= WHOLE))  # what shares no label fits beside it
    pairs: list[tuple[int, int] | None] = [None] * len(kept)
    for rival in rivals[np.lexsort((-ties[rivals], -worths[rivals]))].tolist():
        row, node = int(rows[rival]), int(nodes[rival])
        if pairs[row] is None and _far_apart(taxonomy, int(first[row]), node, votes.vague):
            pairs[row] = int(first[row]), node
    return pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineages:
    """Each node with everything above it, laid end to end: above[starts[v] : starts[v] + sizes[v]] are node v's."""

    above: Ints
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def of(self, rows: Rows, nodes: Ints) -> tuple[Rows, Ints]:
        """Pairs of a row and a node, each replaced by the row with everything in that node's lineage."""
        sizes = self.sizes[nodes]
        firsts = np.repeat(self.starts[nodes] - (np.cumsum(sizes) - sizes), sizes)
        return np.repeat(rows, sizes), self.above[firsts + np.arange(len(firsts))]


@lru_cache(maxsize=8)
def lineages(taxonomy: Taxonomy) -> Lineages:
    """Every node's lineage, itself included."""
    above = [sorted(reach) for reach in taxonomy.distances]
    sizes = np.array([len(reach) for reach in above], dtype=np.int64)
    flat = np.array([node for reach in above for node in reach], dtype=np.int32)
    return Lineages(above=flat, starts=np.cumsum(sizes) - sizes, sizes=sizes)


def _best(photos: int, rows: Rows, worths: NDArray[np.int64], ties: NDArray[np.int64]) -> NDArray[np.int64]:
    """By photo, the tie-breaker of what wins among its rows; -1 where nothing can."""
    most, best = (np.full(photos, -1, dtype=np.int64) for _ in range(2))
    np.maximum.at(most, rows, worths)
    tied = (worths >= 0) & (worths == most[rows])
    np.maximum.at(best, rows[tied], ties[tied])
    return best


def _most_informative_first(
    taxonomy: Taxonomy, rows: Rows, nodes: Ints, masses: NDArray[np.int16]
) -> tuple[Rows, Ints]:
    """Sorted by photo, then fewest labels (the most bits), then larger mass, then smaller synset id."""
    order = np.lexsort((taxonomy.wnid_rank[nodes], -masses, taxonomy.leaf_count[nodes], rows))
    return rows[order], nodes[order]


def _minimal(taxonomy: Taxonomy, rows: Rows, tags: Ints, photos: int) -> NDArray[np.bool_]:
    """Which tags have no other tag of their photo below them, for tags sorted with the most informative first.

    The first tag of a photo is minimal, for whatever lies below a category has fewer labels; so is the first that
    does not lie above it; and so on. Nearly every photo is done after one step.
    """
    minimal = np.zeros(len(tags), dtype=bool)
    above = np.zeros((photos, taxonomy.nodes), dtype=bool)
    left = np.arange(len(tags))
    while len(left):
        found = left[np.flatnonzero(np.diff(rows[left], prepend=-1))]
        minimal[found] = True
        above[lineages(taxonomy).of(rows[found], tags[found])] = True
        left = left[~above[rows[left], tags[left]]]
    return minimal


def _far_apart(taxonomy: Taxonomy, one: int, other: int, vague: NDArray[np.bool_]) -> bool:
    """Whether two nodes share no label, and have nothing but vague categories above them both."""
    apart = taxonomy.label_sets[one].isdisjoint(taxonomy.label_sets[other])
    return apart and all(vague[node] for node in taxonomy.distances[one].keys() & taxonomy.distances[other].keys())


def _ends(rows: Rows, photos: int) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=photos))]).astype(np.int64)
