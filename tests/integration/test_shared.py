"""Totals over the users who consent: exact whatever they answer, and whatever happens to photos meanwhile."""

import threading

import pytest
from ledger_helpers import ref, wait_for
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from pictograph import places
from pictograph.cli import repair as cli
from pipeline.errors import ConfigurationError
from pipeline.ledger import repair
from pipeline.ledger.audit import findings
from pipeline.ledger.erase import erase, fence
from pipeline.ledger.users import set_consent
from pipeline.settings import PREFIX
from pipeline.store import dropping, promotions, shared
from pipeline.store.revisions import touch
from pipeline.store.totals import apply_delta, collect_forgotten, ensure_delta

USERS = ("ann", "ben", "cleo")

#: From the results alone: (users, photos, mass) of a tag over those who consent.
RECOUNT = """
SELECT count(DISTINCT r.user_id) FILTER (WHERE :node = ANY (r.tags)), count(*) FILTER (WHERE :node = ANY (r.tags)),
       coalesce(sum(r.masses[array_position(r.nodes, :node)]), 0)::bigint
FROM core.photo_result r JOIN core.app_user u USING (user_id)
WHERE u.consent AND u.deleted_at IS NULL AND r.model_id = :model"""
STORED = """
SELECT coalesce(sum(users), 0)::bigint, coalesce(sum(photos), 0)::bigint, coalesce(sum(mass), 0)::bigint
FROM core.shared_total WHERE model_id = :model AND node = :node"""


def stored(ledger, tag):
    """(users, photos, mass) as kept; they must be those of a recount."""
    values = {"model": ledger.registered.model_id, "node": ledger.node[tag]}
    found = ledger.one(STORED, **values)
    assert found == ledger.one(RECOUNT, **values)
    return tuple(found)


def answer(ledger, user, consent):
    return ledger.database.run(lambda c: set_consent(c, user, consent))


def audits(ledger):
    with ledger.database.transaction() as connection:
        return {finding.audit for finding in findings(connection)}


@pytest.fixture
def tagged(ledger):
    """Three dogs of Ann's, two of Ben's, one of Cleo's."""
    owners = ["ann"] * 3 + ["ben"] * 2 + ["cleo"]
    return ledger.tag_all(ledger.list([ref(f"{n}.jpg", user=user) for n, user in enumerate(owners)]), "dog")


def test_users_come_and_go_as_they_answer(ledger, tagged):
    assert stored(ledger, "dog") == (0, 0, 0)
    for user, consent, expected in (
        ("ann", True, (1, 3, 27_000)),
        ("ben", True, (2, 5, 45_000)),
        ("ann", True, (2, 5, 45_000)),
        ("cleo", None, (2, 5, 45_000)),
        ("ann", False, (1, 2, 18_000)),
        ("ben", None, (0, 0, 0)),
    ):
        assert answer(ledger, user, consent).consent is consent
        assert stored(ledger, "dog") == expected
        ledger.check()


def test_photos_of_who_consents_are_counted_as_they_come_change_move_and_go(ledger, tagged):
    for user in ("ann", "cleo"):
        answer(ledger, user, True)
    assert stored(ledger, "dog") == (2, 4, 36_000)
    ledger.merge([ledger.tagged(r.task, "cat") for r in tagged[:3]], revision=2)  # all of Ann's
    assert (stored(ledger, "dog"), stored(ledger, "cat")) == ((1, 1, 9_000), (1, 3, 27_000))
    assert stored(ledger, "animal") == (2, 4, 36_000)
    ledger.list([ref("5.jpg", user="ann")], whole=False)  # Cleo's dog is Ann's now, who had none
    assert stored(ledger, "dog") == (1, 1, 9_000)
    ledger.list([ref("3.jpg", user="cleo"), ref("5.jpg", user="ben")], whole=False)
    assert stored(ledger, "dog") == (1, 1, 9_000)  # one of Ben's came, the other went to him
    ledger.list([ref("3.jpg", user="cleo")], allow_mass_delete=True)
    assert (stored(ledger, "dog"), stored(ledger, "cat")) == ((1, 1, 9_000), (0, 0, 0))
    ledger.check()


def test_who_is_erased_leaves_at_once_and_is_not_heard_again(ledger, tagged):
    for user in USERS:
        answer(ledger, user, True)
    ledger.database.run(lambda c: fence(c, "ann"))
    assert stored(ledger, "dog") == (2, 3, 27_000)
    ledger.check()
    with pytest.raises(ConfigurationError, match="erased"):
        answer(ledger, "ann", True)
    erase(ledger.database, "ann", batch_photos=1)
    assert stored(ledger, "dog") == (2, 3, 27_000)
    ledger.check()


