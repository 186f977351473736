"""Jobs that an operator controls: rules, windows, schedules, deliveries, limits, events, promotions.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INGEST, WORKER, API, ERASER = "pictograph_ingest", "pictograph_worker", "pictograph_api", "pictograph_eraser"

# Every default is a constant: no table is rewritten.
UPGRADE = """
ALTER TABLE core.app_user ADD COLUMN consent boolean;
COMMENT ON TABLE core.app_user IS 'An owner of photos. A row with deleted_at is a tombstone: nothing of this user is stored again. consent: whether others may see this user''s photos; NULL: never asked, which counts as no.';
ALTER TABLE core.erasure ADD COLUMN lines bigint NOT NULL DEFAULT 0, ADD COLUMN outputs bigint NOT NULL DEFAULT 0;

ALTER TABLE core.model ADD COLUMN dropped_at timestamptz;
COMMENT ON TABLE core.model IS 'Weights, preprocessing, labels, taxonomy, temperature and noise floor; the fingerprint covers them all. active: not read any more since there are promotions, to go in a later release. dropped_at: its results are gone.';
CREATE TABLE core.promotion (
    promotion_id bigint GENERATED ALWAYS AS IDENTITY,
    model_id smallint NOT NULL,
    promoted_at timestamptz NOT NULL DEFAULT now(),
    promoted_by text NOT NULL,
    rolled_back boolean NOT NULL DEFAULT false,
    reason text,
    CONSTRAINT promotion_pkey PRIMARY KEY (promotion_id),
    CONSTRAINT promotion_model_id_fkey FOREIGN KEY (model_id) REFERENCES core.model (model_id));
COMMENT ON TABLE core.promotion IS 'Whose results people see: the model of the newest row. rolled_back: it was returned to, not promoted.';
INSERT INTO core.promotion (model_id, promoted_by, reason)
SELECT model_id, 'migration 0006', 'it was active' FROM core.model WHERE active;
CREATE VIEW core.active_model AS
SELECT m.model_id, m.name, m.fingerprint, m.taxonomy_id, p.promoted_at
FROM core.promotion p JOIN core.model m USING (model_id) ORDER BY p.promotion_id DESC LIMIT 1;
COMMENT ON VIEW core.active_model IS 'The model whose results people see: that of the newest promotion. One row, or none before the first.';

CREATE TABLE core.schedule (
    schedule_id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    cron text NOT NULL,
    timezone text NOT NULL,
    "window" jsonb,
    request jsonb NOT NULL,
    next_at timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    CONSTRAINT schedule_pkey PRIMARY KEY (schedule_id));
CREATE UNIQUE INDEX schedule_name_key ON core.schedule (name) WHERE removed_at IS NULL;
CREATE INDEX schedule_due_idx ON core.schedule (next_at) WHERE removed_at IS NULL;
COMMENT ON TABLE core.schedule IS 'A job that starts by the clock. request: what `pictograph tag` would ask for. next_at: when it is next due.';

ALTER TABLE core.job
    ADD COLUMN pause_reason text,
    ADD COLUMN pause_until timestamptz,
    ADD COLUMN cancelled_by text,
    ADD COLUMN rested_seconds double precision NOT NULL DEFAULT 0,
    ADD COLUMN rules jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN most_failed_share double precision,
    ADD COLUMN "window" jsonb,
    ADD COLUMN keeps_lines boolean NOT NULL DEFAULT false,
    ADD COLUMN decision_revision integer,
    ADD COLUMN retry_of bigint,
    ADD COLUMN schedule_id bigint,
    ADD COLUMN idempotency_key text,
    ADD COLUMN request_sha256 bytea,
    ADD COLUMN tidying_at timestamptz,
    ADD COLUMN tidied_at timestamptz,
    ADD CONSTRAINT job_retry_of_fkey FOREIGN KEY (retry_of) REFERENCES core.job (job_id),
    ADD CONSTRAINT job_schedule_id_fkey FOREIGN KEY (schedule_id) REFERENCES core.schedule (schedule_id),
    ADD CONSTRAINT job_idempotency_key_key UNIQUE (idempotency_key),
    DROP CONSTRAINT job_kind_check,
    ADD CONSTRAINT job_kind_check CHECK (kind in ('s3', 'folder', 'manifest', 'csv', 'inventory', 'events', 'ledger', 'decide'));
CREATE INDEX job_untidied_idx ON core.job (finished_at) WHERE tidied_at IS NULL;
COMMENT ON TABLE core.job IS 'One run over a source with one model. subtracted: photos gone from the source. refusals: the first few. rules: which of its photos. most_failed_share: above it the job is stopped. window: when it may run. keeps_lines: job_line has what became of each line. request_sha256: what idempotency_key was first used for. tidying_at: its items, lines and entries are gone or going; its counts stay.';

