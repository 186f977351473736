"""The merge: whatever comes, and however often, results and totals say the same."""

import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_helpers import LABELS, LEASE_SECONDS, failed, ref, waiting
from sqlalchemy import text

from pipeline.ledger import ending, redrive, work
from pipeline.records import Code, ItemState, JobState, Version, WorkState
from pipeline.store.merge import merge

OUTCOMES = [Code.UNSUPPORTED, Code.TOO_LARGE, Code.CORRUPT, Code.MODEL_ERROR]


@pytest.fixture
def one(ledger):
    """(job, lease, task) of a ledger with a single photo of Ann's."""
    job_id = ledger.list([ref("ann/1.jpg")])
    (lease,) = ledger.claim_all(job_id)
    (task,) = ledger.tasks(lease)
    return job_id, lease, task


def again(ledger, **options):
    """List the same photo for a new job and claim it."""
    job_id = ledger.list([ref("ann/1.jpg", **options)])
    leases = ledger.claim_all(job_id)
    return job_id, leases, [task for lease in leases for task in ledger.tasks(lease)]


def test_a_first_result_is_stored_counted_and_closed(ledger, one):
    _job_id, lease, task = one
    merged = ledger.merge([ledger.tagged(task, "dog")], [lease])
    assert (merged.stored, merged.finished) == (1, {lease.work_id})
    assert merged.closed == {(ItemState.SUCCEEDED, Code.TAGGED): 1}
    # One photo that carries dog and animal; of the root there is a mass but no tag.
    assert [ledger.photos_with(tag) for tag in ("dog", "animal", "entity")] == [(1, 9000), (1, 9000), (0, 10_000)]
    assert ledger.photos_with("cat") == (0, 0)
    ledger.check()


def test_a_repeat_of_a_committed_merge_changes_nothing(ledger, one):
    """The reply to a COMMIT may be lost; the same transaction is then sent again, here three times over."""
    _job_id, lease, task = one
    results = [ledger.tagged(task, "dog")]
    ledger.merge(results, [lease])
    before = snapshot(ledger)
    for _ in range(3):
        merged = ledger.merge(results, [lease])
        assert (merged.stored, merged.closed, merged.finished) == (0, {}, frozenset())
    assert snapshot(ledger) == before
    ledger.check()


def test_a_repeat_of_a_committed_retry_changes_nothing(ledger, one):
    _job_id, lease, task = one
    ledger.merge([waiting(task)], [lease])
    before = snapshot(ledger)
    ledger.merge([waiting(task)], [lease])
    assert snapshot(ledger) == before


def snapshot(ledger):
    tables = ("photo", "photo_result", "user_category", "category_total", "job_item", "job_count", "shard")
    return [sorted(map(repr, ledger.all(f"SELECT * FROM core.{table}"))) for table in tables]


def test_two_merges_in_one_transaction_leave_each_other_alone(ledger):
    """As the redriver's, for several models: what the first left in the temporary tables must not be merged again."""
    job_id = ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")])
    (lease,) = ledger.claim_all(job_id)
    models = [ledger.registered.model_id, ledger.register("other").model_id]
    with ledger.database.transaction() as connection:
        for model_id, task in zip(models, ledger.tasks(lease), strict=True):
            merged = merge(
                connection,
                model_id=model_id,
                decision_rev=1,
                results=[ledger.tagged(task, "dog")],
                leases=[lease],
                patience_seconds=0,
            )
            assert merged.closed == {(ItemState.SUCCEEDED, Code.TAGGED): 1}
    assert merged.finished == {lease.work_id}
    assert [row.model_id for row in ledger.all("SELECT model_id FROM core.photo_result ORDER BY photo_id")] == models
    assert ledger.photos_with("dog") == (2, 18_000)
    ledger.check()


@pytest.mark.parametrize("order", [1, -1])
def test_a_photo_twice_in_one_batch_counts_once_and_success_wins(ledger, one, order):
    _, lease, task = one
    both = [failed(task, Code.CORRUPT), ledger.tagged(task, "dog")][::order]
    merged = ledger.merge(both, [lease])
    assert merged.closed == {(ItemState.SUCCEEDED, Code.TAGGED): 1}
    assert ledger.photos_with("dog") == (1, 9000)
    ledger.check()


def test_two_jobs_bring_one_photo_in_one_batch(ledger, one):
    _, lease, task = one
    _, (other,), (same,) = again(ledger)
    merged = ledger.merge([ledger.tagged(task, "dog"), ledger.tagged(same, "dog")], [lease, other])
    assert merged.stored == 1
    assert merged.closed == {(ItemState.SUCCEEDED, Code.TAGGED): 2}
    assert merged.finished == {lease.work_id, other.work_id}
    ledger.check()


