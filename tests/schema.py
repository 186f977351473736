"""An empty database with the schema of the migrations, quickly: data goes, and a schema that nobody touched stays.

To migrate takes longer than most tests. A test may all the same do to the schema what it likes: a change shows in the
catalogue, and the next test finds everything made anew.
"""

from sqlalchemy import Connection, text

from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from taxonomy.graph import Taxonomy

#: What a schema is. Where a row of the catalogue is all about it, `xmin` tells whether it was replaced, be it by its
#: like; rows about tables are also replaced when these are emptied. Partitions come and go with models.
_FINGERPRINT = text("""
WITH mine AS (SELECT oid FROM pg_namespace WHERE nspname IN ('core', 'tags')),
     relation AS (SELECT * FROM pg_class WHERE relnamespace IN (SELECT oid FROM mine) AND NOT relispartition)
SELECT md5(string_agg(item, ' ' ORDER BY item)) FROM (
    SELECT concat_ws(' ', oid, relname, relacl, relrowsecurity, relforcerowsecurity, reloptions) FROM relation
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum, xmin) FROM pg_attribute
              WHERE attrelid IN (SELECT oid FROM relation)
    UNION ALL SELECT concat_ws(' ', 'default', oid, xmin) FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM relation)
    UNION ALL SELECT concat_ws(' ', 'rule', oid, xmin) FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM relation)
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, xmin) FROM pg_constraint
              WHERE conrelid IN (SELECT oid FROM relation)
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgenabled) FROM pg_trigger
              WHERE tgrelid IN (SELECT oid FROM relation) AND NOT tgisinternal
    UNION ALL SELECT concat_ws(' ', 'function', oid, xmin) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM mine)
    UNION ALL SELECT concat_ws(' ', 'policy', oid, xmin) FROM pg_policy
    UNION ALL SELECT concat_ws(' ', 'schema', oid, nspacl) FROM pg_namespace WHERE oid IN (SELECT oid FROM mine)
    UNION ALL SELECT concat_ws(' ', 'rights to come', oid, xmin) FROM pg_default_acl
) AS found (item)""")

#: The only rows that migrations bring.
_BROUGHT = text("""
SELECT string_agg(version_num, ' ') || (SELECT md5(string_agg(s::text, ' ' ORDER BY s::text)) FROM core.api_secret s)
FROM alembic_version""")

_TABLES = text("""
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = 'core'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND oid <> 'core.api_secret'::regclass""")
_PARTITIONS = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'core.photo_result'::regclass")
_COUNTERS = text("""
SELECT seqrelid::regclass::text FROM pg_sequence JOIN pg_class ON oid = seqrelid
WHERE relnamespace = 'core'::regnamespace""")
_OF_TAXONOMIES = {"core.category", "core.taxonomy", "core.taxonomy_category", "core.category_closure"}
_COUNTER_OF_TAXONOMIES = "core.taxonomy_taxonomy_id_seq"

_made: dict[str, str] = {}  # by the database's address: what `make` has left there


def make_empty(database: Database, but: Taxonomy | None = None) -> None:
    """Leave nothing in the database but what the migrations bring.

    `but`: this taxonomy may stay if it is the only one that is known there. To register it takes longer than most
    tests, and who registers it again finds the same.
    """
    if is_made(database):
        _forget_everything(database, but)
    else:
        make(database)


def make(database: Database) -> None:
    """The schema, anew."""
    with database.transaction() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS tags, core CASCADE"))
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    migrate(database)
    with database.transaction() as connection:
        _made[_address(database)] = _fingerprint(connection)


def is_made(database: Database) -> bool:
    """Whether the schema is as this process's last `make` left it."""
    made = _made.get(_address(database))
    with database.transaction() as connection:
        return made is not None and made.startswith(_shape(connection)) and made == _fingerprint(connection)


def _address(database: Database) -> str:
    return database.engine.url.render_as_string()


def _shape(connection: Connection) -> str:
    return str(connection.execute(_FINGERPRINT).scalar_one())


def _fingerprint(connection: Connection) -> str:
    """Of the schema, whose tables are there, and of what is in those that migrations fill."""
    return f"{_shape(connection)} {connection.execute(_BROUGHT).scalar_one()}"


def _forget_everything(database: Database, but: Taxonomy | None) -> None:
    with database.transaction() as connection:
        known = connection.execute(text("SELECT encode(sha256, 'hex') FROM core.taxonomy")).scalars().all()
        stay = {*_OF_TAXONOMIES, _COUNTER_OF_TAXONOMIES} if but is not None and known == [but.sha256] else set()
        for partition in connection.execute(_PARTITIONS).scalars().all():
            connection.execute(text(f"DROP TABLE {partition}"))
        tables = {*connection.execute(_TABLES).scalars()} - stay
        any_row = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
        if full := connection.execute(text(any_row)).scalars().all():
            connection.execute(text(f"TRUNCATE {', '.join(full)} CASCADE"))
        for counter in {*connection.execute(_COUNTERS).scalars()} - stay:
            connection.execute(text(f"SELECT setval('{counter}', 1, false)"))
