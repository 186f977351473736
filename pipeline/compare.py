"""Two profiles side by side: what both photograph, what only one does, and one number that is the sum of its parts.

The profiles may be of two users, of two periods or models of one. Everything is computed over *areas* (the display
tree), where shares add up; roll-up comes first and comparison second, so that two people with different breeds of dog
have dogs in common.

Law of the file. a, b: shares of a category in the two profiles; p: its share in the background, everybody's photos.
1. Nothing is read off a bare share. Each profile is shrunk toward the background as if it held PRIOR more photos that
   look like everybody's (the mean under a Dirichlet prior); the background itself as if one more photo were spread
   evenly over the labels. So nobody with nine photos "never photographs boats", and no share is 0 or 1.
2. How much a share tells is KL(x, y) = x log2(x / y) + (1 - x) log2((1 - x) / (1 - y)), in bits per photo.
   shared       min(KL(a, p), KL(b, p)) where both a > p and b > p: what is remarkable about either.
   only         KL(a, max(b, p)) where a > max(b, p): A's and not B's, and not everybody's either; likewise for B.
   extreme      KL(a, p), negative where a < p: what is most unlike everybody's.
   difference   a - b, of the profiles as they are: linear, antisymmetric, rolls up like masses.
3. The divergence is that of Jensen and Shannon, in bits, between the ends of the display tree (its categories without
   children, and of each other category what lies in none of its children). By the chain rule it is the sum over
   categories of how differently the two divide what lies inside. Each such part is at least 0; the parts add up to
   the divergence, which lies between 0 and 1; the similarity is 1 - divergence. For it, both profiles are shrunk as the
   smaller one is: equal shares have divergence 0, and nobody is found different for having few photos.

With level "leaf", `shared` is the older order, the product of the shares of each label first and the sum along the tree
second, times the bits of the category: it sees only what is of the very same label.

Sources: S. Kullback, R. A. Leibler, "On information and sufficiency", 1951; J. Lin, "Divergence measures based on the
Shannon entropy", IEEE Trans. Inf. Theory 37, 1991.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigurationError
from pipeline.profile import BROAD, CategoryTotal, names
from pipeline.records import WHOLE
from taxonomy.graph import Taxonomy

PRIOR = 10  # photos; a profile with so many is believed half
MOST = 10  # entries of a list, unless asked otherwise
WIDEST = 3  # parts of the divergence that are read out

Level = Literal["node", "leaf"]
Shares = NDArray[np.float64]  # [V], of one profile's mass; 1 at the root


class NothingToCompare(ConfigurationError):
    """A profile has no analysed photo."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedCategory:
    """One category in both profiles. Scores are bits per photo, except `shared` at leaf level, which only orders."""

    node: int
    wnid: str
    name: str
    share_a: float  # of A's photos, as they are; 0 to 1
    share_b: float
    background: float
    difference: float  # share_a - share_b
    shared: float  # >= 0
    only_a: float  # >= 0
    only_b: float  # >= 0
    extreme_a: float
    extreme_b: float
    divergence: float  # >= 0; how differently the two divide what lies directly inside this category


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two profiles, compared. `categories` are those that may be shown and that one of the two has, root side first."""

    level: Level
    photos_a: int
    photos_b: int
    similarity: float  # 0 to 1; 1 - divergence
    divergence: float  # 0 to 1; the sum of the parts
    parts: tuple[tuple[int, float], ...]  # (node, its part) of every category with one, the vague ones included
    categories: tuple[ComparedCategory, ...]

    def both(self, most: int = MOST) -> tuple[ComparedCategory, ...]:
        """What both photograph more than others do, most remarkable first."""
        return self._top(lambda category: category.shared, most)

    def only_a(self, most: int = MOST) -> tuple[ComparedCategory, ...]:
        """What A photographs and B does not, most telling first."""
        return self._top(lambda category: category.only_a, most)

    def only_b(self, most: int = MOST) -> tuple[ComparedCategory, ...]:
        """What B photographs and A does not, most telling first."""
        return self._top(lambda category: category.only_b, most)

    def extremes_a(self, most: int = MOST) -> tuple[ComparedCategory, ...]:
        """What sets A apart from everybody, too much or too little, most extreme first."""
        return self._top(lambda category: abs(category.extreme_a), most)

    def extremes_b(self, most: int = MOST) -> tuple[ComparedCategory, ...]:
        """What sets B apart from everybody, too much or too little, most extreme first."""
        return self._top(lambda category: abs(category.extreme_b), most)

    def dissimilar(self, most: int = MOST) -> tuple[ComparedCategory, ...]:
        """Where the two shares are furthest apart, either way, furthest first."""
        return self._top(lambda category: abs(category.difference), most)

    def widest(self, most: int = WIDEST) -> tuple[tuple[int, float], ...]:
        """The largest parts of the divergence, as (node, part): where the two differ most."""
        return tuple(sorted(self.parts, key=lambda part: (-part[1], part[0]))[:most])

    def _top(self, score: Callable[[ComparedCategory], float], most: int) -> tuple[ComparedCategory, ...]:
        found = [category for category in self.categories if score(category) > 0]
        return tuple(sorted(found, key=lambda category: (-score(category), category.wnid))[:most])


def apart(ordered: Iterable[ComparedCategory], taxonomy: Taxonomy) -> tuple[ComparedCategory, ...]:
    """Those of a list that lie neither above nor below an earlier one: what to read out to people."""
    kept: list[ComparedCategory] = []
    for category in ordered:
        pairs = ((category.node, other.node) for other in kept)
        if not any(taxonomy.is_under(x, y) or taxonomy.is_under(y, x) for x, y in pairs):
            kept.append(category)
    return tuple(kept)


def compare(
    a: Sequence[CategoryTotal],
    b: Sequence[CategoryTotal],
    background: Sequence[CategoryTotal],
    taxonomy: Taxonomy,
    level: Level = "node",
) -> Comparison:
    """Compare two profiles, given as totals under the same taxonomy and policy, before the totals of everybody.

    Raises:
        NothingToCompare: one of the two has no photos.
    """
    mass_a, mass_b, everybody = (_areas(totals, taxonomy) for totals in (a, b, background))
    for which, mass in (("first", mass_a), ("second", mass_b)):
        if mass[0] <= 0:
            raise NothingToCompare(f"The {which} profile has no analysed photos; tag some, then compare.")
    usual = _background(everybody, taxonomy)
    parts = _parts(*_alike(mass_a, mass_b, usual), taxonomy)
    divergence = math.fsum(parts.values())
    return Comparison(
        level=level,
        photos_a=int(mass_a[0]) // WHOLE,
        photos_b=int(mass_b[0]) // WHOLE,
        similarity=1 - divergence,
        divergence=divergence,
        parts=tuple(parts.items()),
        categories=_categories(mass_a, mass_b, usual, parts, level, taxonomy),
    )


def _areas(totals: Sequence[CategoryTotal], taxonomy: Taxonomy) -> NDArray[np.int64]:
    """[V]: the area of each node, in ten-thousandths of a photo."""
    mass = np.zeros(taxonomy.columns, dtype=np.int64)
    for total in totals:
        mass[total.column] = total.mass
    return mass[taxonomy.area_column]


def _background(everybody: NDArray[np.int64], taxonomy: Taxonomy) -> Shares:
    """Everybody's shares, as if one more photo were spread evenly over the labels; none is 0 where labels are drawn."""
    even = np.array([len(drawn) for drawn in taxonomy.drawn_sets]) / taxonomy.classes
    shares: Shares = (everybody + WHOLE * even) / (everybody[0] + WHOLE)
    return shares


