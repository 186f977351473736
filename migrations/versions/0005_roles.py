"""Roles with the rights of their work and no more, and row-level security before what an API reads of users.

`pipeline.store.roles` says who they are. Roles are the server's, not the database's: they may be there already, made by
another database's migration or by an administrator (`infra/roles.sql`), and a downgrade leaves them.

Revision ID: 0005
"""

from alembic import op
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import ConfigurationError

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INGEST, WORKER, API = "pictograph_ingest", "pictograph_worker", "pictograph_api"
ANALYST, ERASER = "pictograph_analyst", "pictograph_eraser"
ROLES = (INGEST, WORKER, API, ANALYST, ERASER)
FORBIDDEN = "42501"  # insufficient privilege

# Whoever migrates owns the tables; it may take each role, and inherits none. Two databases of one server may be
# migrated at once: who comes second waits for the first one's transaction, and finds its roles.
MAKE_ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        BEGIN
            CREATE ROLE {role} NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT pg_has_role(current_user, '{role}', 'SET') THEN
        BEGIN
            EXECUTE format('GRANT {role} TO %I WITH INHERIT FALSE, SET TRUE', current_user);
        EXCEPTION WHEN unique_violation THEN NULL;
        END;
    END IF;
END $$"""

# Rights on the database and on schema public are its owner's to give, and this may be somebody else. Temporary tables
# are how rows are merged; an analyst has no use for one. The API looks at the revision.
SURROUNDINGS = f"""
DO $$
BEGIN
    IF pg_has_role(current_user, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') THEN
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        GRANT USAGE ON SCHEMA public TO {API};
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO {INGEST}, {WORKER}, {ERASER}', current_database());
    END IF;
END $$;
GRANT SELECT ON alembic_version TO {API};
REVOKE ALL ON SCHEMA core, tags FROM PUBLIC;
GRANT USAGE ON SCHEMA core TO {INGEST}, {WORKER}, {API}, {ERASER};
GRANT USAGE ON SCHEMA tags TO {ANALYST};
GRANT SELECT ON ALL TABLES IN SCHEMA tags TO {ANALYST};
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA tags GRANT SELECT ON TABLES TO {ANALYST};
ALTER DEFAULT PRIVILEGES IN SCHEMA tags GRANT EXECUTE ON FUNCTIONS TO {ANALYST};
"""

# A lock on a row wants the right to update some column of it. Where nothing shall be changed, the right is on
# created_at, and a policy below refuses even that.
GRANTS = f"""
GRANT SELECT ON core.model, core.decision, core.taxonomy, core.taxonomy_category TO {INGEST}, {WORKER}, {API};
GRANT SELECT, INSERT, UPDATE, DELETE ON core.worker TO {INGEST}, {WORKER};
GRANT SELECT, INSERT, UPDATE ON core.job_count, core.user_category, core.category_total
    TO {INGEST}, {WORKER}, {ERASER};

GRANT SELECT, INSERT ON core.bucket TO {INGEST};
GRANT SELECT, INSERT (name), UPDATE (created_at) ON core.app_user TO {INGEST};
GRANT SELECT, INSERT, UPDATE ON core.job, core.list_range, core.shard, core.job_item, core.photo TO {INGEST};
GRANT SELECT, INSERT, DELETE, UPDATE (photo_id) ON core.job_missing TO {INGEST};
GRANT SELECT, DELETE, UPDATE (user_id) ON core.photo_result TO {INGEST};
GRANT SELECT (photo_id), DELETE ON core.thumbnail TO {INGEST};
GRANT SELECT ON core.breaker TO {INGEST};

GRANT SELECT ON core.bucket TO {WORKER};
GRANT SELECT (user_id, deleted_at), UPDATE (created_at) ON core.app_user TO {WORKER};
GRANT SELECT, UPDATE ON core.job, core.list_range, core.job_item TO {WORKER};
GRANT SELECT, INSERT, UPDATE ON core.shard TO {WORKER};
GRANT SELECT, INSERT, UPDATE, DELETE ON core.breaker TO {WORKER};
GRANT SELECT, UPDATE (etag, version_id, size, content_rev, taken_at, taken_from, gone_at) ON core.photo TO {WORKER};
GRANT SELECT, INSERT, UPDATE, DELETE ON core.photo_result TO {WORKER};
GRANT SELECT, DELETE ON core.job_missing TO {WORKER};
GRANT SELECT (photo_id), DELETE ON core.thumbnail TO {WORKER};

GRANT SELECT ON core.bucket, core.app_user, core.photo, core.photo_result, core.user_category, core.category_total,
    core.category, core.job, core.list_range, core.shard, core.job_item, core.job_count, core.worker, core.breaker,
    core.policy, core.policy_rule, core.policy_effect, core.active_effect TO {API};
GRANT UPDATE (created_at) ON core.photo TO {API};
GRANT SELECT, INSERT, UPDATE, DELETE ON core.thumbnail TO {API};

GRANT SELECT, UPDATE (deleted_at) ON core.app_user TO {ERASER};
GRANT SELECT, INSERT, UPDATE ON core.erasure TO {ERASER};
GRANT SELECT, DELETE, UPDATE (created_at) ON core.photo TO {ERASER};
GRANT SELECT, DELETE ON core.photo_result TO {ERASER};
GRANT DELETE ON core.user_category TO {ERASER};
GRANT SELECT, DELETE, UPDATE (state) ON core.job_item TO {ERASER};
GRANT SELECT (job_id) ON core.job TO {ERASER};
GRANT SELECT, DELETE ON core.job_missing TO {ERASER};
GRANT SELECT (photo_id), DELETE ON core.thumbnail TO {ERASER};
"""

# An API's transaction says for whom it reads, until it ends: for everybody, or for one user. Each sub-select is run
# once per statement. What is nobody's, such as jobs, whose sources and errors name keys, is for everybody only.
EVERYBODY = "(SELECT current_setting('pictograph.tenant', true) = 'on')"
NAME = "nullif(current_setting('pictograph.user', true), '')"
OWN = f"user_id = (SELECT u.user_id FROM core.app_user u WHERE u.name = {NAME} AND u.deleted_at IS NULL)"
OWN_PHOTO = "EXISTS (SELECT FROM core.photo p WHERE p.photo_id = {table}.photo_id)"  # of those that may be seen
WHOSE = {
    "app_user": f"{EVERYBODY} OR (name = {NAME} AND deleted_at IS NULL)",
    "photo": f"{EVERYBODY} OR {OWN}",
    "photo_result": f"{EVERYBODY} OR {OWN}",
    "user_category": f"{EVERYBODY} OR {OWN}",
    "thumbnail": f"{EVERYBODY} OR {OWN_PHOTO.format(table='thumbnail')}",
    "job_item": f"{EVERYBODY} OR {OWN_PHOTO.format(table='job_item')}",
    "job": EVERYBODY,
    "job_count": EVERYBODY,
    "list_range": EVERYBODY,
    "shard": EVERYBODY,
}

NOT_FOR_USERS = f"{INGEST}, {WORKER}, {ERASER}"
#: By table, the policies: name, and for what and whom. Where a check is false a row may be locked, but not changed.
POLICIES = {
    **{
        table: (
            ("whose", f"FOR SELECT TO {API} USING ({whose})"),
            ("everything", f"TO {NOT_FOR_USERS} USING (true) WITH CHECK (true)"),
        )
        for table, whose in WHOSE.items()
    },
    "app_user": (
        ("whose", f"FOR SELECT TO {API} USING ({WHOSE['app_user']})"),
        ("sees", f"FOR SELECT TO {NOT_FOR_USERS} USING (true)"),
        ("meets", f"FOR INSERT TO {INGEST} WITH CHECK (true)"),
        ("holds", f"FOR UPDATE TO {INGEST}, {WORKER} USING (true) WITH CHECK (false)"),
        ("hides", f"FOR UPDATE TO {ERASER} USING (true) WITH CHECK (true)"),
    ),
    "photo": (
        ("whose", f"FOR SELECT TO {API} USING ({WHOSE['photo']})"),
        ("holds_whose", f"FOR UPDATE TO {API} USING ({WHOSE['photo']}) WITH CHECK (false)"),
        ("everything", f"TO {INGEST}, {WORKER} USING (true) WITH CHECK (true)"),
        ("sees", f"FOR SELECT TO {ERASER} USING (true)"),
        ("holds", f"FOR UPDATE TO {ERASER} USING (true) WITH CHECK (false)"),
        ("deletes", f"FOR DELETE TO {ERASER} USING (true)"),
    ),
    "thumbnail": (
        ("whose", f"TO {API} USING ({WHOSE['thumbnail']})"),
        ("everything", f"TO {NOT_FOR_USERS} USING (true) WITH CHECK (true)"),
    ),
}

# What was given in other schemas and by default, taken back: the defaults of schema tags last, which name a role.
BACK = f"""
DO $$
BEGIN
    IF pg_has_role(current_user, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') THEN
        REVOKE ALL ON SCHEMA public FROM {API};
        GRANT USAGE ON SCHEMA public TO PUBLIC;
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM {INGEST}, {WORKER}, {ERASER}', current_database());
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database());
    END IF;
END $$;
REVOKE ALL ON alembic_version FROM {API};
REVOKE ALL ON ALL TABLES IN SCHEMA core, tags FROM {", ".join(ROLES)};
REVOKE ALL ON SCHEMA core, tags FROM {", ".join(ROLES)};
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA tags REVOKE SELECT ON TABLES FROM {ANALYST};
ALTER DEFAULT PRIVILEGES IN SCHEMA tags REVOKE EXECUTE ON FUNCTIONS FROM {ANALYST};
"""


def upgrade() -> None:
    _make_roles()
    op.execute(SURROUNDINGS)
    op.execute(GRANTS)
    for table, policies in POLICIES.items():
        op.execute(f"ALTER TABLE core.{table} ENABLE ROW LEVEL SECURITY")
        for name, clause in policies:
            op.execute(f"CREATE POLICY {name} ON core.{table} {clause}")


def _make_roles() -> None:
    connection = op.get_bind()
    try:
        for role in ROLES:
            connection.execute(text(MAKE_ROLE.format(role=role)))
    except DBAPIError as exc:
        if getattr(exc.orig, "pgcode", None) != FORBIDDEN:
            raise
        raise ConfigurationError(
            "The login in PICTOGRAPH_DATABASE_URL may neither make the roles that Pictograph's processes take nor join "
            "them; let an administrator of the server run infra/roles.sql, whose head says how."
        ) from exc


def downgrade() -> None:
    for table, policies in POLICIES.items():
        for name, _ in policies:
            op.execute(f"DROP POLICY {name} ON core.{table}")
        op.execute(f"ALTER TABLE core.{table} DISABLE ROW LEVEL SECURITY")
    op.execute(BACK)
