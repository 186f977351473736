"""What people ask of the store: read-only, indexed, bounded. (Thumbnails, a cache, are the one thing written here.)

Categories go in and out as *columns* of the model's taxonomy; the ledger's node ids stay inside SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.profile import CategoryTotal
from pipeline.records import WHOLE


@dataclass(frozen=True, kw_only=True, slots=True)
class ActiveModel:
    """The model whose results people see, with the versions that make its answers what they are."""

    model_id: int
    name: str
    fingerprint: str  # hexadecimal
    taxonomy: str
    taxonomy_sha256: str  # hexadecimal
    decision_revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UserTotals:
    """A user's exact totals; empty if no photo of theirs was analysed."""

    user_id: int
    totals: tuple[CategoryTotal, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserSummary:
    """A user in a list."""

    name: str
    photos: int  # analysed by the model


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoPlace:
    """Where a photo's bytes are, and which bytes they are."""

    bucket: str
    key: str
    etag: str
    size: int  # bytes
    content_rev: int
    version_id: str | None  # where a manifest named one


def active_model(connection: Connection) -> ActiveModel | None:
    """The active model; None before any model was registered."""
    query = text("""
        SELECT m.model_id, m.name, encode(m.fingerprint, 'hex') AS fingerprint, t.name AS taxonomy,
               encode(t.sha256, 'hex') AS taxonomy_sha256,
               (SELECT max(revision) FROM core.decision d WHERE d.model_id = m.model_id) AS decision_revision
        FROM core.active_model m JOIN core.taxonomy t USING (taxonomy_id)""")
    row = connection.execute(query).mappings().first()
    return ActiveModel(**row) if row else None


def user_profile_totals(connection: Connection, model_id: int, user: str) -> UserTotals | None:
    """The totals of the user of that name; None if there is no such user, or not any more."""
    known = text("SELECT user_id FROM core.app_user WHERE name = :name AND deleted_at IS NULL")
    user_id = connection.execute(known, {"name": user}).scalar()
    if user_id is None:
        return None
    return UserTotals(user_id=user_id, totals=user_totals(connection, model_id, user_id))


def user_totals(connection: Connection, model_id: int, user_id: int) -> tuple[CategoryTotal, ...]:
    """The exact totals of a user's whole time, by column."""
    # As arrays: hundreds of rows would each cost more on their way here than what is done with them.
    query = text("""
        SELECT array_agg(tc.position ORDER BY tc.position), array_agg(uc.photos ORDER BY tc.position),
               array_agg(uc.mass ORDER BY tc.position)
        FROM core.user_category uc
        JOIN core.model m USING (model_id)
        JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.node) = (m.taxonomy_id, uc.node)
        WHERE uc.model_id = :model AND uc.user_id = :user AND uc.mass > 0""")
    columns, photos, masses = connection.execute(query, {"model": model_id, "user": user_id}).one()
    rows = zip(columns or (), photos or (), masses or (), strict=True)
    return tuple(CategoryTotal(column=column, photos=carrying, mass=mass) for column, carrying, mass in rows)


def users(connection: Connection, model_id: int, limit: int, after: str = "") -> list[UserSummary]:
    """Up to `limit` users in the byte order of their names, from the first one behind `after`."""
    query = text(f"""
        SELECT u.name, coalesce(uc.mass, 0) / {WHOLE} AS photos
        FROM core.app_user u
        LEFT JOIN core.user_category uc ON uc.model_id = :model AND uc.user_id = u.user_id
            AND uc.node = (SELECT tc.node FROM core.taxonomy_category tc JOIN core.model m USING (taxonomy_id)
                           WHERE m.model_id = :model AND tc.position = 0)
        WHERE u.name > :after AND u.deleted_at IS NULL ORDER BY u.name LIMIT :limit""")
    rows = connection.execute(query, {"model": model_id, "after": after, "limit": limit}).mappings()
    return [UserSummary(**row) for row in rows]


TAGGED_PHOTOS_TRIED = 200  # per category; among so many, one shows it well, and the query stays bounded


def covers(
    connection: Connection,
    model_id: int,
    user_id: int,
    area_columns: Mapping[int, int],
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[int, int]:
    """By category, the id of a photo of the user that shows it best, for those that a photo is tagged with.

    Categories are given as column: column of the area. Best is the greatest mass in the area, so that the photo is one
    that is drawn there; then the newest id; among the first 200 photos that carry the tag and were taken in the period.
    """
    query = text("""
        SELECT tag.position, best.photo_id
        FROM unnest(CAST(:columns AS smallint[]), CAST(:areas AS smallint[])) AS asked(position, area)
        JOIN core.model m ON m.model_id = :model
        JOIN core.taxonomy_category tag ON (tag.taxonomy_id, tag.position) = (m.taxonomy_id, asked.position)
        JOIN core.taxonomy_category area ON (area.taxonomy_id, area.position) = (m.taxonomy_id, asked.area)
        CROSS JOIN LATERAL (
            SELECT tried.photo_id FROM (
                SELECT r.photo_id, r.masses[array_position(r.nodes, area.node)] AS mass FROM core.photo_result r
                WHERE r.model_id = :model AND r.user_id = :user AND r.tags @> ARRAY[tag.node]
                  AND r.taken_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
                  AND r.taken_at < coalesce(CAST(:until AS timestamptz), 'infinity') LIMIT :tried) AS tried
            ORDER BY tried.mass DESC NULLS LAST, tried.photo_id DESC LIMIT 1) AS best""")
    values = {
        "model": model_id,
        "user": user_id,
        "columns": list(area_columns.keys()),
        "areas": list(area_columns.values()),
        "tried": TAGGED_PHOTOS_TRIED,
        "since": since,
        "until": until,
    }
    return {row.position: row.photo_id for row in connection.execute(query, values)}


def photo_place(connection: Connection, photo_id: int) -> PhotoPlace | None:
    """Where the photo lies; None if there is none, or not any more, or its owner is erased."""
    query = text("""
        SELECT b.uri AS bucket, p.key, p.etag, p.size, p.content_rev, p.version_id
        FROM core.photo p JOIN core.bucket b USING (bucket_id) JOIN core.app_user u USING (user_id)
        WHERE p.photo_id = :photo AND p.gone_at IS NULL AND u.deleted_at IS NULL""")
    row = connection.execute(query, {"photo": photo_id}).mappings().first()
    return PhotoPlace(**row) if row else None


# ---- thumbnails


def cached_thumbnail(connection: Connection, photo_id: int, side: int, content_rev: int) -> bytes | None:
    """The cached JPEG of these bytes of the photo, noted as used (at most once an hour: reading should not write)."""
    key = {"photo": photo_id, "side": side, "rev": content_rev}
    this = "photo_id = :photo AND side = :side AND content_rev = :rev"
    jpeg: bytes | None = connection.execute(text(f"SELECT jpeg FROM core.thumbnail WHERE {this}"), key).scalar()
    if jpeg is not None:
        touch = f"UPDATE core.thumbnail SET used_at = now() WHERE {this} AND used_at < now() - interval '1 hour'"
        connection.execute(text(touch), key)
    return None if jpeg is None else bytes(jpeg)


def cache_thumbnail(connection: Connection, photo_id: int, side: int, content_rev: int, jpeg: bytes) -> None:
    """Keep a thumbnail, unless a newer one is there or the photo is not any more, or its owner is erased."""
    # Whoever takes the photo away holds its row: we wait for him. The lock wants the right to update a column of it.
    query = text("""
        INSERT INTO core.thumbnail (photo_id, side, content_rev, jpeg)
        SELECT photo_id, :side, :rev, :jpeg FROM core.photo p JOIN core.app_user u USING (user_id)
        WHERE photo_id = :photo AND gone_at IS NULL AND deleted_at IS NULL FOR SHARE OF p
        ON CONFLICT (photo_id, side) DO UPDATE
        SET content_rev = excluded.content_rev, jpeg = excluded.jpeg, used_at = now()
        WHERE thumbnail.content_rev <= excluded.content_rev""")
    connection.execute(query, {"photo": photo_id, "side": side, "rev": content_rev, "jpeg": jpeg})


def evict_thumbnails(connection: Connection, cap_bytes: int) -> int:
    """Drop the least recently used thumbnails until the rest has at most `cap_bytes`; returns how many went."""
    query = text("""
        DELETE FROM core.thumbnail t USING (
            SELECT photo_id, side, sum(octet_length(jpeg)) OVER (ORDER BY used_at DESC, photo_id, side) AS bytes
            FROM core.thumbnail) AS aged
        WHERE (t.photo_id, t.side) = (aged.photo_id, aged.side) AND aged.bytes > :cap""")
    return connection.execute(query, {"cap": cap_bytes}).rowcount
