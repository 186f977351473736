"""Saying less on purpose: rules under which a subtree is only ever shown as one of its ancestors.

A rule names a subtree S and an ancestor G. The laws, over sets of labels
  1. A label of S counts only towards categories that hold all labels of G: G, and whatever is no narrower. Where
     several rules reach a label, all of them hold. So the order of rules says nothing, and no rule weakens another.
  2. Hence G and everything above it count what they always did; a category between S and G, or beside G, counts what
     it holds without S; S and whatever lies wholly inside it is gone. The root, and with it the sum, stays.
  3. A count under the rules is the stored one minus a signed sum of other stored ones (inclusion and exclusion over
     the graph, disjoint areas over the display tree). Nothing stored changes: without the rules the old numbers are
     back. It is as exact as what is stored: the part of a photo that lies in S with less than 2 % has no row of its
     own, so it cannot be taken from the categories between.
  4. A photo loses a tag that is hidden, and one that it has by a hidden tag: with S lost to V, a photo tagged S is not
     tagged V. `photos` of totals follow by the same sum, because tags are closed upward and two disjoint categories
     cannot both reach a threshold above one half.

Names are looked up, rules are kept by synset id: they hold for every taxonomy that has the synset.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from taxonomy.decide import PhotoDecision
from taxonomy.errors import TaxonomyError, UnknownSynset
from taxonomy.graph import Taxonomy
from taxonomy.lookup import one_node, titled

VAGUE_SHARE = 0.4  # of the labels; a category that holds so many says too little for `hide` to end there

Labels = frozenset[int]  # class indices
Terms = tuple[tuple[int, int], ...]  # (column, how often it is subtracted)


class BadPolicy(TaxonomyError):
    """A rule cannot be read, or would hide nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One subtree that is shown as an ancestor."""

    wnid: str  # the subtree's root
    target: str | None = None  # the ancestor's synset id; None ("hide"): the nearest one that may be shown
    taken_along: bool = False  # not asked for: hides another rule's count from subtraction

    def __str__(self) -> str:
        return f"hide {self.wnid}" if self.target is None else f"coarsen {self.wnid} to {self.target}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Policy:
    """Rules, worked out for one taxonomy. Columns and nodes as in `taxonomy.graph`."""

    version: int  # 0: no policy
    rules: tuple[Rule, ...]
    hidden: frozenset[int]  # columns that are never shown
    shown_as: Mapping[int, int]  # hidden node -> the node to show instead
    lost: Mapping[int, Labels]  # column -> the labels that no longer count towards it
    terms: Mapping[int, Terms]  # visible column -> what is subtracted from it

    def show(self, node: int) -> int:
        """The node itself, or what it is shown as."""
        return self.shown_as.get(node, node)


def parse_rule(text: str, taxonomy: Taxonomy) -> Rule:
    """The rule that reads "coarsen SUBTREE to ANCESTOR" or "hide SUBTREE"; both are words or synset ids.

    Raises:
        BadPolicy: it reads otherwise, or it would hide nothing.
        UnknownSynset, AmbiguousName: a category is not one of the taxonomy, or not one alone.
    """
    found = re.fullmatch(r"\s*(?:coarsen\s+(\S.*?)\s+to\s+(\S.*?)|hide\s+(\S.*?))\s*", text)
    if found is None:
        raise BadPolicy(f"{text!r} is no rule; write 'coarsen SUBTREE to ANCESTOR' or 'hide SUBTREE'.")
    below, above, alone = found.groups()
    node = one_node(alone or below, taxonomy)
    rule = Rule(wnid=taxonomy.synsets[node].wnid)
    if above is not None:
        rule = replace(rule, target=taxonomy.synsets[one_node(above, taxonomy)].wnid)
    target_of(rule, taxonomy)
    return rule


def node_of(wnid: str, taxonomy: Taxonomy) -> int | None:
    """The node of a synset id; None where this taxonomy, which need not be the one the rule was made for, has none."""
    try:
        return taxonomy.node(wnid)
    except UnknownSynset:
        return None


def target_of(rule: Rule, taxonomy: Taxonomy) -> int:
    """The node that the rule's subtree is shown as.

    A rule taken along for one taxonomy may name a target that is no broader in another: there it is the nearest one.

    Raises:
        UnknownSynset: the taxonomy does not have the subtree.
        BadPolicy: the target is not above the subtree, or holds no label that the subtree does not hold.
    """
    node = taxonomy.node(rule.wnid)
    named = None if rule.target is None else node_of(rule.target, taxonomy)
    if named is not None and rule.taken_along and not _broader(named, node, taxonomy):
        named = None
    target = _nearest(node, taxonomy) if named is None else int(taxonomy.shown_as[named])
    if not _broader(named or 0, node, taxonomy) or not taxonomy.label_sets[target] > taxonomy.label_sets[node]:
        raise BadPolicy(
            f"{titled(node, taxonomy)} cannot be shown as {titled(named or 0, taxonomy)}, which does not lie above it"
            " or holds no other label; name a broader category."
        )
    return target


def _broader(above: int, node: int, taxonomy: Taxonomy) -> bool:
    """Whether `above` lies above `node` and holds another label."""
    return taxonomy.is_under(node, above) and taxonomy.label_sets[above] > taxonomy.label_sets[node]


def _nearest(node: int, taxonomy: Taxonomy) -> int:
    """The nearest category drawn around `node` that holds more and may be shown; else the nearest that holds more."""
    limit = VAGUE_SHARE * taxonomy.classes
    broader, above = [], int(taxonomy.display_parent[node])
    while above >= 0:
        if taxonomy.leaf_count[above] > taxonomy.leaf_count[node]:
            broader.append(int(taxonomy.shown_as[above]))
        above = int(taxonomy.display_parent[above])
    return next((v for v in broader if taxonomy.leaf_count[v] < limit), broader[0] if broader else 0)


@lru_cache(maxsize=64)
def work_out(rules: tuple[Rule, ...], taxonomy: Taxonomy, version: int = 0) -> Policy:
    """The policy of these rules over one taxonomy. A rule about a synset that the taxonomy does not have is idle.

    Raises:
        BadPolicy: a rule's target is not above its subtree, or not broader.
    """
    allowed = _allowed(rules, taxonomy)
    lost = _lost(allowed, taxonomy)
    hidden = frozenset(column for column, labels in lost.items() if labels == taxonomy.column_sets[column])
    nodes = sorted(column for column in hidden if column < taxonomy.nodes)
    return Policy(
        version=version,
        rules=rules,
        hidden=hidden,
        shown_as=MappingProxyType({node: _instead(node, allowed, taxonomy) for node in nodes}),
        lost=MappingProxyType(lost),
        terms=MappingProxyType({c: _terms(c, labels, taxonomy) for c, labels in lost.items() if c not in hidden}),
    )


def _allowed(rules: tuple[Rule, ...], taxonomy: Taxonomy) -> dict[int, frozenset[int]]:
    """By label that a rule reaches: the nodes that it may still count towards (law 1)."""
    allowed: dict[int, frozenset[int]] = {}
    for rule in rules:
        node = node_of(rule.wnid, taxonomy)
        if node is None:
            continue
        within = taxonomy.label_sets[target_of(rule, taxonomy)]
        broad = frozenset(v for v, labels in enumerate(taxonomy.label_sets) if labels >= within)
        for label in taxonomy.label_sets[node]:
            allowed[label] = allowed.get(label, broad) & broad
    return allowed


def _lost(allowed: Mapping[int, frozenset[int]], taxonomy: Taxonomy) -> dict[int, Labels]:
    """By column: the labels that no longer count towards it."""
    lost: defaultdict[int, set[int]] = defaultdict(set)
    for label, broad in allowed.items():
        node = int(taxonomy.label_nodes[label])
        for above in taxonomy.distances[node].keys() - broad:
            lost[above].add(label)
        while node >= 0:
            if node not in broad:
                lost[int(taxonomy.area_column[node])].add(label)
            node = int(taxonomy.display_parent[node])
    return {column: frozenset(lost[column]) for column in sorted(lost)}


def _instead(node: int, allowed: Mapping[int, frozenset[int]], taxonomy: Taxonomy) -> int:
    """What a hidden node is shown as: the narrowest category that all its labels may still count towards."""
    common = frozenset.intersection(*(allowed[label] for label in taxonomy.label_sets[node]))
    narrowest = min(common, key=lambda v: (taxonomy.leaf_count[v], taxonomy.wnid_rank[v]))
    return int(taxonomy.shown_as[narrowest])


def _terms(column: int, lost: Labels, taxonomy: Taxonomy) -> Terms:
    return _by_tree(lost, taxonomy) if column >= taxonomy.nodes else _by_graph(lost, taxonomy)


@lru_cache(maxsize=4096)
def _by_graph(lost: Labels, taxonomy: Taxonomy) -> Terms:
    """The nodes whose masses, so often each, add up to the labels lost (Moebius function of the nodes inside).

    Each node's number makes the numbers at and above it add up to 1; so every label, which lies under a node exactly
    if its own node does, is counted once.
    """
    inside = {
        int(above)
        for label in lost
        for above in taxonomy.distances[int(taxonomy.label_nodes[label])]
        if taxonomy.shown_as[above] == above and taxonomy.label_sets[above] <= lost
    }
    terms: list[tuple[int, int]] = []
    for node in sorted(inside, key=lambda v: (-taxonomy.leaf_count[v], v)):
        held = taxonomy.label_sets[node]
        times = 1 - sum(n for above, n in terms if taxonomy.label_sets[above] > held)
        if times:
            terms.append((node, times))
    return tuple(terms)


@lru_cache(maxsize=4096)
def _by_tree(lost: Labels, taxonomy: Taxonomy) -> Terms:
    """The areas that the labels lost fill: the broadest nodes with nothing else drawn inside, which are disjoint."""
    tops = set()
    for label in lost:
        node = int(taxonomy.label_nodes[label])
        while (above := int(taxonomy.display_parent[node])) >= 0 and taxonomy.drawn_sets[above] <= lost:
            node = above
        tops.add(int(taxonomy.area_column[node]))
    return tuple((column, 1) for column in sorted(tops))


# ---- applying it


def coarsen_counts(counts: Mapping[int, int], policy: Policy) -> dict[int, int]:
    """Masses, or numbers of distinct tagged photos, by column, as the policy shows them; never below 0.

    Linear, so the same for one photo, a user, a month or everybody. Columns that are hidden are absent.
    """
    return {
        column: max(0, count - sum(n * counts.get(c, 0) for c, n in policy.terms.get(column, ())))
        for column, count in counts.items()
        if column not in policy.hidden
    }


def coarsen_photo(photo: PhotoDecision, policy: Policy, taxonomy: Taxonomy) -> PhotoDecision:
    """What the policy shows of one photo. Columns with nothing left are dropped; a hidden headline becomes the target.

    The headline is None where the target is no tag of the photo, because it is too vague to be one; no other tag
    takes its place.
    """
    stored = dict(zip(photo.columns.tolist(), photo.masses.tolist(), strict=True))
    masses = {column: mass for column, mass in coarsen_counts(stored, policy).items() if mass}
    before = photo.tags.tolist()
    tags = [tag for tag in before if tag in masses and not _owed_to_hidden(tag, before, policy, taxonomy)]
    headline = photo.headline
    if headline is not None and headline not in tags:
        shown = policy.show(headline)
        headline = shown if shown in tags else None
    return PhotoDecision(
        columns=np.array(list(masses), dtype=np.int32),
        masses=np.array(list(masses.values()), dtype=np.int16),
        tags=np.array(tags, dtype=np.int32),
        headline=headline,
    )


def _owed_to_hidden(tag: int, tags: list[int], policy: Policy, taxonomy: Taxonomy) -> bool:
    lost = policy.lost.get(tag)
    return lost is not None and any(taxonomy.label_sets[other] <= lost for other in tags)
