"""What the API and its pages need: keys, verdicts, revisions by which answers are cached, and totals of who consents.

Nothing big is rewritten or locked: tables are new, and new columns have constants as their defaults. Totals of users who consent start empty, as nobody's photos were
shown to others before; `pictograph repair shared` counts those of users who had consented already.

Revision ID: 0009
"""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INGEST, WORKER, API, ERASER = "pictograph_ingest", "pictograph_worker", "pictograph_api", "pictograph_eraser"

UPGRADE = """
CREATE TABLE core.api_key (
    key_id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    secret_sha256 bytea NOT NULL,
    user_name text COLLATE "C",
    scopes text[] NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at timestamptz,
    CONSTRAINT api_key_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_key_secret_sha256_key UNIQUE (secret_sha256));
COMMENT ON TABLE core.api_key IS 'Who may ask the API for what. The secret itself was shown once and is stored nowhere.';

CREATE TABLE core.api_secret (
    purpose text NOT NULL,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT api_secret_pkey PRIMARY KEY (purpose));
COMMENT ON TABLE core.api_secret IS 'Random bytes with which every server of this ledger signs page tokens and sessions, one row per purpose. A row that is replaced makes all that was signed with it void.';
INSERT INTO core.api_secret (purpose, secret)
SELECT purpose, decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
FROM unnest(ARRAY['page_token', 'session']) AS purpose;

CREATE TABLE core.verdict (
    photo_id bigint NOT NULL,
    node smallint NOT NULL,
    verdict text NOT NULL,
    content_rev integer NOT NULL,
    model_id smallint NOT NULL,
    decision_rev integer NOT NULL,
    headline smallint,
    given_by text NOT NULL,
    given_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT verdict_pkey PRIMARY KEY (photo_id, node),
    CONSTRAINT verdict_photo_id_fkey FOREIGN KEY (photo_id) REFERENCES core.photo (photo_id) ON DELETE CASCADE,
    CONSTRAINT verdict_verdict_check CHECK (verdict in ('confirm', 'reject', 'generalise')));
CREATE INDEX verdict_given_at_idx ON core.verdict (given_at);
COMMENT ON TABLE core.verdict IS 'What a person said of a category and a photo; the newest word counts. Apart from what models say: neither touches the other. generalise: it is some kind of this, and not what the model named below it.';

CREATE TABLE core.user_revision (
    user_id bigint NOT NULL,
    revision bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_revision_pkey PRIMARY KEY (user_id),
    CONSTRAINT user_revision_user_id_fkey FOREIGN KEY (user_id) REFERENCES core.app_user (user_id) NOT ENFORCED)
    WITH (fillfactor = 70);
COMMENT ON TABLE core.user_revision IS 'A number that rises with every transaction that changes anything shown of a user: results, owners, times, verdicts, consent. Answers about the user are cached by it. No row: nothing has changed yet.';

CREATE TABLE core.model_revision (
    model_id smallint NOT NULL,
    slot smallint NOT NULL,
    revision bigint NOT NULL,
    CONSTRAINT model_revision_pkey PRIMARY KEY (model_id, slot),
    CONSTRAINT model_revision_model_id_fkey FOREIGN KEY (model_id) REFERENCES core.model (model_id) NOT ENFORCED)
    WITH (fillfactor = 50);
COMMENT ON TABLE core.model_revision IS 'Numbers of which one rises with every transaction that changes results of the model; their sum is the model''s revision. In slots, so that merges do not queue up.';

CREATE TABLE core.shared_total (
    model_id smallint NOT NULL,
    node smallint NOT NULL,
    slot smallint NOT NULL,
    users bigint NOT NULL,
    photos bigint NOT NULL,
    mass bigint NOT NULL,
    CONSTRAINT shared_total_pkey PRIMARY KEY (model_id, node, slot),
    CONSTRAINT shared_total_model_id_fkey FOREIGN KEY (model_id) REFERENCES core.model (model_id) NOT ENFORCED,
    CONSTRAINT shared_total_node_fkey FOREIGN KEY (node) REFERENCES core.category (node) NOT ENFORCED,
    CONSTRAINT shared_total_users_check CHECK (users >= 0),
    CONSTRAINT shared_total_photos_check CHECK (photos >= 0),
    CONSTRAINT shared_total_mass_check CHECK (mass >= 0))
    WITH (fillfactor = 50);
COMMENT ON TABLE core.shared_total IS 'Exact totals over the users who consent to be seen by others, in 64 slots by user.';

CREATE TABLE core.model_report (
    base_model_id smallint NOT NULL,
    head_model_id smallint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    report jsonb NOT NULL,
    CONSTRAINT model_report_pkey PRIMARY KEY (base_model_id, head_model_id));
COMMENT ON TABLE core.model_report IS 'The newest comparison of two models over the photos that both have seen, as `pictograph models diff` made it.';

ALTER TABLE core.app_user ADD COLUMN shared boolean NOT NULL DEFAULT false;
ALTER TABLE core.erasure ADD COLUMN verdicts bigint NOT NULL DEFAULT 0;
"""

