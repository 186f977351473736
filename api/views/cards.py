"""Rows of categories: each with its count, as the reader may know it, and a photo that shows it well."""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from api.views.gallery import Count, Overview, Reader, counts
from api.views.shots import newest_of
from pipeline.store.categories import Mark, Pictured
from taxonomy.decide import PhotoDecision

SAMPLE = 300  # of the newest photos of a category: covers and what is seen together are looked for in them
COVER = 12  # of the newest photos of a category that has none among them
CHOICES = COVER  # covers of a category, so that two cards of a row need not have the same
MOST_KEPT = 20_000  # categories whose covers are remembered, by reader
TOGETHER = 8
SEEN = 1_000  # ten-thousandths of a photo; what has less in it was hardly seen

Told = tuple[int, Count]  # a category, and what the reader is told of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A category in a row of them."""

    wnid: str
    name: str
    gloss: str
    photos: int | None
    withheld: bool
    vague: bool
    own: int | None
    cover: int | None  # a photo that shows it well, and that the reader may see


def told(connection: Connection, reader: Reader, nodes: Sequence[int], over: Overview) -> dict[int, Count]:
    """What the reader is told of these categories, vague ones included, as it is now."""
    tags = [node for node in nodes if node in over.showable]
    found = counts(connection, reader, tags, over) if tags else {}
    vague = Count(photos=None, withheld=False, own=None if reader.user is None else 0)
    return {node: found.get(node, vague) for node in nodes}


def place(row: Told, over: Overview) -> tuple[int, int, str]:
    """Where a child stands: vague ones first, broadest first; then by photos; withheld ones last."""
    node, count = row
    wnid = over.taxonomy.synsets[node].wnid
    if node not in over.showable:
        return 0, -int(over.taxonomy.leaf_count[node]), wnid
    if count.photos is not None:
        return 1, -count.photos, wnid
    return 2, -(count.own or 0), wnid


def by_photos(rows: Sequence[Told]) -> list[Told]:
    """Those with most photos first; of withheld ones those with most of the reader's own."""
    return sorted(rows, key=lambda each: (-(each[1].photos or 0), -(each[1].own or 0), each[0]))


def cards(
    connection: Connection, reader: Reader, rows: Sequence[Told], over: Overview, sample: Sequence[Pictured] = ()
) -> tuple[Card, ...]:
    """The cards of these categories; `sample`: photos among which many of them have their covers."""
    among = _best(sample)
    found: list[Card] = []
    taken: set[int] = set()
    for node, count in rows:
        best = among.get(node) if not count.withheld else None
        if best is None and (count.own if count.withheld else count.photos):
            best = _kept(connection, reader, node, count, over)
        cover = next((photo for photo in best or () if photo not in taken), best[0] if best else None)
        taken |= {cover} if cover is not None else set()
        found.append(_card(node, count, cover, over))
    return tuple(found)


def _kept(connection: Connection, reader: Reader, node: int, count: Count, over: Overview) -> tuple[int, ...]:
    """The best of its newest photos, looked for once as long as the overview serves."""
    key = (reader.user, node, count.withheld)
    if key not in over.covers:
        if len(over.covers) > MOST_KEPT:
            over.covers.clear()
        over.covers[key] = _best(newest_of(connection, node, count, COVER, over)).get(node, ())
    return over.covers[key]


def _best(sample: Sequence[Pictured]) -> dict[int, tuple[int, ...]]:
    """By category, the photos with most of it, the newest of equals first."""
    tagged: defaultdict[int, list[tuple[int, Mark]]] = defaultdict(list)
    for photo in sample:
        for node in photo.decision.tags.tolist():
            tagged[node].append((_mass(photo.decision, node), photo.mark))
    return {node: tuple(mark.photo_id for _, mark in heapq.nlargest(CHOICES, found)) for node, found in tagged.items()}


def _card(node: int, count: Count, cover: int | None, over: Overview) -> Card:
    synset = over.taxonomy.synsets[node]
    return Card(
        wnid=synset.wnid,
        name=synset.name,
        gloss=synset.gloss,
        photos=count.photos,
        withheld=count.withheld,
        vague=node not in over.showable,
        own=count.own,
        cover=cover,
    )


def sampled(connection: Connection, node: int, count: Count, over: Overview) -> list[Pictured]:
    """The newest photos of the category that the reader may see, as the policy shows them."""
    return newest_of(connection, node, count, SAMPLE, over) if node in over.showable else []


def _mass(decision: PhotoDecision, node: int) -> int:
    return int(decision.masses[np.searchsorted(decision.columns, node)])


def together(node: int, sample: Sequence[Pictured], over: Overview, reader: Reader) -> list[int]:
    """What else is seen on its photos, most telling first; nothing that shares a label with it, or is withheld."""
    known, inside = over.photos(reader), over.taxonomy.label_sets[node]
    seen: dict[int, int] = {}
    for photo in sample:
        for column, mass in zip(photo.decision.columns.tolist(), photo.decision.masses.tolist(), strict=True):
            if mass >= SEEN and known.get(column):
                seen[column] = seen.get(column, 0) + mass
    apart = [v for v in seen if not over.taxonomy.label_sets[v] & inside]
    apart.sort(key=lambda v: (-seen[v] * float(over.taxonomy.bits[v]), v))
    chosen: list[int] = []
    for v in apart:
        if len(chosen) < TOGETHER and not any(
            over.taxonomy.label_sets[v] & over.taxonomy.label_sets[c] for c in chosen
        ):
            chosen.append(v)
    return chosen
