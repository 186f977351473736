"""How much may be in hand at once: never more than the limit whatever the race, changed while work goes on."""

import threading

import pytest
from ledger_helpers import ref

from pipeline.errors import ConfigurationError
from pipeline.ledger import limits, publish, roster, work
from pipeline.ledger.limits import ALL, INGEST_QUEUE
from pipeline.ledger.work import RANGES, SHARDS
from pipeline.records import WorkState
from pipeline.store.roles import Role
from pipeline.store.session import Database

QUEUE = "annotate.small"


@pytest.fixture
def listening(ledger):
    """Three living workers that tag, and one that lists."""
    for worker, queue in (("one", QUEUE), ("two", QUEUE), ("three", QUEUE), ("lister", INGEST_QUEUE)):
        ledger.database.run(lambda c, w=worker, q=queue: roster.note_worker(c, w, q, progressed=False))


def put(ledger, queue, most):
    ledger.database.run(lambda c: limits.put(c, queue, most, "ann@desk"))


def lift(ledger, queue):
    return ledger.database.run(lambda c: limits.lift(c, queue))


def bulk(ledger, shards, **options):
    return ledger.list([ref(f"k{n:03d}") for n in range(shards)], shard_photos=1, **options)


def claim_next(ledger):
    model = ledger.registered.model_id
    return ledger.database.run(lambda c: work.claim_next_shard(c, model, "worker", 60))


def published(ledger):
    return ledger.database.run(publish.publishable)


def leased(ledger):
    return ledger.one("SELECT count(*) FROM core.shard WHERE state = 2")


def test_no_more_is_rung_for_or_claimed_than_the_limit(ledger, listening):
    bulk(ledger, 8)
    put(ledger, QUEUE, 2)
    bells = published(ledger)
    assert len(bells) == 2
    held = [ledger.claim(bell.work_id) for bell in bells]
    assert published(ledger) == []
    assert claim_next(ledger) is None
    for task in ledger.tasks(held[0]):
        ledger.merge([ledger.tagged(task, "dog")], [held[0]])
    assert claim_next(ledger) is not None
    assert claim_next(ledger) is None
    assert leased(ledger) == 2


def test_a_limit_is_changed_while_work_goes_on(ledger):
    bulk(ledger, 8)
    assert all(claim_next(ledger) for _ in range(3))
    put(ledger, QUEUE, 1)  # nothing is taken away
    assert (leased(ledger), claim_next(ledger)) == (3, None)
    put(ledger, QUEUE, 4)
    assert claim_next(ledger)
    assert claim_next(ledger) is None
    put(ledger, QUEUE, 0)
    assert claim_next(ledger) is None
    assert [lift(ledger, QUEUE), lift(ledger, QUEUE)] == [True, False]
    assert claim_next(ledger)


def test_who_is_rung_and_finds_no_room_puts_the_shard_back(ledger, listening):
    bulk(ledger, 3)
    first, second, third = published(ledger)
    put(ledger, QUEUE, 1)
    assert ledger.claim(first.work_id)
    assert ledger.claim(second.work_id) is None
    states = dict(map(tuple, ledger.all("SELECT shard_id, state FROM core.shard")))
    assert states == {
        first.work_id: WorkState.LEASED,
        second.work_id: WorkState.PENDING,
        third.work_id: WorkState.QUEUED,
    }
    assert ledger.claim(999_999_999) is None  # of a message about nothing


def test_a_limit_on_all_queues_counts_listings_too(ledger, listening):
    bulk(ledger, 4)
    job_id = ledger.submit()
    put(ledger, ALL, 2)
    bells = published(ledger)
    assert [bell.kind for bell in bells] == ["annotate", "ingest"]
    assert claim_next(ledger)
    assert claim_next(ledger) is None  # the other place is the listing's, which is rung for
    assert ledger.claim_range(job_id)
    assert claim_next(ledger) is None
    other = ledger.submit()
    assert ledger.database.run(lambda c: RANGES.claim(c, ledger.range_of(other), "lister", 60)) is None
    lift(ledger, ALL)
    put(ledger, INGEST_QUEUE, 1)
    assert ledger.database.run(lambda c: RANGES.claim(c, ledger.range_of(other), "lister", 60)) is None
    assert claim_next(ledger)