@pytest.mark.parametrize("consent", [True, False])
def test_an_answer_waits_for_whoever_has_changed_totals(ledger, tagged, consent):
    """Whoever read "no" and commits after "yes" would be missed for ever; a plain UPDATE would not wait for him.

    A photo that is gone is taken out under the lock of the photo alone; the user's is taken with the totals.
    """
    answer(ledger, "ann", not consent)
    heard = threading.Thread(target=answer, args=(ledger, "ann", consent))
    with ledger.database.transaction() as connection:
        ensure_delta(connection)
        connection.execute(text("CREATE TEMP TABLE IF NOT EXISTS forgotten (photo_id bigint) ON COMMIT DELETE ROWS"))
        gone = {"photo": tagged[0].task.photo_id}
        connection.execute(text("UPDATE core.photo SET gone_at = now() WHERE photo_id = :photo"), gone)
        connection.execute(text("INSERT INTO forgotten VALUES (:photo)"), gone)
        collect_forgotten(connection)
        changed = apply_delta(connection)
        heard.start()
        wait_for(lambda: blocked(ledger))
        touch(connection, changed)
    heard.join()
    assert stored(ledger, "dog") == ((1, 2, 18_000) if consent else (0, 0, 0))
    ledger.check()


@pytest.mark.parametrize("consent", [True, False])
def test_who_changes_totals_waits_for_an_answer_and_heeds_it(ledger, tagged, consent):
    answer(ledger, "ann", not consent)
    again = [ledger.tagged(result.task, "cat") for result in tagged]
    merging = threading.Thread(target=ledger.merge, args=(again,), kwargs={"revision": 2})
    with ledger.database.transaction() as connection:
        set_consent(connection, "ann", consent)
        merging.start()
        wait_for(lambda: blocked(ledger))
    merging.join()
    assert stored(ledger, "cat") == ((1, 3, 27_000) if consent else (0, 0, 0))
    ledger.check()


def blocked(ledger):
    return ledger.one("SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0")


# ---- ledgers of an earlier release


@pytest.fixture
def upgraded(ledger, tagged):
    """Ann and Ben had consented before such totals were kept."""
    ledger.execute("UPDATE core.app_user SET consent = true WHERE name IN ('ann', 'ben')")


def test_who_consented_to_an_earlier_release_is_counted_by_a_repair(ledger, tagged, upgraded):
    ledger.merge([ledger.tagged(r.task, "cat") for r in tagged], revision=2)  # takes away what was never added
    assert audits(ledger) == {"shared totals"}
    for changed in ({"users counted as they answered": 1}, {"users counted as they answered": 1}, {}):
        assert ledger.database.run(lambda c: repair.answers(c, users=1)).changed == changed
    assert (stored(ledger, "dog"), stored(ledger, "cat")) == ((0, 0, 0), (2, 5, 45_000))
    assert audits(ledger) == set()
    ledger.check()


def test_the_command_counts_all_of_them(ledger, endpoints, upgraded, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}DATABASE_URL", endpoints.database_url)
    assert not places.own(places.Service.POSTGRES)
    for told in ("Repaired: 2 users counted as they answered.", "Nothing was wrong."):
        done = CliRunner().invoke(cli.group, ["repair", "shared"])
        assert (done.exit_code, done.output.strip()) == (0, told)
    assert stored(ledger, "dog") == (2, 5, 45_000)


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE core.shared_total SET users = users + 1, photos = photos + 2",
        "UPDATE core.shared_total SET mass = mass - 1",
        "DELETE FROM core.shared_total",
        "INSERT INTO core.shared_total SELECT model_id, node, 63, 1, 1, 1 FROM core.category_total",
        "UPDATE core.app_user SET shared = NOT shared",
    ],
)
def test_audits_find_what_is_wrong_and_the_repair_mends_it(ledger, tagged, wrong):
    answer(ledger, "ann", True)
    ledger.execute(wrong)
    assert audits(ledger) == {"shared totals"}
    ledger.database.run(repair.shared_totals)
    ledger.database.run(lambda c: repair.answers(c, users=10))
    assert (audits(ledger), stored(ledger, "dog")) == (set(), (1, 3, 27_000))
    ledger.check()


def test_a_repair_of_totals_corrects_these_along_with_them(ledger, tagged):
    answer(ledger, "ann", True)
    ledger.execute("UPDATE core.user_category SET photos = photos + 1, mass = mass + 1")
    assert ledger.database.run(repair.totals).changed
    assert stored(ledger, "dog") == (1, 3, 27_000)
    ledger.check()


def test_they_cannot_go_below_zero(ledger, tagged):
    answer(ledger, "ann", True)
    for column in ("users", "photos", "mass"):
        with pytest.raises(IntegrityError, match=f"shared_total_{column}_check"):
            ledger.execute(f"UPDATE core.shared_total SET {column} = -1")


def test_a_models_totals_go_with_it(ledger, tagged):
    answer(ledger, "ann", True)
    other = ledger.register("other")
    ledger.merge([ledger.tagged(r.task, "cat") for r in tagged], model=other)
    rows = "SELECT count(*) FROM core.shared_total WHERE model_id = :model"
    assert ledger.one(rows, model=other.model_id) > 0
    known = ledger.database.run(lambda c: promotions.find_model(c, "other"))
    dropping.drop(ledger.database, known)
    assert ledger.one(rows, model=other.model_id) == 0
    ledger.check()


def test_everybody_is_the_sum_over_those_who_consent(ledger, tagged):
    for user in ("ann", "cleo"):
        answer(ledger, user, True)
    found = ledger.database.run(lambda c: shared.everybody(c, ledger.registered.model_id))
    column = ledger.registered.nodes.tolist().index(ledger.node["dog"])
    assert {total.column: (total.photos, total.mass) for total in found}[column] == (4, 36_000)
