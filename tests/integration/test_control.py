"""What an operator orders of a job: rest with an end, hours, an end for good, another try, a place further ahead."""

import threading
from datetime import timedelta

import pytest
from ledger_helpers import failed, page_of, ref, waiting

from pipeline.errors import ConfigurationError
from pipeline.ledger import control, ending, jobs, publish, redrive, roster, work
from pipeline.ledger.publish import INGEST_QUEUE
from pipeline.ledger.requests import Output, Scope, Window
from pipeline.records import Code, ItemState, JobState, WorkState
from pipeline.store.roles import Role
from workers.redriver import Redriver

QUEUE = "annotate.small"
REFS = [ref(f"k{n:02d}") for n in range(12)]


@pytest.fixture
def listening(ledger):
    """One living worker per queue."""
    for worker, queue in (("tagger", QUEUE), ("lister", INGEST_QUEUE)):
        ledger.database.run(lambda c, w=worker, q=queue: roster.note_worker(c, w, q, progressed=False))


def cancel(ledger, job_id, by="ann@desk"):
    return ledger.database.run(lambda c: ending.cancel(c, job_id, by))


def pause(ledger, job_id, by="ann@desk", **more):
    return ledger.database.run(lambda c: control.pause(c, job_id, by, **more))


def resume(ledger, job_id, **more):
    return ledger.database.run(lambda c: control.resume(c, job_id, **more))


def keep_hours(ledger):
    return ledger.database.run(control.keep_hours)


def claim_next(ledger, least_held=None):
    model = ledger.registered.model_id
    return ledger.database.run(lambda c: work.claim_next_shard(c, model, "worker", 60, least_held))


def now(ledger):
    return ledger.database.run(jobs.now)


def clock(moment):
    return f"{moment:%H:%M}"


def shut(ledger):
    """A window that opens in two hours or a little less."""
    moment = now(ledger)
    return Window(begins=clock(moment + timedelta(hours=2)), ends=clock(moment + timedelta(hours=3)))


def wide(ledger):
    """One that is open now."""
    moment = now(ledger)
    return Window(begins=clock(moment - timedelta(hours=2)), ends=clock(moment + timedelta(hours=2)))


# ---- cancelling


def test_a_cancelled_job_counts_every_photo_exactly_and_gives_out_nothing(ledger, listening):
    job_id = ledger.list(REFS, shard_photos=2)
    leases = ledger.claim_all(job_id)[:3]
    for row in ledger.shards(job_id, WorkState.LEASED)[3:]:
        ledger.execute("UPDATE core.shard SET state = 0 WHERE shard_id = :id", id=row.shard_id)
    done, held, wait = leases
    ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(done)], [done])
    first, second = ledger.tasks(held)
    ledger.merge([waiting(ledger.tasks(wait)[0])])
    assert cancel(ledger, job_id)
    assert ledger.job(job_id).state is JobState.CANCELLING
    assert ledger.database.run(publish.publishable) == []
    assert claim_next(ledger) is None
    assert ledger.claim(ledger.shards(job_id, WorkState.PENDING)[0].shard_id) is None
    ledger.merge([ledger.tagged(first, "dog")])  # brought before it is wound up: it has ended as it did
    assert ending.wind_up_all(ledger.database) == [job_id]
    ledger.merge([ledger.tagged(second, "dog")], [held])  # brought after: stored, and counted as cancelled
    job = ledger.job(job_id)
    assert job.counts == {(ItemState.SUCCEEDED, Code.TAGGED): 3, (ItemState.CANCELLED, Code.NONE): 9}
    assert (job.state, job.error, job.cancelled_by) == (JobState.CANCELLED, None, "ann@desk")
    assert job.finished_at is not None
    assert ledger.photos_with("dog")[0] == 4
    assert {row.state for row in ledger.shards(job_id)} == {WorkState.DONE, WorkState.CANCELLED}
    assert ledger.database.run(lambda c: work.SHARDS.renew(c, leases, 60)) == frozenset()
    ledger.execute("UPDATE core.job_item SET next_attempt_at = now()")
    assert ledger.database.run(lambda c: redrive.gather_retries(c, 512)) == 0
    assert ledger.database.run(ending.finish_jobs) == []
    ledger.check()


