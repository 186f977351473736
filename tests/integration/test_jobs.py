"""Jobs and the connection they live on: what people read about a job, how one ends, and how trouble is named."""

import io
import threading

import psycopg2
import pytest
from ledger_helpers import BUCKET, LEASE_SECONDS, Ledger, failed, page_of, ref, waiting
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger import ending, jobs, publish, redrive
from pipeline.ledger.jobs import REFUSALS_KEPT
from pipeline.records import Code, ItemState, JobState, WorkState
from pipeline.sources.source import Interval, after_prefix
from pipeline.store import session
from pipeline.store.session import Database
from pipeline.store.staging import copy_rows


def test_a_new_job_waits_to_be_listed(ledger):
    job_id = ledger.submit(priority=3, keep_missing=True)
    job = ledger.job(job_id)
    assert (job.state, job.listing, job.total, job.counts, job.notes) == (JobState.CREATED, True, 0, {}, ())
    assert (job.priority, job.keep_missing, job.model, job.started_at) == (3, True, "small", None)


def test_starting_twice_keeps_the_first_time(ledger):
    job_id = ledger.submit()
    ledger.database.run(lambda c: jobs.start(c, job_id))
    first = ledger.job(job_id)
    ledger.database.run(lambda c: jobs.start(c, job_id))
    assert (ledger.job(job_id).started_at, ledger.job(job_id).state) == (first.started_at, JobState.RUNNING)


def test_starting_does_not_wake_what_has_ended(ledger):
    job_id = ledger.submit()
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    ledger.database.run(lambda c: jobs.start(c, job_id))
    assert ledger.job(job_id).state is JobState.FAILED


def test_failing_a_job_cancels_what_is_open_and_keeps_what_is_done(ledger):
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(6)], shard_photos=2)
    done, half, _ = ledger.claim_all(job_id)
    ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(done)], [done])
    ledger.merge([waiting(ledger.tasks(half)[0])])
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    job = ledger.job(job_id)
    assert job.counts == {(ItemState.SUCCEEDED, Code.TAGGED): 2, (ItemState.CANCELLED, Code.NONE): 4}
    assert (job.state, job.error, job.waiting) == (JobState.FAILED, "no bucket", 0)
    assert {row.state for row in ledger.shards(job_id)} == {WorkState.DONE, WorkState.CANCELLED}
    ledger.execute("UPDATE core.job_item SET next_attempt_at = now()")
    assert ledger.database.run(lambda c: redrive.gather_retries(c, 512)) == 0
    assert ledger.database.run(publish.publishable) == []
    ledger.check()


def test_what_has_ended_does_not_fail(ledger):
    job_id = ledger.list([ref("ann/1.jpg")])
    ledger.tag_all(job_id, "dog")
    ledger.database.run(ending.finish_jobs)
    ledger.database.run(lambda c: ending.fail(c, job_id, "too late"))
    assert (ledger.job(job_id).state, ledger.job(job_id).error) == (JobState.SUCCEEDED, None)


def test_a_failed_job_forgets_what_it_missed(ledger):
    ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")])
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    ledger.write_page(
        job_id, lease, page_of([ref("ann/1.jpg")]), Interval(bucket=BUCKET, after="", upto=after_prefix(""))
    )
    assert len(ledger.all("SELECT * FROM core.job_missing")) == 1
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    assert ledger.all("SELECT * FROM core.job_missing") == []


def test_failing_a_job_while_its_shards_die_and_its_photos_come_back(ledger):
    """The same rows from four sides at once, in four lock orders; each transaction is repeated until it fits."""
    errors = []
    for turn in range(2):
        job_id = ledger.list([ref(f"ann/{n}.jpg", etag=f"e{turn}") for n in range(12)], shard_photos=3)
        leases = ledger.claim_all(job_id)
        tasks = [task for lease in leases for task in ledger.tasks(lease)]
        ledger.merge([waiting(task) for task in tasks[:4]])
        ledger.execute("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1")
        ledger.execute("UPDATE core.shard SET deaths = 1, lease_started = true WHERE state = 2")
        ledger.expire()
        steps = [
            lambda c, j=job_id: ending.fail(c, j, "given up"),
            lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS),
            lambda c: redrive.gather_retries(c, 2),
        ]
        results = [ledger.tagged(task, "dog") for task in reversed(tasks)]

        def run(step):
            try:
                ledger.database.run(step)
            except Exception as exc:
                errors.append(exc)

        threads = [threading.Thread(target=run, args=(step,)) for step in steps]
        threads.append(threading.Thread(target=lambda r=results, ls=leases: ledger.merge(r, ls)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert ledger.job(job_id).waiting == 0
        ledger.check()


def test_what_is_said_of_the_job_comes_before_the_first_few_refusals(ledger):
    job_id = ledger.submit()
    for start in range(0, 50, 15):
        notes = [f"note {n}" for n in range(start, start + 15)]
        ledger.database.run(lambda c, notes=notes: jobs.add_refusals(c, job_id, notes))
    ledger.database.run(lambda c: jobs.add_notes(c, job_id, ["all of it"]))
    assert ledger.job(job_id).notes == ("all of it", *(f"note {n}" for n in range(REFUSALS_KEPT)))


def test_failures_are_told_by_photo_with_their_reason(ledger):
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(3)])
    (lease,) = ledger.claim_all(job_id)
    one, two, three = ledger.tasks(lease)
    ledger.merge(
        [failed(two, Code.CORRUPT, "cut off"), ledger.tagged(one, "dog"), failed(three, Code.TOO_LARGE)], [lease]
    )
    found = ledger.database.run(lambda c: jobs.failures(c, job_id, 10))
    assert [(f.key, f.code, f.message) for f in found] == [
        ("ann/1.jpg", "corrupt", "cut off"),
        ("ann/2.jpg", "too_large", None),
    ]
    assert len(ledger.database.run(lambda c: jobs.failures(c, job_id, 1))) == 1


