"""Whose death is whose: random kills set no good photo aside, a photo that kills is found, and who comes back takes his
death with him."""

import random

import pytest
from ledger_helpers import LEASE_SECONDS, ref

from pipeline.ledger import breaker, ending, jobs, publish, redrive, roster, work
from pipeline.ledger.redrive import Verdict, judge
from pipeline.ledger.roster import Sign
from pipeline.records import Code, ItemState, WorkState

QUEUE = "annotate.small"
KILLS = 300
# All an eighth of what a worker does in earnest: the proportions count, and it is less far to a photo that is alone.
SHARD_PHOTOS = 64
PHOTOS_PER_LIFE = 19  # on the average, until a worker is killed
PHOTOS_PER_MERGE = 8
MOST_DEATHS = 2 * 9 + 2  # of one photo among 2^9
AHEAD = 2


def expire(ledger):
    return ledger.database.run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))


def note(ledger, owner):
    ledger.database.run(lambda c: roster.note(c, Sign(worker_id=owner, queue=QUEUE), LEASE_SECONDS))


def begin(ledger, shard_id, owner):
    note(ledger, owner)
    lease = ledger.claim(shard_id, owner)
    ledger.database.run(lambda c: work.mark_started(c, lease))
    return lease


def kill(ledger, owner):
    """Only this one falls silent, and its leases run out."""
    ledger.execute(
        "UPDATE core.worker SET last_seen = greatest(now() - interval '1 h', "
        "pg_postmaster_start_time() + interval '1 us') WHERE worker_id = :w; "
        "UPDATE core.shard SET lease_until = clock_timestamp() - interval '1 ms' WHERE lease_owner = :w; "
        "SELECT pg_sleep(greatest(0, extract(epoch FROM pg_postmaster_start_time() + interval '2 s' - now())))",
        w=owner,
    )
    return expire(ledger)


def pending(ledger):
    """Shards that may be claimed, the oldest first."""
    rows = ledger.all("SELECT shard_id FROM core.shard WHERE state = :pending ORDER BY 1", pending=WorkState.PENDING)
    return [row.shard_id for row in rows]


class Worker:
    """A stream, as far as the ledger sees it: one shard by its message, others ahead unless it must run alone."""

    def __init__(self, ledger, name, shard_id):
        self.ledger, self.name = ledger, name
        self.leases = ledger.database.run(lambda c: self._claimed(c, shard_id))

    def _claimed(self, connection, shard_id):
        roster.note(connection, Sign(worker_id=self.name, queue=QUEUE), LEASE_SECONDS)
        leases = [work.SHARDS.claim(connection, shard_id, self.name, 60)]
        model = self.ledger.registered.model_id
        while leases[0] and not leases[0].alone and len(leases) <= AHEAD:
            ahead = work.claim_next_shard(connection, model, self.name, 60)
            if ahead is None:
                break
            leases.append(ahead)
        return leases

    def start(self, chance):
        """Take photos of the first in hand, maybe of the others as well."""
        self._mark([lease for n, lease in enumerate(self.leases) if n == 0 or chance.random() < 0.5])

    def _mark(self, leases):
        def mark(connection):
            for lease in leases:
                work.mark_started(connection, lease)

        self.ledger.database.run(mark)

    def finish_some(self, share, spare=None):
        """Merge so large a part of the first shard, without the photo `spare`."""
        (lease, *_), ledger = self.leases, self.ledger
        tasks = [task for task in ledger.tasks(lease) if task.key != spare]
        ledger.merge([ledger.tagged(task, "dog") for task in tasks[: round(share * len(tasks))]], [lease])

    def work_until(self, photos):
        """Work on one photo after the other, merging now and then; whether it was killed, after so many photos."""
        self._mark(self.leases)
        for lease in self.leases:
            tasks = self.ledger.tasks(lease)
            for at in range(0, len(tasks), PHOTOS_PER_MERGE):
                some = tasks[at : at + PHOTOS_PER_MERGE]
                if photos < len(some):
                    return True
                photos -= len(some)
                self.ledger.merge([self.ledger.tagged(task, "dog") for task in some], [lease])
        return False