CREATE TABLE core.job_line (
    job_id bigint NOT NULL,
    line bigint NOT NULL,
    uri text COLLATE "C",
    version_id text,
    photo_id bigint,
    state smallint,
    code smallint,
    message text,
    CONSTRAINT job_line_pkey PRIMARY KEY (job_id, line),
    CONSTRAINT job_line_job_id_fkey FOREIGN KEY (job_id) REFERENCES core.job (job_id));
CREATE INDEX job_line_photo_id_idx ON core.job_line (photo_id) WHERE photo_id IS NOT NULL;
CREATE INDEX job_line_uri_idx ON core.job_line (uri) WHERE photo_id IS NULL AND uri IS NOT NULL;
COMMENT ON TABLE core.job_line IS 'One line of a job''s input, kept where results were asked for. No state: job_item has it, by photo_id. No uri: the line named none, or its user was erased.';

CREATE TABLE core.firing (
    schedule_id bigint NOT NULL,
    due_at timestamptz NOT NULL,
    fired_at timestamptz NOT NULL DEFAULT now(),
    job_id bigint,
    missed integer NOT NULL DEFAULT 0,
    note text,
    CONSTRAINT firing_pkey PRIMARY KEY (schedule_id, due_at),
    CONSTRAINT firing_schedule_id_fkey FOREIGN KEY (schedule_id) REFERENCES core.schedule (schedule_id),
    CONSTRAINT firing_job_id_fkey FOREIGN KEY (job_id) REFERENCES core.job (job_id));
COMMENT ON TABLE core.firing IS 'One time that a schedule was due, and the one job that came of it. missed: earlier times that this one stands for. note: why there is no job.';

CREATE TABLE core.delivery (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL DEFAULT uuidv7(),
    job_id bigint NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    format text,
    state smallint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    published_at timestamptz,
    next_attempt_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    error text,
    facts jsonb,
    CONSTRAINT delivery_pkey PRIMARY KEY (delivery_id),
    CONSTRAINT delivery_event_id_key UNIQUE (event_id),
    CONSTRAINT delivery_kind_check CHECK (kind in ('results', 'webhook')),
    CONSTRAINT delivery_job_id_fkey FOREIGN KEY (job_id) REFERENCES core.job (job_id));
CREATE INDEX delivery_job_id_idx ON core.delivery (job_id);
CREATE INDEX delivery_open_idx ON core.delivery (delivery_id) WHERE state in (0, 1, 2);
COMMENT ON TABLE core.delivery IS 'Something to be brought somewhere once its job has ended: a results manifest, or the news. event_id: the same at every attempt. facts: lines and checksum of what was written. Cancelled: given up, error says why.';

CREATE TABLE core.queue_limit (
    queue text NOT NULL,
    most integer NOT NULL,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT queue_limit_pkey PRIMARY KEY (queue),
    CONSTRAINT queue_limit_most_check CHECK (most >= 0));
COMMENT ON TABLE core.queue_limit IS 'How many shards of a queue may be worked on at once; queue "*": of all queues together.';

CREATE TABLE core.object_event (
    bucket text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    sequencer text COLLATE "C" NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT object_event_pkey PRIMARY KEY (bucket, key));
COMMENT ON TABLE core.object_event IS 'The newest event of an object that was taken in. One with an older sequencer, or the same, says nothing new.';

CREATE TABLE core.job_entry (
    job_id bigint NOT NULL,
    line bigint NOT NULL,
    bucket text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version_id text,
    deleted boolean NOT NULL DEFAULT false,
    CONSTRAINT job_entry_pkey PRIMARY KEY (job_id, line),
    CONSTRAINT job_entry_job_id_fkey FOREIGN KEY (job_id) REFERENCES core.job (job_id));
CREATE INDEX job_entry_key_idx ON core.job_entry (key);
CREATE INDEX job_entry_object_idx ON core.job_entry (bucket, key);
COMMENT ON TABLE core.job_entry IS 'An object that a job of kind events is about; its input, kept in the ledger.';
"""

# Who works with what. A process gets what it needs, where it comes to need it.
GRANTS = f"""
GRANT SELECT ON core.promotion TO {INGEST}, {WORKER}, {API}, {ERASER};
GRANT SELECT, INSERT ON core.promotion TO {INGEST};
GRANT SELECT ON core.active_model TO {INGEST}, {WORKER}, {API};
GRANT UPDATE (decision_rev, outcome, headline, nodes, masses, tags) ON core.photo_result TO {INGEST};
GRANT SELECT (model_id, dropped_at) ON core.model TO {ERASER};
REVOKE UPDATE (created_at) ON core.app_user FROM {INGEST};
GRANT UPDATE (consent) ON core.app_user TO {INGEST};
CREATE POLICY answers ON core.app_user FOR UPDATE TO {INGEST} USING (true) WITH CHECK (deleted_at IS NULL);
GRANT SELECT, INSERT, UPDATE ON core.schedule, core.firing TO {INGEST};
GRANT SELECT ON core.schedule TO {WORKER};
GRANT SELECT, INSERT, UPDATE ON core.delivery TO {INGEST};
GRANT SELECT, UPDATE ON core.delivery TO {WORKER};
GRANT SELECT ON core.delivery TO {API};
ALTER TABLE core.delivery ENABLE ROW LEVEL SECURITY;
CREATE POLICY whose ON core.delivery FOR SELECT TO {API}
    USING ((SELECT current_setting('pictograph.tenant', true) = 'on'));
