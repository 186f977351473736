"""Every transaction that changes something shown raises the numbers by which answers are cached, and no other does."""

from dataclasses import replace

import pytest
from ledger_helpers import DAY, Ledger, failed, ref, waiting, wnid
from sqlalchemy import text

from pipeline.errors import ConfigurationError
from pipeline.ledger import decide as deciding
from pipeline.ledger import events, jobs, repair, work
from pipeline.ledger.decide import Decider
from pipeline.ledger.erase import erase, fence
from pipeline.ledger.users import set_consent
from pipeline.records import Code, Removed, Version
from pipeline.store import dropping, policies, promotions
from pipeline.store.catalogue import newest_decision, store_decision
from pipeline.store.revisions import model_stamp, touch_users, user_stamp
from pipeline.store.roles import see_shared, see_user

USERS = ("ann", "ben", "cleo")


class Watch:
    """Whose revisions have risen since it was last asked."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.before = self._now()

    def _now(self) -> dict:
        with self.ledger.database.transaction() as connection:
            users = {user: user_stamp(connection, user) for user in USERS}
            models = connection.execute(text("SELECT model_id, name FROM core.model WHERE dropped_at IS NULL")).all()
            return users | {model.name: model_stamp(connection, model.model_id).revision for model in models}

    def risen(self) -> set[str]:
        """Users and models; every one that has not risen is as it was."""
        before, self.before = self.before, self._now()
        return {name for name, stamp in self.before.items() if stamp != before.get(name)}


@pytest.fixture
def tagged(ledger):
    """Two photos of Ann's, two of Ben's and one of Cleo's; Ann's and Ben's are tagged."""
    job_id = ledger.list([ref("a1"), ref("a2"), ref("b1", user="ben"), ref("b2", user="ben")])
    results = ledger.tag_all(job_id, "dog")
    ledger.list([ref("c1", user="cleo")], whole=False)
    return results


@pytest.fixture
def watch(ledger, tagged):
    return Watch(ledger)


def owned(ledger, results, user):
    photos = {n for (n,) in ledger.all("SELECT photo_id FROM core.photo JOIN core.app_user USING (user_id) "
                                       "WHERE name = :user", user=user)}  # fmt: skip
    return [result for result in results if result.task.photo_id in photos]


def test_a_merge_raises_whom_it_changes_and_its_repeat_nobody(ledger, tagged, watch):
    mine = owned(ledger, tagged, "ben")
    ledger.merge([ledger.tagged(r.task, "cat") for r in mine], revision=2)
    assert watch.risen() == {"ben", "small"}
    ledger.merge([ledger.tagged(r.task, "cat") for r in mine], revision=2)
    ledger.merge([ledger.tagged(r.task, "cup") for r in mine])  # what came late and lost
    assert watch.risen() == set()


def test_what_no_total_shows_raises_too(ledger, tagged, watch):
    ann, ben = (owned(ledger, tagged, user) for user in ("ann", "ben"))
    note = ledger.note("dog")
    other_headline = replace(note, headline=ledger.node["animal"])
    ledger.merge([replace(r, annotation=other_headline) for r in ann], revision=2)
    assert watch.risen() == {"ann", "small"}
    (lease,) = ledger.claim_all(ledger.one("SELECT max(job_id) FROM core.job"))
    (task,) = ledger.tasks(lease)
    ledger.merge([failed(task, Code.CORRUPT)])
    assert watch.risen() == {"cleo", "small"}
    ledger.merge([replace(r, taken_at=DAY.replace(month=3)) for r in ben])  # nothing wins, but now the time is known
    assert watch.risen() == {"ben", "small"}
    ledger.merge([waiting(task), *(replace(r, taken_at=DAY) for r in ben)])
    assert watch.risen() == set()


def test_another_models_results_get_the_time_that_this_one_has_found(ledger, tagged, watch):
    other = ledger.register("other")
    ben = owned(ledger, tagged, "ben")
    ledger.merge([replace(r, taken_at=DAY.replace(month=5)) for r in ben], model=other)
    assert watch.risen() == {"ben", "small", "other"}
    ledger.check()