@pytest.mark.slow
def test_three_hundred_random_kills_set_no_good_photo_aside(ledger):
    """A worker is killed after a random time, whatever it is at then; two thirds have merged something before."""
    chance, made = random.Random(5), []
    kills = deaths = splits = quarantined = 0
    while kills < KILLS:
        waiting = pending(ledger)
        if len(waiting) < 3:
            name = f"{len(made):03d}"
            photos = [ref(f"{name}/{n:04d}.jpg") for n in range(16 * SHARD_PHOTOS)]
            made.append(ledger.list(photos, prefix=f"{name}/", shard_photos=SHARD_PHOTOS))
            continue
        worker = Worker(ledger, f"worker {kills}", chance.choice(waiting))
        if worker.work_until(chance.expovariate(1 / PHOTOS_PER_LIFE)):
            kills += 1
            found = kill(ledger, worker.name)
            deaths, splits = deaths + found["deaths"], splits + found["splits"]
            quarantined += found["quarantined"]
    assert deaths >= KILLS
    assert splits > 0  # else it would not have been hard enough
    assert quarantined == 0
    while waiting := pending(ledger):
        Worker(ledger, "the last", waiting[0]).work_until(float("inf"))
    assert ledger.database.run(ending.finish_jobs) == made
    assert {state for job_id in made for state, _ in ledger.job(job_id).counts} == {ItemState.SUCCEEDED}
    ledger.check()


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.7, None], ids=["none", "some", "much", "random"])
def test_a_photo_that_kills_is_found_among_512_and_nothing_else_is_set_aside(ledger, progress):
    chance = random.Random(7)
    job_id = ledger.list([ref(f"ann/{n:03d}.jpg") for n in range(512)])
    poison, deaths = f"ann/{chance.randrange(512):03d}.jpg", 0
    for n in range(1000):
        pending = ledger.shards(job_id, WorkState.PENDING)
        if not pending:
            break
        worker = Worker(ledger, f"worker {n}", pending[0].shard_id)
        worker.start(chance)
        if any(task.key == poison for lease in worker.leases for task in ledger.tasks(lease)):
            worker.finish_some(chance.random() if progress is None else progress, spare=poison)
            deaths += kill(ledger, worker.name)["deaths"]
        else:
            for lease in worker.leases:
                ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(lease)], [lease])
    assert deaths <= MOST_DEATHS
    assert ledger.job(job_id).counts == {
        (ItemState.SUCCEEDED, Code.TAGGED): 511,
        (ItemState.FAILED, Code.QUARANTINED): 1,
    }
    (failure,) = ledger.database.run(lambda c: jobs.failures(c, job_id, 10))
    assert failure.key == poison
    ledger.check()


@pytest.mark.parametrize(
    ("deaths", "photos", "still_open", "expected"),
    [
        (0, 4, 4, (Verdict.AGAIN, 1)),
        (1, 4, 4, (Verdict.SPLIT, 2)),
        (1, 4, 3, (Verdict.SPLIT, 2)),
        (1, 4, 2, (Verdict.AGAIN, 1)),  # half is done
        (1, 512, 0, (Verdict.AGAIN, 1)),  # nothing left to blame
        (0, 1, 1, (Verdict.AGAIN, 1)),
        (1, 1, 1, (Verdict.QUARANTINE, 2)),
        (1, 2, 1, (Verdict.AGAIN, 1)),  # of the photo that is left this is the first death
        (7, 3, 3, (Verdict.SPLIT, 8)),
    ],
)
def test_deaths_before_half_of_the_photos_were_done_are_forgiven(deaths, photos, still_open, expected):
    assert judge(deaths, photos, still_open) == expected


def test_who_beats_again_takes_his_deaths_back(ledger):
    """It was stopped, or cut off from the database, and goes on."""
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(4)])
    (row,) = ledger.shards(job_id)
    begin(ledger, row.shard_id, "stopped")
    assert kill(ledger, "stopped")["deaths"] == 1
    assert tuple(ledger.one("SELECT deaths, dead_workers, alone FROM core.shard")) == (1, ["stopped"], True)
    begin(ledger, row.shard_id, "dead")
    ledger.execute("UPDATE core.shard SET deaths = 2, dead_workers = '{stopped,dead}'")
    note(ledger, "other")
    assert ledger.one("SELECT deaths FROM core.shard") == 2
    note(ledger, "stopped")
    assert tuple(ledger.one("SELECT deaths, dead_workers FROM core.shard")) == (1, ["dead"])
    note(ledger, "stopped")
    assert ledger.one("SELECT deaths FROM core.shard") == 1  # once


def test_who_left_in_good_order_has_not_died(ledger):
    job_id = ledger.list([ref("ann/1.jpg")])
    begin(ledger, ledger.shards(job_id)[0].shard_id, "leaver")
    ledger.database.run(lambda c: roster.forget_worker(c, "leaver"))
    ledger.expire()
    assert expire(ledger)["deaths"] == 0


def test_suspects_are_never_claimed_ahead_and_say_that_they_run_alone(ledger):
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(8)])
    (row,) = ledger.shards(job_id)
    model = ledger.registered.model_id
    for n in range(2):
        begin(ledger, row.shard_id, f"w{n}")
        kill(ledger, f"w{n}")
        assert ledger.database.run(lambda c: work.claim_next_shard(c, model, "w", 60)) is None
    halves = ledger.shards(job_id, WorkState.PENDING)
    assert [(half.photos, half.deaths) for half in halves] == [(4, 0), (4, 0)]
    assert ledger.claim(halves[0].shard_id).alone


