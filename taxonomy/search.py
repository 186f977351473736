"""Categories by what people type: every sense of a word, words that begin so, and words that look alike."""

from bisect import bisect_left
from collections.abc import Callable, Container
from functools import lru_cache

from taxonomy.graph import Taxonomy

ALIKE = 0.25  # the least share of common trigrams for a word to look like another
END = "\U0010ffff"  # behind every word that goes on


def folded(word: str) -> str:
    """A word as it is compared: case, underscores and the number of spaces say nothing."""
    return " ".join(word.replace("_", " ").split()).casefold()


def senses(name: str, taxonomy: Taxonomy, shown: Container[int]) -> list[int]:
    """Every shown category that is called so, root side first; of those with the same labels the one that stands."""
    found = (int(taxonomy.shown_as[node]) for node in taxonomy.find(name))
    return list(dict.fromkeys(node for node in found if node in shown))


def beginning(
    prefix: str, taxonomy: Taxonomy, shown: Container[int], worth: Callable[[int], tuple[int, ...]], most: int
) -> list[int]:
    """Up to `most` shown categories of which a name, or a word in one, begins so.

    Whole names come before words inside of names, and each by `worth`, largest first.
    """
    asked = folded(prefix)
    if not asked:
        return []
    index = _index(taxonomy)
    words = index[bisect_left(index, (asked, False, 0)) : bisect_left(index, (asked + END, False, 0))]
    inside: dict[int, bool] = {}
    for _, within, node in words:
        inside[node] = inside.get(node, True) and within
    found = [node for node in inside if node in shown]
    rank = taxonomy.wnid_rank
    return sorted(found, key=lambda v: (inside[v], *(-n for n in worth(v)), int(rank[v])))[:most]


@lru_cache(maxsize=4)
def _index(taxonomy: Taxonomy) -> list[tuple[str, bool, int]]:
    """Each name from each of its words on: (text, whether it begins inside of the name, category), sorted."""
    rows = set()
    for node, synset in enumerate(taxonomy.synsets):
        for lemma in synset.lemmas:
            words = folded(lemma).split(" ")
            stands = int(taxonomy.shown_as[node])
            rows |= {(" ".join(words[at:]), at > 0, stands) for at in range(len(words))}
    return sorted(rows)


def near(name: str, taxonomy: Taxonomy, shown: Container[int], most: int = 5) -> list[str]:
    """Names of shown categories that look most like this one, by the share of common trigrams, as `pg_trgm` has it."""
    asked = _trigrams(folded(name))
    best: dict[str, float] = {}
    for pieces, node in _pieces(taxonomy):
        share = len(pieces & asked) / len(pieces | asked)
        if share > ALIKE and node in shown:
            called = taxonomy.synsets[node].name
            best[called] = max(share, best.get(called, 0.0))
    return sorted(best, key=lambda called: (-best[called], called))[:most]


@lru_cache(maxsize=4)
def _pieces(taxonomy: Taxonomy) -> list[tuple[frozenset[str], int]]:
    return [
        (_trigrams(folded(lemma)), int(taxonomy.shown_as[node]))
        for node, synset in enumerate(taxonomy.synsets)
        for lemma in synset.lemmas
    ]


def _trigrams(word: str) -> frozenset[str]:
    padded = f"  {word} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2))