def test_a_large_job_is_wound_up_batch_by_batch_by_whoever_comes(ledger):
    shards = 2 * ending.SHARDS_AT_ONCE + 3
    job_id = ledger.list([ref(f"k{n:03d}") for n in range(shards)], shard_photos=1)
    cancel(ledger, job_id)
    seen = []
    for _ in range(3):
        seen.append(ledger.database.run(lambda c: ending.wind_up(c, job_id)))
        ledger.check()
        assert ledger.job(job_id).state.ended == seen[-1]
    assert seen == [False, False, True]
    assert ledger.job(job_id).count(ItemState.CANCELLED) == shards
    assert ledger.database.run(lambda c: ending.wind_up(c, job_id))  # once more is no more


def test_a_job_that_is_being_listed_or_was_not_begun(ledger):
    listed = ledger.submit()
    lease = ledger.claim_range(listed)
    ledger.write_page(listed, lease, page_of(REFS, last=False))
    fresh = ledger.submit()
    for job_id in (listed, fresh):
        cancel(ledger, job_id)
    assert sorted(ending.wind_up_all(ledger.database)) == [listed, fresh]
    with pytest.raises(Exception, match="another worker"):
        ledger.write_page(listed, lease, page_of([ref("z")]))
    assert [ledger.job(job_id).state for job_id in (listed, fresh)] == [JobState.CANCELLED] * 2
    assert [ledger.job(job_id).total for job_id in (listed, fresh)] == [12, 0]
    assert not ledger.job(listed).listing
    ledger.check()


def test_cancelling_twice_is_once_and_what_has_ended_is_refused(ledger):
    job_id = ledger.list(REFS)
    assert [cancel(ledger, job_id), cancel(ledger, job_id, "bob@desk")] == [True, False]
    assert ledger.job(job_id).cancelled_by == "ann@desk"
    for act in (pause, resume):
        with pytest.raises(ConfigurationError, match="is cancelling; there is no way back"):
            act(ledger, job_id)
    ledger.database.run(lambda c: ending.fail(c, job_id, "too late"))
    ending.wind_up_all(ledger.database)
    assert (ledger.job(job_id).state, ledger.job(job_id).error) == (JobState.CANCELLED, None)
    for act in (cancel, pause, resume):
        with pytest.raises(ConfigurationError, match="has ended \\(cancelled\\)"):
            act(ledger, job_id)
    with pytest.raises(ConfigurationError, match="There is no job 999999"):
        cancel(ledger, 999999)


def test_a_paused_job_may_be_cancelled(ledger):
    job_id = ledger.list(REFS)
    pause(ledger, job_id, reason="wait")
    cancel(ledger, job_id)
    ending.wind_up_all(ledger.database)
    job = ledger.job(job_id)
    assert (job.state, job.paused_by, job.pause_reason) == (JobState.CANCELLED, None, None)


def test_a_failure_too_large_for_one_transaction_is_ended_by_the_redrivers(ledger):
    shards = (ending.ROUNDS_OF_FAILURE + 1) * ending.SHARDS_AT_ONCE
    job_id = ledger.list([ref(f"k{n:03d}") for n in range(shards)], shard_photos=1)
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    job = ledger.job(job_id)
    assert (job.condition, job.error, job.waiting) == ("failing", "no bucket", ending.SHARDS_AT_ONCE)
    assert ending.wind_up_all(ledger.database) == [job_id]
    assert (ledger.job(job_id).state, ledger.job(job_id).waiting) == (JobState.FAILED, 0)
    ledger.check()