@pytest.mark.parametrize("code", OUTCOMES)
def test_a_result_beats_a_failure_of_the_same_revision_whatever_the_order(ledger, one, code):
    _, lease, task = one
    ledger.merge([failed(task, code, "no luck")], [lease])
    assert ledger.one("SELECT outcome FROM core.photo_result") == code
    ledger.merge([ledger.tagged(task, "dog")])
    ledger.merge([failed(task, code, "late")])
    assert ledger.one("SELECT outcome FROM core.photo_result") == Code.TAGGED
    assert ledger.photos_with("dog") == (1, 9000)
    ledger.check()


def test_a_newer_decision_wins_and_an_older_one_comes_too_late(ledger, one):
    _, _, task = one
    ledger.merge([ledger.tagged(task, "dog", mass=9000)], revision=1)
    ledger.merge([ledger.tagged(task, "cat", mass=8500)], revision=2)
    assert (ledger.photos_with("dog"), ledger.photos_with("cat")) == ((0, 0), (1, 8500))
    assert ledger.photos_with("animal") == (1, 8500)
    assert ledger.merge([ledger.tagged(task, "dog")], revision=1).stored == 0
    assert ledger.photos_with("dog") == (0, 0)
    ledger.check()


def test_a_retag_may_only_take_away(ledger, one):
    """All deltas are negative: a CHECK that sees the proposed row before the conflict must not refuse them."""
    _, _, task = one
    ledger.merge([ledger.tagged(task, "dog", "car")], revision=1)
    ledger.merge([ledger.tagged(task)], revision=2)
    assert [ledger.photos_with(tag)[0] for tag in ("dog", "animal", "car", "thing")] == [0, 0, 0, 0]
    assert ledger.one("SELECT outcome FROM core.photo_result") == Code.ABSTAINED
    ledger.check()


def test_changed_content_replaces_and_the_stale_result_goes_back_to_retry(ledger, one):
    job_id, lease, task = one
    _, (newer,), (fresh,) = again(ledger, etag="e2")
    assert fresh.content_rev == task.content_rev + 1
    merged = ledger.merge([ledger.tagged(task, "dog")], [lease])
    assert (merged.stored, merged.finished) == (0, {lease.work_id})
    item = ledger.one("SELECT state, shard_id, next_attempt_at <= now() FROM core.job_item WHERE job_id = :j", j=job_id)
    assert tuple(item) == (ItemState.RETRY, None, True)
    ledger.merge([ledger.tagged(fresh, "cat")], [newer])
    assert ledger.database.run(lambda c: redrive.gather_retries(c, 512)) == 1
    (late,) = ledger.tasks(ledger.claim_all(job_id)[0])
    assert late.content_rev == fresh.content_rev
    ledger.check()


def test_a_worker_that_finds_the_photo_changed_gets_its_new_exif_time(ledger, one):
    """The time of the old bytes must not stay for good."""
    _job_id, lease, task = one
    old, new = ref("x").modified_at.replace(year=2001), ref("x").modified_at.replace(year=2002)
    ledger.merge([ledger.tagged(task, "dog", taken_at=old)], [lease])
    ledger.database.run(lambda c: work.note_changed(c, task, Version(etag="e9", size=7)))
    _, (lease,), (task,) = again(ledger, etag="e9", size=7)
    ledger.merge([ledger.tagged(task, "dog", taken_at=new)], [lease])
    assert ledger.one("SELECT taken_at FROM core.photo") == new


def test_nothing_of_an_erased_user_is_stored(ledger, one):
    _, lease, task = one
    ledger.execute("UPDATE core.app_user SET deleted_at = now() WHERE name = 'ann'")
    merged = ledger.merge([ledger.tagged(task, "dog")], [lease])
    assert merged.stored == 0
    assert merged.closed == {(ItemState.ERASED, Code.NONE): 1}
    assert merged.finished == {lease.work_id}
    assert ledger.one("SELECT count(*) FROM core.photo_result") == 0
    ledger.check()


def test_a_merge_and_an_eraser_do_not_overlap(ledger, one):
    """The eraser locks the user FOR UPDATE: a merge that comes then waits, and sees the tombstone."""
    _, lease, task = one
    seen = []
    with ledger.database.transaction() as eraser:
        eraser.exec_driver_sql("SELECT FROM core.app_user FOR UPDATE")
        merging = threading.Thread(target=lambda: seen.append(ledger.merge([ledger.tagged(task, "dog")], [lease])))
        merging.start()
        merging.join(0.3)
        assert merging.is_alive()
        eraser.exec_driver_sql("UPDATE core.app_user SET deleted_at = now()")
    merging.join()
    assert seen[0].stored == 0
    ledger.check()