def test_the_stricter_of_two_limits_counts_and_other_queues_are_free(ledger, listening):
    second = ledger.register("other")
    bulk(ledger, 4)
    ledger.list([ref(f"o{n}") for n in range(4)], shard_photos=1, whole=False, model=second)
    put(ledger, QUEUE, 1)
    put(ledger, ALL, 3)
    assert claim_next(ledger)
    assert claim_next(ledger) is None
    others = [
        ledger.database.run(lambda c: work.claim_next_shard(c, second.model_id, "worker", 60)) is not None
        for _ in range(3)
    ]
    assert others == [True, True, False]


def test_claims_that_race_never_exceed_the_limit(ledger, endpoints):
    """Eight at once, each from a connection of its own, over and over: at no moment are there more than three."""
    bulk(ledger, 60)
    put(ledger, QUEUE, 3)
    most, errors, gate = [], [], threading.Barrier(8)
    model = ledger.registered.model_id

    def claim(n, database):
        try:
            gate.wait(60)
            for _ in range(12):
                lease = database.run(lambda c: work.claim_next_shard(c, model, f"w{n}", 60))
                most.append(database.run(limits.in_use).get(QUEUE, limits.Use()).leased)
                if lease is not None:
                    database.run(lambda c, lease=lease: SHARDS.release(c, [lease]))
        except Exception as exc:
            errors.append(exc)

    with Database(endpoints.database_url, "racing", connections=8) as database:
        threads = [threading.Thread(target=claim, args=(n, database)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert max(most) == 3


def test_without_a_limit_a_claim_is_one_statement_and_waits_for_nobody(ledger, endpoints):
    bulk(ledger, 2)
    seen = []

    def watched(connection):
        class Counting:
            def execute(self, statement, values=None):
                seen.append(str(statement))
                return connection.execute(statement, values)

        return SHARDS.claim(Counting(), ledger.one("SELECT min(shard_id) FROM core.shard"), "worker", 60)

    with Database(endpoints.database_url, "limits", connections=1) as other, other.transaction() as holder:
        holder.exec_driver_sql(f"SELECT pg_advisory_xact_lock({limits.TURN})")
        assert ledger.database.run(watched)
    assert len(seen) == 1


def test_queues_are_told_with_what_is_in_hand_of_them(ledger, listening):
    bulk(ledger, 7)
    ledger.submit()
    published(ledger)
    ledger.claim(ledger.one("SELECT min(shard_id) FROM core.shard WHERE state = 1"))
    ledger.execute(
        "INSERT INTO core.breaker (queue, host, failures, next_attempt_at, reason) VALUES (:q, 'one', 1, now(), 'x')",
        q=QUEUE,
    )
    put(ledger, QUEUE, 5)
    found = {queue.queue: queue for queue in ledger.database.run(limits.queues)}
    assert list(found)[-1] == ALL
    tags, lists, everything = found[QUEUE], found[INGEST_QUEUE], found[ALL]
    assert (tags.workers, tags.pending, tags.queued, tags.leased, tags.breakers) == (3, 1, 5, 1, 1)
    assert (tags.most, tags.set_by, lists.most) == (5, "ann@desk", None)
    assert (lists.workers, lists.pending, lists.queued, lists.leased) == (1, 0, 1, 0)
    assert (everything.workers, everything.queued, everything.leased, everything.most) == (4, 6, 1, None)


def test_a_queue_that_is_not_there_is_refused_by_name(ledger):
    for act in (lambda: put(ledger, "annotate.smal", 1), lambda: lift(ledger, "nowhere")):
        with pytest.raises(ConfigurationError, match=r"take one of ingest, annotate\.small, or all"):
            act()


def test_operators_set_limits_and_workers_obey_them(ledger, roles):
    bulk(ledger, 3)
    ingest, worker = roles[Role.INGEST], roles[Role.WORKER]
    put(ingest, QUEUE, 1)
    assert claim_next(worker)
    assert claim_next(worker) is None
    with pytest.raises(ConfigurationError, match="does not let role"):
        put(worker, QUEUE, 9)
    assert lift(ingest, QUEUE)
