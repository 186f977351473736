"""What is gathered about a job that does not move: from real rows, and while somebody holds a lock."""

import threading

import pytest
from ledger_helpers import ref, wait_for, waiting

from pipeline.errors import ConfigurationError
from pipeline.ledger import breaker, control, ending, publish, redrive, roster, why, work
from pipeline.ledger.roster import REDRIVER, STARTING, Sign
from pipeline.ledger.work import RANGES
from pipeline.store.session import Database

QUEUE = "annotate.small"
REFS = [ref(f"k{n:02d}") for n in range(12)]


@pytest.fixture
def code(ledger):
    """The code of the reason that is found for a job, and its sentence."""

    def look(job_id):
        with ledger.database.transaction() as connection:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            reason = why.explain(why.gather(connection, job_id))
        assert reason.sentence.startswith(f"Job {job_id} ")
        assert reason.sentence.endswith(".")
        return reason.code, reason.sentence

    return look


@pytest.fixture
def say(ledger):
    """A process says that it lives."""

    def sign(queue, trouble=None, worker=None):
        it = Sign(worker_id=worker or f"{queue}'s", queue=queue, host="one", trouble=trouble)
        ledger.database.run(lambda c: roster.note(c, it, 90))

    return sign


@pytest.fixture
def everybody(say):
    for queue in (QUEUE, "ingest", REDRIVER):
        say(queue)


def test_what_has_not_arrived_of_a_job_that_ended(ledger, code, everybody):
    job_id = ledger.list(REFS, notify=("https://example.org/ended", "https://example.org/also"))
    ledger.tag_all(job_id, "dog")
    assert "example.org" not in code(job_id)[1]
    ledger.database.run(ending.finish_jobs)
    assert code(job_id)[0] == "ended"
    assert "its notice to https://example.org/ended did not arrive yet, nor did 1 other." in code(job_id)[1]
    ledger.execute("UPDATE core.delivery SET state = 3")
    assert code(job_id)[1].endswith(": 12 photos.")


def test_who_is_missing(ledger, code, say):
    job_id = ledger.submit()
    assert code(job_id)[0] == "nobody"
    say(REDRIVER)
    assert code(job_id)[0] == "no_ingest_worker"
    say("ingest")
    assert code(job_id)[0] == "unpublished"
    job_id = ledger.list(REFS)
    assert "serves small is alive (queue annotate.small)" in code(job_id)[1]
    say(STARTING + QUEUE, worker="new")
    assert code(job_id)[0] == "annotate_worker_starts"
    say(QUEUE, worker="new")
    assert code(job_id)[0] == "unpublished"
    ledger.execute("UPDATE core.worker SET last_seen = now() - interval '2 minutes' WHERE queue = 'redriver'")
    assert code(job_id)[0] == "no_redriver"


def test_a_listing(ledger, code, everybody):
    job_id = ledger.submit()
    ledger.database.run(publish.publishable)
    assert code(job_id)[0] == "published"
    lease = ledger.claim_range(job_id, owner="ingest's")
    assert code(job_id)[0] == "listing"
    ledger.database.run(lambda c: RANGES.release(c, [lease], 60.0))
    assert code(job_id)[0] == "listing_backs_off"
    ledger.execute("UPDATE core.list_range SET next_attempt_at = NULL")
    ledger.claim_range(job_id, owner="gone")
    assert code(job_id)[0] == "lease_abandoned"


def test_the_way_of_a_shard(ledger, code, everybody):
    job_id = ledger.list(REFS, shard_photos=3)
    ledger.database.run(publish.publishable)
    assert code(job_id)[0] == "published"
    lease = ledger.claim(ledger.shards(job_id)[0].shard_id, owner=f"{QUEUE}'s")
    assert "1 worker has 1 shard in hand, 0 of 12 photos are done" in code(job_id)[1]
    ledger.merge([waiting(task, "S3 at s3:9000 failed with 503 SlowDown.") for task in ledger.tasks(lease)], [lease])
    ledger.execute("UPDATE core.shard SET state = 3, lease_owner = NULL WHERE state <> 3")  # nothing else is open
    ledger.execute("UPDATE core.job_count SET photos = 3 WHERE state = 1")
    reason, sentence = code(job_id)
    assert reason == "photos_back_off"
    assert "3 photos wait for another try (S3 at s3:9000 failed with 503 SlowDown), the first until" in sentence