@pytest.mark.parametrize(
    ("change", "stored", "owner"),
    [("content_rev = content_rev + 1", 0, "ann"), ("gone_at = now()", 0, "ann"), ("user_id = :ben", 1, "ben")],
)
def test_a_merge_that_waited_for_a_lister_sees_what_the_lister_wrote(ledger, one, change, stored, owner):
    _, lease, task = one
    ledger.list([ref("ben/1.jpg", user="ben")], prefix="ben/")
    ben = ledger.one("SELECT user_id FROM core.app_user WHERE name = 'ben'")
    seen = []
    with ledger.database.transaction() as lister:
        lister.execute(text(f"UPDATE core.photo SET {change} WHERE key = 'ann/1.jpg'"), {"ben": ben})
        merging = threading.Thread(target=lambda: seen.append(ledger.merge([ledger.tagged(task, "dog")], [lease])))
        merging.start()
        merging.join(0.3)
        assert merging.is_alive()
    merging.join()
    assert seen[0].stored == stored
    assert ledger.photos_with("dog", owner) == (stored, 9000 * stored)
    ledger.check()


def test_gone_subtracts_for_every_model_and_stays_gone(ledger, one):
    _, lease, task = one
    ledger.merge([ledger.tagged(task, "dog")], [lease])
    other = ledger.register("other")
    ledger.merge([ledger.tagged(task, "cat")], model=other)
    _job_id, _, (again_task,) = again(ledger, etag="e2")
    merged = ledger.merge([failed(again_task, Code.GONE, "deleted")])
    assert merged.closed == {(ItemState.FAILED, Code.GONE): 1}
    assert ledger.one("SELECT count(*) FROM core.photo_result") == 0
    assert (ledger.photos_with("dog"), ledger.photos_with("cat")) == ((0, 0), (0, 0))
    assert ledger.merge([ledger.tagged(again_task, "dog")]).stored == 0  # a late result does not bring it back
    ledger.check()


@pytest.mark.parametrize(
    ("photos", "gone", "allowed", "subtracted"),
    [
        (150, 100, False, 100),
        (150, 101, False, 100),  # the second batch makes it too many
        (150, 101, True, 101),
        (600, 120, False, 120),  # 20 % of 600
        (600, 121, False, 100),
    ],
)
def test_what_is_gone_by_the_hundred_is_not_believed_of_those_who_read(ledger, photos, gone, allowed, subtracted):
    """A place that is emptied, or another one under the same name, would take every model's results with it."""
    refs = [ref(f"ann/{n:03d}.jpg") for n in range(photos)]
    ledger.tag_all(ledger.list(refs), "dog")
    other = ledger.register("other")
    job_id = ledger.list(refs, model=other, allow_mass_delete=allowed)
    tasks = [task for lease in ledger.claim_all(job_id) for task in ledger.tasks(lease)]
    for some in (tasks[:100], tasks[100:gone]):
        ledger.merge([failed(task, Code.GONE) for task in some], model=other)
    assert ledger.one("SELECT count(*) FROM core.photo WHERE gone_at IS NOT NULL") == subtracted
    assert ledger.photos_with("dog") == (photos - subtracted, 9000 * (photos - subtracted))
    assert ledger.job(job_id).counts[ItemState.FAILED, Code.GONE] == gone
    ledger.check()


def test_models_stand_side_by_side(ledger, one):
    _, _, task = one
    other = ledger.register("other")
    ledger.merge([ledger.tagged(task, "dog")])
    ledger.merge([ledger.tagged(task, "car")], model=other)
    rows = ledger.all("SELECT model_id, tags FROM core.photo_result ORDER BY 1")
    assert [row.tags[-1] for row in rows] == [ledger.node["dog"], ledger.node["car"]]
    assert ledger.photos_with("dog") == (1, 9000)
    ledger.check()


def test_the_owner_moves_and_the_totals_follow(ledger, one):
    _, lease, task = one
    ledger.merge([ledger.tagged(task, "dog")], [lease])
    ledger.list([ref("ann/1.jpg", user="ben")])
    assert (ledger.photos_with("dog", "ann"), ledger.photos_with("dog", "ben")) == ((0, 0), (1, 9000))
    ledger.check()


def test_a_result_counts_for_the_owner_of_the_moment(ledger, one):
    _, lease, task = one
    ledger.list([ref("ann/1.jpg", user="ben")])
    ledger.merge([ledger.tagged(task, "dog")], [lease])
    assert (ledger.photos_with("dog", "ann"), ledger.photos_with("dog", "ben")) == ((0, 0), (1, 9000))
    ledger.check()


