"""Verdicts in the database: what people say of photos, apart from what models say, and about the bytes they saw.

Law of the file: whoever says something of a photo holds its row until the transaction ends. So words about one photo
are said one after the other, each knowing those before it, and no two that contradict each other are ever stored.

Categories go in and out as *columns* of the model's taxonomy, as in `pipeline.store.queries`. A word about a category
that the model's taxonomy does not have stays stored and is left out.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

from pipeline.errors import PictographError
from pipeline.verdicts import Kind, Word
from taxonomy.graph import Ints

AT_A_TIME = 1000  # photos, where all are read


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredVerdict:
    """A word, and who said it when."""

    word: Word  # its headline is None too where the taxonomy does not have it
    given_by: str
    given_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPhoto:
    """What a model sees on a photo, and what people say of it."""

    photo_id: int
    columns: Ints  # ascending, as stored
    masses: NDArray[np.int16]  # parallel to `columns`
    words: tuple[Word, ...]  # oldest first


_WORDS = """
SELECT v.photo_id, mine.position AS node, v.verdict, shown.position AS headline, v.given_by, v.given_at
FROM core.verdict v JOIN core.photo p USING (photo_id)
JOIN core.model m ON m.model_id = :model
JOIN core.taxonomy_category mine ON (mine.taxonomy_id, mine.node) = (m.taxonomy_id, v.node)
LEFT JOIN core.taxonomy_category shown ON (shown.taxonomy_id, shown.node) = (m.taxonomy_id, v.headline)
WHERE v.content_rev = p.content_rev"""


def of_photo(connection: Connection, model_id: int, photo_id: int) -> list[StoredVerdict]:
    """What was said of a photo as it is now, oldest first."""
    query = text(f"{_WORDS} AND v.photo_id = :photo ORDER BY v.given_at, mine.position")
    rows = connection.execute(query, {"model": model_id, "photo": photo_id}).all()
    return [StoredVerdict(word=_word(row), given_by=row.given_by, given_at=row.given_at) for row in rows]


def _word(row: Row[Any]) -> Word:
    kind: Kind = next(known for known in get_args(Kind) if known == row.verdict)
    return Word(node=row.node, kind=kind, headline=row.headline)


def hold(connection: Connection, photo_id: int) -> int | None:
    """The owner of a photo, whose row is held until the transaction ends; None if there is none such."""
    query = text("""
        SELECT p.user_id FROM core.photo p JOIN core.app_user u USING (user_id)
        WHERE p.photo_id = :photo AND p.gone_at IS NULL AND u.deleted_at IS NULL FOR NO KEY UPDATE OF p""")
    user_id: int | None = connection.execute(query, {"photo": photo_id}).scalar()
    return user_id


def put(
    connection: Connection,
    model_id: int,
    photo_id: int,
    word: Word,
    decision_rev: int,
    by: str,
    instead_of: Sequence[int],
) -> None:
    """Store a word about a photo that is held, in place of those about the columns that it contradicts.

    What was said of other bytes of the photo goes: it is about something that nobody sees any more.
    """
    values = {"model": model_id, "photo": photo_id, "columns": list(instead_of)}
    gone = text(f"""
        DELETE FROM core.verdict v USING core.photo p
        WHERE v.photo_id = :photo AND p.photo_id = v.photo_id
          AND (v.content_rev <> p.content_rev OR v.node IN ({_NODES}))""")
    connection.execute(gone, values)
    added = text("""
        INSERT INTO core.verdict
            (photo_id, node, verdict, content_rev, model_id, decision_rev, headline, given_by, given_at)
        SELECT p.photo_id, mine.node, :verdict, p.content_rev, m.model_id, :decision, shown.node, :by, clock_timestamp()
        FROM core.photo p JOIN core.model m ON m.model_id = :model
        JOIN core.taxonomy_category mine ON (mine.taxonomy_id, mine.position) = (m.taxonomy_id, :node)
        LEFT JOIN core.taxonomy_category shown ON (shown.taxonomy_id, shown.position) = (m.taxonomy_id, :headline)
        WHERE p.photo_id = :photo""")
    said = {"verdict": word.kind, "node": word.node, "headline": word.headline, "decision": decision_rev, "by": by}
    if connection.execute(added, {**values, **said}).rowcount != 1:
        raise PictographError(f"A verdict on photo {photo_id} was not stored, though its row was held.")


_NODES = """
SELECT tc.node FROM core.taxonomy_category tc JOIN core.model m USING (taxonomy_id)
WHERE m.model_id = :model AND tc.position = ANY (:columns)"""


def drop(connection: Connection, model_id: int, photo_id: int, columns: Sequence[int]) -> int:
    """Take back what was said of these columns of a photo that is held; how many words that was."""
    query = text(f"DELETE FROM core.verdict v WHERE v.photo_id = :photo AND v.node IN ({_NODES})")
    return connection.execute(query, {"model": model_id, "photo": photo_id, "columns": list(columns)}).rowcount


def judged(connection: Connection, model_id: int) -> Iterator[JudgedPhoto]:
    """Every photo that people said something of and that the model has seen as it is now, with its stored masses."""
    after = 0
    while page := connection.execute(_SEEN, {"model": model_id, "after": after}).all():
        after = page[-1].photo_id
        words = _words_of(connection, model_id, [row.photo_id for row in page])
        for row in page:
            if row.photo_id in words:
                yield JudgedPhoto(
                    photo_id=row.photo_id,
                    columns=np.array(row.columns, dtype=np.int32),
                    masses=np.array(row.masses, dtype=np.int16),
                    words=tuple(words[row.photo_id]),
                )


_SEEN = text(f"""
SELECT seen.photo_id, stored.columns, stored.masses
FROM (SELECT r.photo_id, r.nodes, r.masses, m.taxonomy_id
      FROM (SELECT DISTINCT photo_id FROM core.verdict WHERE photo_id > :after) AS said
      JOIN core.photo p USING (photo_id) JOIN core.app_user u USING (user_id)
      JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id AND r.content_rev = p.content_rev
      JOIN core.model m ON m.model_id = r.model_id
      WHERE p.gone_at IS NULL AND u.deleted_at IS NULL AND cardinality(r.nodes) > 0
      ORDER BY r.photo_id LIMIT {AT_A_TIME}) AS seen
CROSS JOIN LATERAL (
    SELECT array_agg(tc.position ORDER BY tc.position) AS columns, array_agg(n.mass ORDER BY tc.position) AS masses
    FROM unnest(seen.nodes, seen.masses) AS n(node, mass)
    JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.node) = (seen.taxonomy_id, n.node)) AS stored
ORDER BY seen.photo_id""")


def _words_of(connection: Connection, model_id: int, photos: Sequence[int]) -> dict[int, list[Word]]:
    query = text(f"{_WORDS} AND v.photo_id = ANY (:photos) ORDER BY v.photo_id, v.given_at, mine.position")
    found: defaultdict[int, list[Word]] = defaultdict(list)
    for row in connection.execute(query, {"model": model_id, "photos": list(photos)}):
        found[row.photo_id].append(_word(row))
    return found
