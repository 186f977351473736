"""The ledger, the results, the totals, and the first views for analysts.

Revision ID: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = r"""
CREATE TABLE core.app_user (
    user_id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT app_user_pkey PRIMARY KEY (user_id),
    CONSTRAINT app_user_name_key UNIQUE (name)
);
COMMENT ON TABLE core.app_user IS 'An owner of photos. A row with deleted_at is a tombstone: nothing of this user is stored again.';

CREATE TABLE core.bucket (
    bucket_id INTEGER GENERATED ALWAYS AS IDENTITY,
    uri TEXT COLLATE "C" NOT NULL,
    CONSTRAINT bucket_pkey PRIMARY KEY (bucket_id),
    CONSTRAINT bucket_uri_key UNIQUE (uri)
);
COMMENT ON TABLE core.bucket IS 'Where keys are unique: "s3://name", or "file://" for local files.';

CREATE TABLE core.category (
    node SMALLINT NOT NULL,
    wnid TEXT NOT NULL,
    area_only BOOLEAN NOT NULL,
    name TEXT NOT NULL,
    lemmas TEXT[] NOT NULL,
    gloss TEXT NOT NULL,
    CONSTRAINT category_pkey PRIMARY KEY (node),
    CONSTRAINT category_wnid_area_only_key UNIQUE (wnid, area_only)
);
COMMENT ON TABLE core.category IS 'A synset, under an id that is never reused. area_only: its mass over the display tree, never a tag.';

CREATE TABLE core.taxonomy (
    taxonomy_id SMALLINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    sha256 BYTEA NOT NULL,
    labels INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT taxonomy_pkey PRIMARY KEY (taxonomy_id),
    CONSTRAINT taxonomy_sha256_key UNIQUE (sha256)
);
COMMENT ON TABLE core.taxonomy IS 'A built hypernym graph; immutable.';

CREATE TABLE core.worker (
    worker_id TEXT NOT NULL,
    queue TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_seen TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_progress TIMESTAMP WITH TIME ZONE,
    CONSTRAINT worker_pkey PRIMARY KEY (worker_id)
);
COMMENT ON TABLE core.worker IS 'A worker process and when it was last heard of.';

CREATE TABLE core.category_closure (
    taxonomy_id SMALLINT NOT NULL,
    ancestor SMALLINT NOT NULL,
    descendant SMALLINT NOT NULL,
    distance SMALLINT NOT NULL,
    CONSTRAINT category_closure_pkey PRIMARY KEY (taxonomy_id, ancestor, descendant),
    CONSTRAINT category_closure_taxonomy_id_fkey FOREIGN KEY(taxonomy_id) REFERENCES core.taxonomy (taxonomy_id),
    CONSTRAINT category_closure_ancestor_fkey FOREIGN KEY(ancestor) REFERENCES core.category (node),
    CONSTRAINT category_closure_descendant_fkey FOREIGN KEY(descendant) REFERENCES core.category (node)
);
COMMENT ON TABLE core.category_closure IS 'Every pair of a category and a category above it; distance 0 is the category itself.';

CREATE TABLE core.model (
    model_id SMALLINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    taxonomy_id SMALLINT NOT NULL,
    active BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT model_pkey PRIMARY KEY (model_id),
    CONSTRAINT model_fingerprint_key UNIQUE (fingerprint),
    CONSTRAINT model_taxonomy_id_fkey FOREIGN KEY(taxonomy_id) REFERENCES core.taxonomy (taxonomy_id)
);
CREATE UNIQUE INDEX model_active_key ON core.model (active) WHERE active;
COMMENT ON TABLE core.model IS 'Weights, preprocessing, labels, taxonomy, temperature and crops; the fingerprint covers all of them.';

