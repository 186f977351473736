"""The redriver's decisions, and its loop over real Valkey: messages may be lost, doubled or late; work may not."""

import base64
import json
import threading

import pytest
import redis
from ledger_helpers import LEASE_SECONDS, failed, ref, wait_for, waiting

from pipeline.errors import ServiceDown
from pipeline.ledger import ending, publish, redrive, roster, work
from pipeline.ledger.publish import INGEST_QUEUE, WINDOW_PER_WORKER, Doorbell
from pipeline.records import Code, ItemState, JobState, WorkState
from workers.app import create_app
from workers.redriver import Redriver
from workers.send import ANNOTATE, INGEST, ring

QUEUE = "annotate.small"


@pytest.fixture
def broker(endpoints):
    client = redis.Redis.from_url(endpoints.broker_admin_url)  # who may wipe it
    client.flushall()
    yield client
    client.flushall()
    client.close()


@pytest.fixture
def redriver(ledger, ledger_settings, broker):
    app = create_app(ledger_settings)
    made = Redriver.over(ledger_settings, ledger.database, app)
    yield made
    made.broker.close()
    app.close()


@pytest.fixture
def listening(ledger):
    """One living worker per queue."""
    for worker, queue in (("tagger", QUEUE), ("lister", INGEST_QUEUE)):
        ledger.database.run(lambda c, w=worker, q=queue: roster.note_worker(c, w, q, progressed=False))


def messages(broker, queue=QUEUE):
    return [json.loads(raw) for raw in broker.lrange(queue, 0, -1)]


def ids_in(broker, queue=QUEUE):
    """Oldest first: Celery's list grows at its head."""
    return [json.loads(_body(message))[0][0] for message in reversed(messages(broker, queue))]


def _body(message):
    return base64.b64decode(message["body"])


def shards_of(ledger, n):
    return [row.shard_id for row in ledger.shards(ledger.list([ref(f"ann/{i}.jpg") for i in range(n)], shard_photos=1))]


def test_a_tick_publishes_a_window_and_no_more(ledger, redriver, broker):
    shards = shards_of(ledger, 7)
    redriver.tick()
    assert ids_in(broker) == []  # nobody would hear it
    for n in (1, 2):
        ledger.database.run(lambda c, n=n: roster.note_worker(c, f"w{n}", QUEUE, progressed=False))
        for _ in range(3):
            redriver.tick()
        assert ids_in(broker) == shards[: n * WINDOW_PER_WORKER]
    assert ids_in(broker) == shards[: 2 * WINDOW_PER_WORKER]
    ledger.execute("UPDATE core.worker SET last_seen = now() - interval '2 min'")  # both silent
    ledger.claim(shards[0])
    redriver.tick()
    assert len(messages(broker)) == 2 * WINDOW_PER_WORKER


def test_a_message_is_one_integer_in_json_by_queue_name(ledger, redriver, broker, listening):
    (shard,) = shards_of(ledger, 1)
    job_id = ledger.submit()
    redriver.tick()
    (annotate,), (ingest,) = messages(broker), messages(broker, INGEST_QUEUE)
    for message, task, work_id in ((annotate, ANNOTATE, shard), (ingest, INGEST, ledger.range_of(job_id))):
        assert (message["content-type"], message["headers"]["task"]) == ("application/json", task)
        assert json.loads(_body(message))[:2] == [[work_id], {}]
        delivery = message["properties"]["delivery_info"]
        assert delivery["exchange"] == ""  # the default exchange needs no binding that a wipe could lose


def test_a_wiped_broker_gets_its_messages_again(ledger, redriver, broker, listening):
    shards = shards_of(ledger, 2)
    redriver.tick()
    broker.flushall()
    redriver.tick()
    assert ids_in(broker) == shards
    redriver.tick()
    assert ids_in(broker) == shards


def test_a_message_that_nobody_answers_is_sent_again_when_it_is_stale(ledger, redriver, broker, listening):
    (shard,) = shards_of(ledger, 1)
    redriver.tick()
    redriver.tick()
    assert ids_in(broker) == [shard]
    ledger.execute("UPDATE core.shard SET published_at = now() - interval '1 h'")
    redriver.tick()
    assert ids_in(broker) == [shard, shard]
    assert ledger.claim(shard) is not None
    assert ledger.claim(shard) is None  # the second message finds nothing


