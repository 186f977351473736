"""Leases: one holder at a time, fenced by its epoch, and blamed only for what it did."""

import threading

import pytest
from ledger_helpers import LEASE_SECONDS, page_of, ref

from pipeline.ledger import ending, jobs, redrive, roster, work
from pipeline.ledger.work import RANGES, SHARDS
from pipeline.records import Code, ItemState, JobState, WorkState


@pytest.fixture
def shard(ledger):
    """A pending shard of four photos."""
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(4)])
    (row,) = ledger.shards(job_id)
    return row.shard_id


def state_of(ledger, shard_id):
    return ledger.one("SELECT state FROM core.shard WHERE shard_id = :id", id=shard_id)


def expire(ledger):
    return ledger.database.run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))


def begin(ledger, shard_id, owner="worker"):
    """A worker that is known, holds the shard and has a photo in hand."""
    ledger.database.run(lambda c: roster.note_worker(c, owner, "annotate.small", progressed=True))
    lease = ledger.claim(shard_id, owner)
    ledger.database.run(lambda c: work.mark_started(c, lease))
    return lease


@pytest.mark.parametrize("claim_next", [False, True], ids=["by its message", "looking ahead"])
def test_eight_claim_and_one_wins(ledger, shard, claim_next):
    won, ready = [], threading.Barrier(8)

    def race(name):
        ready.wait()
        if claim_next:
            model = ledger.registered.model_id
            lease = ledger.database.run(lambda c: work.claim_next_shard(c, model, name, 60))
        else:
            lease = ledger.claim(shard, name)
        won.append(lease)

    racers = [threading.Thread(target=race, args=(f"w{n}",)) for n in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    (lease,) = [lease for lease in won if lease is not None]
    assert lease.epoch == 1


@pytest.mark.parametrize("state", [WorkState.DONE, WorkState.SPLIT, WorkState.CANCELLED, WorkState.LEASED])
def test_what_is_not_open_cannot_be_claimed(ledger, shard, state):
    ledger.execute("UPDATE core.shard SET state = :state", state=int(state))
    assert ledger.claim(shard) is None
    model = ledger.registered.model_id
    assert ledger.database.run(lambda c: work.claim_next_shard(c, model, "w", 60)) is None


@pytest.mark.parametrize("state", [s for s in JobState if s not in (JobState.CREATED, JobState.RUNNING)])
def test_work_of_a_job_that_does_not_run_cannot_be_claimed(ledger, shard, state):
    ledger.execute("UPDATE core.job SET state = :state", state=int(state))
    assert ledger.claim(shard) is None
    model = ledger.registered.model_id
    assert ledger.database.run(lambda c: work.claim_next_shard(c, model, "w", 60)) is None


def test_a_zombie_changes_nothing(ledger, shard):
    """Its lease ran out, another worker claimed: what it does at the old epoch is void, but its results count."""
    old = ledger.claim(shard, "zombie")
    photos = ledger.tasks(old)
    ledger.expire(died=False)
    expire(ledger)
    new = ledger.claim(shard, "second")
    assert new.epoch == old.epoch + 1
    before = ledger.one("SELECT * FROM core.shard")
    assert ledger.database.run(lambda c: SHARDS.renew(c, [old], 600)) == frozenset()
    ledger.database.run(lambda c: SHARDS.release(c, [old]))
    ledger.database.run(lambda c: work.mark_started(c, old))
    merged = ledger.merge([ledger.tagged(task, "dog") for task in photos], [old])
    assert (merged.finished, merged.stored) == (frozenset(), 4)
    assert ledger.one("SELECT * FROM core.shard") == before
    assert ledger.database.run(lambda c: SHARDS.renew(c, [new], 600)) == {shard}
    ledger.check()


def test_an_expired_lease_cannot_be_renewed_once_it_was_taken_away(ledger, shard):
    lease = ledger.claim(shard)
    ledger.expire(died=False)
    assert ledger.database.run(lambda c: SHARDS.renew(c, [lease], 60)) == {shard}  # nobody minded yet
    ledger.expire(died=False)
    expire(ledger)
    assert ledger.database.run(lambda c: SHARDS.renew(c, [lease], 60)) == frozenset()


def test_a_release_is_pending_at_once_and_no_death(ledger, shard):
    lease = begin(ledger, shard)
    ledger.database.run(lambda c: SHARDS.release(c, [lease]))
    row = ledger.one("SELECT state, deaths, lease_owner, next_attempt_at FROM core.shard")
    assert tuple(row) == (WorkState.PENDING, 0, None, None)
    assert ledger.claim(shard, "second") is not None


def test_a_release_with_a_delay_waits(ledger, shard):
    lease = ledger.claim(shard)
    ledger.database.run(lambda c: SHARDS.release(c, [lease], 30))
    assert ledger.claim(shard) is None
    ledger.execute("UPDATE core.shard SET next_attempt_at = now()")
    assert ledger.claim(shard) is not None


def test_an_expiry_while_the_worker_lives_is_no_death(ledger, shard):
    begin(ledger, shard)
    ledger.expire(died=False)
    assert expire(ledger) == {"expired": 1, "deaths": 0, "splits": 0, "quarantined": 0}
    assert tuple(ledger.one("SELECT state, deaths FROM core.shard")) == (WorkState.PENDING, 0)


def test_a_living_worker_that_renews_nothing_is_stuck_and_not_dead(ledger, shard):
    """Its heart beats every few seconds: its last beat lies before the lease's end, and still it lives."""
    begin(ledger, shard)
    ledger.execute("UPDATE core.worker SET last_seen = clock_timestamp() - interval '1 s'")
    ledger.execute("UPDATE core.shard SET lease_until = clock_timestamp() - interval '1 ms'")
    assert ledger.database.run(lambda c: redrive.expire_shards(c, 512, 90.0))["deaths"] == 0
    begin(ledger, shard)
    ledger.execute("UPDATE core.worker SET last_seen = clock_timestamp() - interval '1 s'")
    ledger.execute("UPDATE core.shard SET lease_until = clock_timestamp() - interval '1 ms'")
    assert ledger.database.run(lambda c: redrive.expire_shards(c, 512, 1.0))["deaths"] == 1


@pytest.mark.parametrize("lease_seconds", [0.2, 5, 90, 600])
def test_silence_is_several_beats_and_shorter_than_a_lease(lease_seconds):
    assert 2 * roster.beat_seconds(lease_seconds) < roster.silence_seconds(lease_seconds) < lease_seconds
    assert roster.silence_seconds(lease_seconds) <= roster.WORKER_SILENT_SECONDS


def test_an_expiry_before_the_first_photo_is_no_death(ledger, shard):
    ledger.claim(shard)
    ledger.expire()
    assert expire(ledger)["deaths"] == 0


def test_a_new_claim_begins_unblamed(ledger, shard):
    begin(ledger, shard)
    ledger.expire(died=False)
    expire(ledger)
    ledger.claim(shard, "second")
    assert ledger.one("SELECT lease_started FROM core.shard") is False


def test_a_silence_while_postgres_itself_was_away_is_no_death(ledger, shard):
    """After an outage every lease has run out and no worker was heard of: nobody could be."""
    begin(ledger, shard)
    ledger.execute("UPDATE core.shard SET lease_until = pg_postmaster_start_time() - interval '1 s'")
    ledger.execute("UPDATE core.worker SET last_seen = pg_postmaster_start_time() - interval '60 s'")
    assert expire(ledger) == {"expired": 1, "deaths": 0, "splits": 0, "quarantined": 0}


def test_the_second_death_splits_in_halves(ledger, shard):
    for deaths in (1, 2):
        begin(ledger, shard)
        ledger.expire()
        assert expire(ledger) == {"expired": 1, "deaths": 1, "splits": deaths // 2, "quarantined": 0}
    assert state_of(ledger, shard) == WorkState.SPLIT
    halves = ledger.all("SELECT shard_id, photos, deaths, state FROM core.shard WHERE shard_id <> :id", id=shard)
    assert [tuple(half)[1:] for half in halves] == [(2, 0, WorkState.PENDING)] * 2
    assert ledger.one("SELECT count(DISTINCT shard_id) FROM core.job_item WHERE state = 0") == 2
    ledger.check()


def test_a_split_leaves_behind_what_is_done_and_what_waits(ledger, shard):
    lease = begin(ledger, shard)
    first, *_ = ledger.tasks(lease)
    ledger.merge([ledger.tagged(first, "dog")])
    ledger.expire()
    expire(ledger)
    begin(ledger, shard)
    ledger.expire()
    expire(ledger)
    assert ledger.all("SELECT photos FROM core.shard WHERE state = 0 ORDER BY 1") == [(1,), (2,)]
    ledger.check()


def test_one_poison_among_many_is_found_and_nobody_else_is_blamed(ledger):
    """Each worker that touches the photo dies; the others get done. About 2 log2(n) deaths find it."""
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(16)])
    deaths = 0
    for turn in range(100):
        open_ones = ledger.shards(job_id, WorkState.PENDING)
        if not open_ones:
            break
        lease = begin(ledger, open_ones[0].shard_id, f"worker {turn}")
        photos = ledger.tasks(lease)
        if any(photo.key == "ann/7.jpg" for photo in photos):
            ledger.expire()
            deaths += expire(ledger)["deaths"]
        else:
            ledger.merge([ledger.tagged(photo, "dog") for photo in photos], [lease])
        ledger.check()
    assert deaths == 2 * (1 + 4)  # shards of 16, 8, 4, 2 and 1
    assert ledger.job(job_id).counts == {
        (ItemState.SUCCEEDED, Code.TAGGED): 15,
        (ItemState.FAILED, Code.QUARANTINED): 1,
    }
    (failure,) = ledger.database.run(lambda c: jobs.failures(c, job_id, 10))
    assert (failure.key, failure.code) == ("ann/7.jpg", "quarantined")
    assert ledger.database.run(ending.finish_jobs) == [job_id]
    again = ledger.list([ref(f"ann/{n}.jpg") for n in range(16)])
    assert ledger.job(again).counts == {(ItemState.SKIPPED_UNCHANGED, Code.NONE): 16}  # nobody dies of it again
    changed = ledger.list([ref("ann/7.jpg", etag="e2")], whole=False)
    assert ledger.job(changed).counts == {(ItemState.PENDING, Code.NONE): 1}
    ledger.tag_all(changed, "dog")
    assert ledger.photos_with("dog")[0] == 16
    ledger.check()


