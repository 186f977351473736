"""The migrations and `pipeline.store.tables` say the same, in either direction and with two migrators at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from pipeline.errors import ConfigurationError
from pipeline.ledger import repair
from pipeline.store import migrate as migrating
from pipeline.store.indexes import build_indexes
from pipeline.store.migrate import current, migrate, newest
from pipeline.store.session import Database
from pipeline.store.tables import metadata
from pipeline.store.totals import differences

MIGRATE = """
import sys
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
with Database(sys.argv[1], "pictograph tests") as database:
    print(*migrate(database))
"""


@pytest.fixture
def bare(connections):
    """A database without tables."""
    with connections.transaction() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS tags, core CASCADE"))
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    return connections


def in_core(name, kind, parents):
    return name == "core" if kind == "schema" else parents.get("schema_name", "core") == "core"


def test_the_migrations_make_the_tables_of_the_code(bare):
    migrate(bare)
    with bare.transaction() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_schemas": True, "include_name": in_core, "compare_server_default": True},
        )
        assert compare_metadata(context, metadata) == []


def test_what_the_comparison_does_not_see_is_the_same_too(bare):
    """Comments of tables, fill factors, collations, CHECKs and partial indexes, read from the catalogue."""
    described = []
    for build in (migrate, build_from_tables):
        with bare.transaction() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS tags, core CASCADE"))
            connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
        build(bare)
        described.append(describe(bare))
    assert described[0] == described[1]


def build_from_tables(database):
    with database.transaction() as connection:
        connection.execute(text("CREATE SCHEMA core"))
        metadata.create_all(connection)


def describe(database):
    queries = (
        "SELECT relname, reloptions, obj_description(oid), relkind FROM pg_class "
        "WHERE relnamespace = 'core'::regnamespace AND relkind IN ('r', 'p')",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'core'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'core'::regnamespace",
        "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default, identity_generation "
        "FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) "
        "WHERE table_schema = 'core' AND table_type = 'BASE TABLE'",
    )
    with database.transaction() as connection:
        return [sorted(map(repr, connection.execute(text(query)))) for query in queries]


def test_upgrading_twice_changes_nothing(bare):
    assert current(bare) is None
    assert migrate(bare) == (None, newest())
    before = describe(bare)
    assert migrate(bare) == (newest(), newest())
    assert describe(bare) == before


def test_two_migrators_at_once_agree(bare, endpoints):
    """Each in a process of its own, as two containers would start."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with bare.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(7420015)"))  # both arrive while we hold the door
        started = [
            subprocess.Popen(
                [sys.executable, "-c", MIGRATE, endpoints.database_url],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        for _ in range(1200):
            if connection.execute(text(waiting)).scalar_one() == 2:
                break
            connection.execute(text("SELECT pg_sleep(0.05)"))
    results = [process.communicate(timeout=180) for process in started]
    assert [process.returncode for process in started] == [0, 0], results
    assert current(bare) == newest()


def test_downgrading_leaves_nothing_and_upgrading_works_again(bare):
    migrate(bare)
    config = migrating._config()
    with bare.transaction() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert current(bare) is None
    left = "SELECT count(*) FROM information_schema.schemata WHERE schema_name IN ('core', 'tags')"
    with bare.transaction() as connection:
        assert connection.execute(text(left)).scalar_one() == 0
    assert migrate(bare) == (None, newest())


def test_a_ledger_without_roles_has_neither_rights_nor_policies_of_theirs(bare):
    config = migrating._config()
    migrate(bare)
    with bare.transaction() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
    given = """
        SELECT count(*) FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
        WHERE a.grantee <> c.relowner AND relnamespace::regnamespace::text IN ('core', 'tags', 'public')"""
    left = ("SELECT count(*) FROM pg_policies", "SELECT count(*) FROM pg_class WHERE relrowsecurity", given)
    with bare.transaction() as connection:
        assert [connection.execute(text(query)).scalar_one() for query in left] == [0, 0, 0]
        schema = "SELECT has_schema_privilege('pictograph_worker', 'core', 'USAGE')"
        assert not connection.execute(text(schema)).scalar_one()
        assert connection.execute(text("SELECT has_database_privilege('public', current_database(), 'TEMP')")).scalar()
    assert migrate(bare) == ("0004", newest())


# Photo 1500 lies in slot 1500 / 512 = 2; its user, 70, would be in slot 70 - 64 = 6.
STORED = """
INSERT INTO core.taxonomy (name, sha256, labels) VALUES ('t', 't', 1);
INSERT INTO core.category (node, wnid, area_only, name, lemmas, gloss)
VALUES (1, 'n1', false, 'entity', '{}', ''), (2, 'n2', false, 'dog', '{}', '');
INSERT INTO core.model (name, fingerprint, taxonomy_id) VALUES ('m', 'm', 1);
CREATE TABLE core.photo_result_1 PARTITION OF core.photo_result FOR VALUES IN (1);
INSERT INTO core.bucket (uri) VALUES ('s3://b');
INSERT INTO core.app_user (user_id, name) OVERRIDING SYSTEM VALUE VALUES (70, 'ann');
INSERT INTO core.photo (photo_id, bucket_id, key, user_id, etag, size, taken_at) OVERRIDING SYSTEM VALUE
VALUES (3, 1, 'a', 70, 'e', 1, now()), (1500, 1, 'b', 70, 'e', 1, now());
INSERT INTO core.photo_result (model_id, photo_id, user_id, content_rev, decision_rev, outcome, nodes, masses, tags)
VALUES (1, 3, 70, 1, 1, 2, '{1,2}', '{10000,4000}', '{}'), (1, 1500, 70, 1, 1, 1, '{1,2}', '{10000,9000}', '{2}');
INSERT INTO core.user_category VALUES (1, 70, 1, 0, 20000), (1, 70, 2, 1, 13000);
INSERT INTO core.category_total (model_id, node, slot, photos, mass) VALUES (1, 1, 6, 0, 20000), (1, 2, 6, 1, 13000);
"""


def test_totals_by_user_become_totals_by_photo_and_back(bare):
    config = migrating._config()

    def to(move, revision):
        with bare.transaction() as connection:
            config.attributes["connection"] = connection
            move(config, revision)

    def totals():
        with bare.transaction() as connection:
            rows = connection.execute(text("SELECT node, slot, photos, mass FROM core.category_total ORDER BY 1, 2"))
            return [tuple(row) for row in rows]

    def enforced():
        """Whether references are checked: of the totals, and of a partition that was there before."""
        query = """SELECT conrelid::regclass::text, bool_or(conenforced) FROM pg_constraint WHERE contype = 'f'
                   AND conrelid IN ('core.user_category'::regclass, 'core.photo_result_1'::regclass) GROUP BY 1"""
        with bare.transaction() as connection:
            return dict(map(tuple, connection.execute(text(query))))

    to(command.upgrade, "0002")
    with bare.transaction() as connection:
        connection.execute(text(STORED))
    by_user = totals()
    to(command.upgrade, "head")
    assert totals() == [(1, 0, 0, 10_000), (1, 2, 0, 10_000), (2, 0, 0, 4_000), (2, 2, 1, 9_000)]
    assert enforced() == {"core.user_category": False, "core.photo_result_1": False}
    with bare.transaction() as connection:
        assert differences(connection) == 0
    to(command.downgrade, "0002")
    assert totals() == by_user
    assert enforced() == {"core.user_category": True, "core.photo_result_1": True}


NEWEST = "SELECT photo_id, taken_at FROM tags.newest_photos('dog')"
INDEXES = """SELECT indexrelid::regclass::text, indisvalid FROM pg_index
             WHERE indrelid IN ('core.photo_result'::regclass, 'core.photo_result_1'::regclass) ORDER BY 1"""


def test_results_that_are_there_get_their_times_and_indexes_afterwards(bare):
    """Nobody waits for a migration: what it declares is built by partition, what it adds is filled in bit by bit."""
    config = migrating._config()

    def to(move, revision):
        with bare.transaction() as connection:
            config.attributes["connection"] = connection
            move(config, revision)

    def ask(query):
        with bare.transaction() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    to(command.upgrade, "0002")
    with bare.transaction() as connection:
        connection.execute(text(STORED))
    to(command.upgrade, "head")
    with bare.transaction() as connection:
        connection.execute(text("INSERT INTO core.promotion (model_id, promoted_by) VALUES (1, 'test')"))
        connection.execute(
            text("INSERT INTO core.taxonomy_category VALUES (1, 1, 0, 1, 0, 0, NULL, 1), (1, 2, 1, 1, 0, 1, 1, 2)")
        )
    (photo,) = ask("SELECT photo_id, taken_at FROM core.photo WHERE photo_id = 1500")
    assert ask(NEWEST) == [photo]  # its result has no time yet, and the index that knows times is not built
    assert {"core.photo_result_tags_idx", "core.photo_result_1_tags_idx"} <= dict(ask(INDEXES)).keys()

    assert build_indexes(bare) == 8  # three of results, and those of tables without partitions
    assert build_indexes(bare) == 0
    built = dict(ask(INDEXES))
    assert all(built.values())
    assert "core.photo_result_1_tags_taken_idx" in built
    assert not {"core.photo_result_tags_idx", "core.photo_result_1_tags_idx"} & built.keys()
    assert ask(NEWEST) == [photo]
    assert bare.run(lambda c: repair.times(c, 100)).changed == {"times of results": 2}
    assert ask("SELECT count(*) FROM core.photo_result WHERE taken_at IS NULL") == [(0,)]
    assert ask(NEWEST) == [photo]

    assert ask("SELECT core.slot_of(n) FROM unnest(ARRAY[3, 1500, 2047]) AS n") == [(0,), (2,), (3,)]  # as they were
    assert ask("SELECT core.slot_of(n) FROM unnest(ARRAY[2048, 4095, 4096]) AS n") == [(1,), (1,), (2,)]
    with bare.transaction() as connection:
        assert differences(connection) == 0
    to(command.downgrade, "0007")
    assert ask("SELECT node, slot, photos, mass FROM core.category_total WHERE node = 2 ORDER BY slot") == [
        (2, 0, 0, 4_000),
        (2, 2, 1, 9_000),
    ]


def test_a_build_that_was_killed_is_done_again(bare):
    """It leaves an index of the right name that Postgres does not use."""
    migrate(bare)
    with bare.transaction() as connection:
        connection.execute(text("CREATE TABLE core.photo_result_1 PARTITION OF core.photo_result FOR VALUES IN (1)"))
        connection.execute(text("DROP INDEX core.photo_result_taken_at_idx"))
        connection.execute(text("CREATE INDEX photo_result_taken_at_idx ON ONLY core.photo_result (taken_at)"))
        connection.execute(
            text("""INSERT INTO core.photo_result (model_id, photo_id, user_id, content_rev, decision_rev, outcome,
                                                   nodes, masses, tags, taken_at)
                    SELECT 1, n, 1, 1, 1, 1, '{}', '{}', '{}', 'epoch' FROM generate_series(1, 2) AS n""")
        )
    with bare.outside_transactions() as connection, pytest.raises(IntegrityError):
        connection.execute(
            text("CREATE UNIQUE INDEX CONCURRENTLY photo_result_1_taken_at_idx ON core.photo_result_1 (taken_at)")
        )
    assert build_indexes(bare) == 1
    with bare.transaction() as connection:
        built = connection.execute(text(INDEXES)).all()
    assert all(valid for _, valid in built)


def test_a_database_without_tables_says_what_to_do(bare, endpoints):
    with (
        Database(endpoints.database_url, "pictograph tests") as database,
        pytest.raises(ConfigurationError, match="pictograph migrate"),
    ):
        database.run(lambda c: c.execute(text("SELECT 1 FROM core.job")))
