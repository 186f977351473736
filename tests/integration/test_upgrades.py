"""A ledger with data comes up from the first release: nothing lost, no big table written anew, no long wait."""

import threading

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import ServiceDown
from pipeline.ledger import repair
from pipeline.ledger.audit import findings
from pipeline.store import migrate as migrating
from pipeline.store.migrate import current, migrate, newest
from pipeline.store.roles import Role
from pipeline.store.session import Database
from pipeline.store.totals import differences

FIRST = "0002"  # what 0.1.0 left behind
BIG = ("photo", "photo_result_1", "job_item", "user_category")  # tables that grow with photos

# 3,000 photos of 30 users as the first release stored them: every tenth failed, the others dogs and cats in turn, and
# one in fifty without a headline. Slots of the totals went by user then.
STORED = """
INSERT INTO core.taxonomy (name, sha256, labels) VALUES ('t', 't', 2);
INSERT INTO core.category (node, wnid, area_only, name, lemmas, gloss) VALUES
    (1, 'n00000001', false, 'entity', '{entity}', 'all'), (2, 'n00000002', false, 'dog', '{dog,domestic_dog}', 'barks'),
    (3, 'n00000003', false, 'cat', '{cat}', 'meows');
INSERT INTO core.taxonomy_category (taxonomy_id, node, position, leaf_count, bits, depth, display_parent, shown_as)
VALUES (1, 1, 0, 2, 0, 0, NULL, 1), (1, 2, 1, 1, 1, 1, 1, 2), (1, 3, 2, 1, 1, 1, 1, 3);
INSERT INTO core.category_closure VALUES (1, 1, 1, 0), (1, 2, 2, 0), (1, 3, 3, 0), (1, 1, 2, 1), (1, 1, 3, 1);
INSERT INTO core.model (name, fingerprint, taxonomy_id, active) VALUES ('m', 'm', 1, true);
INSERT INTO core.decision (model_id, revision, rule, threshold) VALUES (1, 1, 'threshold', 8000);
CREATE TABLE core.photo_result_1 PARTITION OF core.photo_result FOR VALUES IN (1);
INSERT INTO core.bucket (uri) VALUES ('s3://b');
INSERT INTO core.app_user (name) SELECT 'user ' || n FROM generate_series(1, 30) n;
INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at)
SELECT 1, 'photo ' || n, n % 30 + 1, 'e', 1, '2025-01-01'::timestamptz + n * interval '1 hour'
FROM generate_series(1, 3000) n;
INSERT INTO core.photo_result
    (model_id, photo_id, user_id, content_rev, decision_rev, outcome, headline, nodes, masses, tags)
SELECT 1, photo_id, user_id, 1, 1, CASE WHEN photo_id % 10 = 0 THEN 12 WHEN photo_id % 50 = 1 THEN 2 ELSE 1 END,
       CASE WHEN photo_id % 10 = 0 OR photo_id % 50 = 1 THEN NULL ELSE photo_id % 2 + 2 END,
       CASE WHEN photo_id % 10 = 0 THEN '{}' ELSE ARRAY[1, photo_id % 2 + 2]::smallint[] END,
       CASE WHEN photo_id % 10 = 0 THEN '{}' ELSE ARRAY[10000, 9000 - photo_id % 100]::smallint[] END,
       CASE WHEN photo_id % 10 = 0 OR photo_id % 50 = 1 THEN '{}' ELSE ARRAY[photo_id % 2 + 2]::smallint[] END
FROM core.photo;
INSERT INTO core.user_category (model_id, user_id, node, photos, mass)
SELECT 1, user_id, node, count(*) FILTER (WHERE node = ANY (tags)), sum(mass)
FROM core.photo_result, unnest(nodes, masses) AS n(node, mass) GROUP BY 1, 2, 3;
INSERT INTO core.category_total (model_id, node, slot, photos, mass)
SELECT 1, node, user_id % 64, photos, mass FROM core.user_category;
INSERT INTO core.job (kind, source, user_rule, model_id, state, started_at, finished_at)
VALUES ('s3', 's3://b/', '{user}', 1, 11, now(), now());
INSERT INTO core.list_range (job_id, listed, state) VALUES (1, 3000, 3);
INSERT INTO core.shard (job_id, model_id, priority, photos, state) VALUES (1, 1, 0, 512, 3);
INSERT INTO core.job_item (job_id, photo_id, shard_id, state, code, attempts)
SELECT 1, photo_id, 1, CASE WHEN outcome > 2 THEN 3 ELSE 2 END, outcome, 1 FROM core.photo_result;
INSERT INTO core.job_count (job_id, state, code, photos)
SELECT 1, state, code, count(*) FROM core.job_item GROUP BY 2, 3;
"""


