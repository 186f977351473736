"""Which photos a job of each scope works on, and how each of them ends."""

import pytest
from ledger_helpers import Ledger, failed, ref

from pipeline.ledger import ending
from pipeline.ledger.due import drop_done
from pipeline.ledger.requests import Scope
from pipeline.records import Code, ItemState

REFS = {name: ref(f"ann/{name}") for name in ("tagged", "corrupt", "killer", "changed", "away", "new")}


def counts(ledger, job_id):
    return {state: n for (state, _), n in ledger.job(job_id).counts.items()}


def due(ledger, job_id):
    return {task.key.removeprefix("ann/") for lease in ledger.claim_all(job_id) for task in ledger.tasks(lease)}


@pytest.fixture
def known(ledger: Ledger):
    """A photo of each kind: tagged, corrupt, set aside, changed since, never reached; one is not listed yet."""
    job_id = ledger.list([r for name, r in REFS.items() if name != "new"])
    (lease,) = ledger.claim_all(job_id)
    tasks = {task.key.removeprefix("ann/"): task for task in ledger.tasks(lease)}
    ledger.merge(
        [
            ledger.tagged(tasks["tagged"], "dog"),
            failed(tasks["corrupt"], Code.CORRUPT),
            failed(tasks["killer"], Code.QUARANTINED),
            ledger.tagged(tasks["changed"], "cat"),
            failed(tasks["away"], Code.INFRASTRUCTURE),
        ],
        [lease],
    )
    return job_id


def again(ledger, scope, **options):
    changed = ref("ann/changed", etag="e2")
    return ledger.list([*(r for name, r in REFS.items() if name != "changed"), changed], scope=scope, **options)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope.MISSING, {"changed", "away", "new"}),
        (Scope.FAILED, {"corrupt", "killer"}),  # a photo that was never reached has no result, so it is missing
        (Scope.STALE, {"changed"}),
        (Scope.ALL, {*REFS}),
    ],
)
def test_each_scope_works_on_its_own(ledger, known, scope, expected):
    job_id = again(ledger, scope)
    assert ledger.job(job_id).scope is scope
    assert counts(ledger, job_id).get(ItemState.SKIPPED_UNCHANGED, 0) == len(REFS) - len(expected)
    assert due(ledger, job_id) == expected
    ledger.check()


def test_what_an_older_decision_said_is_stale_and_no_failure_is(ledger, known):
    ledger.execute(
        "INSERT INTO core.decision SELECT (jsonb_populate_record(d, jsonb_build_object('revision', 2))).* "
        "FROM core.decision d WHERE revision = 1 AND model_id = :model",
        model=ledger.registered.model_id,
    )
    try:
        job_id = again(ledger, Scope.STALE)
        assert due(ledger, job_id) == {"tagged", "changed"}
    finally:
        ledger.execute("DELETE FROM core.decision WHERE revision = 2")


def test_a_failure_that_fails_again_ends_and_one_that_succeeds_is_replaced(ledger, known):
    job_id = again(ledger, Scope.FAILED)
    for lease in ledger.claim_all(job_id):
        (task,) = ledger.tasks(lease)
        result = ledger.tagged(task, "dog") if "corrupt" in task.key else failed(task, Code.UNSUPPORTED)
        assert ledger.merge([result], [lease]).finished == {lease.work_id}
    assert ledger.database.run(ending.finish_jobs) == [known, job_id]
    found = ledger.job(job_id).counts
    assert found[ItemState.SUCCEEDED, Code.TAGGED] == found[ItemState.FAILED, Code.UNSUPPORTED] == 1
    outcomes = ledger.all(
        "SELECT p.key, outcome FROM core.photo_result r JOIN core.photo p USING (photo_id) ORDER BY 1"
    )
    assert dict(outcomes)["ann/corrupt"] == Code.TAGGED
    assert dict(outcomes)["ann/killer"] == Code.QUARANTINED  # the first failure stays: neither is better
    assert ledger.photos_with("dog") == (2, 18_000)
    ledger.check()
    assert due(ledger, again(ledger, Scope.FAILED)) == {"killer"}


def test_all_ends_well_where_nothing_is_better_than_before(ledger, known):
    job_id = again(ledger, Scope.ALL)
    before = ledger.photos_with("dog")
    ledger.tag_all(job_id, "dog")
    assert counts(ledger, job_id) == {ItemState.SUCCEEDED: len(REFS)}
    assert ledger.photos_with("dog") == (len(REFS), before[1] + 9000 * (len(REFS) - 1))
    ledger.check()


def test_what_killed_its_worker_before_works_alone_at_once(ledger, known):
    job_id = again(ledger, Scope.ALL)
    alone = [row for row in ledger.shards(job_id) if row.alone]
    assert [row.photos for row in alone] == [1]
    (lease,) = [lease for lease in ledger.claim_all(job_id) if lease.work_id == alone[0].shard_id]
    assert lease.alone
    assert [task.key for task in ledger.tasks(lease)] == ["ann/killer"]


@pytest.mark.parametrize(
    ("scope", "dropped"), [(Scope.MISSING, 1), (Scope.FAILED, 1), (Scope.STALE, 0), (Scope.ALL, 0)]
)
def test_a_claim_passes_over_what_another_job_has_tagged_meanwhile(ledger, known, scope, dropped):
    """Two jobs over one place: what the first has done the second needs not do."""
    job_id, other = again(ledger, scope), again(ledger, scope)
    (first, *_), (second, *_) = ledger.claim_all(job_id), ledger.claim_all(other)
    task = ledger.tasks(first)[0]
    ledger.merge([ledger.tagged(task, "dog"), failed(ledger.tasks(first)[-1], Code.TOO_LARGE)])
    before = {t.photo_id for t in ledger.tasks(second)}
    ledger.database.run(lambda c: drop_done(c, second, ledger.registered.model_id))
    assert before - {t.photo_id for t in ledger.tasks(second)} == ({task.photo_id} if dropped else set())
    skipped = ledger.all("SELECT photo_id FROM core.job_item WHERE job_id = :job AND state = 4", job=other)
    assert skipped == ([(task.photo_id,)] if dropped else [])
    ledger.check()
    ledger.tag_all(other, "dog")
    ledger.check()


def test_a_stream_reads_nothing_that_another_job_has_tagged_since_it_was_listed(library):
    library.put(6)
    first, second = library.list(), library.list()
    library.ledger.execute("UPDATE core.shard SET next_attempt_at = 'infinity' WHERE job_id = :job", job=second)
    library.run_all(first)
    assert counts(library.ledger, second) == {ItemState.PENDING: 6}
    library.forget_the_pause()
    assert library.stream().run(library.first(second)) == 0  # photos
    assert counts(library.ledger, second) == {ItemState.SKIPPED_UNCHANGED: 6}
    library.ledger.check()
