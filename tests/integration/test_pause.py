"""Pausing a job: nothing of it is begun from then on, what is held is finished, and it goes on where it stood."""

import pytest
from ledger_helpers import page_of, ref

from pipeline.errors import ConfigurationError
from pipeline.ledger import control, ending, jobs, publish, redrive, roster, work
from pipeline.ledger.publish import INGEST_QUEUE
from pipeline.records import ItemState, JobState, WorkState

QUEUE = "annotate.small"
REFS = [ref(f"k{n:02d}") for n in range(12)]


@pytest.fixture
def listening(ledger):
    """One living worker per queue."""
    for worker, queue in (("tagger", QUEUE), ("lister", INGEST_QUEUE)):
        ledger.database.run(lambda c, w=worker, q=queue: roster.note_worker(c, w, q, progressed=False))


def pause(ledger, job_id, by="ann@desk"):
    return ledger.database.run(lambda c: control.pause(c, job_id, by))


def resume(ledger, job_id):
    return ledger.database.run(lambda c: control.resume(c, job_id))


def claim_next(ledger):
    model = ledger.registered.model_id
    return ledger.database.run(lambda c: work.claim_next_shard(c, model, "worker", 60))


def published(ledger):
    return ledger.database.run(publish.publishable)


def test_a_paused_job_gives_out_nothing_and_goes_on_when_it_is_resumed(ledger, listening):
    job_id = ledger.list(REFS, shard_photos=3)
    rung = published(ledger)
    assert len(rung) == publish.WINDOW_PER_WORKER
    assert pause(ledger, job_id)
    assert {row.state for row in ledger.shards(job_id)} == {WorkState.PENDING}  # what was published takes up no room
    assert published(ledger) == []
    assert claim_next(ledger) is None
    assert ledger.claim(rung[0].work_id) is None  # its message was on its way
    assert resume(ledger, job_id)
    assert ledger.claim(rung[0].work_id)
    assert claim_next(ledger)
    assert published(ledger)


def test_what_is_held_is_finished_while_a_job_is_pausing(ledger):
    job_id = ledger.list(REFS, shard_photos=3)
    lease = ledger.claim(ledger.shards(job_id)[0].shard_id)
    pause(ledger, job_id)
    job = ledger.job(job_id)
    assert (job.state, job.condition, job.paused_by) == (JobState.PAUSED, "pausing", "ann@desk")
    assert ledger.database.run(lambda c: work.SHARDS.renew(c, [lease], 60)) == {lease.work_id}
    ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(lease)], [lease])
    job = ledger.job(job_id)
    assert (job.condition, job.count(ItemState.SUCCEEDED)) == ("paused", 3)
    resume(ledger, job_id)
    ledger.tag_all(job_id, "dog")
    assert ledger.database.run(ending.finish_jobs) == [job_id]
    job = ledger.job(job_id)
    assert (job.condition, job.paused_by, job.count(ItemState.SUCCEEDED)) == ("succeeded", None, 12)
    ledger.check()


def test_photos_to_be_tried_again_stay_where_they_are(ledger):
    job_id = ledger.list(REFS[:1])
    ledger.execute("UPDATE core.job_item SET state = 1, shard_id = NULL, next_attempt_at = now()")
    ledger.execute("UPDATE core.job_count SET state = 1")
    ledger.execute("UPDATE core.shard SET state = 3")
    pause(ledger, job_id)
    assert ledger.database.run(lambda c: redrive.gather_retries(c, 512)) == 0
    resume(ledger, job_id)
    assert ledger.database.run(lambda c: redrive.gather_retries(c, 512)) == 1


def test_a_job_that_is_done_meanwhile_ends_after_it_is_resumed(ledger):
    job_id = ledger.list(REFS[:3])
    lease = ledger.claim(ledger.shards(job_id)[0].shard_id)
    pause(ledger, job_id)
    ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(lease)], [lease])
    assert ledger.database.run(ending.finish_jobs) == []
    resume(ledger, job_id)
    assert ledger.database.run(ending.finish_jobs) == [job_id]


def test_a_job_that_nobody_has_begun(ledger, listening):
    job_id = ledger.submit()
    pause(ledger, job_id)
    assert published(ledger) == []
    assert ledger.database.run(lambda c: work.RANGES.claim(c, ledger.range_of(job_id), "lister", 60)) is None
    resume(ledger, job_id)
    assert ledger.job(job_id).state is JobState.CREATED
    assert [bell.kind for bell in published(ledger)] == ["ingest"]


def test_a_job_paused_between_its_first_claim_and_its_beginning_still_begins(ledger):
    job_id = ledger.submit()
    lease = ledger.database.run(lambda c: work.RANGES.claim(c, ledger.range_of(job_id), "lister", 60))
    pause(ledger, job_id)
    ledger.database.run(lambda c: jobs.start(c, job_id))
    assert ledger.job(job_id).state is JobState.PAUSED
    ledger.write_page(job_id, lease, page_of(REFS))
    ledger.finish(job_id, lease)
    resume(ledger, job_id)
    assert ledger.job(job_id).state is JobState.RUNNING
    ledger.tag_all(job_id, "dog")
    assert ledger.database.run(ending.finish_jobs) == [job_id]


def test_twice_is_once(ledger):
    job_id = ledger.list(REFS)
    assert [pause(ledger, job_id), pause(ledger, job_id, by="bob@desk")] == [True, False]
    assert ledger.job(job_id).paused_by == "ann@desk"
    assert [resume(ledger, job_id), resume(ledger, job_id)] == [True, False]
    assert ledger.job(job_id).paused_at is None


@pytest.mark.parametrize("act", [pause, resume])
def test_what_has_ended_or_never_was_is_refused(ledger, act):
    job_id = ledger.submit()
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    with pytest.raises(ConfigurationError, match="has ended \\(failed\\)"):
        act(ledger, job_id)
    with pytest.raises(ConfigurationError, match="There is no job 999999"):
        act(ledger, 999999)


def test_a_paused_job_may_still_fail(ledger):
    job_id = ledger.list(REFS)
    pause(ledger, job_id)
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    assert ledger.job(job_id).state is JobState.FAILED
    ledger.check()
