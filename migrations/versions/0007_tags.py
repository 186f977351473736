"""Schema tags for analysts: every view anew, functions, and a comment on everything in core and tags.

The statements lie beside this file, 0007_tags.sql and 0007_comments.sql, and are literal: a release's migration says the
same for ever. The views of before are dropped, not replaced, because their columns change; a view of somebody's own over
one of them makes Postgres refuse, and nothing is changed.

Revision ID: 0007
"""

from importlib import import_module
from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ANALYST = "pictograph_analyst"
HERE = Path(__file__).parent

BEFORE = "DROP VIEW tags.category_total, tags.user_category, tags.photo_tag, tags.photo, tags.category;"

# The defaults of 0005 give the same; they hold for what that migration's login makes, and this may be another one.
RIGHTS = f"""
REVOKE ALL ON ALL TABLES IN SCHEMA tags FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tags FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA tags TO {ANALYST};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tags TO {ANALYST};
"""

# For whoever lets people log in as the role itself. Settings of a role are not taken along by SET ROLE or by being a
# member: `pictograph sql` sets the same for its session, and infra/roles.sql for the login it makes. Only who administers
# the role may set them, and who migrates need not.
BOUNDS = f"""
DO $$
BEGIN
    IF pg_has_role(current_user, '{ANALYST}', 'USAGE WITH ADMIN OPTION')
       AND (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('ALTER ROLE {ANALYST} IN DATABASE %I SET default_transaction_read_only = on', current_database());
        EXECUTE format('ALTER ROLE {ANALYST} IN DATABASE %I SET statement_timeout = ''60s''', current_database());
        EXECUTE format('ALTER ROLE {ANALYST} IN DATABASE %I SET search_path = tags', current_database());
    END IF;
END $$;
"""

UNBOUND = f"""
DO $$
BEGIN
    IF pg_has_role(current_user, '{ANALYST}', 'USAGE WITH ADMIN OPTION')
       AND (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('ALTER ROLE {ANALYST} IN DATABASE %I RESET ALL', current_database());
    END IF;
END $$;
"""

# Everything in schema tags, and every comment on a column of schema core. Somebody's own views over these are refused, as
# they are when upgrading.
NOTHING = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'tags'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s', one.name);
    END LOOP;
    EXECUTE (SELECT 'DROP VIEW ' || string_agg(format('tags.%I', viewname), ', ') FROM pg_views WHERE schemaname = 'tags');
    DROP VIEW core.category_level;
    FOR one IN SELECT attrelid::regclass AS relation, attname AS name FROM pg_attribute
               WHERE attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NOT NULL
                 AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'core'::regnamespace) LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS NULL', one.relation, one.name);
    END LOOP;
END $$;
"""


def upgrade() -> None:
    _run(BEFORE, _read("0007_tags.sql"), _read("0007_comments.sql"), RIGHTS, BOUNDS)


def downgrade() -> None:
    views = import_module("migrations.versions.0002_policy_and_decisions").VIEWS
    mine = views[views.index("CREATE OR REPLACE VIEW tags.category") :]  # core.active_effect is there
    _run(UNBOUND, NOTHING, import_module("migrations.versions.0001_initial").VIEWS, mine)


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _run(*statements: str) -> None:
    """As they are: neither a colon nor a per cent sign in a comment asks for a value."""
    for statement in statements:
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
