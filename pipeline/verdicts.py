"""What people say of a photo's categories, and what follows from it. Pure.

A *word* is said of one category of one photo, and says more than it names:
  confirm     the photo shows the category, and so all above it;
  reject      it does not show the category, nor anything below it;
  generalise  it shows some kind of the category: as `confirm`, and the headline that was shown then was wrong, if that
              lies below.

The laws
  1. The newest word counts. What contradicts it is taken back as a whole: two words contradict each other if one says
     yes to a category to which the other says no.
  2. So after any sequence of words no category is both confirmed and rejected, and the word said last holds.
  3. What follows is worked out over the graph, along every path. Categories with the same labels are one.
  4. A word about a category that the policy hides is shown as one about what stands for it, if it says yes, and not at
     all, if it says no. A hidden headline is not named. The words themselves stay as they were said.

No word contradicts itself: what lies above a category holds all of its labels, and what lies below a headline under it
holds fewer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy

Kind = Literal["confirm", "reject", "generalise"]
Standing = Literal["confirmed", "rejected"]

Nodes = frozenset[int]
NONE: Nodes = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """What somebody said of one category of a photo. Nodes as in `taxonomy.graph`."""

    node: int
    kind: Kind
    headline: int | None  # the one that was shown when it was said; None: none


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What follows from words."""

    yes: Nodes  # categories that the photo shows
    no: Nodes  # categories that it does not show; disjoint from `yes`

    def of(self, node: int) -> Standing | None:
        """What was said of a category, be it by what was said of another; None: nothing."""
        if node in self.yes:
            return "confirmed"
        return "rejected" if node in self.no else None


def follows(word: Word, taxonomy: Taxonomy) -> Said:
    """What follows from one word."""
    if word.kind == "reject":
        return Said(yes=NONE, no=below(word.node, taxonomy))
    wrong = word.headline if word.kind == "generalise" else None
    narrower = wrong is not None and wrong in below(word.node, taxonomy) - _alike(word.node, taxonomy)
    return Said(yes=above(word.node, taxonomy), no=below(wrong, taxonomy) if narrower and wrong is not None else NONE)


def all_said(words: Iterable[Word], taxonomy: Taxonomy) -> Said:
    """What follows from words of which none contradicts another."""
    found = [follows(word, taxonomy) for word in words]
    return Said(yes=NONE.union(*(each.yes for each in found)), no=NONE.union(*(each.no for each in found)))


def contradict(one: Word, other: Word, taxonomy: Taxonomy) -> bool:
    """Whether one says yes to what the other says no to."""
    mine, theirs = follows(one, taxonomy), follows(other, taxonomy)
    return not (mine.yes.isdisjoint(theirs.no) and mine.no.isdisjoint(theirs.yes))


def add(words: Sequence[Word], new: Word, taxonomy: Taxonomy) -> tuple[Word, ...]:
    """The words that hold once a new one is said, it last: without what it contradicts or was said of the same."""
    kept = (word for word in words if word.node != new.node and not contradict(word, new, taxonomy))
    return (*kept, new)


def shown(words: Iterable[Word], policy: Policy, taxonomy: Taxonomy) -> tuple[Word, ...]:
    """The words, oldest first, as the policy shows them (law 4)."""
    found: tuple[Word, ...] = ()
    for word in words:
        seen = coarse(word, policy)
        found = found if seen is None else add(found, seen, taxonomy)
    return found


def coarse(word: Word, policy: Policy) -> Word | None:
    """One word as the policy shows it; None: not at all."""
    if word.node in policy.hidden:
        instead = policy.show(word.node)
        return None if word.kind == "reject" else Word(node=instead, kind="confirm", headline=None)
    return replace(word, headline=None) if word.headline in policy.hidden else word


@lru_cache(maxsize=4096)
def above(node: int, taxonomy: Taxonomy) -> Nodes:
    """The category, everything above it along any path, and what is one with any of these."""
    return _closed(node, lambda each: frozenset(taxonomy.distances[each]), taxonomy)


@lru_cache(maxsize=4096)
def below(node: int, taxonomy: Taxonomy) -> Nodes:
    """The category, everything below it along any path, and what is one with any of these."""
    return _closed(node, lambda each: _under(taxonomy)[each], taxonomy)


def _closed(node: int, reach: Callable[[int], Nodes], taxonomy: Taxonomy) -> Nodes:
    """What can be reached from a node, by steps of `reach` and between categories with the same labels."""
    found: Nodes = NONE
    fresh = _alike(node, taxonomy)
    while fresh:
        found |= fresh
        reached = NONE.union(*(reach(each) for each in fresh))
        fresh = NONE.union(*(_alike(each, taxonomy) for each in reached)) - found
    return found


def _alike(node: int, taxonomy: Taxonomy) -> Nodes:
    """The categories with the same labels, itself included."""
    return _classes(taxonomy)[int(taxonomy.shown_as[node])]


@lru_cache(maxsize=8)
def _classes(taxonomy: Taxonomy) -> dict[int, Nodes]:
    found: defaultdict[int, set[int]] = defaultdict(set)
    for node, stands_for in enumerate(taxonomy.shown_as.tolist()):
        found[stands_for].add(node)
    return {stands_for: frozenset(nodes) for stands_for, nodes in found.items()}


@lru_cache(maxsize=8)
def _under(taxonomy: Taxonomy) -> tuple[Nodes, ...]:
    """By node: itself and everything below it."""
    found: list[set[int]] = [set() for _ in range(taxonomy.nodes)]
    for node, reach in enumerate(taxonomy.distances):
        for each in reach:
            found[each].add(node)
    return tuple(frozenset(nodes) for nodes in found)