def test_listings_raise_whose_photos_come_change_move_and_go(ledger, watch):
    def lists(*refs, **options):
        ledger.list(refs, **options)
        return watch.risen()

    everything = [ref("a1"), ref("a2"), ref("b1", user="ben"), ref("b2", user="ben"), ref("c1", user="cleo")]
    assert lists(*everything) == set()
    assert lists(*everything, ref("c2", user="cleo"), whole=False) == {"cleo"}  # nobody has seen it yet
    assert lists(ref("a1", user="cleo"), whole=False) == {"ann", "cleo", "small"}
    newer = replace(ref("b1", user="ben", etag="e2"), modified_at=DAY.replace(month=2))
    assert lists(newer, whole=False) == {"ben", "small"}  # its time is another, and so its result's
    assert lists(ref("a1", user="cleo"), newer, *everything[3:], ref("c2", user="cleo"), allow_mass_delete=True) == {
        "ann",
        "small",
    }
    ledger.check()


def test_photos_found_gone_or_changed_raise(ledger, tagged, watch):
    ann, ben = (owned(ledger, tagged, user)[0].task for user in ("ann", "ben"))
    ledger.merge([failed(ann, Code.GONE)])
    assert watch.risen() == {"ann", "small"}
    for _ in "ab":
        ledger.database.run(lambda c: work.note_changed(c, ben, Version(etag="e9", size=1)))
    assert watch.risen() == {"ben"}
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    removed = [Removed(bucket=ben.bucket, key=ben.key)]
    for risen in ({"ben", "small"}, set()):
        ledger.database.run(lambda c: events.subtract(c, lease, removed))
        assert watch.risen() == risen


def decide_all(ledger):
    """A whole job of kind `decide`, by the newest decision."""
    model = ledger.registered.model_id
    job_id = ledger.database.run(lambda c: jobs.submit(c, deciding.request(c, model, None), model))
    lease, job = ledger.claim_range(job_id), ledger.job(job_id)
    decider = ledger.database.run(lambda c: Decider.of(c, job, ledger.taxonomy))
    assert ledger.database.run(lambda c: decider.page(c, job, lease, None, 100)).last


def test_a_decide_job_raises_whose_photos_it_decides_and_a_second_one_nobody(ledger, watch):
    newest = newest_decision_of(ledger)
    ledger.database.run(
        lambda c: store_decision(c, ledger.registered.model_id, replace(newest, threshold=newest.threshold - 1), {})
    )
    assert watch.risen() == set()  # a decision is a part of the stamp, not of the revision
    decide_all(ledger)
    assert watch.risen() == {"ann", "ben", "small"}  # though nothing may show: each was decided by another revision
    decide_all(ledger)
    assert watch.risen() == set()
    ledger.check()


def newest_decision_of(ledger):
    return ledger.database.run(lambda c: newest_decision(c, ledger.registered.model_id))


def test_consent_and_erasure_raise_the_user_and_every_model_that_knows_them(ledger, watch):
    def answers(user, consent):
        ledger.database.run(lambda c: set_consent(c, user, consent))
        return watch.risen()

    assert answers("ann", True) == {"ann", "small"}
    assert answers("ann", True) == set()
    assert answers("ann", None) == {"ann", "small"}
    assert answers("ann", False) == {"ann"}  # others saw her neither before nor after
    assert answers("cleo", True) == {"cleo"}  # no model knows her
    ledger.database.run(lambda c: fence(c, "ben"))
    assert watch.before["ben"] is not None
    assert watch.risen() == {"ben", "small"}
    assert watch.before["ben"] is None
    erase(ledger.database, "ben")
    assert "ann" not in watch.risen()