CREATE TABLE core.photo (
    photo_id BIGINT GENERATED ALWAYS AS IDENTITY,
    bucket_id INTEGER NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    user_id BIGINT NOT NULL,
    etag TEXT NOT NULL,
    version_id TEXT,
    size BIGINT NOT NULL,
    content_rev INTEGER DEFAULT 1 NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE NOT NULL,
    taken_from SMALLINT DEFAULT 0 NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    gone_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT photo_pkey PRIMARY KEY (photo_id),
    CONSTRAINT photo_bucket_id_key_key UNIQUE (bucket_id, key),
    CONSTRAINT photo_bucket_id_fkey FOREIGN KEY(bucket_id) REFERENCES core.bucket (bucket_id),
    CONSTRAINT photo_user_id_fkey FOREIGN KEY(user_id) REFERENCES core.app_user (user_id)
);
CREATE INDEX photo_newest_idx ON core.photo (user_id, taken_at DESC, photo_id DESC);
COMMENT ON TABLE core.photo IS 'A photo. content_rev rises with every change of its bytes; gone_at: no longer at its place.';

CREATE TABLE core.taxonomy_category (
    taxonomy_id SMALLINT NOT NULL,
    node SMALLINT NOT NULL,
    position SMALLINT NOT NULL,
    leaf_count INTEGER NOT NULL,
    bits DOUBLE PRECISION NOT NULL,
    depth SMALLINT NOT NULL,
    display_parent SMALLINT,
    shown_as SMALLINT NOT NULL,
    CONSTRAINT taxonomy_category_pkey PRIMARY KEY (taxonomy_id, node),
    CONSTRAINT taxonomy_category_taxonomy_id_position_key UNIQUE (taxonomy_id, position),
    CONSTRAINT taxonomy_category_taxonomy_id_fkey FOREIGN KEY(taxonomy_id) REFERENCES core.taxonomy (taxonomy_id),
    CONSTRAINT taxonomy_category_node_fkey FOREIGN KEY(node) REFERENCES core.category (node),
    CONSTRAINT taxonomy_category_display_parent_fkey FOREIGN KEY(display_parent) REFERENCES core.category (node),
    CONSTRAINT taxonomy_category_shown_as_fkey FOREIGN KEY(shown_as) REFERENCES core.category (node)
);
COMMENT ON TABLE core.taxonomy_category IS 'A category''s place in one taxonomy; position is its column in the taxonomy''s matrices.';

CREATE TABLE core.category_total (
    model_id SMALLINT NOT NULL,
    node SMALLINT NOT NULL,
    slot SMALLINT NOT NULL,
    photos BIGINT NOT NULL,
    mass BIGINT NOT NULL,
    CONSTRAINT category_total_pkey PRIMARY KEY (model_id, node, slot),
    CONSTRAINT category_total_photos_check CHECK (photos >= 0),
    CONSTRAINT category_total_mass_check CHECK (mass >= 0),
    CONSTRAINT category_total_model_id_fkey FOREIGN KEY(model_id) REFERENCES core.model (model_id),
    CONSTRAINT category_total_node_fkey FOREIGN KEY(node) REFERENCES core.category (node)
)
 WITH (fillfactor = 70);
COMMENT ON TABLE core.category_total IS 'Exact totals over all users, in 64 slots by user so that merges of different users do not queue up.';

CREATE TABLE core.decision (
    model_id SMALLINT NOT NULL,
    revision INTEGER NOT NULL,
    rule TEXT NOT NULL,
    threshold SMALLINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT decision_pkey PRIMARY KEY (model_id, revision),
    CONSTRAINT decision_model_id_fkey FOREIGN KEY(model_id) REFERENCES core.model (model_id)
);
COMMENT ON TABLE core.decision IS 'The constants that turn stored masses into tags; cheap to change, hence apart from the model.';

