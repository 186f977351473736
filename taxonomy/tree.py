"""From the hypernym graph to one tree that can be drawn.

A treemap needs every category to lie in one place; WordNet files some in several (a dog is a canine and a domestic
animal). Two choices are made here, when a taxonomy is built, and stored with it.

The display parent of a category with several parents is, by the first of these that separates them,
  1. the parent on the child's own subject (WordNet's lexicographer file): an apple is a food before it is a plant part;
  2. the most specific parent, by the longest path from the root: a dog is a canine before it is a domestic animal;
  3. the parent with more labels: a basketball lies with the other balls, not alone among basketball equipment;
  4. the parent with the smaller synset id.

Categories that hold the same labels are one category to every photo. Of each such group one is shown, stored and named:
  1. one whose labels stay together in the tree, so that a shown category has its full area;
  2. the most specific one that WordNet's tagged texts use at all: horse for sorrel, owl for great grey owl, but comic
     book and not work, creation or product, which those texts use more often and which say less;
  3. where none is ever used, the most specific; then the most used; then the smaller synset id.
"""

from collections import defaultdict
from collections.abc import Sequence

from taxonomy.synset import Synset

Parents = Sequence[Sequence[int]]  # by node, root first; each parent comes before its children
LabelSets = Sequence[frozenset[int]]  # by node, the class indices at or under it


def label_sets(parents: Parents, label_nodes: Sequence[int]) -> list[frozenset[int]]:
    """Per node, the class indices of the labels at or under it, over all the edges given."""
    sets: list[set[int]] = [set() for _ in parents]
    for label, node in enumerate(label_nodes):
        sets[node].add(label)
    for node in range(len(parents) - 1, -1, -1):
        for parent in parents[node]:
            sets[parent] |= sets[node]
    return [frozenset(labels) for labels in sets]


def as_parents(display_parent: Sequence[int]) -> list[tuple[int, ...]]:
    """The display tree in the graph's own form; the root has no parent."""
    return [(parent,) if parent >= 0 else () for parent in display_parent]


def longest_paths(parents: Parents) -> list[int]:
    """Per node, the number of edges on the longest way up to the root."""
    steps: list[int] = []
    for above in parents:
        steps.append(1 + max(steps[parent] for parent in above) if above else 0)
    return steps


def display_parents(synsets: Sequence[Synset], parents: Parents, labels_of: LabelSets) -> list[int]:
    """Per node, the parent under which it is drawn; -1 for the root."""
    steps = longest_paths(parents)

    def preference(node: int, parent: int) -> tuple[bool, int, int, int]:
        same_subject = synsets[parent].subject == synsets[node].subject
        return same_subject, steps[parent], len(labels_of[parent]), -_number(synsets[parent])

    return [max(above, key=lambda p: preference(node, p)) if above else -1 for node, above in enumerate(parents)]


def representatives(synsets: Sequence[Synset], parents: Parents, labels_of: LabelSets, drawn: LabelSets) -> list[int]:
    """Per node, the one that stands for all nodes with its labels; `drawn` are the label sets over the display tree."""
    steps = longest_paths(parents)

    def preference(node: int) -> tuple[int, bool, int, int, int]:
        synset = synsets[node]
        return len(drawn[node]), synset.uses > 0, steps[node], synset.uses, -_number(synset)

    groups: defaultdict[frozenset[int], list[int]] = defaultdict(list)
    for node, labels in enumerate(labels_of):
        groups[labels].append(node)
    best = {labels: max(group, key=preference) for labels, group in groups.items()}
    return [best[labels] for labels in labels_of]


def _number(synset: Synset) -> int:
    return int(synset.wnid[1:])
