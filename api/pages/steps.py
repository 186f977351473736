"""Paths through the tree of categories, by the steps that people have words for: animal, bird, and not chordate."""

from collections.abc import Iterable

from pipeline.profile import BROAD
from taxonomy.graph import Taxonomy

EVERYDAY = 3  # times that WordNet's tagged texts use a word which people use: mammal 3, chordate and placental never


def everyday(path: Iterable[str], taxonomy: Taxonomy) -> frozenset[str]:
    """Those steps of a path, given as synset ids, whose names are in everyday use and say something of a photo."""
    return frozenset(wnid for wnid in path if _is_everyday(taxonomy.node(wnid), taxonomy))


def _is_everyday(node: int, taxonomy: Taxonomy) -> bool:
    return taxonomy.synsets[node].uses >= EVERYDAY and taxonomy.leaf_count[node] < BROAD * taxonomy.classes