CREATE POLICY everything ON core.delivery TO {INGEST}, {WORKER}, {ERASER} USING (true) WITH CHECK (true);
GRANT SELECT ON core.category, core.policy, core.policy_effect, core.active_effect TO {INGEST};
GRANT SELECT, INSERT, UPDATE, DELETE ON core.queue_limit TO {INGEST};
GRANT SELECT ON core.queue_limit TO {WORKER};
GRANT SELECT, INSERT, UPDATE ON core.object_event TO {INGEST};
GRANT SELECT, INSERT ON core.job_entry TO {INGEST};
GRANT SELECT, DELETE ON core.object_event, core.job_entry TO {ERASER};
GRANT SELECT, INSERT ON core.job_line TO {INGEST};
GRANT DELETE ON core.job_item, core.job_line, core.job_entry TO {INGEST};
GRANT SELECT (tidying_at) ON core.job TO {ERASER};
GRANT SELECT, UPDATE ON core.job_line TO {ERASER};
GRANT SELECT, UPDATE ON core.delivery TO {ERASER};
GRANT SELECT ON core.bucket TO {ERASER};
GRANT SELECT ON core.job_line, core.object_event TO {API};
ALTER TABLE core.job_line ENABLE ROW LEVEL SECURITY;
CREATE POLICY whose ON core.job_line FOR SELECT TO {API} USING (
    (SELECT current_setting('pictograph.tenant', true) = 'on')
    OR EXISTS (SELECT FROM core.photo p WHERE p.photo_id = job_line.photo_id));
CREATE POLICY everything ON core.job_line TO {INGEST}, {WORKER}, {ERASER} USING (true) WITH CHECK (true);
ALTER TABLE core.object_event ENABLE ROW LEVEL SECURITY;
CREATE POLICY whose ON core.object_event FOR SELECT TO {API} USING (
    (SELECT current_setting('pictograph.tenant', true) = 'on')
    OR EXISTS (SELECT FROM core.photo p JOIN core.bucket b USING (bucket_id)
               WHERE b.uri = object_event.bucket AND p.key = object_event.key));
CREATE POLICY everything ON core.object_event TO {INGEST}, {WORKER}, {ERASER} USING (true) WITH CHECK (true);
"""

DOWNGRADE = """
DROP TABLE core.job_entry, core.object_event, core.queue_limit, core.delivery, core.firing, core.job_line;
ALTER TABLE core.job DROP COLUMN pause_reason, DROP COLUMN pause_until, DROP COLUMN cancelled_by, DROP COLUMN rested_seconds, DROP COLUMN rules,
    DROP COLUMN most_failed_share, DROP COLUMN "window", DROP COLUMN keeps_lines, DROP COLUMN decision_revision,
    DROP COLUMN retry_of, DROP COLUMN schedule_id, DROP COLUMN idempotency_key, DROP COLUMN request_sha256,
    DROP COLUMN tidying_at, DROP COLUMN tidied_at,
    DROP CONSTRAINT job_kind_check, ADD CONSTRAINT job_kind_check CHECK (kind in ('s3', 'folder', 'manifest')) NOT VALID;
COMMENT ON TABLE core.job IS 'One run over a source with one model. subtracted: photos gone from the source. refusals: the first few.';
UPDATE core.model SET active = false WHERE active;
UPDATE core.model SET active = true WHERE model_id = (SELECT model_id FROM core.active_model);
DROP VIEW core.active_model;
DROP TABLE core.schedule, core.promotion;
ALTER TABLE core.model DROP COLUMN dropped_at;
COMMENT ON TABLE core.model IS 'Weights, preprocessing, labels, taxonomy, temperature and noise floor; the fingerprint covers them all.';
ALTER TABLE core.erasure DROP COLUMN lines, DROP COLUMN outputs;
DROP POLICY answers ON core.app_user;
REVOKE DELETE ON core.job_item FROM pictograph_ingest;
GRANT UPDATE (created_at) ON core.app_user TO pictograph_ingest;
ALTER TABLE core.app_user DROP COLUMN consent;
COMMENT ON TABLE core.app_user IS 'An owner of photos. A row with deleted_at is a tombstone: nothing of this user is stored again.';
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute(DOWNGRADE)
