"""One category: a WordNet 3.0 noun synset."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Synset:
    """A set of words with one meaning. Identity is `wnid`; names repeat (crane is a bird and a machine)."""

    wnid: str  # "n" and the eight digits of WordNet's noun offset: n02084071
    lemmas: tuple[str, ...]  # WordNet's spelling and order, underscores kept: ("domestic_dog", …)
    name: str  # the lemma used most in everyday text, with spaces: "domestic dog"
    gloss: str  # WordNet's definition
    subject: str = ""  # lexicographer file, WordNet's own division by subject: "noun.animal"
    uses: int = 0  # how often WordNet's tagged texts use this sense (cntlist.rev, all lemmas together)