@pytest.fixture
def old(connections):
    """A ledger of the first release, with photos."""
    with connections.transaction() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS tags, core CASCADE"))
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    move(connections, FIRST)
    with connections.transaction() as connection:
        connection.execute(text(STORED))
    yield connections
    with connections.transaction() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS tags, core CASCADE"))
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))


def move(database, revision):
    config = migrating._config()
    with database.transaction() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        return connection.execute(
            text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
        ).one()


def rows(database, query):
    with database.transaction() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


TAGS = 'SELECT photo_id, "user", wnid, probability, headline FROM tags.photo_tag ORDER BY 1, 3'
TOTALS = "SELECT wnid, photos, mass FROM tags.category_total ORDER BY 1"
OF_USERS = 'SELECT "user", wnid, photos, mass FROM tags.user_category ORDER BY 1, 2'
PHOTOS = 'SELECT photo_id, "user", bucket, key, taken_at, outcome, headline_wnid FROM tags.photo ORDER BY 1'
VIEWS = (TAGS, TOTALS, OF_USERS, PHOTOS)


def test_a_ledger_of_the_first_release_says_the_same_after_the_upgrade(old):
    before = [rows(old, view) for view in VIEWS]
    assert [len(found) for found in before] == [2640, 3, 54, 3000]  # of 27 users, all dogs or all cats
    assert migrate(old) == (FIRST, newest())
    url = old.engine.url.render_as_string(hide_password=False)
    with Database(url, "an analyst", role=Role.ANALYST) as analyst:
        assert [rows(analyst, view) for view in VIEWS] == before
        assert rows(analyst, "SELECT model, active, photos FROM tags.model") == [("m", True, 2700)]
        assert rows(analyst, "SELECT total, tagged, abstained, failed FROM tags.job") == [(3000, 2640, 60, 300)]
        assert rows(analyst, "SELECT * FROM tags.incoherence") == []
    with old.transaction() as connection:
        assert {finding.repair for finding in findings(connection, quiet=True)} == {"pictograph repair times"}
    while old.run(lambda connection: repair.times(connection, 1_000)).changed:
        pass
    with old.transaction() as connection:
        assert findings(connection, quiet=True) == ()
        assert differences(connection) == 0


def test_no_table_that_grows_with_photos_is_written_anew(old):
    """A table that is written anew gets another file; so does an index that is built again. One may be gone."""
    names = ", ".join(f"'core.{name}'::regclass" for name in BIG)
    files = f"""
        SELECT c.relname, c.relfilenode FROM pg_class c WHERE c.oid IN ({names})
        OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN ({names}))"""
    before = dict(rows(old, files))
    assert len(before) >= 10
    migrate(old)
    after = dict(rows(old, files))
    assert {name: after[name] for name in BIG} == {name: before[name] for name in BIG}
    assert {name: after[name] for name in before if name in after} == {
        name: before[name] for name in before if name in after
    }


def test_the_totals_of_all_users_are_counted_anew_and_stay_few(old):
    """The one table that is: slots go by photo since 0003. It holds at most 64 rows per category."""
    migrate(old)
    assert rows(
        old, "SELECT max(n) BETWEEN 2 AND 64 FROM (SELECT count(*) n FROM core.category_total GROUP BY node) c"
    ) == [(True,)]


def test_statements_and_waits_for_locks_are_bounded(old):
    assert tuple(move(old, "head")) == ("15min", "5s")


def test_a_table_in_use_stops_the_upgrade_and_nothing_is_changed(old):
    with old.engine.connect() as user:
        user.execute(text("SELECT count(*) FROM core.photo_result"))  # an open transaction holds its lock
        with pytest.raises((ServiceDown, DBAPIError), match="lock timeout"):
            migrate(old)
        user.rollback()
    assert current(old) == FIRST
    assert migrate(old) == (FIRST, newest())


def test_a_second_migrator_waits_for_the_first_however_long_it_takes(old):
    done = threading.Event()

    def upgrade():
        migrate(old)
        done.set()

    with old.engine.connect() as first:
        first.execute(text("SELECT pg_advisory_xact_lock(7420015)"))
        second = threading.Thread(target=upgrade, daemon=True)
        second.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not first.execute(text(waiting)).scalar_one():
            first.execute(text("SELECT pg_sleep(0.05)"))
        assert not done.is_set()
        first.rollback()
    second.join(120)
    assert done.is_set()
    assert current(old) == newest()


def test_an_upgrade_gives_back_what_a_downgrade_took(old):
    migrate(old)
    config = migrating._config()
    after = [rows(old, view) for view in VIEWS]
    for revision in ("0006", FIRST):
        with old.transaction() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, revision)
        assert [rows(old, view) for view in VIEWS] == after
    migrate(old)
    assert [rows(old, view) for view in VIEWS] == after