def shrunk(mass: NDArray[np.int64], usual: Shares, prior: float = PRIOR) -> Shares:
    """[V]: the shares of a profile with these areas [V], as if it held `prior` more photos like everybody's."""
    shares: Shares = (mass + prior * WHOLE * usual) / (mass[0] + prior * WHOLE)
    return shares


def _alike(mass_a: NDArray[np.int64], mass_b: NDArray[np.int64], usual: Shares) -> tuple[Shares, Shares]:
    """Both profiles' shares, believed as much as the smaller one is."""
    smaller = min(int(mass_a[0]), int(mass_b[0])) / WHOLE
    belief = smaller / (smaller + PRIOR)
    first, second = (belief * mass / mass[0] + (1 - belief) * usual for mass in (mass_a, mass_b))
    return first, second


# ---- the divergence


def _parts(a: Shares, b: Shares, taxonomy: Taxonomy) -> dict[int, float]:
    """By node with children: how differently a and b divide it, weighted by how much lies in it; bits."""
    found = {}
    for node, children in enumerate(taxonomy.display_children):
        if children:
            inside = [*children]
            part = _split(_divided(a, node, inside), _divided(b, node, inside))
            if part > 0:
                found[node] = part
    return found


def _divided(shares: Shares, node: int, children: list[int]) -> Shares:
    """What lies in each child, and last what lies in none of them."""
    within = shares[children]
    return np.append(within, max(0.0, float(shares[node] - within.sum())))


