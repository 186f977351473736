"""Building the table of all nouns from WordNet 3.0. Needed at build time only."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from taxonomy.nouns import NAME, Nouns, encode
from taxonomy.wordnet import open_wordnet


class _Found(Protocol):
    """What is used of NLTK's synset."""

    def offset(self) -> int: ...
    def hypernyms(self) -> list["_Found"]: ...
    def instance_hypernyms(self) -> list["_Found"]: ...


class _Reader(Protocol):
    """What is used of NLTK's WordNet reader."""

    def all_synsets(self, pos: str) -> Iterable[_Found]: ...


def build(wordnet_dir: Path) -> Nouns:
    """The hypernyms and instance hypernyms of every noun.

    Raises:
        WordNetMissing: `wordnet_dir` does not hold WordNet 3.0's files.
    """
    with open_wordnet(wordnet_dir) as wordnet:
        hypernyms = {found.offset(): _above(found) for found in cast(_Reader, wordnet).all_synsets("n")}
    numbers = np.array(sorted(hypernyms), dtype=np.int64)
    rows = [hypernyms[number] for number in numbers.tolist()]
    return Nouns(
        numbers=numbers,
        counts=np.array([len(row) for row in rows], dtype=np.int64),
        above=np.searchsorted(numbers, [number for row in rows for number in row]),
    )


def write(nouns: Nouns, out_dir: Path) -> Path:
    """Writes the table and its checksum, as `taxonomy.nouns.read` reads them, and returns the table's path."""
    data = encode(nouns)
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / f"{NAME}.npz"
    path.write_bytes(data)
    (out_dir / f"{NAME}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n", encoding="ascii")
    return path


def _above(found: _Found) -> list[int]:
    return sorted({above.offset() for above in (*found.hypernyms(), *found.instance_hypernyms())})