def test_photos_of_two_models_are_quarantined_at_one_look(ledger):
    other = ledger.register("other")
    made = [ledger.list([ref("ann/1.jpg")], model=model) for model in (None, other)]
    for _ in range(redrive.DEATHS_ALLOWED):
        for job_id in made:
            begin(ledger, ledger.shards(job_id)[0].shard_id)
        ledger.expire()
        done = expire(ledger)
    assert done["quarantined"] == 2
    assert [ledger.job(job_id).counts for job_id in made] == [{(ItemState.FAILED, Code.QUARANTINED): 1}] * 2
    assert ledger.all("SELECT outcome FROM core.photo_result") == [(Code.QUARANTINED,)] * 2
    ledger.check()


def test_an_expired_range_keeps_its_checkpoint(ledger):
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    ledger.execute("UPDATE core.list_range SET cursor = 'ann/5.jpg', listed = 5")
    ledger.expire("core.list_range", died=False)
    assert ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS)) == 1
    again = ledger.claim_range(job_id)
    assert again.epoch == lease.epoch + 1
    assert ledger.database.run(lambda c: work.cursor_of(c, again)) == "ann/5.jpg"
    assert ledger.database.run(lambda c: RANGES.renew(c, [lease], 60)) == frozenset()


def test_looking_ahead_takes_the_foremost_due_shard_of_its_own_model(ledger):
    other = ledger.register("other")
    ids = {}
    for name, options in {
        "low": {"priority": -1},
        "usual": {},
        "later": {},
        "high": {"priority": 5},
        "waits": {"priority": 9},
        "paused": {"priority": 9},
        "foreign": {"priority": 9, "model": other},
        "failed": {"priority": 9},
    }.items():
        job_id = ledger.list([ref("ann/1.jpg")], **options)
        (row,) = ledger.shards(job_id)
        ids[row.shard_id] = name
        if name == "waits":
            ledger.execute(
                "UPDATE core.shard SET next_attempt_at = now() + interval '1 min' WHERE job_id = :j", j=job_id
            )
        if name == "failed":
            ledger.execute("UPDATE core.shard SET failures = 1 WHERE job_id = :j", j=job_id)
        if name == "paused":
            ledger.execute(f"UPDATE core.job SET state = {JobState.PAUSED} WHERE job_id = :j", j=job_id)
    model = ledger.registered.model_id
    taken = []
    while lease := ledger.database.run(lambda c: work.claim_next_shard(c, model, "w", 60)):
        taken.append(ids[lease.work_id])
    assert taken == ["high", "usual", "later", "low"]


