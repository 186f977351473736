"""References of results and totals are stated, not enforced; the slots of the totals go by photo.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# `pipeline.store.tables` says what makes them true.
REFERENCES = (
    ("photo_result", "model_id"),
    ("photo_result", "photo_id"),
    ("user_category", "model_id"),
    ("user_category", "user_id"),
    ("user_category", "node"),
    ("category_total", "model_id"),
    ("category_total", "node"),
)

# A recount, because what is stored does not say which photos it came from. Whoever merges meanwhile waits for the lock,
# and then adds what this has not seen.
SLOTS_BY_PHOTO = """
TRUNCATE core.category_total;
ALTER TABLE core.category_total SET (fillfactor = 50);
INSERT INTO core.category_total (model_id, node, slot, photos, mass)
SELECT model_id, node, slot, count(*) FILTER (WHERE node = ANY (tags)), sum(mass) FROM (
    SELECT model_id, (photo_id / 512 % 64)::smallint AS slot, unnest(nodes) AS node, unnest(masses) AS mass, tags
    FROM core.photo_result) AS held
GROUP BY model_id, node, slot ORDER BY model_id, node, slot;
COMMENT ON TABLE core.category_total IS 'Exact totals over all users, in 64 slots by photo so that merges of different shards do not queue up.';
"""

SLOTS_BY_USER = """
TRUNCATE core.category_total;
ALTER TABLE core.category_total SET (fillfactor = 70);
INSERT INTO core.category_total (model_id, node, slot, photos, mass)
SELECT model_id, node, (user_id % 64)::smallint, sum(photos), sum(mass) FROM core.user_category
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
COMMENT ON TABLE core.category_total IS 'Exact totals over all users, in 64 slots by user so that merges of different users do not queue up.';
"""


def upgrade() -> None:
    _alter("NOT ENFORCED")
    op.execute(SLOTS_BY_PHOTO)


def downgrade() -> None:
    op.execute(SLOTS_BY_USER)
    _alter("ENFORCED")  # Postgres checks every row


def _alter(how: str) -> None:
    for table, column in REFERENCES:
        op.execute(f"ALTER TABLE core.{table} ALTER CONSTRAINT {table}_{column}_fkey {how}")
