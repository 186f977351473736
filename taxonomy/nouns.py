"""All nouns of WordNet 3.0 and what lies above each, as a table that ships with the package.

A taxonomy holds its labels and what lies above them. Photos may show what lies beside: for them this table says which
categories are right (an okapi is a ruminant, a mammal, an animal). It has no names and no glosses: 82,115 ids and the
84,427 edges between them. `taxonomy.nouns_build` makes it.

wordnet-nouns.npz holds three arrays over N synsets in ascending order of their ids:
  gaps    uint32 [N]  each id's number minus the one before (the first: minus 0)
  counts  uint8 [N]   how many direct hypernyms it has, those of instances included
  above   int32 [E]   the positions of these hypernyms, synset after synset
"""

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomy.errors import DamagedTaxonomy, UnknownSynset

NAME = "wordnet-nouns"

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Nouns:
    """The hypernyms of N noun synsets. Make one with `load`."""

    numbers: Ints  # [N], ascending: the digits of each synset id
    counts: Ints  # [N]: how many direct hypernyms each has
    above: Ints  # [E]: their positions, laid end to end

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def _ends(self) -> Ints:
        return np.concatenate([[0], np.cumsum(self.counts)])

    def at_or_above(self, wnid: str) -> frozenset[str]:
        """The ids of a synset and of all its hypernyms, along any path.

        Raises:
            UnknownSynset: WordNet 3.0 has no such noun.
        """
        reached: set[int] = set()
        waiting = [self._position(wnid)]
        while waiting:
            position = waiting.pop()
            if position not in reached:
                reached.add(position)
                waiting.extend(self.above[self._ends[position] : self._ends[position + 1]].tolist())
        return frozenset(f"n{number:08d}" for number in self.numbers[sorted(reached)].tolist())

    def _position(self, wnid: str) -> int:
        digits = wnid[1:]
        if wnid[:1] == "n" and len(digits) == 8 and digits.isascii() and digits.isdigit():
            position = int(np.searchsorted(self.numbers, int(digits)))
            if position < len(self) and self.numbers[position] == int(digits):
                return position
        raise UnknownSynset(f"WordNet 3.0 has no noun {wnid!r}; a synset id looks like n02084071.")


def encode(nouns: Nouns) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        gaps=np.diff(nouns.numbers, prepend=0).astype(np.uint32),
        counts=nouns.counts.astype(np.uint8),
        above=nouns.above.astype(np.int32),
    )
    return buffer.getvalue()


def decode(data: bytes) -> Nouns:
    """The inverse of `encode`.

    Raises:
        DamagedTaxonomy: the bytes are no such table.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            gaps, counts, above = (stored[name].astype(np.int64) for name in ("gaps", "counts", "above"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedTaxonomy("These bytes are no table of nouns; build it again.") from error
    if len(gaps) != len(counts) or counts.sum() != len(above) or ((above < 0) | (above >= len(gaps))).any():
        raise DamagedTaxonomy("This table of nouns contradicts itself; build it again.")
    return Nouns(numbers=np.cumsum(gaps), counts=counts, above=above)


@lru_cache(maxsize=1)
def load() -> Nouns:
    """The table that comes with the package, read and verified once.

    Raises:
        DamagedTaxonomy: it is not there, or its bytes are not those that were built.
    """
    return read(Path(str(files("taxonomy") / "data")))


def read(folder: Path) -> Nouns:
    """The table in a folder.

    Raises:
        DamagedTaxonomy: see `load`.
    """
    try:
        data = (folder / f"{NAME}.npz").read_bytes()
        expected = (folder / f"{NAME}.sha256").read_text(encoding="ascii").split()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise DamagedTaxonomy(f"The table of nouns or its checksum cannot be read in {folder}; build it.") from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise DamagedTaxonomy(f"The table of nouns in {folder} is not the one that was built; build it again.")
    return decode(data)
