"""Building a taxonomy in memory: closes the labels under hypernyms, orders the nodes, chooses the display tree."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from taxonomy.codec import Stored
from taxonomy.errors import BadGraph, BadLabels, UnknownSynset
from taxonomy.graph import Taxonomy
from taxonomy.synset import Synset
from taxonomy.tree import as_parents, display_parents, label_sets, representatives

Hypernyms = Mapping[str, Sequence[str]]  # synset id -> the ids of its direct hypernyms


def from_hypernyms(
    *, name: str, labels: Sequence[str], synsets: Mapping[str, Synset], hypernyms: Hypernyms
) -> Taxonomy:
    """The taxonomy of the labels and everything above them. A label may lie above another label.

    Args:
        name: what the taxonomy is called.
        labels: synset ids by class index.
        synsets: every synset that can be reached from the labels, by id; others are left out.
        hypernyms: the direct hypernyms of each; a root has none.

    Raises:
        BadLabels: there are none, or one comes twice.
        UnknownSynset: a label or a hypernym is not among the synsets.
        BadGraph: the hypernyms go in a circle, end at several roots, or are too many to be stored.
    """
    _refuse_repeats(labels)
    ordered = _order(_reachable(labels, synsets, hypernyms))
    index = {wnid: node for node, wnid in enumerate(ordered)}
    parents = [tuple(sorted({index[h] for h in hypernyms[wnid]})) for wnid in ordered]
    chosen = [synsets[wnid] for wnid in ordered]
    label_nodes = [index[wnid] for wnid in labels]
    labels_of = label_sets(parents, label_nodes)
    display = display_parents(chosen, parents, labels_of)
    drawn = label_sets(as_parents(display), label_nodes)
    return Taxonomy.from_stored(
        Stored(
            name=name,
            labels=tuple(labels),
            synsets=tuple(chosen),
            parents=tuple(parents),
            display_parent=tuple(display),
            shown_as=tuple(representatives(chosen, parents, labels_of, drawn)),
        )
    )


def renamed(taxonomy: Taxonomy, names: Mapping[str, str]) -> Taxonomy:
    """The same taxonomy with other names for these synset ids: of the same version, so no photo is tagged anew for it.

    Raises:
        UnknownSynset: the taxonomy does not have one of them.
    """
    for wnid in names:
        taxonomy.node(wnid)
    stored = taxonomy.stored()
    synsets = tuple(replace(synset, name=names.get(synset.wnid, synset.name)) for synset in stored.synsets)
    return Taxonomy.from_stored(replace(stored, synsets=synsets, version=taxonomy.sha256))


def _refuse_repeats(labels: Sequence[str]) -> None:
    if not labels:
        raise BadLabels("There are no labels; give at least one synset id.")
    seen: dict[str, int] = {}
    for position, wnid in enumerate(labels):
        if wnid in seen:
            raise BadLabels(f"Label {wnid} stands at class {seen[wnid]} and at class {position}; give each label once.")
        seen[wnid] = position


def _reachable(labels: Iterable[str], synsets: Mapping[str, Synset], hypernyms: Hypernyms) -> dict[str, Sequence[str]]:
    found: dict[str, Sequence[str]] = {}
    waiting = list(labels)
    while waiting:
        wnid = waiting.pop()
        if wnid in found:
            continue
        if wnid not in synsets or wnid not in hypernyms:
            raise UnknownSynset(f"There is no synset {wnid}; correct the list of labels or the hypernyms.")
        found[wnid] = hypernyms[wnid]
        waiting.extend(hypernyms[wnid])
    return found


def _order(hypernyms: Hypernyms) -> list[str]:
    """Root first, then by longest path from the root, then by id: each parent before its children, and always alike."""
    steps: dict[str, int] = {}
    try:
        for wnid in TopologicalSorter(hypernyms).static_order():
            steps[wnid] = 1 + max((steps[above] for above in hypernyms[wnid]), default=-1)
    except CycleError as error:
        raise BadGraph(f"These hypernyms go in a circle: {' > '.join(error.args[1])}.") from error
    roots = sorted(wnid for wnid, above in hypernyms.items() if not above)
    if len(roots) > 1:
        raise BadGraph(f"The labels end at {len(roots)} roots ({', '.join(roots[:5])}); all must share one.")
    return sorted(hypernyms, key=lambda wnid: (steps[wnid], wnid))