def test_repairs_raise_what_they_correct(ledger, tagged, watch):
    def repairs(work, *wrong):
        for change in wrong:
            ledger.execute(change)
        changed = ledger.database.run(work).changed
        assert bool(changed) == bool(wrong)
        return watch.risen()

    of_ben = "(SELECT user_id FROM core.app_user WHERE name = 'ben')"
    assert repairs(repair.totals, f"UPDATE core.user_category SET mass = 0 WHERE user_id = {of_ben}") == {
        "ben",
        "small",
    }
    assert repairs(repair.totals) == set()
    untimed = f"UPDATE core.photo_result SET taken_at = NULL WHERE user_id = {of_ben}"
    assert repairs(lambda c: repair.times(c, 10), untimed) == {"ben", "small"}
    misplaced = f"UPDATE core.photo SET user_id = {of_ben} WHERE key = 'a1'"
    assert repairs(repair.results, misplaced) == {"ann", "ben", "small"}
    gone = "UPDATE core.photo SET gone_at = now() WHERE key = 'b2'"
    assert repairs(repair.results, gone) == {"ben", "small"}
    ledger.check()


def test_a_model_that_was_dropped_and_returns_goes_on_counting(ledger, tagged):
    other = ledger.register("other")
    ledger.merge([ledger.tagged(r.task, "cat") for r in tagged], model=other)
    before = ledger.database.run(lambda c: model_stamp(c, other.model_id))
    known = ledger.database.run(lambda c: promotions.find_model(c, "other"))
    dropping.drop(ledger.database, known)
    with pytest.raises(ConfigurationError, match="no model"):
        ledger.database.run(lambda c: model_stamp(c, other.model_id))
    assert ledger.register("other").model_id == other.model_id
    assert ledger.database.run(lambda c: model_stamp(c, other.model_id)).revision > before.revision


def test_policies_and_names_raise_how_every_model_is_shown(ledger, tagged):
    def shown():
        return ledger.database.run(model_stamp).shown

    first = shown()
    ledger.merge([ledger.tagged(r.task, "cat") for r in tagged], revision=2)
    assert shown() == first
    ledger.database.run(lambda c: policies.apply(c, 0, ledger.taxonomy))
    assert shown() == first + 1
    ledger.execute("UPDATE core.category SET gloss = 'another' WHERE wnid = :dog", dog=wnid("dog"))
    ledger.register("small")
    assert shown() == first + 2
    ledger.register("small")
    assert shown() == first + 2


def test_a_stamp_names_the_versions_by_which_results_are_shown(ledger, tagged):
    stamp = ledger.database.run(model_stamp)
    assert (stamp.model.name, stamp.model.model_id) == ("small", ledger.registered.model_id)
    assert stamp.model.decision_revision == newest_decision_of(ledger).revision
    assert stamp.policy_version == 0
    assert stamp.promotion == ledger.one("SELECT max(promotion_id) FROM core.promotion")
    assert ledger.database.run(lambda c: model_stamp(c, stamp.model.model_id)) == stamp


def test_stamps_are_seen_by_whoever_may_see_the_user(ledger, api, tagged):
    """Who looks at what others consent to finds their true revisions; anybody else finds nobody."""

    def seen(see, user, of):
        with api.database.transaction() as connection:
            see(connection, user)
            return user_stamp(connection, of)

    own = ledger.database.run(lambda c: user_stamp(c, "ann"))
    assert seen(see_user, "ann", "ann") == own
    assert seen(see_user, "ben", "ann") is None
    assert seen(see_shared, "ben", "ann") is None
    ledger.database.run(lambda c: set_consent(c, "ann", True))
    assert seen(see_shared, "ben", "ann") == replace(own, revision=own.revision + 1)
    with api.database.transaction() as connection:
        see_user(connection, "ann")
        touch_users(connection, [own.user_id])
    assert seen(see_user, "ann", "ann").revision == own.revision + 2


def test_a_user_has_no_revision_before_anything_has_changed(ledger):
    ledger.execute("INSERT INTO core.app_user (name) VALUES ('zoe')")
    assert ledger.database.run(lambda c: user_stamp(c, "zoe")).revision == 0
    assert ledger.database.run(lambda c: user_stamp(c, "nobody")) is None