def test_results_survive_a_lost_lease_and_leave_the_shard_to_its_new_holder(ledger, one):
    _job_id, lease, task = one
    ledger.expire()
    ledger.database.run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))
    newer = ledger.claim(lease.work_id, "second")
    merged = ledger.merge([ledger.tagged(task, "dog")], [lease])
    assert (merged.stored, merged.finished) == (1, frozenset())
    assert ledger.tasks(newer) == []
    assert ledger.merge([], [newer]).finished == {newer.work_id}
    ledger.check()


def test_a_shard_with_an_open_photo_is_not_finished(ledger):
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(3)])
    (lease,) = ledger.claim_all(job_id)
    first, *rest = ledger.tasks(lease)
    assert ledger.merge([ledger.tagged(first, "dog")], [lease]).finished == frozenset()
    assert ledger.merge([ledger.tagged(task, "dog") for task in rest], [lease]).finished == {lease.work_id}
    ledger.check()


def test_trouble_waits_longer_each_time_and_ends_with_the_patience(ledger, one):
    job_id, lease, task = one
    waits = []
    for attempt in range(1, 5):
        merged = ledger.merge([waiting(task)], [lease])
        assert merged.closed == {}
        assert merged.finished == {lease.work_id}
        item = ledger.one(
            "SELECT state, shard_id, attempts, extract(epoch FROM next_attempt_at - now())::float FROM core.job_item"
        )
        assert tuple(item)[:3] == (ItemState.RETRY, None, attempt)
        waits.append(item[3])
        assert ledger.database.run(lambda c: redrive.gather_retries(c, 512)) == 0  # not due yet
        ledger.execute("UPDATE core.job_item SET next_attempt_at = now()")
        assert ledger.database.run(lambda c: redrive.gather_retries(c, 512)) == 1
        (lease,) = ledger.claim_all(job_id)
        (task,) = ledger.tasks(lease)
        ledger.check()
    for attempt, seconds in enumerate(waits):  # 5 s, doubled each time, between half of it and all of it
        assert 2.4 * 2**attempt < seconds <= 5 * 2**attempt
    ledger.execute("UPDATE core.job_item SET first_retry_at = now() - interval '25 h'")
    merged = ledger.merge([waiting(task, "still away")], [lease])
    assert merged.closed == {(ItemState.FAILED, Code.INFRASTRUCTURE): 1}
    assert ledger.one("SELECT count(*) FROM core.photo_result") == 0  # the next job tries again
    assert ledger.database.run(ending.finish_jobs) == [job_id]
    assert ledger.job(job_id).state is JobState.SUCCEEDED_WITH_ERRORS
    ledger.check()


def test_a_success_forgets_the_trouble_before_it(ledger, one):
    _job_id, lease, task = one
    ledger.merge([waiting(task)], [lease])
    ledger.merge([ledger.tagged(task, "dog")])  # a second delivery had it in hand as well
    item = ledger.one("SELECT state, first_retry_at, next_attempt_at FROM core.job_item")
    assert tuple(item) == (ItemState.SUCCEEDED, None, None)
    ledger.check()


def test_the_results_of_a_failed_job_are_kept_and_its_items_stay_cancelled(ledger, one):
    job_id, lease, task = one
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    merged = ledger.merge([ledger.tagged(task, "dog")], [lease])
    assert (merged.stored, merged.closed, merged.finished) == (1, {}, frozenset())
    assert ledger.one("SELECT state FROM core.shard") == WorkState.CANCELLED
    ledger.check()


def test_the_root_must_weigh_a_whole_photo(ledger, one):
    _, _, task = one
    note = ledger.tagged(task, "dog")
    broken = type(note)(
        task=task,
        state=note.state,
        code=note.code,
        annotation=type(note.annotation)(nodes=(1,), masses=(9999,), tags=(), headline=None),
    )
    with pytest.raises(ValueError, match="root"):
        ledger.merge([broken])


MESSAGES = st.text(st.characters(codec=None) | st.sampled_from('\t\\\n\r\0.,{}"N🐕\ud800\u2028\x1b'), max_size=30)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(MESSAGES, max_size=20))
def test_any_message_is_stored_as_it_is(ledger, messages):
    said = [*messages, r"\.", r"\N", "\\", "\\.\n\\.", "a\tb", "\0", "", "\ud800"]
    ledger.execute("UPDATE core.photo SET content_rev = content_rev + 1")
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(len(said))], whole=False)
    (lease,) = ledger.claim_all(job_id)
    results = [failed(t, Code.CORRUPT, said[int(t.key[4:-4])]) for t in ledger.tasks(lease)]
    ledger.merge(results, [lease])
    stored = dict(map(tuple, ledger.all("SELECT photo_id, message FROM core.job_item WHERE job_id = :j", j=job_id)))
    for result in results:
        expected = result.message.replace("\0", "").encode(errors="replace").decode()
        assert (stored[result.task.photo_id] or "") == expected


