"""What an upgrade of the software makes of a model that the ledger knows already."""

from dataclasses import replace

import pytest
from ledger_helpers import small_taxonomy, wnid
from sqlalchemy import text

from pipeline.store.catalogue import Registered, register_model, store_decision
from pipeline.store.session import Database
from taxonomy.build import renamed
from taxonomy.decide import Decision

SHIPPED = Decision(threshold=9_000)
OLD, NEW = b"\1" * 32, b"\2" * 32


def register(
    database: Database, fingerprint: bytes = OLD, decision: Decision = SHIPPED, name: str = "mine"
) -> Registered:
    return database.run(lambda c: register_model(c, name, fingerprint, small_taxonomy(), decision))


def active(database: Database) -> int:
    with database.transaction() as connection:
        return connection.execute(text("SELECT model_id FROM core.active_model")).scalar_one()


def give_a_result(database: Database, model_id: int) -> None:
    with database.transaction() as connection:
        connection.execute(
            text("""INSERT INTO core.photo_result
                        (model_id, photo_id, user_id, content_rev, decision_rev, outcome, nodes, masses, tags)
                    SELECT :model, p.photo_id, p.user_id, 1, 1, 2, '{}', '{}', '{}' FROM core.photo p"""),
            {"model": model_id},
        )


@pytest.fixture
def photo(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(
            text("""WITH u AS (INSERT INTO core.app_user (name) VALUES ('ann') RETURNING user_id),
                         b AS (INSERT INTO core.bucket (uri) VALUES ('s3://photos') RETURNING bucket_id)
                    INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at)
                    SELECT bucket_id, '1.jpg', user_id, 'e1', 10, now() FROM b, u""")
        )


def test_shipped_constants_that_change_are_the_next_revision(database: Database) -> None:
    changed = replace(SHIPPED, threshold=9_500)
    assert register(database).decision == SHIPPED
    assert register(database, decision=changed).decision == replace(changed, revision=2)
    assert register(database, decision=changed).decision_rev == 2  # and no revision more
    assert register(database).decision == replace(SHIPPED, revision=3)  # the software is taken back


def test_a_calibrated_decision_outlives_shipped_constants(database: Database) -> None:
    model_id = register(database).model_id
    with database.transaction() as connection:
        made = store_decision(connection, model_id, replace(SHIPPED, threshold=9_700), {"photos": 12})
    assert register(database, decision=replace(SHIPPED, threshold=9_500)).decision == made


def test_a_changed_model_takes_the_place_of_one_without_results(database: Database, photo: None) -> None:
    old = register(database).model_id
    assert active(database) == old
    new = register(database, NEW).model_id
    assert active(database) == new
    give_a_result(database, new)
    assert register(database).model_id == old
    assert active(database) == new


def test_a_model_of_another_name_takes_nobodys_place(database: Database) -> None:
    old = register(database).model_id
    register(database, NEW, name="other")
    assert active(database) == old


def test_other_names_are_shown_at_once_and_nothing_is_tagged_anew(database: Database, photo: None) -> None:
    model_id = register(database).model_id
    give_a_result(database, model_id)
    stored = "SELECT xmin, photo_result.* FROM core.photo_result"
    with database.transaction() as connection:
        before = connection.execute(text(stored)).all()
    called = renamed(small_taxonomy(), {wnid("dog"): "hound"})
    found = database.run(lambda c: register_model(c, "mine", OLD, called, SHIPPED))
    assert found.model_id == model_id
    with database.transaction() as connection:
        names = connection.execute(text("SELECT name FROM core.category WHERE wnid = :id"), {"id": wnid("dog")})
        assert set(names.scalars()) == {"hound"}
        assert connection.execute(text("SELECT count(*) FROM core.taxonomy")).scalar_one() == 1
        assert connection.execute(text(stored)).all() == before
    register(database)  # the software is taken back
    with database.transaction() as connection:
        assert not connection.execute(text("SELECT count(*) FROM core.category WHERE name = 'hound'")).scalar_one()
