"""Deciding anew from what is stored: as if tagged at the new constants, exactly once, and without a byte of a photo."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from ledger_helpers import ref
from sqlalchemy import event

from pipeline.annotate import annotate
from pipeline.errors import ConfigurationError
from pipeline.ledger import decide as deciding
from pipeline.ledger import ending, jobs
from pipeline.ledger.audit import findings
from pipeline.ledger.decide import Decider
from pipeline.ledger.erase import fence
from pipeline.records import Code, ItemState, JobState, PhotoResult
from pipeline.store.catalogue import register_model, store_decision
from taxonomy.decide import Decision, decide
from taxonomy.graph import load
from taxonomy.rollup import Rollup
from workers.heart import Heart
from workers.ingest import list_range

PAGE = 10


@pytest.fixture
def masses(ledger):
    """Drawn masses of 24 photos over the small taxonomy: some sure, some not."""
    chance = np.random.default_rng(7)
    sharp = chance.uniform(0.5, 6.0, size=(24, 1))
    scores = np.exp(sharp * chance.standard_normal((24, len(ledger.taxonomy.labels))))
    return Rollup(ledger.taxonomy).masses(scores / scores.sum(axis=1, keepdims=True))


@pytest.fixture
def tagged(ledger, ingest, worker, masses):
    """A job whose photos were all tagged by the first decision, but for one that is corrupt; its tasks."""
    job_id = ingest.list(
        [ref(f"{'ann' if n % 3 else 'ben'}/{n:02}.jpg", user="ann" if n % 3 else "ben") for n in range(25)]
    )
    return tag(ledger, worker, job_id, masses, Decision())


def tag(ledger, worker, job_id, masses, decision):
    tasks = []
    notes = annotate(decide(masses, ledger.taxonomy, decision), ledger.registered.nodes)
    for lease in worker.claim_all(job_id):
        mine = sorted(worker.tasks(lease), key=lambda task: task.key.split("/")[1])
        results = [result_of(task, note) for task, note in zip(mine, notes, strict=False)]
        broken = PhotoResult(task=mine[-1], state=ItemState.FAILED, code=Code.CORRUPT, message="cut off")
        worker.merge([*results, broken], [lease], revision=decision.revision)
        tasks += mine
    return tasks


def result_of(task, note):
    code = Code.ABSTAINED if note.headline is None else Code.TAGGED
    return PhotoResult(task=task, state=ItemState.SUCCEEDED, code=code, annotation=note)


def revise(ledger, **changes):
    """A new revision of the model's decision."""
    return ledger.database.run(
        lambda c: store_decision(c, ledger.registered.model_id, replace(Decision(), **changes), {"of": "a test"})
    )


def submit(ingest, ledger, revision=None):
    def do(connection):
        model_id = ledger.registered.model_id
        return jobs.submit(connection, deciding.request(connection, model_id, revision), model_id)

    return ingest.database.run(do)


def work_on(ledger, ingest, job_id, page=PAGE):
    """All pages of the job, to its end."""
    lease = ingest.claim_range(job_id)
    job, cursor, last = ledger.job(job_id), None, False
    decider = ingest.database.run(lambda c: Decider.of(c, job, ledger.taxonomy))
    while not last:
        step = ingest.database.run(lambda c, at=cursor: decider.page(c, job, lease, at, page))
        cursor, last = step.cursor, step.last
    ingest.finish(job_id, lease)
    ledger.database.run(ending.finish_jobs)
    return ledger.job(job_id)


def stored(ledger):
    return ledger.all(
        "SELECT photo_id, outcome, headline, nodes, masses, tags, decision_rev FROM core.photo_result ORDER BY 1"
    )