def _split(a: Shares, b: Shares) -> float:
    """One node's part of the divergence: half of a_v KL(a | v, m | v) + b_v KL(b | v, m | v), m being their mean."""
    middle = (a + b) / 2
    return max(0.0, (_towards(a, middle) + _towards(b, middle)) / 2)


def _towards(share: Shares, middle: Shares) -> float:
    some = share > 0
    ratio = np.log2(share[some] / middle[some]) - math.log2(share.sum() / middle.sum()) if some.any() else np.zeros(0)
    return math.fsum((share[some] * ratio).tolist())


# ---- the categories


def information(x: Shares, y: Shares) -> Shares:
    """KL(x, y) of two shares in bits, elementwise; 0 where both are 0 or both are 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        there = np.where(x > 0, x * np.log2(x / y), 0.0)
        rest = np.where(x < 1, (1 - x) * np.log2((1 - x) / (1 - y)), 0.0)
    bits: Shares = np.maximum(0.0, np.nan_to_num(there + rest, posinf=0.0, neginf=0.0))
    return bits


def _categories(
    mass_a: NDArray[np.int64],
    mass_b: NDArray[np.int64],
    usual: Shares,
    parts: dict[int, float],
    level: Level,
    taxonomy: Taxonomy,
) -> tuple[ComparedCategory, ...]:
    a, b = shrunk(mass_a, usual), shrunk(mass_b, usual)
    share_a, share_b = mass_a / mass_a[0], mass_b / mass_b[0]
    telling_a, telling_b = information(a, usual), information(b, usual)
    shared = np.where((a > usual) & (b > usual), np.minimum(telling_a, telling_b), 0.0)
    if level == "leaf":
        shared = _same_label(share_a, share_b, taxonomy)
    only_a = np.where(a > np.maximum(b, usual), information(a, np.maximum(b, usual)), 0.0)
    only_b = np.where(b > np.maximum(a, usual), information(b, np.maximum(a, usual)), 0.0)
    shown = [node for node in _showable(taxonomy) if mass_a[node] or mass_b[node]]
    called = names(shown, taxonomy)
    return tuple(
        ComparedCategory(
            node=v,
            wnid=taxonomy.synsets[v].wnid,
            name=called[v],
            share_a=float(share_a[v]),
            share_b=float(share_b[v]),
            background=float(usual[v]),
            difference=float(share_a[v] - share_b[v]),
            shared=float(shared[v]),
            only_a=float(only_a[v]),
            only_b=float(only_b[v]),
            extreme_a=float(math.copysign(telling_a[v], a[v] - usual[v])),
            extreme_b=float(math.copysign(telling_b[v], b[v] - usual[v])),
            divergence=parts.get(v, 0.0),
        )
        for v in shown
    )


def _showable(taxonomy: Taxonomy) -> list[int]:
    """Representatives with less than 40 % of the labels."""
    representative = taxonomy.shown_as == np.arange(taxonomy.nodes)
    return np.flatnonzero(representative & (taxonomy.leaf_count < BROAD * taxonomy.classes)).tolist()


def _same_label(a: Shares, b: Shares, taxonomy: Taxonomy) -> Shares:
    """[V]: the product of the two shares label by label, summed over what is drawn inside, times the node's bits."""
    own = np.zeros(taxonomy.nodes)
    for node in taxonomy.label_nodes.tolist():  # a label with others inside counts what lies in none of them
        inside = [*taxonomy.display_children[node]]
        own[node] = _divided(a, node, inside)[-1] * _divided(b, node, inside)[-1]
    for node in range(taxonomy.nodes - 1, 0, -1):
        own[taxonomy.display_parent[node]] += own[node]
    return own * taxonomy.bits / max(1.0, math.log2(taxonomy.classes))