CREATE TABLE core.job (
    job_id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    user_rule TEXT NOT NULL,
    fixed_user TEXT,
    model_id SMALLINT NOT NULL,
    scope TEXT DEFAULT 'missing' NOT NULL,
    priority SMALLINT DEFAULT 0 NOT NULL,
    keep_missing BOOLEAN DEFAULT false NOT NULL,
    allow_mass_delete BOOLEAN DEFAULT false NOT NULL,
    state SMALLINT NOT NULL,
    error TEXT,
    notes TEXT[] DEFAULT '{}' NOT NULL,
    refusals TEXT[] DEFAULT '{}' NOT NULL,
    subtracted BIGINT DEFAULT 0 NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT job_pkey PRIMARY KEY (job_id),
    CONSTRAINT job_kind_check CHECK (kind in ('s3', 'folder', 'manifest')),
    CONSTRAINT job_scope_check CHECK (scope in ('missing', 'failed', 'stale', 'all')),
    CONSTRAINT job_model_id_fkey FOREIGN KEY(model_id) REFERENCES core.model (model_id)
);
CREATE INDEX job_open_idx ON core.job (job_id) WHERE state < 10;
COMMENT ON TABLE core.job IS 'One run over a source with one model. subtracted: photos gone from the source. refusals: the first few.';

CREATE TABLE core.photo_result (
    model_id SMALLINT NOT NULL,
    photo_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    content_rev INTEGER NOT NULL,
    decision_rev INTEGER NOT NULL,
    outcome SMALLINT NOT NULL,
    headline SMALLINT,
    nodes SMALLINT[] NOT NULL,
    masses SMALLINT[] NOT NULL,
    tags SMALLINT[] NOT NULL,
    sha256 BYTEA,
    CONSTRAINT photo_result_pkey PRIMARY KEY (model_id, photo_id),
    CONSTRAINT photo_result_model_id_fkey FOREIGN KEY(model_id) REFERENCES core.model (model_id),
    CONSTRAINT photo_result_photo_id_fkey FOREIGN KEY(photo_id) REFERENCES core.photo (photo_id)
)
 PARTITION BY LIST (model_id);
CREATE INDEX photo_result_tags_idx ON core.photo_result USING gin (tags);
CREATE INDEX photo_result_user_id_idx ON core.photo_result (user_id);
COMMENT ON TABLE core.photo_result IS 'What a model says of a photo: masses of every node with at least 2 %, the shown tags, the headline.';

CREATE TABLE core.thumbnail (
    photo_id BIGINT NOT NULL,
    side SMALLINT NOT NULL,
    content_rev INTEGER NOT NULL,
    jpeg BYTEA NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT thumbnail_pkey PRIMARY KEY (photo_id, side),
    CONSTRAINT thumbnail_photo_id_fkey FOREIGN KEY(photo_id) REFERENCES core.photo (photo_id) ON DELETE CASCADE
);
CREATE INDEX thumbnail_used_at_idx ON core.thumbnail (used_at);
COMMENT ON TABLE core.thumbnail IS 'Small pictures without metadata, made on demand; the least recently used go first.';

CREATE TABLE core.user_category (
    model_id SMALLINT NOT NULL,
    user_id BIGINT NOT NULL,
    node SMALLINT NOT NULL,
    photos BIGINT NOT NULL,
    mass BIGINT NOT NULL,
    CONSTRAINT user_category_pkey PRIMARY KEY (model_id, user_id, node),
    CONSTRAINT user_category_photos_check CHECK (photos >= 0),
    CONSTRAINT user_category_mass_check CHECK (mass >= 0),
    CONSTRAINT user_category_model_id_fkey FOREIGN KEY(model_id) REFERENCES core.model (model_id),
    CONSTRAINT user_category_user_id_fkey FOREIGN KEY(user_id) REFERENCES core.app_user (user_id),
    CONSTRAINT user_category_node_fkey FOREIGN KEY(node) REFERENCES core.category (node)
)
 WITH (fillfactor = 70);
COMMENT ON TABLE core.user_category IS 'Exact totals of a user: photos that carry the tag (not additive), and mass (additive).';

CREATE TABLE core.job_count (
    job_id BIGINT NOT NULL,
    state SMALLINT NOT NULL,
    code SMALLINT NOT NULL,
    photos BIGINT NOT NULL,
    CONSTRAINT job_count_pkey PRIMARY KEY (job_id, state, code),
    CONSTRAINT job_count_photos_check CHECK (photos >= 0),
    CONSTRAINT job_count_job_id_fkey FOREIGN KEY(job_id) REFERENCES core.job (job_id)
)
 WITH (fillfactor = 70);