CHANGES = [
    {"threshold": 6_000},
    {"rule": "expected", "lam": 0, "threshold": 9_000},
    {"vague_share": 0.9},
    {"keep_mass": 900},
    {"rule": "expected", "lam": 100_000, "threshold": 10_001},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_decided_anew_is_as_if_tagged_at_the_new_constants(ledger, ingest, worker, tagged, masses, changes):
    before = stored(ledger)
    made = revise(ledger, **changes)
    job = work_on(ledger, ingest, submit(ingest, ledger))
    found = stored(ledger)
    fresh = annotate(decide(masses, ledger.taxonomy, made), ledger.registered.nodes)
    seen = [row for row in found if row.outcome != Code.CORRUPT]
    by_key = {task.photo_id: int(task.key.split("/")[1][:2]) for task in tagged}
    for row in seen:
        note = fresh[by_key[row.photo_id]]
        assert (tuple(row.nodes), tuple(row.masses), tuple(row.tags), row.headline) == (
            note.nodes,
            note.masses,
            note.tags,
            note.headline,
        )
        assert row.outcome == (Code.ABSTAINED if note.headline is None else Code.TAGGED)
    assert {row.decision_rev for row in found} == {made.revision}
    assert [row[:6] for row in found] != [row[:6] for row in before]
    abstained = sum(note.headline is None for note in fresh)
    assert job.state is JobState.SUCCEEDED
    assert job.total == 25
    assert {key: n for key, n in job.counts.items() if n} == {
        key: n
        for key, n in (
            ((ItemState.SUCCEEDED, Code.TAGGED), 24 - abstained),
            ((ItemState.SUCCEEDED, Code.ABSTAINED), abstained),
            ((ItemState.SKIPPED_UNCHANGED, Code.NONE), 1),  # the corrupt one: nothing to decide
        )
        if n
    }
    assert ledger.one("SELECT count(*) FROM core.job_item WHERE job_id = :job", job=job.job_id) == 0
    with ledger.database.transaction() as connection:
        assert findings(connection) == ()


def test_a_repeat_writes_nothing(ledger, ingest, worker, tagged):
    revise(ledger, threshold=6_000)
    work_on(ledger, ingest, submit(ingest, ledger))
    before = ledger.all("SELECT photo_id, xmin FROM core.photo_result ORDER BY 1")
    job = work_on(ledger, ingest, submit(ingest, ledger))
    assert ledger.all("SELECT photo_id, xmin FROM core.photo_result ORDER BY 1") == before
    assert job.count(ItemState.SKIPPED_UNCHANGED) == job.total == 25


def test_an_older_revision_never_wins(ledger, ingest, worker, tagged):
    revise(ledger, threshold=6_000)
    newest = revise(ledger, threshold=9_500)
    work_on(ledger, ingest, submit(ingest, ledger))
    job = work_on(ledger, ingest, submit(ingest, ledger, revision=newest.revision - 1))
    assert job.count(ItemState.SKIPPED_UNCHANGED) == 25
    assert {row.decision_rev for row in stored(ledger)} == {newest.revision}


def test_what_was_cut_off_cannot_come_back(ledger, ingest, worker, tagged):
    revise(ledger, keep_mass=100)
    with pytest.raises(ConfigurationError, match=r"from 1 % of a photo on.*below 2 % was left out.*--scope stale"):
        submit(ingest, ledger)
    with pytest.raises(ConfigurationError, match="There is no decision of revision 77"):
        submit(ingest, ledger, revision=77)


def test_who_is_being_erased_is_left_alone(ledger, ingest, worker, tagged):
    revise(ledger, threshold=6_000)
    ledger.database.run(lambda c: fence(c, "ben"))
    job = work_on(ledger, ingest, submit(ingest, ledger))
    mine = ledger.one("SELECT count(*) FROM core.photo JOIN core.app_user USING (user_id) WHERE name = 'ann'")
    assert job.total == mine < 25
    revisions = ledger.all(
        "SELECT DISTINCT name, decision_rev FROM core.photo_result JOIN core.app_user USING (user_id)"
    )
    assert {tuple(row) for row in revisions} == {("ann", job.decision_revision), ("ben", 1)}


def test_merges_of_the_same_photos_go_on_meanwhile(ledger, ingest, worker, tagged, masses):
    """Two threads merge newer content and the same content again, while pages decide: both laws hold at the end."""
    made = revise(ledger, threshold=6_000)
    job_id = submit(ingest, ledger)
    ledger.execute("UPDATE core.photo SET content_rev = 2 WHERE photo_id % 2 = 0")
    notes = annotate(decide(masses, ledger.taxonomy, Decision()), ledger.registered.nodes)
    again = [replace(task, content_rev=2 if task.photo_id % 2 == 0 else 1) for task in tagged[:24]]
    results = [result_of(task, note) for task, note in zip(again, notes, strict=True)]
    errors = []

    def merging(mine):
        try:
            for at in range(0, len(mine), 3):
                worker.merge(mine[at : at + 3])
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=merging, args=(part,)) for part in (results, results[::-1])]
    for thread in threads:
        thread.start()
    job = work_on(ledger, ingest, job_id, page=3)
    for thread in threads:
        thread.join()
    assert errors == []
    assert job.total == 25
    work_on(ledger, ingest, submit(ingest, ledger))
    assert {row.decision_rev for row in stored(ledger)} == {made.revision}
    ledger.check()


