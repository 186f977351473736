"""Labelled photos: a folder of photos whose true synsets are known, and what is right for each of them.

A folder is labelled in one of two ways:
  - labels.json: a list of {"file": path within the folder, "wnid": true synset}; "synset" may name it, for people;
    other keys do not matter.
  - Without one, files whose name, or whose folder's name, starts with the synset id: n01440764_tench.JPEG,
    n01440764/10026.JPEG. Other files are left out, and counted.

The true synset may be any noun of WordNet 3.0: a label, something between the labels, or something beside them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigurationError
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy
from taxonomy.nouns import Nouns
from taxonomy.truth import Place, Truth

LABELS = "labels.json"
_STARTS_WITH_WNID = re.compile(r"(n\d{8})(?!\d)")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledPhoto:
    """A photo that is known to show a synset."""

    path: Path
    wnid: str
    name: str = ""  # what labels.json calls the synset, if it does


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledFolder:
    """The labelled photos of a folder, at least one."""

    photos: tuple[LabelledPhoto, ...]  # in the order of labels.json, else of their paths
    left_out: int  # files without a label; those beside a labels.json are not counted

    @property
    def wnids(self) -> tuple[str, ...]:
        """The true synset of each photo."""
        return tuple(photo.wnid for photo in self.photos)


def read_folder(folder: Path) -> LabelledFolder:
    """The labelled photos of a folder. Nothing is opened but labels.json.

    Raises:
        ConfigurationError: it is no folder, holds no labelled photo, or its labels.json cannot be used.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder; name one with labelled photos.")
    labels = folder / LABELS
    if labels.is_file():
        photos, left_out = tuple(_listed(labels)), 0
    else:
        photos, left_out = _named(folder)
    if not photos:
        raise ConfigurationError(
            f"{folder} holds no labelled photo; start the files' names with their synset ids (n01440764_1.jpg), "
            f"or list them in {LABELS}."
        )
    return LabelledFolder(photos=photos, left_out=left_out)


def truth_of(wnids: Sequence[str], taxonomy: Taxonomy, nouns: Nouns) -> Truth:
    """What is right for photos of these synsets, whether the taxonomy has them or not.

    A taxonomy holds all that lies above its labels, so a synset that it does not have lies above none of them: such a
    photo can be told rightly or wrongly, but not more finely than is known.

    Raises:
        ConfigurationError: a synset is no noun of WordNet 3.0.
    """
    node_of = {synset.wnid: node for node, synset in enumerate(taxonomy.synsets)}
    try:
        places = {
            wnid: Place(above=frozenset(node_of[above] for above in nouns.at_or_above(wnid) if above in node_of))
            for wnid in set(wnids) - node_of.keys()
        }
    except UnknownSynset as error:
        raise ConfigurationError(f"{error} Correct the labels of the photos.") from error
    return Truth.of(taxonomy, wnids, places)


def _named(folder: Path) -> tuple[tuple[LabelledPhoto, ...], int]:
    """The photos whose names say what they show, and how many files' names do not."""
    photos, left_out = [], 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        match = _STARTS_WITH_WNID.match(path.name)
        if match is None and path.parent != folder:
            match = _STARTS_WITH_WNID.match(path.parent.name)
        if match is None:
            left_out += 1
        else:
            photos.append(LabelledPhoto(path=path, wnid=match[1]))
    return tuple(photos), left_out


def _listed(labels: Path) -> Iterator[LabelledPhoto]:
    """The photos of a labels.json."""
    try:
        entries = json.loads(labels.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{labels} cannot be read as JSON: {error}.") from error
    if not isinstance(entries, list):
        raise ConfigurationError(f'{labels} is not a list; write [{{"file": "1.jpg", "wnid": "n01440764"}}].')
    seen: set[Path] = set()
    for number, entry in enumerate(entries, start=1):
        photo = _entry(entry, labels.parent, f"Entry {number} of {labels}")
        if photo.path in seen:
            raise ConfigurationError(f"Entry {number} of {labels} names {photo.path.name} again; name each photo once.")
        seen.add(photo.path)
        yield photo


def _entry(entry: object, folder: Path, which: str) -> LabelledPhoto:
    known = entry if isinstance(entry, dict) else {}
    file, wnid, name = (known.get(key) for key in ("file", "wnid", "synset"))
    if not (isinstance(file, str) and file and isinstance(wnid, str) and _STARTS_WITH_WNID.fullmatch(wnid)):
        raise ConfigurationError(f'{which} lacks a "file" or a "wnid" such as n01440764; correct it.')
    path = folder / file
    if not path.is_file():
        raise ConfigurationError(f"{which} names {file}, which is not there; correct it, or add the photo.")
    return LabelledPhoto(path=path, wnid=wnid, name=name if isinstance(name, str) else "")