def test_a_broker_that_is_away_leaves_the_ledger_pending(ledger, redriver, ledger_settings, listening):
    shards_of(ledger, 3)
    away = ledger_settings.model_copy(update={"broker_url": type(ledger_settings.broker_url)("redis://127.0.0.1:9/0")})
    lonely = Redriver.over(away, ledger.database, create_app(away))
    with pytest.raises(ServiceDown, match="broker"):
        lonely.tick()
    assert ledger.all(f"SELECT * FROM core.shard WHERE state <> {WorkState.PENDING}") == []


def test_what_cannot_be_sent_is_taken_back(ledger, ledger_settings, redriver, broker, listening):
    """The broker goes away between the look at its epoch and the sending."""
    shards_of(ledger, 3)
    ledger.submit()
    away = ledger_settings.model_copy(update={"broker_url": type(ledger_settings.broker_url)("redis://127.0.0.1:9/0")})
    torn = Redriver(ledger_settings, ledger.database, create_app(away), broker)
    with pytest.raises(ServiceDown, match="broker"):
        torn.tick()
    for table in ("shard", "list_range"):
        assert ledger.all(f"SELECT * FROM core.{table} WHERE state = {WorkState.QUEUED}") == []
    redriver.tick()
    assert (len(ids_in(broker)), len(ids_in(broker, INGEST_QUEUE))) == (WINDOW_PER_WORKER, 1)


def test_ringing_says_when_the_broker_is_away(ledger_settings):
    away = ledger_settings.model_copy(update={"broker_url": type(ledger_settings.broker_url)("redis://127.0.0.1:9/0")})
    with pytest.raises(ServiceDown, match="broker"):
        ring(create_app(away), "annotate", QUEUE, 1)


def test_the_loop_outlives_a_database_that_refuses(ledger, redriver, broker, listening, caplog):
    """Trouble is logged once, and the loop goes on until it is told to stop."""
    (shard,) = shards_of(ledger, 1)
    stop = threading.Event()
    loop = threading.Thread(target=redriver.run, args=(stop,))
    with ledger.database.engine.connect() as blocking, blocking.begin():
        blocking.exec_driver_sql("LOCK TABLE core.model IN ACCESS EXCLUSIVE MODE")
        loop.start()
        kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: ledger.one(kill))
    wait_for(lambda: ids_in(broker))
    stop.set()
    loop.join()
    assert ids_in(broker) == [shard]
    assert "does not answer" in caplog.text


def test_the_loop_outlives_what_nobody_thought_of(ledger, redriver, broker, listening, caplog):
    """It is logged once with its traceback, stands on the list of workers, and what could not be sent is sent later."""
    (shard,) = shards_of(ledger, 1)
    app, redriver.app = redriver.app, None  # a bug
    stop = threading.Event()
    loop = threading.Thread(target=redriver.run, args=(stop,))
    loop.start()
    trouble = "SELECT count(*) FROM core.worker WHERE trouble LIKE '%%AttributeError%%'"
    wait_for(lambda: ledger.one(trouble))
    wait_for(lambda: ledger.all(f"SELECT * FROM core.shard WHERE state = {WorkState.PENDING}"))
    redriver.app = app
    wait_for(lambda: ids_in(broker))
    wait_for(lambda: not ledger.one(trouble))
    stop.set()
    loop.join()
    assert ids_in(broker) == [shard]
    assert caplog.text.count("Traceback") == 1


def test_two_redrivers_publish_each_shard_once(ledger):
    shards = shards_of(ledger, 12)
    for n in range(6):
        ledger.database.run(lambda c, n=n: roster.note_worker(c, f"w{n}", QUEUE, progressed=False))
    bells, errors = [], []

    def tick():
        try:
            for _ in range(4):
                bells.extend(ledger.database.run(publish.publishable))
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(bell.work_id for bell in bells) == shards
    assert {(bell.kind, bell.queue) for bell in bells} == {("annotate", QUEUE)}


def test_publishing_keeps_order_and_leaves_what_must_wait(ledger, listening):
    jobs_by_name = {}
    for name, options in {
        "usual": {},
        "high": {"priority": 3},
        "paused": {"priority": 9},
        "waits": {"priority": 9},
    }.items():
        job_id = ledger.list([ref("ann/1.jpg")], **options)
        jobs_by_name[ledger.shards(job_id)[0].shard_id] = name
        if name == "waits":
            ledger.execute(
                "UPDATE core.shard SET next_attempt_at = now() + interval '1 min' WHERE job_id = :j", j=job_id
            )
        if name == "paused":
            ledger.execute(f"UPDATE core.job SET state = {JobState.PAUSED} WHERE job_id = :j", j=job_id)
    bells = ledger.database.run(publish.publishable)
    assert {jobs_by_name[bell.work_id] for bell in bells} == {"high", "usual"}