COMMENT ON TABLE core.job_count IS 'Photos of a job by state and code, changed in the transaction that changes the items; exact.';

CREATE TABLE core.job_item (
    job_id BIGINT NOT NULL,
    photo_id BIGINT NOT NULL,
    shard_id BIGINT,
    state SMALLINT NOT NULL,
    code SMALLINT DEFAULT 0 NOT NULL,
    attempts SMALLINT DEFAULT 0 NOT NULL,
    first_retry_at TIMESTAMP WITH TIME ZONE,
    next_attempt_at TIMESTAMP WITH TIME ZONE,
    message TEXT,
    CONSTRAINT job_item_pkey PRIMARY KEY (job_id, photo_id),
    CONSTRAINT job_item_job_id_fkey FOREIGN KEY(job_id) REFERENCES core.job (job_id),
    CONSTRAINT job_item_photo_id_fkey FOREIGN KEY(photo_id) REFERENCES core.photo (photo_id)
);
CREATE INDEX job_item_failed_idx ON core.job_item (job_id) WHERE state = 3;
CREATE INDEX job_item_next_attempt_at_idx ON core.job_item (next_attempt_at) WHERE state = 1;
CREATE INDEX job_item_shard_id_idx ON core.job_item (shard_id) WHERE state = 0;
COMMENT ON TABLE core.job_item IS 'What a job did with a photo.';

CREATE TABLE core.job_missing (
    job_id BIGINT NOT NULL,
    photo_id BIGINT NOT NULL,
    CONSTRAINT job_missing_pkey PRIMARY KEY (job_id, photo_id),
    CONSTRAINT job_missing_job_id_fkey FOREIGN KEY(job_id) REFERENCES core.job (job_id),
    CONSTRAINT job_missing_photo_id_fkey FOREIGN KEY(photo_id) REFERENCES core.photo (photo_id)
);
CREATE INDEX job_missing_photo_id_idx ON core.job_missing (photo_id);
COMMENT ON TABLE core.job_missing IS 'Photos of the ledger that a running listing did not meet; subtracted when it is complete.';

CREATE TABLE core.list_range (
    range_id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id BIGINT NOT NULL,
    cursor TEXT COLLATE "C",
    listed BIGINT DEFAULT 0 NOT NULL,
    state SMALLINT NOT NULL,
    deaths SMALLINT DEFAULT 0 NOT NULL,
    lease_epoch BIGINT DEFAULT 0 NOT NULL,
    lease_owner TEXT,
    lease_until TIMESTAMP WITH TIME ZONE,
    published_at TIMESTAMP WITH TIME ZONE,
    next_attempt_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT list_range_pkey PRIMARY KEY (range_id),
    CONSTRAINT list_range_job_id_fkey FOREIGN KEY(job_id) REFERENCES core.job (job_id)
);
CREATE INDEX list_range_job_id_idx ON core.list_range (job_id);
CREATE INDEX list_range_open_idx ON core.list_range (range_id) WHERE state in (0, 1, 2);
COMMENT ON TABLE core.list_range IS 'A listing in progress; cursor is the checkpoint, written in the transaction of each page.';

CREATE TABLE core.shard (
    shard_id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id BIGINT NOT NULL,
    model_id SMALLINT NOT NULL,
    priority SMALLINT NOT NULL,
    photos SMALLINT NOT NULL,
    state SMALLINT NOT NULL,
    deaths SMALLINT DEFAULT 0 NOT NULL,
    lease_epoch BIGINT DEFAULT 0 NOT NULL,
    lease_owner TEXT,
    lease_until TIMESTAMP WITH TIME ZONE,
    lease_started BOOLEAN DEFAULT false NOT NULL,
    failures SMALLINT DEFAULT 0 NOT NULL,
    error TEXT,
    published_at TIMESTAMP WITH TIME ZONE,
    next_attempt_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT shard_pkey PRIMARY KEY (shard_id),
    CONSTRAINT shard_job_id_fkey FOREIGN KEY(job_id) REFERENCES core.job (job_id),
    CONSTRAINT shard_model_id_fkey FOREIGN KEY(model_id) REFERENCES core.model (model_id)
)
 WITH (fillfactor = 70);
