"""Policies, and every constant of a decision.

Revision ID: 0002
"""

from importlib import import_module

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = r"""
ALTER TABLE core.decision
    ADD COLUMN lam INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN vague_share DOUBLE PRECISION DEFAULT 0.4 NOT NULL,
    ADD COLUMN ambiguous_mass SMALLINT DEFAULT 3000 NOT NULL,
    ADD COLUMN keep_mass SMALLINT DEFAULT 200 NOT NULL,
    ADD COLUMN calibration JSONB;
COMMENT ON TABLE core.model IS 'Weights, preprocessing, labels, taxonomy, temperature and noise floor; the fingerprint covers them all.';

CREATE TABLE core.policy (
    version INTEGER NOT NULL,
    active BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    applied_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT policy_pkey PRIMARY KEY (version)
);
CREATE UNIQUE INDEX policy_active_key ON core.policy (active) WHERE active;
COMMENT ON TABLE core.policy IS 'Rules under which subtrees are shown as ancestors; at most one version is active. None is: no policy.';

CREATE TABLE core.policy_rule (
    version INTEGER NOT NULL,
    position SMALLINT NOT NULL,
    wnid TEXT NOT NULL,
    target TEXT,
    taken_along BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT policy_rule_pkey PRIMARY KEY (version, position),
    CONSTRAINT policy_rule_version_wnid_target_key UNIQUE NULLS NOT DISTINCT (version, wnid, target),
    CONSTRAINT policy_rule_version_fkey FOREIGN KEY(version) REFERENCES core.policy (version)
);
COMMENT ON TABLE core.policy_rule IS 'wnid and all below it are shown as target; no target: as the nearest category that may be shown. taken_along: not asked for, but needed so that no hidden count can be had by subtraction.';

CREATE TABLE core.policy_effect (
    version INTEGER NOT NULL,
    taxonomy_id SMALLINT NOT NULL,
    node SMALLINT NOT NULL,
    hidden BOOLEAN NOT NULL,
    shown_as SMALLINT,
    minus SMALLINT[] NOT NULL,
    times SMALLINT[] NOT NULL,
    owed_to SMALLINT[] NOT NULL,
    CONSTRAINT policy_effect_pkey PRIMARY KEY (version, taxonomy_id, node),
    CONSTRAINT policy_effect_version_fkey FOREIGN KEY(version) REFERENCES core.policy (version),
    CONSTRAINT policy_effect_taxonomy_id_fkey FOREIGN KEY(taxonomy_id) REFERENCES core.taxonomy (taxonomy_id),
    CONSTRAINT policy_effect_node_fkey FOREIGN KEY(node) REFERENCES core.category (node),
    CONSTRAINT policy_effect_shown_as_fkey FOREIGN KEY(shown_as) REFERENCES core.category (node)
);
COMMENT ON TABLE core.policy_effect IS 'What an applied policy changes in one taxonomy: a hidden node and what it is shown as, or a shown node and the nodes whose mass and photos, so many times each, are subtracted. A photo with a tag in owed_to does not carry this one.';
"""