def test_a_worker_comes_and_goes(ledger):
    note = lambda progressed: ledger.database.run(lambda c: roster.note_worker(c, "w", "q", progressed=progressed))  # noqa: E731
    note(True)
    first = ledger.one("SELECT last_progress FROM core.worker")
    note(False)
    assert ledger.one("SELECT last_progress FROM core.worker") == first
    living = lambda queue: ledger.database.run(lambda c: roster.living(c, queue))  # noqa: E731
    assert (living("q"), living("other")) == (1, 0)
    ledger.execute("UPDATE core.worker SET last_seen = now() - interval '61 s'")
    assert living("q") == 0
    ledger.database.run(lambda c: roster.forget_worker(c, "w"))
    assert ledger.all("SELECT * FROM core.worker") == []


def note_lister(ledger):
    ledger.database.run(lambda c: roster.note_worker(c, "lister", "ingest", progressed=True))


def test_a_listing_whose_lister_lives_or_left_in_good_order_may_expire_as_often_as_it_likes(ledger):
    job_id = ledger.submit()
    for n in range(2 * redrive.LISTING_DEATHS_ALLOWED):
        if n % 2:
            note_lister(ledger)
        ledger.claim_range(job_id)
        if not n % 2:
            ledger.database.run(lambda c: roster.forget_worker(c, "lister"))
        ledger.expire("core.list_range", died=False)
        assert ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS)) == 1
    assert ledger.one("SELECT deaths FROM core.list_range") == 0
    assert not ledger.job(job_id).state.ended


def test_a_listing_that_always_breaks_off_at_the_same_page_fails_its_job(ledger):
    job_id = ledger.submit()
    for _ in range(redrive.LISTING_DEATHS_ALLOWED):
        assert not ledger.job(job_id).state.ended
        note_lister(ledger)
        ledger.claim_range(job_id)
        ledger.expire("core.list_range")
        assert ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS)) == 1
    job = ledger.job(job_id)
    assert job.state is JobState.FAILED
    assert "broke off 5 times at its beginning" in (job.error or "")


def test_a_page_written_in_between_starts_the_count_anew(ledger):
    job_id = ledger.submit()
    for n in range(2 * redrive.LISTING_DEATHS_ALLOWED):
        note_lister(ledger)
        lease = ledger.claim_range(job_id)
        ledger.write_page(job_id, lease, page_of([ref(f"ann/{n}.jpg")], last=False))
        ledger.expire("core.list_range")
        ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
    assert not ledger.job(job_id).state.ended
