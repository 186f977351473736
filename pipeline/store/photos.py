"""What people ask of single photos, and of those that want a look: read-only, indexed, bounded.

Categories go in and out as *columns* of the model's taxonomy, as in `pipeline.store.queries`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, Row, text

from pipeline.precision import Promise, promised
from pipeline.records import Code
from taxonomy.decide import Decision, PhotoDecision

WALKED = 500  # of the newest photos, for one page of those that want a look; so the query stays bounded
UNSURE = 9_000  # a headline with less mass wants a look

MOST_ID = 2**63 - 1  # that the ledger can hold

Reason = Literal["abstained", "unsure"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoRow:
    """A photo, and whether a model has seen it."""

    photo_id: int
    user_id: int
    user: str
    bucket: str
    key: str
    size: int  # bytes
    taken_at: datetime
    taken_from: int  # `TakenFrom`
    listed_at: datetime
    content_rev: int
    outcome: Code | None  # None: awaited
    decision_rev: int | None
    stale: bool  # the result is of bytes that it no longer has


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoStamp:
    """What every answer about a photo rests on, beside the versions of model, decision and policy."""

    photo_id: int
    content_rev: int
    user_id: int
    revision: int  # of its owner; 0: nothing has changed yet


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A photo of the same user, in the order in which they were taken."""

    photo_id: int
    taken_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubtful:
    """A photo that wants a look."""

    photo_id: int
    user: str
    taken_at: datetime
    reason: Reason
    decision_rev: int
    found: PhotoDecision  # by column, before any policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """Photos that want a look, newest first, and where to look on."""

    found: tuple[Doubtful, ...]
    after: tuple[datetime, int] | None  # None: there are no more photos


def photo_row(connection: Connection, model_id: int, photo_id: int) -> PhotoRow | None:
    """The photo; None if there is none, or not any more, or its owner is erased."""
    query = text("""
        SELECT p.photo_id, p.user_id, u.name AS user, b.uri AS bucket, p.key, p.size, p.taken_at, p.taken_from,
               p.created_at AS listed_at, p.content_rev, r.outcome, r.decision_rev,
               coalesce(r.content_rev < p.content_rev, false) AS stale
        FROM core.photo p JOIN core.app_user u USING (user_id) JOIN core.bucket b USING (bucket_id)
        LEFT JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id
        WHERE p.photo_id = :photo AND p.gone_at IS NULL AND u.deleted_at IS NULL""")
    row = connection.execute(query, {"model": model_id, "photo": photo_id}).mappings().first()
    if row is None:
        return None
    return PhotoRow(**{**row, "outcome": None if row["outcome"] is None else Code(row["outcome"])})


def photo_stamp(connection: Connection, photo_id: int) -> PhotoStamp | None:
    """What an answer about the photo is cached by; None where `photo_row` is."""
    query = text("""
        SELECT p.photo_id, p.content_rev, p.user_id, coalesce(r.revision, 0) AS revision
        FROM core.photo p JOIN core.app_user u USING (user_id) LEFT JOIN core.user_revision r USING (user_id)
        WHERE p.photo_id = :photo AND p.gone_at IS NULL AND u.deleted_at IS NULL""")
    row = connection.execute(query, {"photo": photo_id}).mappings().first()
    return PhotoStamp(**row) if row else None


def promises(connection: Connection, model_id: int) -> list[Promise]:
    """What the model's calibrations promise, newest calibration first."""
    query = text("""
        SELECT revision, rule, lam, threshold, vague_share, ambiguous_mass, keep_mass, calibration
        FROM core.decision WHERE model_id = :model AND calibration IS NOT NULL ORDER BY revision DESC""")
    found: list[Promise] = []
    for row in connection.execute(query, {"model": model_id}).mappings():
        constants = {name: value for name, value in row.items() if name != "calibration"}
        found.extend(promised(Decision(**constants), row["calibration"]))
    return found


def neighbours(connection: Connection, photo_id: int, count: int) -> tuple[list[Neighbour], list[Neighbour]]:
    """The photos that the same user took just before it and just after, nearest first; none where there is no photo.

    Those that could not be read are passed over: there is nothing to see.
    """
    return _beside(connection, photo_id, count, "<", "DESC"), _beside(connection, photo_id, count, ">", "ASC")


def _beside(connection: Connection, photo_id: int, count: int, side: str, order: str) -> list[Neighbour]:
    query = text(f"""
        SELECT near.photo_id, near.taken_at
        FROM core.photo this JOIN core.app_user u USING (user_id) CROSS JOIN LATERAL (
            SELECT p.photo_id, p.taken_at FROM core.photo p
            WHERE p.user_id = this.user_id AND p.gone_at IS NULL
              AND (p.taken_at, p.photo_id) {side} (this.taken_at, this.photo_id)
              AND NOT EXISTS (SELECT FROM core.photo_result r
                              WHERE r.model_id = (SELECT model_id FROM core.active_model) AND r.photo_id = p.photo_id
                                AND r.outcome NOT IN ({Code.TAGGED:d}, {Code.ABSTAINED:d}))
            ORDER BY p.taken_at {order}, p.photo_id {order} LIMIT :count) AS near
        WHERE this.photo_id = :photo AND u.deleted_at IS NULL
        ORDER BY near.taken_at {order}, near.photo_id {order}""")
    rows = connection.execute(query, {"photo": photo_id, "count": count}).mappings()
    return [Neighbour(**row) for row in rows]