@pytest.mark.parametrize("threads", [6])
def test_overlapping_shuffled_merges_from_many_threads_count_exactly(ledger, threads):
    """About 150 photos of 5 users, all of them tagged by every thread, in other orders, batches and decisions."""
    users = ["ann", "ben", "cleo", "dan", "eve"]
    refs = [ref(f"{users[n % 5]}/{n}.jpg", user=users[n % 5]) for n in range(150)]
    job_id = ledger.list(refs, shard_photos=40)
    leases = ledger.claim_all(job_id)
    tasks = [task for lease in leases for task in ledger.tasks(lease)]
    errors = []

    def work_on(seed):
        chance = random.Random(seed)
        try:
            for revision in (1, 2, 3):
                mine = chance.sample(tasks, len(tasks))
                for at in range(0, len(mine), 37):
                    batch = [ledger.tagged(t, *chance.sample(LABELS, chance.randint(0, 3))) for t in mine[at : at + 37]]
                    ledger.merge(batch, leases, revision=revision)
        except Exception as exc:
            errors.append(exc)

    workers = [threading.Thread(target=work_on, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == []
    assert ledger.one("SELECT count(*), min(decision_rev) FROM core.photo_result") == (150, 3)
    assert {row.state for row in ledger.shards(job_id)} == {WorkState.DONE}
    assert ledger.job(job_id).counts == {(ItemState.SUCCEEDED, Code.TAGGED): 150} or ledger.job(job_id).waiting == 0
    ledger.check()


def test_merges_while_a_lister_moves_changes_and_misses_the_same_photos(ledger):
    """Listing and merging cross each other's locks on users, photos, results and totals all the time."""
    refs = [ref(f"p/{n:02d}.jpg", user="ann") for n in range(40)]
    job_id = ledger.list(refs)
    tasks = ledger.tasks(ledger.claim_all(job_id)[0])
    errors = []

    def guarded(step):
        def run():
            try:
                for turn in range(8):
                    step(turn)
            except Exception as exc:
                errors.append(exc)

        return threading.Thread(target=run)

    def list_again(turn):
        chance = random.Random(turn)
        now = [ref(r.key, user=chance.choice(["ann", "ben"]), etag=chance.choice(["e1", "e2"])) for r in refs]
        ledger.list(chance.sample(now, 36), allow_mass_delete=True)

    def tag(turn):
        chance = random.Random(turn)
        rows = {row.photo_id: row.content_rev for row in ledger.all("SELECT photo_id, content_rev FROM core.photo")}
        fresh = [t.__class__(**{**fields(t), "content_rev": rows[t.photo_id]}) for t in chance.sample(tasks, 40)]
        ledger.merge([ledger.tagged(t, *chance.sample(LABELS, 2)) for t in fresh], revision=turn)

    threads = [guarded(list_again), guarded(tag), guarded(tag), guarded(list_again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    ledger.check()


def fields(task):
    return {name: getattr(task, name) for name in type(task).__dataclass_fields__}


def test_a_photo_that_we_may_not_read_is_tried_again_by_the_next_job(ledger):
    """Rights change without a change of the bytes."""
    job_id = ledger.list([ref("ann/1.jpg")])
    (lease,) = ledger.claim_all(job_id)
    ledger.merge([failed(task, Code.FORBIDDEN) for task in ledger.tasks(lease)], [lease])
    assert ledger.job(job_id).counts == {(ItemState.FAILED, Code.FORBIDDEN): 1}
    assert ledger.job(ledger.list([ref("ann/1.jpg")])).counts == {(ItemState.PENDING, Code.NONE): 1}


@pytest.mark.parametrize(("closed", "left"), [(True, 0), (False, 3)])
def test_progress_clears_a_shard_of_its_failures(ledger, closed, left):
    (lease,) = ledger.claim_all(ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")]))
    ledger.execute("UPDATE core.shard SET failures = 3, error = 'a bug'")
    first, _ = ledger.tasks(lease)
    ledger.merge([ledger.tagged(first, "dog") if closed else waiting(first)])
    assert tuple(ledger.one("SELECT failures, error FROM core.shard")) == (left, None if closed else "a bug")