CREATE INDEX shard_job_id_idx ON core.shard (job_id);
CREATE INDEX shard_pending_idx ON core.shard (model_id, priority DESC, shard_id) WHERE state = 0;
CREATE INDEX shard_taken_idx ON core.shard (shard_id) WHERE state in (1, 2);
COMMENT ON TABLE core.shard IS 'At most 512 photos of a job, claimed and finished together. failures: in a row, that no photo explains.';
"""

VIEWS = r"""
CREATE VIEW tags.category AS
SELECT m.name AS model, c.wnid, c.name, c.lemmas, c.gloss, t.depth, t.bits, t.leaf_count AS labels, c.node
FROM core.model m JOIN core.taxonomy_category t USING (taxonomy_id) JOIN core.category c USING (node)
WHERE NOT c.area_only;
COMMENT ON VIEW tags.category IS 'Categories of each model''s taxonomy. bits: log2(all labels / labels below).';

CREATE VIEW tags.photo AS
SELECT m.name AS model, p.photo_id, u.name AS "user", b.uri AS bucket, p.key, p.taken_at,
       CASE r.outcome WHEN 1 THEN 'tagged' WHEN 2 THEN 'abstained' ELSE 'failed' END AS outcome,
       c.wnid AS headline_wnid, c.name AS headline
FROM core.photo_result r JOIN core.model m USING (model_id) JOIN core.photo p USING (photo_id)
JOIN core.bucket b USING (bucket_id) JOIN core.app_user u ON u.user_id = r.user_id
LEFT JOIN core.category c ON c.node = r.headline
WHERE u.deleted_at IS NULL;
COMMENT ON VIEW tags.photo IS 'One row per model and photo. headline is NULL where nothing was certain.';

CREATE VIEW tags.photo_tag AS
SELECT m.name AS model, r.photo_id, u.name AS "user", c.wnid, c.name, round(n.mass / 10000.0, 4) AS probability,
       n.node = r.headline AS headline
FROM core.photo_result r JOIN core.model m USING (model_id) JOIN core.app_user u ON u.user_id = r.user_id
CROSS JOIN unnest(r.nodes, r.masses) AS n(node, mass) JOIN core.category c ON c.node = n.node
WHERE n.node = ANY (r.tags) AND u.deleted_at IS NULL;
COMMENT ON VIEW tags.photo_tag IS 'One row per model, photo and shown tag. probability: 0 to 1.';

CREATE VIEW tags.user_category AS
SELECT m.name AS model, u.name AS "user", c.wnid, c.name, t.photos, round(t.mass / 10000.0, 4) AS mass
FROM core.user_category t JOIN core.model m USING (model_id) JOIN core.app_user u USING (user_id)
JOIN core.category c USING (node)
WHERE NOT c.area_only AND t.mass > 0 AND u.deleted_at IS NULL;
COMMENT ON VIEW tags.user_category IS
    'Exact totals per user. photos: distinct photos with the tag, not additive; mass: expected photos, additive.';

CREATE VIEW tags.category_total AS
SELECT m.name AS model, c.wnid, c.name, sum(t.photos)::bigint AS photos, round(sum(t.mass) / 10000.0, 4) AS mass
FROM core.category_total t JOIN core.model m USING (model_id) JOIN core.category c USING (node)
WHERE NOT c.area_only GROUP BY 1, 2, 3 HAVING sum(t.mass) > 0;
COMMENT ON VIEW tags.category_total IS 'Exact totals over all users; photos and mass as in user_category.';
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA core")
    op.execute("CREATE SCHEMA tags")
    op.execute("COMMENT ON SCHEMA core IS 'Written by workers. Not an interface.'")
    op.execute("COMMENT ON SCHEMA tags IS 'Views for people. The only thing analysts see.'")
    op.execute(TABLES)
    op.execute(VIEWS)


def downgrade() -> None:
    op.execute("DROP SCHEMA tags CASCADE")
    op.execute("DROP SCHEMA core CASCADE")