def test_a_shard_that_fails_again_and_again(ledger, code, everybody):
    job_id = ledger.list(REFS)
    for _ in range(2):
        ledger.execute("UPDATE core.shard SET next_attempt_at = NULL")
        (lease,) = ledger.claim_all(job_id)
        ledger.database.run(lambda c, lease=lease: work.release_failed(c, lease, "KeyError: 'x'"))
    reason, sentence = code(job_id)
    assert reason == "shard_backs_off"
    assert "after 2 failures in a row (KeyError: 'x')" in sentence


def test_a_worker_that_fell_silent(ledger, code, everybody):
    job_id = ledger.list(REFS)
    ledger.claim_all(job_id, owner="dead")
    assert code(job_id)[0] == "lease_abandoned"


def test_others_go_first(ledger, code, everybody):
    ledger.list(REFS[:6], shard_photos=2, priority=5)
    urgent = ledger.list(REFS[6:], shard_photos=3, whole=False)
    reason, sentence = code(urgent)
    assert reason == "others_first"
    assert "3 shards of other jobs" in sentence
    first = ledger.list([ref("first")], whole=False, priority=9)
    assert code(first)[0] == "unpublished"


def test_what_a_process_waits_for(ledger, code, say, everybody):
    job_id = ledger.list(REFS)
    say(REDRIVER, "The broker does not answer; workers go on with what they hold.")
    assert code(job_id)[0] == "redriver_waits"
    say(QUEUE, "S3 at s3:9000 does not answer.")
    reason, sentence = code(job_id)
    assert reason == "annotate_worker_waits"
    assert "on one waits since" in sentence
    ledger.claim_all(job_id, owner=f"{QUEUE}'s")
    assert code(job_id)[0] == "annotate_worker_waits"


def test_an_open_breaker(ledger, code, say):
    say(REDRIVER)
    job_id = ledger.list(REFS)
    ledger.database.run(lambda c: breaker.fail(c, QUEUE, "gpu-1", "There is no CUDA device.", 60.0))
    reason, sentence = code(job_id)
    assert reason == "breaker_open"
    assert "model small does not work on gpu-1 since" in sentence
    assert "(There is no CUDA device), and is tried again at" in sentence


def test_paused_and_ended(ledger, code, everybody):
    job_id = ledger.list(REFS)
    ledger.claim_all(job_id)
    ledger.database.run(lambda c: control.pause(c, job_id, "ann@desk"))
    assert code(job_id)[0] == "pausing"
    ledger.expire()
    ledger.database.run(lambda c: redrive.expire_shards(c, 512, 2.0))
    assert "ann@desk paused it at" in code(job_id)[1]
    ledger.database.run(lambda c: ending.fail(c, job_id, "There is no bucket b."))
    assert code(job_id)[1].endswith("UTC: There is no bucket b.")


def test_over(ledger, code, everybody):
    job_id = ledger.list(REFS)
    ledger.tag_all(job_id, "dog")
    assert code(job_id)[0] == "over"


def test_a_lock_that_somebody_holds(ledger, code, everybody, endpoints):
    job_id = ledger.list(REFS)
    (lease,) = ledger.claim_all(job_id, owner=f"{QUEUE}'s")
    results = [ledger.tagged(task, "dog") for task in ledger.tasks(lease)]
    with (
        Database(endpoints.database_url, "pictograph annotate") as worker,
        Database(endpoints.database_url, "psql") as other,
    ):
        ours = type(ledger)(worker)
        with other.transaction() as holder:
            holder.exec_driver_sql("LOCK TABLE core.category_total IN SHARE MODE")
            merging = threading.Thread(target=lambda: ours.merge(results, [lease]))
            merging.start()
            reason, sentence = wait_for(lambda: (said := code(job_id))[0] == "locked" and said)
        merging.join()
    assert reason == "locked"
    assert "pictograph annotate (pid " in sentence
    assert "waits for a lock in the database that psql (pid " in sentence
    assert "holds in a transaction that began at" in sentence
    assert code(job_id)[0] == "over"


def test_no_such_job(ledger, code):
    with pytest.raises(ConfigurationError, match="There is no job 999999"):
        code(999999)
