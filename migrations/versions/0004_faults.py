"""What faults leave in the ledger: who waits for what, breakers of dead models, whose deaths, pauses, erasures.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Every default is a constant: no table is rewritten.
UPGRADE = """
ALTER TABLE core.worker
    ADD COLUMN host text NOT NULL DEFAULT '',
    ADD COLUMN process_id integer NOT NULL DEFAULT 0,
    ADD COLUMN last_rung timestamptz,
    ADD COLUMN trouble text,
    ADD COLUMN trouble_since timestamptz;
COMMENT ON TABLE core.worker IS 'A worker process and when it was last heard of. process_id: what a supervisor started, on host. last_rung: when a message last reached it. trouble: what it waits for.';

ALTER TABLE core.shard
    ADD COLUMN dead_workers text[] NOT NULL DEFAULT '{}',
    ADD COLUMN suspicions text[] NOT NULL DEFAULT '{}',
    ADD COLUMN alone boolean NOT NULL DEFAULT false;
DROP INDEX core.shard_pending_idx;
CREATE INDEX shard_pending_idx ON core.shard (model_id, priority DESC, alone DESC, shard_id) WHERE state = 0;
CREATE INDEX shard_condemned_idx ON core.shard (shard_id) WHERE deaths >= 2 AND state IN (0, 1);
COMMENT ON TABLE core.shard IS 'At most 512 photos of a job, claimed and finished together; photos: those open when it was made, or at its last death. failures: in a row, that no photo explains. dead_workers: whom the deaths were; who comes back takes his away. suspicions: machines that lost a device over it. alone: never beside another one.';

ALTER TABLE core.job ADD COLUMN paused_by text, ADD COLUMN paused_at timestamptz;

CREATE TABLE core.breaker (
    queue text NOT NULL,
    host text NOT NULL,
    failures integer NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz NOT NULL,
    reason text NOT NULL,
    CONSTRAINT breaker_pkey PRIMARY KEY (queue, host));
COMMENT ON TABLE core.breaker IS 'A model that does not work on a machine: nobody there serves its queue before next_attempt_at.';

CREATE TABLE core.erasure (
    user_id bigint NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    photos bigint NOT NULL DEFAULT 0,
    results bigint NOT NULL DEFAULT 0,
    thumbnails bigint NOT NULL DEFAULT 0,
    items bigint NOT NULL DEFAULT 0,
    CONSTRAINT erasure_pkey PRIMARY KEY (user_id),
    CONSTRAINT erasure_user_id_fkey FOREIGN KEY (user_id) REFERENCES core.app_user (user_id));
COMMENT ON TABLE core.erasure IS 'A user being erased, or erased: how many rows of each kind were deleted so far.';
"""

DOWNGRADE = """
DROP TABLE core.erasure, core.breaker;
ALTER TABLE core.job DROP COLUMN paused_by, DROP COLUMN paused_at;
DROP INDEX core.shard_condemned_idx, core.shard_pending_idx;
ALTER TABLE core.shard DROP COLUMN dead_workers, DROP COLUMN suspicions, DROP COLUMN alone;
CREATE INDEX shard_pending_idx ON core.shard (model_id, priority DESC, shard_id) WHERE state = 0;
COMMENT ON TABLE core.shard IS 'At most 512 photos of a job, claimed and finished together. failures: in a row, that no photo explains.';
ALTER TABLE core.worker DROP COLUMN host, DROP COLUMN process_id, DROP COLUMN last_rung, DROP COLUMN trouble,
    DROP COLUMN trouble_since;
COMMENT ON TABLE core.worker IS 'A worker process and when it was last heard of.';
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