def test_suspects_are_rung_for_first_and_streams_make_way_for_them(ledger):
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(12)], shard_photos=4)
    ledger.execute("UPDATE core.job SET state = 1 WHERE job_id = :job", job=job_id)  # as the first claim does
    model, last = ledger.registered.model_id, ledger.shards(job_id)[-1].shard_id

    def waits():
        return ledger.database.run(lambda c: work.suspects_wait(c, model))

    begin(ledger, last, "w")
    kill(ledger, "w")
    note(ledger, "another")
    assert not waits()  # nobody has rung for it yet, so no stream has to end
    bells = ledger.database.run(publish.publishable)
    assert bells[0].work_id == last
    assert waits()
    ledger.claim(last, "another")
    assert not waits()


# ---- devices that are lost


def lose_device(ledger, shard_id, n):
    lease = begin(ledger, shard_id, f"host:{n}:0")

    def lose(connection):
        breaker.release_suspects(connection, [lease], QUEUE, "host")
        return breaker.fail(connection, QUEUE, "host", "The device is gone.")

    return ledger.database.run(lose)


def start_again(ledger, *, well):
    """The next process on that machine: it finds its device well, or not."""
    if well:
        ledger.database.run(lambda c: breaker.convict(c, QUEUE, "host"))
        ledger.database.run(lambda c: breaker.close(c, QUEUE, "host"))
    else:
        ledger.database.run(lambda c: breaker.acquit(c, QUEUE, "host"))
        ledger.database.run(lambda c: breaker.fail(c, QUEUE, "host", "The device is gone."))


def test_a_photo_that_breaks_a_good_device_each_time_is_found_and_set_aside(ledger):
    job_id = ledger.list([ref(f"ann/{n:02d}.jpg") for n in range(16)])
    lost = 0
    for n in range(200):
        expire(ledger)
        pending = ledger.shards(job_id, WorkState.PENDING)
        if not pending:
            break
        with ledger.database.transaction() as connection:
            keys = {row[0] for row in connection.exec_driver_sql(
                "SELECT key FROM core.job_item JOIN core.photo USING (photo_id) WHERE shard_id = %s AND state = 0",
                (pending[0].shard_id,),
            )}  # fmt: skip
        if "ann/07.jpg" in keys:
            lost += 1
            lose_device(ledger, pending[0].shard_id, n)
            assert {row.deaths for row in ledger.shards(job_id, WorkState.LEASED)} <= {0}
            start_again(ledger, well=True)
        else:
            lease = begin(ledger, pending[0].shard_id, f"host:{n}:0")
            ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(lease)], [lease])
    assert lost <= 2 * 4 + 2
    assert ledger.job(job_id).counts == {
        (ItemState.SUCCEEDED, Code.TAGGED): 15,
        (ItemState.FAILED, Code.QUARANTINED): 1,
    }
    ledger.check()


def test_a_device_that_is_broken_blames_nobody_however_often_it_is_tried(ledger):
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(4)])
    (row,) = ledger.shards(job_id)
    for n in range(10):
        lose_device(ledger, row.shard_id, n)
        for _ in range(3):
            start_again(ledger, well=False)
        expire(ledger)
        (now,) = ledger.shards(job_id)
        assert (now.state, now.deaths, now.suspicions, now.failures) == (WorkState.PENDING, 0, [], 0)
    assert not ledger.job(job_id).state.ended


def test_a_breaker_opens_once_waits_longer_each_time_and_is_closed_by_success(ledger):
    run = ledger.database.run
    fail = lambda host="h": run(lambda c: breaker.fail(c, QUEUE, host, "It is broken.", 4.0))  # noqa: E731
    pauses = []
    for n in range(12):
        opened = fail()
        assert (opened.newly, opened.failures) == (n == 0, n + 1)
        pauses.append(run(lambda c: breaker.pause_seconds(c, QUEUE, "h")))
    for n, pause in enumerate(pauses):
        most = min(4 * 2**n, breaker.LONGEST_PAUSE_SECONDS)
        assert most / 2 - 1 <= pause <= most
    assert run(lambda c: breaker.pause_seconds(c, QUEUE, "other")) == 0
    assert run(lambda c: breaker.reason(c, QUEUE, "h")) == "It is broken."
    assert fail("other").newly
    assert [run(lambda c: breaker.close(c, QUEUE, "h")) for _ in range(2)] == [True, False]
    assert run(lambda c: breaker.pause_seconds(c, QUEUE, "h")) == 0
    assert fail().newly