#: By table, what each column holds; the same words as in `pipeline.store.tables.dictionary`.
COMMENTS = """
COMMENT ON COLUMN core.app_user."shared" IS 'Whether the user''s totals are counted in core.shared_total; changed in one transaction with them.';
COMMENT ON COLUMN core.api_key."key_id" IS 'The key.';
COMMENT ON COLUMN core.api_key."name" IS 'What it is for, in its maker''s words.';
COMMENT ON COLUMN core.api_key."secret_sha256" IS 'SHA-256 of the secret, which has 256 random bits.';
COMMENT ON COLUMN core.api_key."user_name" IS 'For whose photos alone. NULL: for everybody''s.';
COMMENT ON COLUMN core.api_key."scopes" IS 'What it may do; see api/auth.py.';
COMMENT ON COLUMN core.api_key."created_by" IS 'Who made it.';
COMMENT ON COLUMN core.api_key."created_at" IS 'When it was made.';
COMMENT ON COLUMN core.api_key."expires_at" IS 'From when it opens nothing any more. NULL: never.';
COMMENT ON COLUMN core.api_key."revoked_at" IS 'Since when it opens nothing. NULL: not revoked.';
COMMENT ON COLUMN core.api_key."used_at" IS 'When it was last used, to the hour. NULL: never.';
COMMENT ON COLUMN core.api_secret."purpose" IS 'What is signed with it: page_token or session.';
COMMENT ON COLUMN core.api_secret."secret" IS '32 random bytes.';
COMMENT ON COLUMN core.api_secret."created_at" IS 'Since when it is used.';
COMMENT ON COLUMN core.verdict."photo_id" IS 'Of which photo.';
COMMENT ON COLUMN core.verdict."node" IS 'Of which category.';
COMMENT ON COLUMN core.verdict."verdict" IS 'confirm: the photo shows it, and so all above it. reject: it does not, nor anything below it. generalise: it shows some kind of it.';
COMMENT ON COLUMN core.verdict."content_rev" IS 'Of which bytes of the photo; of others nothing was said.';
COMMENT ON COLUMN core.verdict."model_id" IS 'Which model''s tags were shown when it was given.';
COMMENT ON COLUMN core.verdict."decision_rev" IS 'Under which of its decisions.';
COMMENT ON COLUMN core.verdict."headline" IS 'The headline that was shown. NULL: none.';
COMMENT ON COLUMN core.verdict."given_by" IS 'The key by which it came; open: a server without keys.';
COMMENT ON COLUMN core.verdict."given_at" IS 'When.';
COMMENT ON COLUMN core.user_revision."user_id" IS 'The user.';
COMMENT ON COLUMN core.user_revision."revision" IS '1, 2, ...';
COMMENT ON COLUMN core.user_revision."changed_at" IS 'When it last rose.';
COMMENT ON COLUMN core.model_revision."model_id" IS 'The model.';
COMMENT ON COLUMN core.model_revision."slot" IS '0 to 63: of merges; 64: how results are shown; 65: all else. Add up all slots.';
COMMENT ON COLUMN core.model_revision."revision" IS 'How often it has risen.';
COMMENT ON COLUMN core.shared_total."model_id" IS 'By which model.';
COMMENT ON COLUMN core.shared_total."node" IS 'The category, or area.';
COMMENT ON COLUMN core.shared_total."slot" IS 'User id modulo 64. Add up all slots.';
COMMENT ON COLUMN core.shared_total."users" IS 'Users of whom at least one photo carries the tag. Not additive over categories.';
COMMENT ON COLUMN core.shared_total."photos" IS 'Photos that carry the tag. Not additive over categories.';
COMMENT ON COLUMN core.shared_total."mass" IS 'Ten-thousandths of a photo. Additive over categories that share no label.';
COMMENT ON COLUMN core.model_report."base_model_id" IS 'The model that the other one is compared with.';
COMMENT ON COLUMN core.model_report."head_model_id" IS 'The other one.';
COMMENT ON COLUMN core.model_report."made_at" IS 'When the comparison was made; photos that came since are not in it.';
COMMENT ON COLUMN core.model_report."report" IS 'As `pictograph models diff --json` writes it, but for names of users and keys of photos, in whose place their numbers are.';
COMMENT ON COLUMN core.erasure."verdicts" IS 'Verdicts deleted so far.';
"""

# An API's transaction may also say that it reads for somebody who looks at what others have consented to have seen.
SHARED = "(SELECT current_setting('pictograph.shared', true) = 'on')"
EVERYBODY = "(SELECT current_setting('pictograph.tenant', true) = 'on')"
CONSENTS = (
    "EXISTS (SELECT FROM core.app_user u WHERE u.user_id = {table}.user_id AND u.consent AND u.deleted_at IS NULL)"
)
NAME = "nullif(current_setting('pictograph.user', true), '')"
OWN = f"user_id = (SELECT u.user_id FROM core.app_user u WHERE u.name = {NAME} AND u.deleted_at IS NULL)"