# What people see goes through the active policy: hidden categories are gone, the others count without them.
VIEWS = r"""
CREATE VIEW core.active_effect AS
SELECT e.* FROM core.policy_effect e JOIN core.policy p ON p.version = e.version WHERE p.active;
COMMENT ON VIEW core.active_effect IS 'What the active policy changes, by taxonomy and node; empty without one.';

CREATE OR REPLACE VIEW tags.category AS
SELECT m.name AS model, c.wnid, c.name, c.lemmas, c.gloss, t.depth, t.bits, t.leaf_count AS labels, c.node
FROM core.model m JOIN core.taxonomy_category t USING (taxonomy_id) JOIN core.category c USING (node)
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (t.taxonomy_id, t.node)
WHERE NOT c.area_only AND NOT coalesce(e.hidden, false);

CREATE OR REPLACE VIEW tags.photo AS
SELECT m.name AS model, p.photo_id, u.name AS "user", b.uri AS bucket, p.key, p.taken_at,
       CASE r.outcome WHEN 1 THEN 'tagged' WHEN 2 THEN 'abstained' ELSE 'failed' END AS outcome,
       c.wnid AS headline_wnid, c.name AS headline
FROM core.photo_result r JOIN core.model m USING (model_id) JOIN core.photo p USING (photo_id)
JOIN core.bucket b USING (bucket_id) JOIN core.app_user u ON u.user_id = r.user_id
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, r.headline) AND e.hidden
LEFT JOIN core.category c ON c.node = CASE WHEN e.hidden IS NULL THEN r.headline
                                           WHEN e.shown_as = ANY (r.tags) THEN e.shown_as END
WHERE u.deleted_at IS NULL;

CREATE OR REPLACE VIEW tags.photo_tag AS
SELECT m.name AS model, r.photo_id, u.name AS "user", c.wnid, c.name,
       round((n.mass - coalesce(owed.mass, 0)) / 10000.0, 4) AS probability,
       coalesce(n.node = CASE WHEN h.hidden IS NULL THEN r.headline ELSE h.shown_as END, false) AS headline
FROM core.photo_result r JOIN core.model m USING (model_id) JOIN core.app_user u ON u.user_id = r.user_id
CROSS JOIN unnest(r.nodes, r.masses) AS n(node, mass) JOIN core.category c ON c.node = n.node
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, n.node)
LEFT JOIN core.active_effect h ON (h.taxonomy_id, h.node) = (m.taxonomy_id, r.headline) AND h.hidden
LEFT JOIN LATERAL (
    SELECT sum(x.times * r.masses[array_position(r.nodes, x.node)]) AS mass FROM unnest(e.minus, e.times) AS x(node, times)
) AS owed ON true
WHERE n.node = ANY (r.tags) AND u.deleted_at IS NULL
  AND NOT coalesce(e.hidden, false) AND NOT coalesce(r.tags && e.owed_to, false);

CREATE OR REPLACE VIEW tags.user_category AS
SELECT m.name AS model, u.name AS "user", c.wnid, c.name,
       greatest(0, t.photos - coalesce(owed.photos, 0))::bigint AS photos,
       round((t.mass - coalesce(owed.mass, 0)) / 10000.0, 4) AS mass
FROM core.user_category t JOIN core.model m USING (model_id) JOIN core.app_user u USING (user_id)
JOIN core.category c USING (node)
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, t.node)
LEFT JOIN LATERAL (
    SELECT sum(x.times * d.photos) AS photos, sum(x.times * d.mass) AS mass
    FROM unnest(e.minus, e.times) AS x(node, times)
    JOIN core.user_category d ON (d.model_id, d.user_id, d.node) = (t.model_id, t.user_id, x.node)
) AS owed ON true
WHERE NOT c.area_only AND t.mass > coalesce(owed.mass, 0) AND NOT coalesce(e.hidden, false) AND u.deleted_at IS NULL;

CREATE OR REPLACE VIEW tags.category_total AS
WITH total AS (
    SELECT model_id, node, sum(photos)::bigint AS photos, sum(mass) AS mass FROM core.category_total GROUP BY 1, 2)
SELECT m.name AS model, c.wnid, c.name, greatest(0, t.photos - coalesce(owed.photos, 0))::bigint AS photos,
       round((t.mass - coalesce(owed.mass, 0)) / 10000.0, 4) AS mass
FROM total t JOIN core.model m USING (model_id) JOIN core.category c USING (node)
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, t.node)
LEFT JOIN LATERAL (
    SELECT sum(x.times * d.photos) AS photos, sum(x.times * d.mass) AS mass
    FROM unnest(e.minus, e.times) AS x(node, times) JOIN total d ON (d.model_id, d.node) = (t.model_id, x.node)
) AS owed ON true
WHERE NOT c.area_only AND t.mass > coalesce(owed.mass, 0) AND NOT coalesce(e.hidden, false);
"""

# The views of 0001 again, which know no policy.
UNVIEWS = r"""
DROP VIEW tags.category_total, tags.user_category, tags.photo_tag, tags.photo, tags.category, core.active_effect;
"""

DOWNGRADE = r"""
DROP TABLE core.policy_effect, core.policy_rule, core.policy;
ALTER TABLE core.decision
    DROP COLUMN lam, DROP COLUMN vague_share, DROP COLUMN ambiguous_mass, DROP COLUMN keep_mass, DROP COLUMN calibration;
COMMENT ON TABLE core.model IS 'Weights, preprocessing, labels, taxonomy, temperature and crops; the fingerprint covers all of them.';
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(VIEWS)


def downgrade() -> None:
    op.execute(UNVIEWS)
    op.execute(DOWNGRADE)
    op.execute(import_module("migrations.versions.0001_initial").VIEWS)