def test_taking_back_does_not_touch_what_was_claimed_meanwhile(ledger, listening):
    (shard,) = shards_of(ledger, 1)
    bells = ledger.database.run(publish.publishable)
    lease = ledger.claim(shard)
    ledger.database.run(lambda c: publish.take_back(c, bells))
    assert ledger.one("SELECT state FROM core.shard") == WorkState.LEASED
    assert ledger.merge([ledger.tagged(t, "dog") for t in ledger.tasks(lease)], [lease]).finished == {shard}
    ledger.database.run(lambda c: publish.take_back(c, [Doorbell(kind="annotate", queue=QUEUE, work_id=shard)]))
    assert ledger.one("SELECT state FROM core.shard") == WorkState.DONE


def test_retries_of_several_jobs_come_back_in_shards_of_their_own(ledger):
    first = ledger.list([ref(f"ann/{n}.jpg") for n in range(5)])
    second = ledger.list([ref(f"ann/{n}.jpg") for n in range(3)])
    for job_id in (first, second):
        (lease,) = ledger.claim_all(job_id)
        ledger.merge([waiting(task) for task in ledger.tasks(lease)], [lease])
    assert ledger.database.run(ending.finish_jobs) == []
    ledger.execute("UPDATE core.job_item SET next_attempt_at = now()")
    assert ledger.database.run(lambda c: redrive.gather_retries(c, 2)) == 8
    sizes = {
        job_id: sorted(row.photos for row in ledger.shards(job_id, WorkState.PENDING)) for job_id in (first, second)
    }
    assert sizes == {first: [1, 2, 2], second: [1, 2]}
    ledger.check()
    for job_id in (first, second):
        ledger.tag_all(job_id)
    ledger.check()
    assert ledger.database.run(ending.finish_jobs) == [first, second]


def test_a_job_ends_when_its_listing_and_its_photos_have(ledger):
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    assert ledger.database.run(ending.finish_jobs) == []  # nothing open, but the listing goes on
    ledger.finish(job_id, lease)
    assert ledger.database.run(ending.finish_jobs) == [job_id]
    assert ledger.job(job_id).state is JobState.SUCCEEDED
    assert ledger.database.run(ending.finish_jobs) == []
    assert ledger.job(job_id).finished_at is not None


@pytest.mark.parametrize(
    ("code", "state"), [(Code.CORRUPT, JobState.SUCCEEDED_WITH_ERRORS), (Code.TAGGED, JobState.SUCCEEDED)]
)
def test_a_job_says_whether_photos_failed(ledger, code, state):
    job_id = ledger.list([ref("ann/1.jpg")])
    (lease,) = ledger.claim_all(job_id)
    (task,) = ledger.tasks(lease)
    ledger.merge([failed(task, code) if code is Code.CORRUPT else ledger.tagged(task, "dog")], [lease])
    ledger.database.run(ending.finish_jobs)
    assert ledger.job(job_id).state is state


def test_deaths_are_counted_by_one_redriver_only(ledger):
    (shard,) = shards_of(ledger, 1)
    ledger.database.run(lambda c: roster.note_worker(c, "w", QUEUE, progressed=True))
    lease = ledger.claim(shard, "w")
    ledger.database.run(lambda c: work.mark_started(c, lease))
    ledger.expire()
    seen = []
    threads = [
        threading.Thread(
            target=lambda: seen.append(ledger.database.run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS)))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found["deaths"] for found in seen) == 1
    assert ledger.one("SELECT deaths FROM core.shard") == 1
    assert ledger.one("SELECT state FROM core.job_item") == ItemState.PENDING


def test_a_job_does_not_end_over_an_open_shard(ledger):
    """A zombie closed the last photos of a shard that was handed out again: somebody must still finish the shard."""
    job_id = ledger.list([ref("ann/1.jpg")])
    (zombie,) = ledger.claim_all(job_id)
    photos = ledger.tasks(zombie)
    ledger.expire(died=False)
    ledger.database.run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))
    ledger.merge([ledger.tagged(task, "dog") for task in photos], [zombie])
    assert ledger.database.run(ending.finish_jobs) == []
    (lease,) = ledger.claim_all(job_id)
    assert ledger.merge([], [lease]).finished == {lease.work_id}
    assert ledger.database.run(ending.finish_jobs) == [job_id]
