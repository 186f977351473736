"""Who competes for the headline of a photo, and what each category is worth; the order that decides every tie.

Everything is an integer in an int64, which numpy and every device have. The largest worth wins, and among equals the
largest tie-breaker: mass (14 bits) | rank (15 bits), so the larger mass, then fewer labels, then the smaller synset id.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from taxonomy.graph import Ints, Taxonomy

ABSTAINED = -1  # no node
UNIT = 10_000  # of utility and lam, which are in ten-thousandths
NO_HEADLINE = 10_000 * UNIT  # the largest lam; at it nothing is eligible, just below it only what is certain wins

RANK_BITS = 15  # a node fits into a smallint

Rule = Literal["threshold", "expected"]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballot:
    """Who competes, and for what."""

    rule: Rule
    competes: NDArray[np.bool_]  # [C]: one representative for each set of labels, and no area-only column
    vague: NDArray[np.bool_]  # [C]
    utility: Numbers  # [C], ten-thousandths
    information: Numbers  # [C]: labels that it does not hold; orders columns as bits do
    rank: Numbers  # [C]: larger for fewer labels, then for the smaller synset id
    ranked: Ints  # [V]: the node of each rank

    @property
    def showable(self) -> NDArray[np.bool_]:
        """[C]: what competes and is not vague."""
        return self.competes & ~self.vague

    def worths(self, columns: Ints, masses: Numbers, lam: int, threshold: int) -> Numbers:
        """What columns with their masses are worth, under the constants of the rule; -1 for what cannot win."""
        if self.rule == "expected":
            eligible, worth = np.full(len(columns), lam < NO_HEADLINE), masses * (self.utility[columns] + lam)
        else:
            eligible, worth = masses >= threshold, self.information[columns]
        return np.where(eligible & self.competes[columns], worth, -1)

    def ties(self, columns: Ints, masses: Numbers) -> Numbers:
        """The tie-breakers of columns with their masses."""
        return masses << RANK_BITS | self.rank[columns]

    def elected(self, ties: Numbers) -> Ints:
        """The nodes of winning tie-breakers; ABSTAINED for -1."""
        return np.where(ties < 0, ABSTAINED, self.ranked[np.maximum(ties, 0) & (1 << RANK_BITS) - 1]).astype(np.int32)


@lru_cache(maxsize=32)
def ballot(taxonomy: Taxonomy, rule: Rule, vague_share: float) -> Ballot:
    """The ballot of a taxonomy under a rule; categories with at least `vague_share` of the labels are vague."""
    nodes = taxonomy.column_node
    count = taxonomy.leaf_count[nodes]
    order = np.lexsort((-taxonomy.wnid_rank, -taxonomy.leaf_count))
    rank = np.empty(taxonomy.nodes, dtype=np.int64)
    rank[order] = np.arange(taxonomy.nodes)
    own = np.arange(taxonomy.columns) < taxonomy.nodes
    return Ballot(
        rule=rule,
        competes=own & (taxonomy.shown_as[nodes] == nodes),
        vague=count >= vague_share * taxonomy.classes,
        utility=utilities(taxonomy)[nodes],
        information=(taxonomy.classes - count).astype(np.int64),
        rank=rank[nodes],
        ranked=order.astype(np.int32),
    )


def utilities(taxonomy: Taxonomy) -> Numbers:
    """By node: sqrt(bits / log2 L) in ten-thousandths; 10,000 for a single label, 0 at the root."""
    whole = np.log2(taxonomy.classes) or 1.0
    utility: Numbers = np.rint(UNIT * np.sqrt(taxonomy.bits / whole)).astype(np.int64)
    return utility
