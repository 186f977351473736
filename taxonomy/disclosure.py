"""Hiding counts from subtraction: which further categories a policy must take along.

What a shown ancestor counts beyond the categories shown inside it is its *remainder*, and everybody can compute it. A
subtree that is hidden alone under its target is that remainder. The laws of `close`
  1. No hidden category is alone: for each of its labels there is a label outside it that counts towards exactly the
     same shown columns, areas included. Whatever the numbers are, and in every table at once (everybody's, a user's, a
     month's), they would be the same if the hidden photos were photos of those other labels. So the lower bound that
     can be had for a hidden count is 0, and the upper one is at least the whole remainder.
  2. With tables of counts at hand: in each of them where the target counts at least FEW photos, the remainder around
     hidden photos is at least FEW; and in everybody's, what hides a subtree counts at least max(FEW, a fifth of it).
     Below FEW the target itself, which is shown, says as much.
  3. Taken along is the sibling that is just large enough, or the largest if none is, or the one with the fewest labels
     where nothing is counted; nearest level first, ties by synset id. Where nothing is left under a target that would
     hide a lone subtree, the target moves up.

The result depends on the rules, the graph and the tables only, and is the same for every reader: hiding different
categories from different readers would itself give counts away.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from taxonomy.graph import Taxonomy
from taxonomy.lookup import titled
from taxonomy.policy import BadPolicy, Policy, Rule, node_of, target_of, work_out

FEW = 5  # photos
SHARE = 0.2  # of a hidden count

Counts = Mapping[int, int]  # distinct tagged photos by column
Photos = NDArray[np.int64]
Signature = frozenset[int]  # the visible columns that a label counts towards


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """The tables to be published, one to a row."""

    photos: Photos  # [T, C]: distinct photos that carry the tag
    everybody: bool  # whether the first row is everybody's


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortage:
    """A table in which a remainder is too small."""

    counts: Photos  # [C]
    photos: int  # how many more it takes


def close(
    asked: Sequence[Rule], taxonomy: Taxonomy, everybody: Counts | None = None, users: Iterable[Counts] = ()
) -> tuple[Rule, ...]:
    """The rules asked for and those that must go along (`taken_along`), in the order in which they were found needed.

    `everybody` and `users` are the tables to be published, by column: distinct photos that carry the tag.

    Raises:
        BadPolicy: a rule would hide nothing, or nothing at all is left to hide it among.
    """
    return complete(tuple(rule for rule in asked if not rule.taken_along), taxonomy, everybody, users)


def complete(
    rules: tuple[Rule, ...], taxonomy: Taxonomy, everybody: Counts | None = None, users: Iterable[Counts] = ()
) -> tuple[Rule, ...]:
    """These rules, taken along ones included, and those that must go along besides; see `close`.

    Rules that hold for several taxonomies or models are complete once none of them adds one.

    Raises:
        BadPolicy: see `close`.
    """
    wanted = frozenset(node_of(rule.wnid, taxonomy) for rule in rules if not rule.taken_along)
    tables = _tables(taxonomy, everybody, users)
    while True:
        further = _further(work_out(rules, taxonomy), taxonomy, wanted, tables)
        if further is None:
            return rules
        rules += (further,)


def _tables(taxonomy: Taxonomy, everybody: Counts | None, users: Iterable[Counts]) -> Tables:
    given = [*([] if everybody is None else [everybody]), *users]
    photos = np.zeros((len(given), taxonomy.columns), dtype=np.int64)
    for row, counts in enumerate(given):
        photos[row, list(counts)] = list(counts.values())
    return Tables(photos=photos, everybody=everybody is not None)


def _further(policy: Policy, taxonomy: Taxonomy, wanted: frozenset[int | None], tables: Tables) -> Rule | None:
    """One more rule that the policy needs, or None; broad categories first, for what hides them hides their parts."""
    broad_first = sorted(policy.hidden, key=lambda c: (-len(taxonomy.column_sets[c]), c))
    for column in broad_first:
        label = lone_label(column, policy, taxonomy)
        if label is not None:
            return _company(column, label, policy, taxonomy, tables) or _higher(label, policy, taxonomy)
    for column in broad_first if len(tables.photos) else ():
        if column < taxonomy.nodes:
            short = _shortage(column, policy, taxonomy, tables, asked=column in wanted)
            sibling = None if short is None else _sibling(column, policy, taxonomy, short)
            if sibling is not None:
                return sibling
    return None


def lone_label(column: int, policy: Policy, taxonomy: Taxonomy) -> int | None:
    """A label of a hidden column that no label outside it can be mistaken for (law 1); None if there is none."""
    inside = taxonomy.column_sets[column]
    around = frozenset[int]().union(*(taxonomy.label_sets[_shown(label, policy, taxonomy)] for label in inside))
    outside = {_signature(label, policy, taxonomy) for label in around - inside}
    return next((label for label in sorted(inside) if _signature(label, policy, taxonomy) not in outside), None)


def _shown(label: int, policy: Policy, taxonomy: Taxonomy) -> int:
    """The narrowest category that a label is shown as."""
    return policy.show(int(taxonomy.label_nodes[label]))


@lru_cache(maxsize=65_536)
def _signature(label: int, policy: Policy, taxonomy: Taxonomy) -> Signature:
    return frozenset(
        column
        for column in _columns_of(label, taxonomy)
        if column not in policy.hidden and label not in policy.lost.get(column, ())
    )


@lru_cache(maxsize=65_536)
def _columns_of(label: int, taxonomy: Taxonomy) -> tuple[int, ...]:
    """The columns that a label counts towards without any policy."""
    node = int(taxonomy.label_nodes[label])
    columns = set(taxonomy.distances[node])
    while node >= 0:
        columns.add(int(taxonomy.area_column[node]))
        node = int(taxonomy.display_parent[node])
    return tuple(sorted(columns))


# ---- enough, in numbers (law 2)


def _shortage(node: int, policy: Policy, taxonomy: Taxonomy, tables: Tables, *, asked: bool) -> Shortage | None:
    """The first table that does not hide the node well enough."""
    held, target = tables.photos[:, taxonomy.shown_as[node]], tables.photos[:, policy.show(node)]
    if not held.any():
        return None
    hiding = _hiding(node, tables.photos, policy, taxonomy)
    missing = np.where((target >= FEW) & (held > 0), FEW - hiding, 0)
    if asked and tables.everybody and held[0]:
        missing[0] = max(missing[0], _least(int(held[0])) - (hiding[0] - held[0]))
    if missing.max() <= 0:
        return None
    row = int((missing > 0).argmax())
    return Shortage(counts=tables.photos[row], photos=int(missing[row]))


def _hiding(node: int, photos: Photos, policy: Policy, taxonomy: Taxonomy) -> Photos:
    """[T]: how many photos those of a hidden node can be mistaken for, themselves included; at least so many."""
    target = policy.show(node)
    places = {_place(label, target, taxonomy) for label in taxonomy.label_sets[node]}
    around = {
        label
        for label in taxonomy.label_sets[target]
        if int(taxonomy.label_nodes[label]) in policy.shown_as
        and policy.show(int(taxonomy.label_nodes[label])) == target
    }
    alike = frozenset(label for label in around if _place(label, target, taxonomy) in places)
    # Two lower bounds. The remainder is too small where shown categories overlap; and where some of what is hidden is
    # drawn elsewhere, and so could be told apart by its area, it would be too large.
    surely: Photos = photos[:, list(_filling(alike, policy, taxonomy))].sum(axis=1)
    return surely if alike != around else np.maximum(surely, remainder(target, photos, policy, taxonomy))


@lru_cache(maxsize=4096)
def _filling(labels: frozenset[int], policy: Policy, taxonomy: Taxonomy) -> tuple[int, ...]:
    """Hidden representatives, broad ones first, that share no label and hold none but these."""
    above = {int(taxonomy.shown_as[v]) for label in labels for v in taxonomy.distances[taxonomy.label_nodes[label]]}
    inside = [v for v in above & policy.shown_as.keys() if taxonomy.label_sets[v] <= labels]
    chosen: list[int] = []
    taken: frozenset[int] = frozenset()
    for node in sorted(inside, key=lambda v: (-taxonomy.leaf_count[v], v)):
        if not taxonomy.label_sets[node] & taken:
            chosen.append(node)
            taken |= taxonomy.label_sets[node]
    return tuple(chosen)


def _least(held: int) -> int:
    return max(FEW, math.ceil(SHARE * held))


def remainder(target: int, photos: Photos, policy: Policy, taxonomy: Taxonomy) -> Photos:
    """[T]: what the target counts beyond the broadest categories that are shown inside it, by table of `photos` [T, C].

    Where those categories overlap, less; never below 0.
    """
    left = photos[:, target].copy()
    for part in _visible_below(target, policy, taxonomy):
        taken = sum((times * photos[:, c] for c, times in policy.terms.get(part, ())), np.zeros(len(photos), np.int64))
        left -= (photos[:, part] - taken).clip(min=0)
    return left.clip(min=0)


@lru_cache(maxsize=1024)
def _visible_below(target: int, policy: Policy, taxonomy: Taxonomy) -> frozenset[int]:
    """The broadest nodes below `target` that are shown and narrower, each by its representative."""
    found: set[int] = set()
    waiting = [target]
    while waiting:
        for child in _children(taxonomy)[waiting.pop()]:
            narrower = taxonomy.label_sets[child] < taxonomy.label_sets[target]
            if narrower and child not in policy.hidden:
                found.add(int(taxonomy.shown_as[child]))
            else:
                waiting.append(child)
    return frozenset(found)


# ---- what goes along (law 3)


def _company(column: int, label: int, policy: Policy, taxonomy: Taxonomy, tables: Tables) -> Rule | None:
    """The sibling to take along for a lone label of the column; None if no sibling can be mistaken for it."""
    short = Shortage(counts=np.zeros(taxonomy.columns, dtype=np.int64), photos=0)
    if tables.everybody:
        held = int(tables.photos[0, taxonomy.shown_as[taxonomy.column_node[column]]])
        short = Shortage(counts=tables.photos[0], photos=_least(held))
    target, all_inside = _shown(label, policy, taxonomy), taxonomy.column_sets[column]
    alike = frozenset(other for other in all_inside if _shown(other, policy, taxonomy) == target)
    return _beside(alike, all_inside, {_place(label, target, taxonomy)}, target, policy, taxonomy, short)


def _sibling(node: int, policy: Policy, taxonomy: Taxonomy, short: Shortage) -> Rule | None:
    """The sibling to take along so that the remainder around a hidden node grows; None if all are gone."""
    inside, target = taxonomy.label_sets[node], policy.show(node)
    places = {_place(label, target, taxonomy) for label in inside}
    return _beside(inside, inside, places, target, policy, taxonomy, short)


def _beside(
    inside: frozenset[int],
    column_set: frozenset[int],
    places: set[int],
    target: int,
    policy: Policy,
    taxonomy: Taxonomy,
    short: Shortage,
) -> Rule | None:
    """The first sibling of the labels `inside` with one that, once hidden, is drawn in one of `places`."""
    for sibling in _siblings(inside, target, policy, taxonomy, short):
        others = taxonomy.label_sets[sibling] - column_set
        if any(_place(label, target, taxonomy) in places for label in others):
            wnid, above = taxonomy.synsets[sibling].wnid, taxonomy.synsets[target].wnid
            return Rule(wnid=wnid, target=above, taken_along=True)
    return None


def _higher(label: int, policy: Policy, taxonomy: Taxonomy) -> Rule:
    """The broadest hidden category of a lone label that is shown where it is, shown as something broader."""
    target = _shown(label, policy, taxonomy)
    above = taxonomy.distances[int(taxonomy.label_nodes[label])]
    alike = [node for node in above if policy.shown_as.get(node) == target]
    node = max(alike, key=lambda v: (taxonomy.leaf_count[v], -v))
    if target == taxonomy.shown_as[0]:
        raise BadPolicy(f"{titled(node, taxonomy)} cannot be hidden: {taxonomy.name} has nothing to hide it among.")
    broader = target_of(Rule(wnid=taxonomy.synsets[target].wnid), taxonomy)
    return Rule(wnid=taxonomy.synsets[node].wnid, target=taxonomy.synsets[broader].wnid, taken_along=True)


def _place(label: int, target: int, taxonomy: Taxonomy) -> int:
    """Where a label is drawn once it counts towards nothing narrower than `target`."""
    node = int(taxonomy.label_nodes[label])
    while not taxonomy.label_sets[node] >= taxonomy.label_sets[target]:
        node = int(taxonomy.display_parent[node])
    return node


def _siblings(
    inside: frozenset[int], target: int, policy: Policy, taxonomy: Taxonomy, short: Shortage
) -> Iterator[int]:
    """Shown categories beside those labels and under the target, in the order in which they are to be taken.

    Those that share labels with what is hidden already, or hold all of `inside`, come last.
    """
    within = taxonomy.label_sets[target]
    gone = inside.union(*(taxonomy.label_sets[v] for v in policy.shown_as))
    # Whatever holds all of them lies above any of them.
    holding = taxonomy.distances[int(taxonomy.label_nodes[min(inside)])]
    levels = [v for v in holding if inside < taxonomy.label_sets[v] <= within]

    def order(sibling: int) -> tuple[bool, int, bool, int, int, int]:
        held = taxonomy.label_sets[sibling]
        level = min((int(taxonomy.leaf_count[v]) for v in levels if held < taxonomy.label_sets[v]), default=0)
        size = int(short.counts[sibling])
        enough = size >= short.photos
        rank = int(taxonomy.wnid_rank[sibling])
        return bool(held & gone), level, not enough, size if enough else -size, len(held), rank

    beside = {int(taxonomy.shown_as[child]) for level in levels for child in _children(taxonomy)[level]}
    yield from sorted((v for v in beside - policy.hidden if taxonomy.label_sets[v] < within), key=order)


@lru_cache(maxsize=8)
def _children(taxonomy: Taxonomy) -> tuple[tuple[int, ...], ...]:
    """By node: its direct hyponyms."""
    below: defaultdict[int, list[int]] = defaultdict(list)
    for node, above in enumerate(taxonomy.parents):
        for parent in above:
            below[parent].append(node)
    return tuple(tuple(below[node]) for node in range(taxonomy.nodes))