# ---- what wants a look

# Newest first: of one user by the index of photos, of everybody by that of results. Nobody is asked again about a photo
# of which somebody has said something.
_OF_USER = """
SELECT p.photo_id, p.taken_at FROM core.photo p JOIN core.app_user u USING (user_id)
WHERE u.name = :user AND u.deleted_at IS NULL AND p.gone_at IS NULL"""
_OF_ALL = "SELECT p.photo_id, p.taken_at FROM core.photo_result p WHERE p.model_id = :model"
_DOUBTFUL = f"""
WITH walked AS MATERIALIZED (
    {{walk}} AND (p.taken_at, p.photo_id) < (coalesce(CAST(:at AS timestamptz), 'infinity'), :id)
    ORDER BY p.taken_at DESC, p.photo_id DESC LIMIT :walked
), wanted AS (
    SELECT w.photo_id, w.taken_at AS walked_at, p.taken_at, u.name AS user, r.outcome, r.decision_rev, r.headline,
           r.nodes, r.masses, r.tags, m.taxonomy_id
    FROM walked w JOIN core.photo p USING (photo_id) JOIN core.app_user u USING (user_id)
    JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = w.photo_id AND r.content_rev = p.content_rev
    JOIN core.model m ON m.model_id = r.model_id
    WHERE p.gone_at IS NULL AND u.deleted_at IS NULL
      AND (:abstained AND r.outcome = {int(Code.ABSTAINED)}
           OR :unsure AND r.masses[array_position(r.nodes, r.headline)] < {UNSURE})
      AND NOT EXISTS (SELECT FROM core.verdict v WHERE v.photo_id = p.photo_id AND v.content_rev = p.content_rev)
    ORDER BY w.taken_at DESC, w.photo_id DESC LIMIT :limit)
SELECT walk.walked, last.taken_at AS last_at, last.photo_id AS last_id, wanted.photo_id, wanted.walked_at,
       wanted.taken_at, wanted."user", wanted.outcome, wanted.decision_rev, stored.*
FROM (SELECT count(*) AS walked FROM walked) AS walk
LEFT JOIN (SELECT * FROM walked ORDER BY taken_at, photo_id LIMIT 1) AS last ON true
LEFT JOIN wanted ON true
LEFT JOIN LATERAL (
    SELECT array_agg(tc.position ORDER BY tc.position) AS columns, array_agg(n.mass ORDER BY tc.position) AS masses,
           array_agg(tc.position ORDER BY array_position(wanted.tags, n.node))
               FILTER (WHERE n.node = ANY (wanted.tags)) AS tags,
           min(tc.position) FILTER (WHERE n.node = wanted.headline) AS headline
    FROM unnest(wanted.nodes, wanted.masses) AS n(node, mass)
    JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.node) = (wanted.taxonomy_id, n.node)) AS stored ON true
ORDER BY wanted.walked_at DESC, wanted.photo_id DESC"""


def doubtful(
    connection: Connection,
    model_id: int,
    user: str | None,
    reasons: Collection[Reason],
    limit: int,
    after: tuple[datetime, int] | None = None,
    walked: int = WALKED,
) -> Walk:
    """Photos, newest first, of which nothing certain is shown, or whose headline is not very sure.

    Of one user, or of everybody. Where few of the `walked` newest photos want a look, fewer than `limit`
    are found at once.
    """
    query = text(_DOUBTFUL.format(walk=_OF_ALL if user is None else _OF_USER))
    at, photo_id = after or (None, MOST_ID)
    values = {
        "model": model_id,
        "user": user,
        "at": at,
        "id": photo_id,
        "limit": limit,
        "walked": walked,
        "abstained": "abstained" in reasons,
        "unsure": "unsure" in reasons,
    }
    rows = connection.execute(query, values).all()
    found = tuple(_doubtful(row) for row in rows if row.photo_id is not None)
    if len(found) == limit:
        return Walk(found=found, after=(rows[-1].walked_at, rows[-1].photo_id))
    return Walk(found=found, after=(rows[0].last_at, rows[0].last_id) if rows[0].walked == walked else None)


def _doubtful(row: Row[Any]) -> Doubtful:
    return Doubtful(
        photo_id=row.photo_id,
        user=row.user,
        taken_at=row.taken_at,
        reason="abstained" if row.outcome == Code.ABSTAINED else "unsure",
        decision_rev=row.decision_rev,
        found=PhotoDecision(
            columns=np.array(row.columns, dtype=np.int32),
            masses=np.array(row.masses, dtype=np.int16),
            tags=np.array(row.tags or [], dtype=np.int32),
            headline=row.headline,
        ),
    )
