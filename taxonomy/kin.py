"""What lies around a category, where of all with the same labels one stands for the others."""

from collections.abc import Mapping
from functools import lru_cache

from taxonomy.graph import Taxonomy

Kin = Mapping[int, tuple[int, ...]]  # by node that stands for others; such nodes, root side first


@lru_cache(maxsize=4)
def standing(taxonomy: Taxonomy) -> frozenset[int]:
    """The nodes that stand for all with their labels."""
    return frozenset(taxonomy.shown_as.tolist())


@lru_cache(maxsize=4)
def below(taxonomy: Taxonomy) -> Kin:
    """Those right below, along any path; what holds the same labels is passed by."""
    found: dict[int, set[int]] = {node: set() for node in standing(taxonomy)}
    shown_as = taxonomy.shown_as.tolist()
    for node, parents in enumerate(taxonomy.parents):
        for parent in parents:
            if shown_as[parent] != shown_as[node]:
                found[shown_as[parent]].add(shown_as[node])
    return {node: tuple(sorted(inside)) for node, inside in found.items()}


@lru_cache(maxsize=4)
def above(taxonomy: Taxonomy) -> Kin:
    """Those right above, the one that it is drawn in first."""
    found: dict[int, list[int]] = {node: [] for node in standing(taxonomy)}
    for parent, inside in sorted(below(taxonomy).items()):
        for node in inside:
            found[node].append(parent)
    return {node: tuple(sorted(over, key=lambda v: v not in path(node, taxonomy)[-1:])) for node, over in found.items()}


def path(node: int, taxonomy: Taxonomy) -> tuple[int, ...]:
    """From the root down the display tree to what it is drawn in, each set of labels once."""
    drawn_in, steps = int(taxonomy.display_parent[node]), []
    while drawn_in >= 0:
        steps.append(int(taxonomy.shown_as[drawn_in]))
        drawn_in = int(taxonomy.display_parent[drawn_in])
    return tuple(step for step in dict.fromkeys(reversed(steps)) if step != taxonomy.shown_as[node])
