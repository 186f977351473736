"""The newest photos of a category: results know when their photo was taken; wider slots for photos to come.

Nothing big is rewritten or locked. The new column comes empty, and `pictograph repair times` fills it in; indexes are
only declared here, and each partition gets its own afterwards, while work goes on (`pipeline.store.indexes`). Until both
are done the functions in 0008_newest.sql are right and slow.

Revision ID: 0008
"""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INGEST, WORKER, API, ERASER = "pictograph_ingest", "pictograph_worker", "pictograph_api", "pictograph_eraser"
ANALYST = "pictograph_analyst"

COLUMN = f"""
ALTER TABLE core.photo_result ADD COLUMN taken_at timestamptz;
COMMENT ON COLUMN core.photo_result."taken_at" IS 'As in core.photo. NULL: stored before results had it, and not filled in yet.';
GRANT UPDATE (taken_at) ON core.photo_result TO {INGEST};
"""

# On the parent alone: the partitions that there are get theirs afterwards, those to come with themselves. What the first
# of them replaces serves until then.
INDEXES = """
CREATE INDEX photo_result_tags_taken_idx ON ONLY core.photo_result USING gin (tags, (ARRAY[
    timezone('UTC'::text, taken_at)::date, date_trunc('month'::text, timezone('UTC'::text, taken_at))::date - 1000000]));
CREATE INDEX photo_result_taken_at_idx ON ONLY core.photo_result (taken_at, photo_id) INCLUDE (tags);
CREATE INDEX photo_result_sha256_idx ON ONLY core.photo_result ((substring(sha256, 1, 4)::integer), model_id);
"""

# Whoever walks the newest photos reads an index alone where all can see what it says, which vacuuming finds out.
VACUUMED = """
DO $$ DECLARE part regclass; BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'core.photo_result'::regclass LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_vacuum_insert_scale_factor = 0.02)', part);
    END LOOP;
END $$;
"""

# A photo counts in one slot for ever, so those that are there stay where they are. Of photos to come 2,048 neighbours
# share one: a large batch touches each category once or twice, and of four shards in hand two may wait for each other.
FIRST = "SELECT coalesce((max(photo_id) / 2048 + 1) * 2048, 0) FROM core.photo"
SLOTS = """
CREATE FUNCTION core.slot_of(photo_id bigint) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (photo_id / CASE WHEN photo_id < {first} THEN 512 ELSE 2048 END % 64)::smallint $$;
COMMENT ON FUNCTION core.slot_of(bigint) IS 'In which slot of core.category_total a photo counts, for ever; neighbours share one.';
COMMENT ON COLUMN core.category_total."slot" IS 'core.slot_of the photos that it counts: 0 to 63. Add up all slots.';
GRANT EXECUTE ON FUNCTION core.slot_of(bigint) TO {roles};
"""

RIGHTS = f"""
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tags FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tags TO {ANALYST};
"""

# What counts in a wide slot is counted anew in a narrow one; a downgrade may take its time.
DOWNGRADE = """
DROP FUNCTION tags.top_children, tags.newest_photos, tags.newest_with_all, core.known_by, core.newest, core.day_before,
    core.days_and_months;
DROP INDEX IF EXISTS core.job_item_photo_id_idx, core.app_user_deleted_idx;
DROP INDEX core.photo_result_sha256_idx, core.photo_result_taken_at_idx, core.photo_result_tags_taken_idx;
CREATE INDEX IF NOT EXISTS photo_result_tags_idx ON core.photo_result USING gin (tags);
ALTER TABLE core.photo_result DROP COLUMN taken_at;
TRUNCATE core.category_total;
INSERT INTO core.category_total (model_id, node, slot, photos, mass)
SELECT model_id, node, slot, count(*) FILTER (WHERE node = ANY (tags)), sum(mass) FROM (
    SELECT model_id, (photo_id / 512 % 64)::smallint AS slot, unnest(nodes) AS node, unnest(masses) AS mass, tags
    FROM core.photo_result) AS held
GROUP BY model_id, node, slot ORDER BY model_id, node, slot;
DROP FUNCTION core.slot_of;
COMMENT ON COLUMN core.category_total."slot" IS 'Photo id / 512 modulo 64: 0 to 63. Add up all slots.';
"""


def upgrade() -> None:
    op.execute(COLUMN)
    op.execute(INDEXES)
    _run(VACUUMED)
    first = op.get_bind().execute(text(FIRST)).scalar_one()
    op.execute(SLOTS.format(first=first, roles=", ".join((INGEST, WORKER, API, ERASER))))
    _run((Path(__file__).parent / "0008_newest.sql").read_text(encoding="utf-8"), RIGHTS)


def downgrade() -> None:
    _run(DOWNGRADE)


def _run(*statements: str) -> None:
    """As they are: neither a colon nor a per cent sign asks for a value."""
    for statement in statements:
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
