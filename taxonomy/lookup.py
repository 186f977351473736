"""From what a person types to one node: a synset id, or a word with a single sense."""

import re

from taxonomy.errors import TaxonomyError, UnknownSynset
from taxonomy.graph import Taxonomy

_WNID = re.compile(r"n\d{8}")


class AmbiguousName(TaxonomyError):
    """A word has several senses here; a synset id has one."""


def one_node(word: str, taxonomy: Taxonomy) -> int:
    """The node that `word` means: a synset id such as n02084071, or a lemma (case, spaces, underscores are alike).

    Raises:
        UnknownSynset: the taxonomy has no such category.
        AmbiguousName: the word has several senses; the message lists their synset ids.
    """
    if _WNID.fullmatch(word):
        return taxonomy.node(word)
    found = taxonomy.find(word)
    if not found:
        raise UnknownSynset(f"The taxonomy {taxonomy.name} has no category {word!r}; try a more general word.")
    if len(found) > 1:
        raise AmbiguousName(f"{word!r} has several senses: {_senses(found, taxonomy)}; name one by its synset id.")
    return found[0]


def titled(node: int, taxonomy: Taxonomy) -> str:
    """A category as messages name it: "dog (n02084071)"."""
    return f"{taxonomy.synsets[node].name} ({taxonomy.synsets[node].wnid})"


def _senses(nodes: tuple[int, ...], taxonomy: Taxonomy) -> str:
    above = (taxonomy.synsets[max(0, int(taxonomy.display_parent[node]))].name for node in nodes)
    return ", ".join(
        f"{taxonomy.synsets[node].wnid} (a kind of {name})" for node, name in zip(nodes, above, strict=True)
    )