def test_newest_first_and_unknown_jobs_by_name(ledger):
    ids = [ledger.submit() for _ in range(3)]
    assert [job.job_id for job in ledger.database.run(lambda c: jobs.newest(c, 2))] == ids[:0:-1]
    with pytest.raises(ConfigurationError, match="no job 0"):
        ledger.job(0)


# ---- the connection


@pytest.mark.parametrize("during", ["a query", "copy"])
def test_a_lost_connection_is_a_service_that_is_down_and_the_next_one_works(ledger, during):
    def killed(connection):
        ledger.one(
            "SELECT pg_terminate_backend(:pid)", pid=connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        )
        if during == "copy":
            driver = connection.connection.driver_connection
            driver.cursor().copy_expert("COPY core.worker (worker_id, queue) FROM STDIN", io.StringIO("a\tb"))
        connection.exec_driver_sql("SELECT 1")

    with pytest.raises(ServiceDown):
        ledger.database.run(killed)
    assert ledger.one("SELECT 1") == 1


def test_a_lock_that_is_not_given_is_a_service_that_is_busy(ledger):
    def wait(connection):
        connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
        connection.exec_driver_sql("LOCK TABLE core.job IN ACCESS EXCLUSIVE MODE")

    with ledger.database.transaction() as holder:
        holder.execute(text("LOCK TABLE core.job"))
        with pytest.raises(ServiceDown, match="lock timeout"):
            ledger.database.run(wait)


def test_a_deadlock_is_repeated_until_it_fits(ledger):
    ids = [ledger.submit() for _ in range(2)]
    both, tries = threading.Barrier(2), []

    def crossing(order):
        def work(connection):
            tries.append(order)
            first, second = order
            connection.execute(text("UPDATE core.job SET priority = priority + 1 WHERE job_id = :id"), {"id": first})
            if tries.count(order) == 1:
                both.wait(60)
            connection.execute(text("UPDATE core.job SET priority = priority + 1 WHERE job_id = :id"), {"id": second})

        return threading.Thread(target=ledger.database.run, args=(work,))

    threads = [crossing(tuple(ids)), crossing(tuple(reversed(ids)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == 3  # one of the two had to run again
    assert [ledger.job(job_id).priority for job_id in ids] == [2, 2]


def test_mistakes_of_ours_are_not_dressed_up(ledger):
    with pytest.raises(DBAPIError):
        ledger.execute("SELECT 1 / 0")
    with pytest.raises((DBAPIError, psycopg2.Error)):
        ledger.database.run(lambda c: copy_rows(c, "oops", "n int", [("no number",)]))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"port": 9}, ServiceDown, "does not answer"),
        ({"database": "nowhere"}, ConfigurationError, "refuses us"),
        ({"username": "nobody"}, ConfigurationError, "refuses us"),
        ({"query": {"nonsense": "1"}}, ConfigurationError, "PICTOGRAPH_DATABASE_URL cannot be used"),
        ({"query": {"sslmode": "nonsense"}}, ConfigurationError, "PICTOGRAPH_DATABASE_URL cannot be used"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named(ledger, change, error, words):
    url = ledger.database.engine.url.set(**change, **({"query": {}} if "port" in change else {}))
    if "port" in change:
        url = url.set(host="127.0.0.1")
    with (
        Database(url.render_as_string(hide_password=False), "pictograph tests") as database,
        pytest.raises(error, match=words) as caught,
        database.transaction(),
    ):
        pass
    assert str(caught.value).count("\n") == 0


def test_a_server_that_is_too_old_is_named_with_its_version(ledger, monkeypatch):
    monkeypatch.setattr(session, "OLDEST_SERVER", 1000)
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    with Database(url, "pictograph tests") as database:
        for _ in range(2):  # not only the first connection says so
            with pytest.raises(ConfigurationError, match=r"is version \d\d; 1000 or newer is needed"):
                database.run(lambda c: c.execute(text("SELECT 1")))


def test_what_we_may_not_do_is_a_matter_of_configuration(ledger):
    def peep(connection):
        connection.execute(text("SET LOCAL ROLE pg_monitor"))
        connection.execute(text("SELECT FROM core.job"))

    with pytest.raises(ConfigurationError, match="does not let us"):
        ledger.database.run(peep)


def test_a_statement_may_be_given_a_limit(ledger):
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    with (
        Database(url, "pictograph tests", statement_seconds=0.05) as database,
        pytest.raises(ServiceDown, match="statement timeout"),
    ):
        database.run(lambda c: c.execute(text("SELECT pg_sleep(5)")))


def test_temporary_tables_are_made_once_per_connection(ledger):
    """Thousands of merges must not fill the catalogue."""
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    with Database(url, "pictograph tests", connections=1) as database:
        alone = Ledger(database)
        job_id = alone.list([ref(f"ann/{n}.jpg") for n in range(10)], shard_photos=1)
        seen = []
        for lease in alone.claim_all(job_id):
            alone.merge([alone.tagged(task, "dog") for task in alone.tasks(lease)], [lease])
            seen.append(alone.all("SELECT oid FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY 1"))
    assert seen[0]
    assert seen[1:] == seen[:-1]
