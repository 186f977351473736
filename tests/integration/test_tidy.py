"""Old jobs are tidied: counts, results and deliveries stay, and nobody takes what is missing for damage."""

from dataclasses import replace

import pytest
from ledger_helpers import failed, page_of, ref
from sqlalchemy import text

from pipeline.errors import ConfigurationError
from pipeline.ledger import audit, control, delivery, jobs, results, selection, tidy
from pipeline.ledger.erase import erase
from pipeline.ledger.requests import JobRequest, Output
from pipeline.records import Code, Refusal, WorkState
from pipeline.store.roles import Role
from workers.app import create_app
from workers.redriver import Redriver

KEEP_DAYS = 90
OUTPUT = (Output(target="/results/"),)
LEFT = """
SELECT (SELECT count(*) FROM core.job_item WHERE job_id = :job) AS items,
       (SELECT count(*) FROM core.job_line WHERE job_id = :job) AS lines,
       (SELECT count(*) FROM core.job_entry WHERE job_id = :job) AS entries"""


def age(ledger, job_id, days):
    """Let the job have ended so many days ago, with all that it was to deliver brought."""
    ledger.execute("UPDATE core.delivery SET state = 3, delivered_at = now() WHERE job_id = :job", job=job_id)
    ledger.execute(
        """UPDATE core.job SET state = 11, created_at = now() - make_interval(days => :days, hours => 1),
           finished_at = now() - make_interval(days => :days) WHERE job_id = :job""",
        job=job_id,
        days=days,
    )


def left(ledger, job_id):
    return tuple(ledger.one(LEFT, job=job_id))


def tidy_all(ledger, rows=tidy.ROWS_AT_ONCE):
    """Every batch there is, each a transaction; returns them."""
    batches = []
    while (batch := ledger.database.run(lambda c: tidy.tidy_next(c, KEEP_DAYS, rows))) is not None:
        batches.append(batch)
    return batches


def is_due(ledger, days=KEEP_DAYS):
    return ledger.database.run(lambda c: tidy.is_due(c, days))


@pytest.fixture
def old(ledger, ingest, worker):
    """A job that ended 91 days ago: five photos, of which one failed, a line that is none, and three entries."""
    job_id = ingest.submit(outputs=OUTPUT)
    lease = ingest.claim_range(job_id)
    bad = Refusal(name="line 6", code=Code.BAD_LINE, reason="It is no photo.")
    ingest.write_page(job_id, lease, page_of([ref(f"ann/{n}.jpg") for n in range(5)], [bad]))
    ingest.finish(job_id, lease)
    for taken in worker.claim_all(job_id):
        first, *others = worker.tasks(taken)
        worker.merge([failed(first, Code.CORRUPT), *(worker.tagged(task, "dog") for task in others)], [taken])
    ledger.execute(
        "INSERT INTO core.job_entry (job_id, line, bucket, key) SELECT :job, n, 'b', 'k' FROM generate_series(1, 3) n",
        job=job_id,
    )
    age(ledger, job_id, KEEP_DAYS + 1)
    return job_id


def test_rows_go_batch_by_batch_and_all_else_stays(ledger, ingest, old):
    young = ledger.list([ref("ben/1.jpg", user="ben")], whole=False)
    ledger.tag_all(young, "cat")
    age(ledger, young, KEEP_DAYS - 1)
    before = ledger.job(old)
    assert (is_due(ledger), left(ledger, old)) == (True, (5, 6, 3))
    batches = []
    while (batch := ingest.database.run(lambda c: tidy.tidy_next(c, KEEP_DAYS, 4))) is not None:
        batches.append(batch)
        with ledger.database.transaction() as connection:  # half of it gone, and nothing of that is a finding
            assert audit.findings(connection) == ()
    assert [(batch.job_id, batch.rows) for batch in batches] == [(old, 4), (old, 4), (old, 4), (old, 2)]
    assert [batch.done for batch in batches] == [False, False, False, True]
    assert (is_due(ledger), left(ledger, old), left(ledger, young)) == (False, (0, 0, 0), (1, 0, 0))
    after = ledger.job(old)
    assert (after.counts, after.total) == (before.counts, before.total)
    assert ledger.photos_with("dog") == (4, 36_000)
    assert ledger.one("SELECT count(*) FROM core.photo_result WHERE outcome = :corrupt", corrupt=int(Code.CORRUPT)) == 1
    assert len(ledger.all("SELECT FROM core.delivery WHERE job_id = :job", job=old)) == 1


