"""Indexes on what is there already, built while everybody works.

A migration only declares an index on a partitioned table: built within it, each partition would stand still for the
minutes that takes. Here each partition gets its own, CONCURRENTLY, and it is attached; once each partition has one, the
declared index is whole. Safe to be killed and asked for again: what a killed build leaves is dropped, and built anew.
"""

import time

from sqlalchemy import Connection, text

from pipeline.store.session import Database

BUILDER = 7_420_018  # advisory lock: one process builds at a time
ASK_SECONDS = 0.2
REPLACED = ("photo_result_tags_idx",)  # served until what replaces them was whole

#: On tables without partitions, where nothing can be declared: name, and where it is.
PLAIN = (
    ("job_item_photo_id_idx", "core.job_item (photo_id)"),
    ("app_user_deleted_idx", "core.app_user (user_id) WHERE deleted_at IS NOT NULL"),
    ("photo_gone_idx", "core.photo (user_id, taken_at) WHERE gone_at IS NOT NULL"),
    ("app_user_shared_idx", "core.app_user (user_id) WHERE shared"),
    ("user_category_most_idx", "core.user_category (model_id, node, photos, user_id) WHERE photos > 0"),
)

# Declared and not whole: with the partitions that have no index attached to it yet.
_MISSING = text("""
SELECT p.inhrelid::regclass::text AS partition, c.relname AS declared,
       pg_get_indexdef(i.indexrelid) AS definition, child.relname AS name
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_inherits p ON p.inhparent = i.indrelid JOIN pg_class child ON child.oid = p.inhrelid
WHERE i.indrelid = 'core.photo_result'::regclass AND NOT i.indisvalid AND NOT EXISTS (
    SELECT FROM pg_inherits a JOIN pg_index own ON own.indexrelid = a.inhrelid
    WHERE a.inhparent = i.indexrelid AND own.indrelid = p.inhrelid)
ORDER BY 1, 2""")
_WHOLE = text("SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'core.photo_result'::regclass")
_STATE = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def build_indexes(database: Database) -> int:
    """Build what the migrations declared; returns how many indexes were built. Nobody who reads or writes waits."""
    with database.outside_transactions() as connection:
        # Who waited for the lock inside of a statement would hold a snapshot, for whose end the builder waits.
        while not connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": BUILDER}).scalar_one():
            time.sleep(ASK_SECONDS)
        built = sum(_build(connection, name, place) for name, place in PLAIN)
        missing = connection.execute(_MISSING).all()
        for partition, declared, definition, name in missing:
            own = f"{name}_{declared.removeprefix('photo_result_')}"
            _build(connection, own, f"{partition} USING {definition.split(' USING ', 1)[1]}")
            connection.execute(text(f"ALTER INDEX core.{declared} ATTACH PARTITION core.{own}"))
        if connection.execute(_WHOLE).scalar_one():
            for replaced in REPLACED:
                connection.execute(text(f"DROP INDEX IF EXISTS core.{replaced}"))
        connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": BUILDER})
    return built + len(missing)


def _build(connection: Connection, name: str, place: str) -> bool:
    """Build an index unless it is there and whole; returns whether it was built."""
    whole = connection.execute(_STATE, {"name": f"core.{name}"}).scalar()
    if whole is False:
        connection.execute(text(f"DROP INDEX core.{name}"))
    if not whole:
        connection.execute(text(f"CREATE INDEX CONCURRENTLY {name} ON {place}"))
    return not whole
