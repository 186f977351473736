"""Policies, and every constant of a decision.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = r"""
ALTER TABLE core.decision
    ADD COLUMN lam INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN unknown_limit INTEGER,
    ADD COLUMN lam_unknown INTEGER DEFAULT 1000000 NOT NULL,
    ADD COLUMN threshold_unknown SMALLINT DEFAULT 10001 NOT NULL,
    ADD COLUMN vague_share DOUBLE PRECISION DEFAULT 0.4 NOT NULL,
    ADD COLUMN ambiguous_mass SMALLINT DEFAULT 3000 NOT NULL,
    ADD COLUMN keep_mass SMALLINT DEFAULT 200 NOT NULL,
    ADD COLUMN calibration JSONB;

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

DOWNGRADE = r"""
DROP TABLE core.policy_effect, core.policy_rule, core.policy;
ALTER TABLE core.decision
    DROP COLUMN lam, DROP COLUMN unknown_limit, DROP COLUMN lam_unknown, DROP COLUMN threshold_unknown,
    DROP COLUMN vague_share, DROP COLUMN ambiguous_mass, DROP COLUMN keep_mass, DROP COLUMN calibration;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