def test_an_audit_still_finds_what_is_wrong_in_others(ledger, old):
    ledger.tag_all(other := ledger.list([ref("ann/9.jpg")], whole=False), "dog")
    tidy_all(ledger)
    ledger.execute("UPDATE core.job_count SET photos = photos + 1 WHERE job_id = :job", job=other)
    ledger.execute("DELETE FROM core.photo_result WHERE photo_id = (SELECT max(photo_id) FROM core.photo)")
    with ledger.database.transaction() as connection:
        found = {finding.audit for finding in audit.findings(connection)}
    assert {"job counts", "lost photos"} <= found


def test_a_tidied_job_says_so_in_one_sentence(ledger, ingest, old):
    tidy_all(ingest, rows=1)
    job = ingest.job(old)
    says = rf"Of job {old} only the counts are kept since \d{{4}}-\d\d-\d\d, because it ended long ago"
    with pytest.raises(ConfigurationError, match=says):
        results.check_kept(job)
    with pytest.raises(ConfigurationError, match=says):
        control.retry_of(job, failed=0)
    with pytest.raises(ConfigurationError, match=says):
        ingest.database.run(lambda c: selection.check(c, f"job:{old}"))
    assert ingest.database.run(lambda c: jobs.failures(c, old, 20)) == []


def test_results_and_retries_under_way_come_first(ledger, ingest, old):
    ledger.execute("UPDATE core.delivery SET state = 0 WHERE job_id = :job", job=old)
    assert not is_due(ledger)
    ledger.execute("UPDATE core.delivery SET state = :off WHERE job_id = :job", off=int(WorkState.CANCELLED), job=old)
    assert is_due(ledger)
    request = JobRequest(kind="ledger", source=f"job:{old}", user_rule="{user}/{photo}", retry_of=old)
    retry = ingest.database.run(lambda c: jobs.submit(c, request, ledger.registered.model_id))
    assert not is_due(ledger)
    assert tidy_all(ingest) == []
    ledger.execute("UPDATE core.job SET state = 13, finished_at = now() WHERE job_id = :job", job=retry)
    assert [batch.done for batch in tidy_all(ingest)] == [True]


def test_an_erasure_does_not_have_half_of_the_results_written_again(ledger, roles, old):
    ledger.database.run(lambda c: tidy.tidy_next(c, KEEP_DAYS, 2))
    receipt = erase(roles[Role.ERASER].database, "ann")
    assert not any(receipt.left.values())
    (found,) = ledger.database.run(lambda c: delivery.of_job(c, old))
    assert found.state is WorkState.DONE
    tidy_all(ledger)
    assert left(ledger, old) == (0, 0, 0)


def test_two_redrivers_take_different_jobs(ledger, ingest, worker, old):
    ledger.tag_all(other := ledger.list([ref("ann/9.jpg")], whole=False), "dog")
    age(ledger, other, KEEP_DAYS + 2)
    with ledger.database.transaction() as connection:
        assert tidy.tidy_next(connection, KEEP_DAYS).job_id == other
        batch = ingest.database.run(lambda c: tidy.tidy_next(c, KEEP_DAYS))
        assert (batch.job_id, batch.done) == (old, True)
    assert tidy_all(ledger) == []


def test_a_redriver_tidies_with_its_tick(ledger, ledger_settings, worker, old):
    """As who may: its own role deletes nothing of a job."""
    app = create_app(ledger_settings)
    redriver = Redriver.over(ledger_settings, worker.database, app)
    try:
        patient = ledger_settings.model_copy(update={"keep_days": KEEP_DAYS + 2})
        replace(redriver, settings=patient).tick()
        assert left(ledger, old) == (5, 6, 3)
        redriver.tick()
    finally:
        redriver.broker.close()
        app.close()
    assert left(ledger, old) == (0, 0, 0)
    assert ledger.one("SELECT tidied_at IS NOT NULL FROM core.job WHERE job_id = :job", job=old)


def test_nothing_to_do_is_found_in_an_index(ledger):
    with ledger.database.transaction() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = connection.execute(text(f"EXPLAIN {tidy._NEXT}"), {"days": KEEP_DAYS}).scalars().all()
    assert any("job_untidied_idx" in line and "Index" in line for line in plan), plan