def test_a_page_whose_lease_is_lost_leaves_nothing(ledger, ingest, worker, tagged):
    revise(ledger, threshold=6_000)
    job_id = submit(ingest, ledger)
    lease = ingest.claim_range(job_id)
    job = ledger.job(job_id)
    decider = ingest.database.run(lambda c: Decider.of(c, job, ledger.taxonomy))
    ledger.execute("UPDATE core.list_range SET lease_epoch = lease_epoch + 1 WHERE job_id = :job", job=job_id)
    before = stored(ledger)
    with pytest.raises(Exception, match="another worker"):
        ingest.database.run(lambda c: decider.page(c, job, lease, None, PAGE))
    assert stored(ledger) == before
    assert ledger.job(job_id).total == 0
    ledger.check()


def test_a_worker_needs_neither_s3_nor_a_model(ledger, ledger_settings, ingest, worker):
    """The whole task of an ingest worker, over the bundled taxonomy, with an object store that is not there."""
    unreachable = ledger_settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    taxonomy = load()
    registered = ledger.database.run(
        lambda c: register_model(c, "real", b"real".ljust(32, b"\0"), taxonomy, Decision())
    )
    scores = np.full((1, taxonomy.classes), 0.1 / (taxonomy.classes - 1))
    scores[0, 207] = 0.9
    (note,) = annotate(decide(Rollup(taxonomy).masses(scores), taxonomy, Decision()), registered.nodes)
    for lease in worker.claim_all(ingest.list([ref("ann/1.jpg")], model=registered)):
        worker.merge([result_of(task, note) for task in worker.tasks(lease)], [lease], model=registered)
    with ledger.database.transaction() as connection:
        store_decision(connection, registered.model_id, Decision(threshold=9_900), {"of": "a test"})
        request = deciding.request(connection, registered.model_id, None)
        job_id = jobs.submit(connection, request, registered.model_id)
    statements = []
    event.listen(ingest.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    heart = Heart(ingest.database, "decider", "ingest", unreachable.lease_seconds)
    list_range(unreachable, heart, ledger.range_of(job_id), threading.Event())
    ledger.database.run(ending.finish_jobs)
    job = ledger.job(job_id)
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    assert job.count(ItemState.SUCCEEDED) == 1
    row = ledger.one(
        "SELECT outcome, headline, decision_rev FROM core.photo_result WHERE model_id = :m", m=registered.model_id
    )
    assert (row.outcome, row.headline, row.decision_rev) != (Code.TAGGED, note.headline, 1)
    assert row.decision_rev == 2
    assert not any("core.bucket" in statement for statement in statements)  # where bytes are is not even asked


def test_a_taxonomy_that_is_not_here_is_said(ledger, ingest, worker, tagged):
    revise(ledger, threshold=6_000)
    job = ledger.job(submit(ingest, ledger))
    with pytest.raises(ConfigurationError, match="Taxonomy small of model small is not here"):
        ingest.database.run(lambda c: Decider.of(c, job))


@pytest.fixture(autouse=True)
def first_decision(ledger):
    """The small model begins each test with its first decision alone."""
    ledger.execute("DELETE FROM core.decision WHERE revision > 1")
    yield
    ledger.execute("DELETE FROM core.decision WHERE revision > 1")
