"""What an API sees of users: nobody, one of them, or everybody, as its transaction has said."""

import pytest
from sqlalchemy import text
from test_roles import NO, OF_SOMEBODY

from pipeline.errors import ConfigurationError
from pipeline.store import queries
from pipeline.store.roles import see_everybody, see_user

OF_EVERYBODY = {"delivery", "job", "job_count", "list_range", "shard"}  # of no user's


def seen(connection):
    """Rows of each table that this transaction sees."""
    count = "SELECT count(*) FROM core.{}"
    return {table: connection.execute(text(count.format(table))).scalar_one() for table in sorted(OF_SOMEBODY)}


def test_an_api_that_has_not_said_for_whom_sees_nobody(two_users, api):
    with api.database.transaction() as connection:
        assert set(seen(connection).values()) == {0}
        assert connection.execute(text("SELECT count(*) FROM core.category")).scalar_one() > 0


def test_an_api_sees_one_user_and_nothing_of_another(two_users, api):
    with api.database.transaction() as connection:
        see_user(connection, "ann")
        found = seen(connection)
        assert {table: found[table] for table in sorted(OF_EVERYBODY)} == dict.fromkeys(sorted(OF_EVERYBODY), 0)
        assert (found["app_user"], found["photo"], found["photo_result"]) == (1, 2, 2)
        assert (found["job_item"], found["thumbnail"]) == (2, 2)
        users = "SELECT DISTINCT u.name FROM core.{} t LEFT JOIN core.app_user u USING (user_id)"
        for table in ("photo", "photo_result", "user_category"):
            assert connection.execute(text(users.format(table))).scalars().all() == ["ann"]
        ben = connection.execute(text("SELECT count(*) FROM core.app_user WHERE name = 'ben'")).scalar_one()
        assert ben == 0


@pytest.mark.parametrize("name", ["nobody", "", "an", "ann' OR true --"])
def test_an_api_sees_nothing_of_a_user_who_is_none(two_users, api, name):
    with api.database.transaction() as connection:
        see_user(connection, name)
        assert set(seen(connection).values()) == {0}


def test_an_api_does_not_see_who_is_erased(two_users, ledger, api):
    ledger.execute("UPDATE core.app_user SET deleted_at = now() WHERE name = 'ann'")
    with api.database.transaction() as connection:
        see_user(connection, "ann")
        assert set(seen(connection).values()) == {0}


@pytest.mark.parametrize("ended", ["commit", "rollback"])
def test_what_an_api_said_ends_with_its_transaction(two_users, ledger, api, ended):
    with api.database.engine.connect() as connection:
        see_everybody(connection)
        see_user(connection, "ann")
        see_everybody(connection)
        assert seen(connection)["photo"] == 5
        getattr(connection, ended)()
        assert set(seen(connection).values()) == {0}


def test_an_api_for_everybody_sees_what_there_is(two_users, ledger, api):
    lines = "INSERT INTO core.job_line (job_id, line, photo_id) SELECT :job, photo_id, photo_id FROM core.photo"
    ledger.execute(lines, job=two_users)
    ledger.execute("INSERT INTO core.object_event (bucket, key, sequencer) VALUES ('s3://photos', 'ann/0.jpg', '1')")
    ledger.execute("INSERT INTO core.user_revision SELECT user_id, 1 FROM core.app_user ON CONFLICT DO NOTHING")
    ledger.execute(
        "INSERT INTO core.verdict (photo_id, node, verdict, content_rev, model_id, decision_rev, given_by) "
        "SELECT photo_id, 1, 'confirm', 1, 1, 1, 'test' FROM core.photo"
    )
    with ledger.database.transaction() as connection:
        all_there_is = seen(connection)
    with api.database.transaction() as connection:
        see_everybody(connection)
        assert seen(connection) == all_there_is
    assert all(all_there_is.values())


def test_an_api_writes_thumbnails_of_whom_it_acts_for(two_users, ledger, api):
    ledger.execute("DELETE FROM core.thumbnail")
    photos = ledger.all("SELECT photo_id, u.name FROM core.photo JOIN core.app_user u USING (user_id)")
    with api.database.transaction() as connection:
        see_user(connection, "ann")
        for photo in photos:
            queries.cache_thumbnail(connection, photo.photo_id, 96, 1, b"jpeg")
    kept = {row.photo_id for row in ledger.all("SELECT photo_id FROM core.thumbnail")}
    assert kept == {photo.photo_id for photo in photos if photo.name == "ann"}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM core.photo_result_{model}",  # a partition has policies of its own: none, and no rights
        "SELECT * FROM tags.photo",
        "SELECT * FROM tags.user_category",
        "SELECT * FROM core.erasure",
        "DELETE FROM core.photo",
        "UPDATE core.photo SET created_at = now()",
        "INSERT INTO core.app_user (name) VALUES ('eve')",
        "UPDATE core.job SET state = 0",
        "SET SESSION AUTHORIZATION DEFAULT; ALTER TABLE core.photo DISABLE ROW LEVEL SECURITY",
    ],
)
def test_an_api_cannot(two_users, api, query):
    with pytest.raises(ConfigurationError, match=NO):
        api.database.run(
            lambda c: (see_everybody(c), c.execute(text(query.format(model=api.registered.model_id)))),
        )