def test_a_job_cancelled_while_everything_else_happens_to_it_is_counted_exactly(ledger):
    """Deaths that split, photos that come back, merges and two redrivers: whatever the order, nothing stays open."""
    errors = []
    for turn in range(3):
        job_id = ledger.list([ref(f"ann/{n}.jpg", etag=f"e{turn}") for n in range(24)], shard_photos=3)
        leases = ledger.claim_all(job_id)
        tasks = [task for lease in leases for task in ledger.tasks(lease)]
        ledger.merge([waiting(task) for task in tasks[:4]])
        ledger.execute("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1")
        ledger.execute("UPDATE core.shard SET deaths = 1, lease_started = true WHERE state = 2")
        ledger.expire()
        results = [ledger.tagged(task, "dog") for task in reversed(tasks[6:])]
        steps = [
            lambda j=job_id: (cancel(ledger, j), ending.wind_up_all(ledger.database)),
            lambda: ending.wind_up_all(ledger.database),
            lambda: ledger.database.run(lambda c: redrive.expire_shards(c, 512, 2.0)),
            lambda: ledger.database.run(lambda c: redrive.gather_retries(c, 2)),
            lambda r=results, ls=leases: ledger.merge(r, ls),
        ]

        def run(step):
            try:
                step()
            except Exception as exc:
                errors.append(exc)

        threads = [threading.Thread(target=run, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        ending.wind_up_all(ledger.database)
        job = ledger.job(job_id)
        assert (job.state, job.waiting, job.total) == (JobState.CANCELLED, 0, 24)
        assert ledger.shards(job_id, WorkState.PENDING, WorkState.QUEUED, WorkState.LEASED) == []
        ledger.check()


# ---- pauses that end


def test_a_pause_says_whose_it_is_why_and_until_when(ledger):
    job_id = ledger.list(REFS)
    end = (now(ledger) + timedelta(hours=5)).replace(microsecond=0)
    assert pause(ledger, job_id, reason="the store is being moved", until=end)
    job = ledger.job(job_id)
    assert (job.paused_by, job.pause_reason, job.pause_until) == ("ann@desk", "the store is being moved", end)
    assert keep_hours(ledger) == ([], [])
    resume(ledger, job_id)
    job = ledger.job(job_id)
    assert (job.paused_by, job.pause_reason, job.pause_until, job.paused_at) == (None, None, None, None)


def test_a_pause_ends_by_the_databases_clock(ledger):
    job_id, fresh = ledger.list(REFS), ledger.submit()
    for each in (job_id, fresh):
        pause(ledger, each, seconds=3600)
    left = ledger.job(job_id).pause_until - now(ledger)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    ledger.execute("UPDATE core.job SET pause_until = clock_timestamp()")
    assert keep_hours(ledger) == ([job_id, fresh], [])
    assert [ledger.job(each).state for each in (job_id, fresh)] == [JobState.RUNNING, JobState.CREATED]
    assert ledger.job(job_id).pause_until is None
    assert keep_hours(ledger) == ([], [])


def test_the_time_in_which_a_job_rested_is_kept_apart(ledger):
    job_id, fresh = ledger.list(REFS), ledger.submit()
    assert keep_hours_shut(ledger, job_id) == [job_id]
    ledger.execute("UPDATE core.job SET paused_at = paused_at - interval '1 h', started_at = now() - interval '2 h'")
    pause(ledger, job_id)  # an operator's pause takes the place of the window's
    ledger.execute(
        "UPDATE core.job SET paused_at = now() - interval '3 h', \"window\" = NULL WHERE job_id = :job", job=job_id
    )
    assert resume(ledger, job_id)
    assert 3 * 3600 <= rested(ledger, job_id) < 3 * 3600 + 600  # one hour, and the two since it was started
    ledger.execute("UPDATE core.job SET started_at = NULL WHERE job_id = :job", job=fresh)
    pause(ledger, fresh)
    assert resume(ledger, fresh)
    assert rested(ledger, fresh) == 0


def keep_hours_shut(ledger, job_id):
    _set_window(ledger, job_id, shut(ledger))
    return keep_hours(ledger)[1]


def rested(ledger, job_id):
    return ledger.one("SELECT rested_seconds FROM core.job WHERE job_id = :job", job=job_id)


def test_a_pause_that_is_over_before_it_begins_and_one_in_a_windows_name_are_refused(ledger):
    job_id = ledger.list(REFS)
    with pytest.raises(ConfigurationError, match="is over; name a later time"):
        pause(ledger, job_id, until=now(ledger) - timedelta(seconds=1))
    with pytest.raises(ConfigurationError, match="this is how windows sign"):
        pause(ledger, job_id, by="window 01:00-06:00 UTC")
    assert ledger.job(job_id).state is JobState.RUNNING


# ---- windows


def test_a_job_rests_outside_of_its_window_and_goes_on_when_it_opens(ledger, listening):
    window = shut(ledger)
    job_id = ledger.list(REFS, window=window, shard_photos=3)
    assert keep_hours(ledger) == ([], [job_id])
    job = ledger.job(job_id)
    assert (job.state, job.paused_by) == (JobState.PAUSED, f"window {window.begins}-{window.ends} UTC")
    assert clock(job.pause_until) == window.begins
    assert now(ledger) < job.pause_until <= now(ledger) + timedelta(hours=2)
    assert ledger.database.run(publish.publishable) == []
    assert keep_hours(ledger) == ([], [])  # it is said once
    ledger.execute("UPDATE core.job SET pause_until = clock_timestamp()")
    _set_window(ledger, job_id, wide(ledger))
    assert keep_hours(ledger) == ([job_id], [])
    assert ledger.job(job_id).state is JobState.RUNNING
    assert ledger.database.run(publish.publishable)


def test_a_window_in_a_zone_that_is_unknown_here_stays_shut_and_the_other_jobs_go_on(ledger, listening):
    lost = ledger.list(REFS, window=wide(ledger))
    ledger.execute("""UPDATE core.job SET "window" = "window" || '{"timezone": "Moon/Tycho"}'""")
    other = ledger.list([ref("other")], whole=False, window=shut(ledger))
    assert keep_hours(ledger) == ([], [lost, other])
    assert ledger.job(lost).pause_until > now(ledger)


def test_what_nobody_has_begun_waits_for_its_window_too(ledger, listening):
    job_id = ledger.submit(window=shut(ledger))
    keep_hours(ledger)
    assert ledger.database.run(publish.publishable) == []
    assert resume(ledger, job_id, ignore_window=True)
    assert ledger.job(job_id).state is JobState.CREATED


def test_an_operators_pause_is_never_lifted_by_a_window(ledger):
    job_id = ledger.list(REFS, window=wide(ledger))
    pause(ledger, job_id)
    assert keep_hours(ledger) == ([], [])
    assert ledger.job(job_id).paused_by == "ann@desk"
    other = ledger.list([ref("other")], whole=False, window=shut(ledger))
    keep_hours(ledger)
    assert pause(ledger, other)  # takes the place of the window's
    job = ledger.job(other)
    assert (job.paused_by, job.pause_until) == ("ann@desk", None)
    assert keep_hours(ledger) == ([], [])


def test_an_operators_pause_that_ends_outside_of_the_window_becomes_the_windows(ledger):
    job_id = ledger.list(REFS, window=shut(ledger))
    pause(ledger, job_id, seconds=60)
    ledger.execute("UPDATE core.job SET pause_until = clock_timestamp()")
    assert keep_hours(ledger) == ([job_id], [job_id])
    assert control.held_by_window(ledger.job(job_id))


def test_a_window_holds_what_is_resumed_unless_it_is_to_be_ignored(ledger):
    job_id = ledger.list(REFS, window=shut(ledger))
    keep_hours(ledger)
    assert not resume(ledger, job_id)
    assert control.held_by_window(ledger.job(job_id))
    assert resume(ledger, job_id, ignore_window=True)
    job = ledger.job(job_id)
    assert (job.state, job.window, job.paused_by) == (JobState.RUNNING, None, None)
    assert keep_hours(ledger) == ([], [])


def test_resuming_an_operators_pause_outside_of_the_window_leaves_it_to_the_window(ledger):
    job_id = ledger.list(REFS, window=shut(ledger))
    pause(ledger, job_id)
    assert resume(ledger, job_id)
    job = ledger.job(job_id)
    assert control.held_by_window(job)
    assert job.pause_until > now(ledger)


def _set_window(ledger, job_id, window):
    ledger.execute(
        "UPDATE core.job SET \"window\" = jsonb_build_object('begins', CAST(:b AS text), 'ends', CAST(:e AS text), "
        "'timezone', 'UTC') WHERE job_id = :job",
        b=window.begins,
        e=window.ends,
        job=job_id,
    )


# ---- how much may fail


def tried(ledger, *, succeeded, failing, **options):
    """A job with so many photos done and one still open."""
    refs = [ref(f"k{n:03d}") for n in range(succeeded + failing + 1)]
    job_id = ledger.list(refs, **options)
    (lease,) = ledger.claim_all(job_id)
    tasks = ledger.tasks(lease)[:-1]
    results = [ledger.tagged(task, "dog") for task in tasks[failing:]]
    codes = [Code.CORRUPT if n % 3 else Code.TOO_LARGE for n in range(failing)]
    ledger.merge(results + [failed(task, code) for task, code in zip(tasks, codes, strict=False)])
    return job_id


def test_a_hopeless_job_is_stopped_with_its_share_its_reason_and_a_cure(ledger):
    job_id = tried(ledger, succeeded=90, failing=10, most_failed_share=0.05)
    assert ledger.database.run(ending.fail_hopeless) == [job_id]
    job = ledger.job(job_id)
    assert (job.state, job.count(ItemState.CANCELLED), job.count(ItemState.SUCCEEDED)) == (JobState.FAILED, 1, 90)
    assert job.error == (
        "10.0% of the photos that were tried failed (10), and at most 5.0% may; the commonest reason is corrupt (6). "
        f"See `pictograph jobs show {job_id}`, mend the cause, and run the job again: what is done is not done twice."
    )
    assert ledger.database.run(ending.fail_hopeless) == []
    ledger.check()


@pytest.mark.parametrize(
    ("succeeded", "failing", "most"),
    [(95, 5, 0.05), (0, 99, 0.05), (50, 50, None), (50, 50, 0.5)],  # not more than the share; too few; no limit
)
def test_a_job_that_may_still_come_right_goes_on(ledger, succeeded, failing, most):
    job_id = tried(ledger, succeeded=succeeded, failing=failing, most_failed_share=most)
    assert ledger.database.run(ending.fail_hopeless) == []
    assert ledger.job(job_id).state is JobState.RUNNING


# ---- another try


def ended_with_failures(ledger, **options):
    job_id = ledger.list(REFS[:3], priority=7, **options)
    (lease,) = ledger.claim_all(job_id)
    one, *rest = ledger.tasks(lease)
    ledger.merge([failed(one, Code.MODEL_ERROR, "nan"), *(ledger.tagged(task, "dog") for task in rest)], [lease])
    ledger.database.run(ending.finish_jobs)
    return ledger.job(job_id)


def test_another_try_is_a_job_about_what_failed(ledger):
    job = ended_with_failures(ledger, outputs=(Output(target="/results.jsonl"),))
    request = control.retry_of(job, failed=1)
    assert (request.kind, request.source, request.scope) == ("ledger", f"job:{job.job_id}", Scope.FAILED)
    assert (request.priority, request.retry_of, request.outputs) == (7, job.job_id, ())
    new = ledger.job(ledger.database.run(lambda c: jobs.submit(c, request, job.model_id)))
    assert (new.state, new.retry_of, new.priority, new.model_id) == (JobState.CREATED, job.job_id, 7, job.model_id)
    results = (Output(target="/again.csv", format="csv"),)
    assert control.retry_of(job, failed=1, outputs=results).outputs == results
    assert control.retry_of(job, failed=1, everything=True).scope is Scope.ALL


def test_what_goes_on_or_did_not_fail_is_not_tried_again(ledger):
    job_id = ledger.list(REFS)
    with pytest.raises(ConfigurationError, match=f"Job {job_id} is running; what failed can be tried again once"):
        control.retry_of(ledger.job(job_id), failed=1)
    ledger.tag_all(job_id, "dog")
    ledger.database.run(ending.finish_jobs)
    with pytest.raises(ConfigurationError, match="has no photo that failed"):
        control.retry_of(ledger.job(job_id), failed=0)


# ---- priority


def test_an_urgent_job_overtakes_ten_thousand_shards(ledger, listening):
    bulk = ledger.list([ref("bulk/0.jpg")])
    ledger.execute(
        """INSERT INTO core.shard (job_id, model_id, priority, photos, state)
           SELECT job_id, model_id, 0, 512, 0 FROM core.shard, generate_series(1, 10000)"""
    )
    bells = ledger.database.run(publish.publishable)
    assert len(bells) == publish.WINDOW_PER_WORKER
    first = ledger.claim(bells[0].work_id)
    assert ledger.job(bulk).priority == 0
    urgent = ledger.list([ref("urgent/0.jpg"), ref("urgent/1.jpg")], whole=False, priority=50, shard_photos=1)
    mine = [row.shard_id for row in ledger.shards(urgent)]
    (bell,) = ledger.database.run(publish.publishable)  # who was rung left room for one message, which is the urgent's
    assert bell.work_id == mine[0]
    # A stream that works on the backlog takes both next: neither waits for a message behind it, nor for the 10,000.
    ahead = [claim_next(ledger, least_held=first.priority) for _ in range(3)]
    assert {lease.work_id for lease in ahead[:2]} == set(mine)
    assert [lease.priority for lease in ahead] == [50, 50, 0]
    assert ledger.claim(bell.work_id) is None  # its message finds it taken


def test_what_is_published_is_left_to_its_message_where_it_is_no_more_urgent(ledger, listening):
    job_id = ledger.list(REFS, shard_photos=6)
    first, second = [row.shard_id for row in ledger.shards(job_id)]
    assert [bell.work_id for bell in ledger.database.run(publish.publishable)] == [first, second]
    assert claim_next(ledger, least_held=0) is None
    assert claim_next(ledger, least_held=-1).work_id == first
    assert claim_next(ledger) is None  # holding nothing, it waits to be rung


def test_suspects_are_not_taken_ahead_however_urgent(ledger, listening):
    job_id = ledger.list(REFS, shard_photos=6, priority=9)
    ledger.database.run(publish.publishable)
    ledger.execute("UPDATE core.shard SET alone = true WHERE shard_id = :id", id=ledger.shards(job_id)[0].shard_id)
    ledger.execute("UPDATE core.shard SET failures = 1 WHERE shard_id = :id", id=ledger.shards(job_id)[1].shard_id)
    assert claim_next(ledger, least_held=0) is None


def test_the_priority_of_a_job_can_be_changed_while_it_waits(ledger):
    slow, fast = ledger.list(REFS, shard_photos=3), ledger.list([ref("late")], whole=False)
    held = claim_next(ledger)
    assert held.job_id == slow
    ledger.database.run(lambda c: control.set_priority(c, fast, 20))
    assert ledger.job(fast).priority == 20
    assert claim_next(ledger).job_id == fast
    ledger.database.run(lambda c: control.set_priority(c, slow, -3))
    assert {row.priority for row in ledger.shards(slow)} == {-3}
    ledger.database.run(lambda c: ending.fail(c, slow, "enough"))
    with pytest.raises(ConfigurationError, match="only what goes on can be given another priority"):
        ledger.database.run(lambda c: control.set_priority(c, slow, 1))


# ---- whoever does it


def test_a_redriver_keeps_orders_with_no_more_rights_than_it_has(ledger, roles, ledger_settings):
    """Hours, shares and ends, by one tick's own function, in the role of the workers."""
    worker = roles[Role.WORKER]
    rests = ledger.list(REFS[:1], window=shut(ledger))
    paused = ledger.list([ref("p")], whole=False)
    pause(ledger, paused, seconds=60)
    ledger.execute("UPDATE core.job SET pause_until = clock_timestamp() WHERE job_id = :job", job=paused)
    cancelled = ledger.list([ref("c")], whole=False)
    cancel(roles[Role.INGEST], cancelled)
    redriver = Redriver(ledger_settings, worker.database, None, None)
    assert redriver._keep_orders() == [cancelled]
    states = [ledger.job(each).state for each in (rests, paused, cancelled)]
    assert states == [JobState.PAUSED, JobState.RUNNING, JobState.CANCELLED]
    hopeless = tried(ledger, succeeded=0, failing=100, most_failed_share=0.1, whole=False)
    redriver._keep_orders()
    assert ledger.job(hopeless).state is JobState.FAILED
    ingest = roles[Role.INGEST].database
    other = ledger.list([ref("d")], whole=False)
    ingest.run(lambda c: control.set_priority(c, other, 5))
    ingest.run(lambda c: ending.cancel(c, other, "ann"))
    assert ending.wind_up_all(ingest) == [other]
