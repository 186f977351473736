"""Paths through the tree of categories, by the steps that people have words for: animal, bird, and not chordate."""

from collections.abc import Sequence

from api.views.profiles import Ref
from pipeline.profile import BROAD
from taxonomy.graph import Taxonomy

EVERYDAY = 3  # times that WordNet's tagged texts use a word which people use: mammal 3, chordate and placental never


def everyday(path: Sequence[Ref], taxonomy: Taxonomy) -> frozenset[str]:
    """The synset ids of those steps of a path whose names are in everyday use, and that say something of a photo."""
    return frozenset(ref.wnid for ref in path if _is_everyday(taxonomy.node(ref.wnid), taxonomy))


def _is_everyday(node: int, taxonomy: Taxonomy) -> bool:
    return taxonomy.synsets[node].uses >= EVERYDAY and taxonomy.leaf_count[node] < BROAD * taxonomy.classes