GRANTS = f"""
GRANT SELECT, INSERT, UPDATE ON core.user_revision, core.model_revision TO {INGEST}, {WORKER}, {ERASER};
GRANT SELECT, INSERT, UPDATE ON core.shared_total TO {INGEST}, {WORKER}, {ERASER};
GRANT SELECT (shared) ON core.app_user TO {WORKER};
GRANT UPDATE (shared) ON core.app_user TO {INGEST}, {ERASER};
GRANT SELECT (user_name, revoked_at), UPDATE (revoked_at) ON core.api_key TO {ERASER};
GRANT SELECT ON core.model_revision, core.shared_total, core.api_secret, core.model_report, core.queue_limit TO {API};
GRANT SELECT, INSERT, UPDATE ON core.model_report TO {INGEST};
GRANT SELECT (key_id, name, secret_sha256, user_name, scopes, expires_at, revoked_at, used_at), UPDATE (used_at)
    ON core.api_key TO {API};
GRANT SELECT, INSERT, UPDATE ON core.user_revision TO {API};
GRANT SELECT, INSERT, UPDATE, DELETE ON core.verdict TO {API};
GRANT SELECT, DELETE ON core.verdict TO {INGEST}, {ERASER};
GRANT DELETE ON core.user_revision TO {ERASER};

ALTER TABLE core.verdict ENABLE ROW LEVEL SECURITY;
CREATE POLICY whose ON core.verdict TO {API} USING (
    {EVERYBODY} OR EXISTS (SELECT FROM core.photo p WHERE p.photo_id = verdict.photo_id AND p.{OWN}));
CREATE POLICY everything ON core.verdict TO {INGEST}, {WORKER}, {ERASER} USING (true) WITH CHECK (true);
ALTER TABLE core.user_revision ENABLE ROW LEVEL SECURITY;
CREATE POLICY whose ON core.user_revision TO {API} USING ({EVERYBODY} OR {OWN});
CREATE POLICY everything ON core.user_revision TO {INGEST}, {WORKER}, {ERASER} USING (true) WITH CHECK (true);

CREATE POLICY shared ON core.app_user FOR SELECT TO {API} USING ({SHARED} AND consent AND deleted_at IS NULL);
CREATE POLICY shared ON core.photo FOR SELECT TO {API} USING ({SHARED} AND {CONSENTS.format(table="photo")});
CREATE POLICY holds_shared ON core.photo FOR UPDATE TO {API}
    USING ({SHARED} AND {CONSENTS.format(table="photo")}) WITH CHECK (false);
CREATE POLICY shared ON core.photo_result FOR SELECT TO {API}
    USING ({SHARED} AND {CONSENTS.format(table="photo_result")});
CREATE POLICY shared ON core.user_category FOR SELECT TO {API}
    USING ({SHARED} AND {CONSENTS.format(table="user_category")});
CREATE POLICY shared ON core.user_revision FOR SELECT TO {API}
    USING ({SHARED} AND {CONSENTS.format(table="user_revision")});
"""

GALLERY = f"""
REVOKE ALL ON FUNCTION core.photos_of_category FROM PUBLIC;
GRANT EXECUTE ON FUNCTION core.photos_of_category TO {API};
"""

VERDICT = """
GRANT SELECT ON tags.verdict TO pictograph_analyst;
"""

DOWNGRADE = """
DROP VIEW tags.verdict;
DROP FUNCTION core.photos_of_category;
DROP INDEX IF EXISTS core.user_category_most_idx, core.app_user_shared_idx, core.photo_gone_idx;
DROP POLICY shared ON core.user_category;
DROP POLICY shared ON core.photo_result;
DROP POLICY holds_shared ON core.photo;
DROP POLICY shared ON core.photo;
DROP POLICY shared ON core.app_user;
REVOKE SELECT ON core.queue_limit FROM pictograph_api;
ALTER TABLE core.app_user DROP COLUMN shared;
ALTER TABLE core.erasure DROP COLUMN verdicts;
DROP TABLE core.model_report, core.shared_total, core.model_revision, core.user_revision, core.verdict,
    core.api_secret, core.api_key;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(COMMENTS)
    op.execute(GRANTS)
    gallery = (Path(__file__).parent / "0009_gallery.sql").read_text(encoding="utf-8")
    verdict = (Path(__file__).parent / "0009_verdict.sql").read_text(encoding="utf-8")
    # As it is: neither a colon nor a per cent sign asks for a value.
    op.get_bind().exec_driver_sql(f"{gallery}{GALLERY}{verdict}{VERDICT}".replace("%", "%%"))


def downgrade() -> None:
    op.execute(DOWNGRADE)
