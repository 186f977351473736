"""A stored taxonomy: canonical JSON, one synset to a line; equal graphs have equal bytes, and diffs can be read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taxonomy.errors import DamagedTaxonomy
from taxonomy.synset import Synset

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What a taxonomy file holds. Indices are positions in `synsets`, root first."""

    name: str
    labels: tuple[str, ...]
    synsets: tuple[Synset, ...]
    parents: tuple[tuple[int, ...], ...]
    display_parent: tuple[int, ...]
    shown_as: tuple[int, ...]
    version: str = ""  # of the taxonomy of which only names were changed since; empty: it is its own


def encode(stored: Stored) -> bytes:
    """UTF-8 JSON, the same bytes for the same taxonomy on every machine."""
    rows = [_row(stored, node) for node in range(len(stored.synsets))]
    version = f',\n"version":{_compact(stored.version)}' if stored.version else ""
    return (
        f'{{"format":{FORMAT},\n"labels":{_compact(stored.labels)},\n"name":{_compact(stored.name)},\n"nodes":[\n'
        + ",\n".join(rows)
        + f"\n]{version}}}\n"
    ).encode()


def decode(data: bytes) -> Stored:
    """The inverse of `encode`.

    Raises:
        DamagedTaxonomy: the bytes are not a taxonomy of this format.
    """
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise DamagedTaxonomy(f"This taxonomy has format {document['format']}, not {FORMAT}; build it again.")
        nodes = document["nodes"]
        return Stored(
            name=document["name"],
            labels=tuple(document["labels"]),
            synsets=tuple(_synset(node) for node in nodes),
            parents=tuple(tuple(node["parents"]) for node in nodes),
            display_parent=tuple(node["display_parent"] for node in nodes),
            shown_as=tuple(node["shown_as"] for node in nodes),
            version=document.get("version", ""),
        )
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedTaxonomy("These bytes are not a stored taxonomy; build it again.") from error


def _row(stored: Stored, node: int) -> str:
    synset = stored.synsets[node]
    return _compact(
        {
            "wnid": synset.wnid,
            "name": synset.name,
            "lemmas": synset.lemmas,
            "gloss": synset.gloss,
            "subject": synset.subject,
            "uses": synset.uses,
            "parents": stored.parents[node],
            "display_parent": stored.display_parent[node],
            "shown_as": stored.shown_as[node],
        }
    )


def _synset(node: dict[str, Any]) -> Synset:
    return Synset(
        wnid=node["wnid"],
        lemmas=tuple(node["lemmas"]),
        name=node["name"],
        gloss=node["gloss"],
        subject=node["subject"],
        uses=node["uses"],
    )


def _compact(value: Sequence[Any] | dict[str, Any] | str) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
