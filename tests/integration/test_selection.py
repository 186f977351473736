"""Jobs whose photos come from the ledger: all of them, a user's, or what another job failed on."""

import threading

import pytest
from ledger_helpers import LEASE_SECONDS, Ledger, failed, page_of, ref

from pipeline.errors import ConfigurationError, LeaseLost
from pipeline.ledger import jobs, redrive, work
from pipeline.ledger.erase import erase
from pipeline.ledger.requests import JobRequest, Scope
from pipeline.ledger.selection import About, check, record_selected
from pipeline.ledger.users import set_consent
from pipeline.records import Code, ItemState, Refusal, WorkState
from pipeline.sources.rules import Rules
from workers.heart import Heart
from workers.ingest import list_range

REFS = [ref(f"{user}/{n}.jpg", user=user) for user in ("ann", "ben") for n in range(5)]


@pytest.fixture
def tagged(ledger: Ledger):
    """Ten photos of two users, all of them tagged; the job."""
    job_id = ledger.list(REFS)
    ledger.tag_all(job_id, "dog")
    return job_id


def submit(ledger, source, model=None, **options):
    request = JobRequest(kind="ledger", source=source, user_rule="{user}/{photo}", **options)
    return ledger.database.run(lambda c: jobs.submit(c, request, (model or ledger.registered).model_id))


def select(ledger, settings, source, model=None, **options):
    """A ledger job, selected to its end by an ingest worker."""
    job_id = submit(ledger, source, model, **options)
    heart = Heart(ledger.database, "lister", "ingest", settings.lease_seconds)
    list_range(settings.model_copy(update={"page_keys": 3}), heart, ledger.range_of(job_id), threading.Event())
    assert ledger.one("SELECT state FROM core.list_range WHERE job_id = :job", job=job_id) == WorkState.DONE
    return job_id


def counts(ledger, job_id):
    return {state: n for (state, _), n in ledger.job(job_id).counts.items()}


def due(ledger, job_id):
    return {task.key for lease in ledger.claim_all(job_id) for task in ledger.tasks(lease)}


@pytest.mark.parametrize(
    ("source", "about"),
    [
        ("photos", About(what="photos")),
        ("user:ann", About(what="user", name="ann")),
        ("user:a:b", About(what="user", name="a:b")),
        ("job:17", About(what="job", job_id=17)),
    ],
)
def test_what_a_ledger_job_is_about(source, about):
    assert About.parse(source) == about


@pytest.mark.parametrize(
    "source", ["", "photo", "photos:", "user", "user:", "job:", "job:x", "job:²", "job:" + "9" * 19]
)
def test_what_a_ledger_job_cannot_be_about(source):
    with pytest.raises(ConfigurationError):
        About.parse(source)


def test_another_model_tags_every_photo_without_a_listing(ledger, ledger_settings, tagged):
    shadow = ledger.register("shadow")
    ledger.execute("UPDATE core.photo SET gone_at = now() WHERE key = 'ben/4.jpg'")
    ledger.execute(
        "DELETE FROM core.photo_result r USING core.photo p WHERE r.photo_id = p.photo_id AND gone_at > '-infinity'"
    )
    job_id = select(ledger, ledger_settings, "photos", shadow)
    assert counts(ledger, job_id) == {ItemState.PENDING: 9}
    assert due(ledger, job_id) == {r.key for r in REFS} - {"ben/4.jpg"}
    assert ledger.job(job_id).subtracted == 0
    versions = ledger.all("SELECT etag, size FROM core.photo")
    assert set(versions) == {("e1", 10)}


def test_a_users_photos_by_scope(ledger, ledger_settings, tagged):
    assert counts(ledger, select(ledger, ledger_settings, "user:ann")) == {ItemState.SKIPPED_UNCHANGED: 5}
    job_id = select(ledger, ledger_settings, "user:ann", scope=Scope.ALL)
    assert counts(ledger, job_id) == {ItemState.PENDING: 5}
    ledger.tag_all(job_id, "dog")
    ledger.check()
    assert ledger.photos_with("dog") == (10, 90_000)


def test_there_must_be_such_a_user_or_job(ledger, tagged):
    with ledger.database.transaction() as connection:
        for source in ("photos", "user:ann", f"job:{tagged}"):
            check(connection, source)
        for source, said in (("user:eve", "no user 'eve'"), ("job:999999", "no job 999999")):
            with pytest.raises(ConfigurationError, match=said):
                check(connection, source)


def test_failures_are_tried_again_if_their_bytes_are_not_to_blame(ledger, ledger_settings):
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    nowhere = Refusal(name="line 6", code=Code.GONE, reason="is no longer there.")
    ledger.write_page(job_id, lease, page_of(REFS, gone=[nowhere]))
    ledger.finish(job_id, lease)
    (lease,) = ledger.claim_all(job_id)
    codes = [Code.CORRUPT, Code.CORRUPT, Code.INFRASTRUCTURE, Code.QUARANTINED, Code.FORBIDDEN, Code.MODEL_ERROR]
    tasks = ledger.tasks(lease)
    results = [failed(task, code) for task, code in zip(tasks[:6], codes, strict=True)]
    gone = failed(tasks[6], Code.GONE)
    ledger.merge([*results, gone, *(ledger.tagged(task, "dog") for task in tasks[7:])], [lease])
    ledger.execute("UPDATE core.photo SET content_rev = 2, etag = 'e2' WHERE photo_id = :id", id=tasks[1].photo_id)

    retry = select(ledger, ledger_settings, f"job:{job_id}", scope=Scope.FAILED, retry_of=job_id)
    assert due(ledger, retry) == {task.key for task in tasks[1:6]}
    assert [row.photos for row in ledger.shards(retry) if row.alone] == [1]  # what ended its worker
    notes = ledger.job(retry).notes
    assert notes[0].startswith(f"2 failures of job {job_id} are of photos that the ledger does not have")
    assert notes[1].startswith(f"1 failures of job {job_id} are of bytes that cannot be tagged")
    ledger.check()
    for lease in ledger.claim_all(retry):
        raise AssertionError(lease)  # `due` holds them all
    everything = select(ledger, ledger_settings, f"job:{job_id}", scope=Scope.ALL)
    assert counts(ledger, everything) == {ItemState.PENDING: 6}
    assert len(ledger.job(everything).notes) == 1
    ledger.check()


def test_what_was_tagged_since_is_not_tried_again(ledger, ledger_settings):
    job_id = ledger.list(REFS[:2])
    (lease,) = ledger.claim_all(job_id)
    ledger.merge([failed(task, Code.INFRASTRUCTURE) for task in ledger.tasks(lease)], [lease])
    other = ledger.list(REFS[:2])
    (lease,) = ledger.claim_all(other)
    first, second = ledger.tasks(lease)
    ledger.merge([ledger.tagged(first, "dog"), failed(second, Code.CORRUPT)], [lease])
    retry = select(ledger, ledger_settings, f"job:{job_id}", scope=Scope.FAILED)
    assert counts(ledger, retry) == {ItemState.PENDING: 1, ItemState.SKIPPED_UNCHANGED: 1}
    assert due(ledger, retry) == {second.key}


def test_rules_choose_among_the_photos_of_the_ledger(ledger, ledger_settings, tagged):
    rules = Rules(include_prefixes=("ann/", "ben/1", "ben/2"), exclude_prefixes=("ann/3",), exclude_users=("eve",))
    job_id = select(ledger, ledger_settings, "photos", scope=Scope.ALL, rules=rules)
    assert due(ledger, job_id) == {"ann/0.jpg", "ann/1.jpg", "ann/2.jpg", "ann/4.jpg", "ben/1.jpg", "ben/2.jpg"}
    assert ledger.job(job_id).counts[ItemState.EXCLUDED, Code.NOT_CHOSEN] == 4
    ledger.database.run(lambda c: set_consent(c, "ann", True))
    rules = Rules(need_consent=True, include_users=("ann", "ben"))
    job_id = select(ledger, ledger_settings, "photos", scope=Scope.ALL, rules=rules)
    assert due(ledger, job_id) == {r.key for r in REFS if r.user == "ann"}
    assert ledger.job(job_id).counts[ItemState.EXCLUDED, Code.NO_CONSENT] == 5
    ledger.check()


def test_a_page_is_written_once_and_an_old_holder_writes_nothing(ledger, tagged):
    job_id = submit(ledger, "photos", scope=Scope.ALL)
    job, old = ledger.job(job_id), ledger.claim_range(job_id)
    step = ledger.database.run(lambda c: record_selected(c, job, old, None, 4, 512))
    assert not step.last
    ledger.expire("core.list_range")
    ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
    new = ledger.claim_range(job_id)
    assert ledger.database.run(lambda c: work.cursor_of(c, new)) == step.cursor
    with pytest.raises(LeaseLost):
        ledger.database.run(lambda c: record_selected(c, job, old, step.cursor, 4, 512))
    assert ledger.job(job_id).total == 4
    while not step.last:
        cursor = step.cursor
        step = ledger.database.run(lambda c, cursor=cursor: record_selected(c, job, new, cursor, 4, 512))
    assert (ledger.job(job_id).total, counts(ledger, job_id)) == (10, {ItemState.PENDING: 10})
    ledger.finish(job_id, new)
    ledger.check()


def test_an_erased_user_is_not_selected_and_an_erasure_takes_the_items_along(ledger, ledger_settings, tagged):
    running = select(ledger, ledger_settings, "photos", scope=Scope.ALL)
    erase(ledger.database, "ann")
    assert counts(ledger, running) == {ItemState.PENDING: 5, ItemState.ERASED: 5}
    later = select(ledger, ledger_settings, "photos", scope=Scope.ALL)
    assert counts(ledger, later) == {ItemState.PENDING: 5}
    ledger.check()


def test_an_empty_ledger_has_nothing_to_select(ledger, ledger_settings):
    job_id = select(ledger, ledger_settings, "photos")
    assert ledger.job(job_id).total == 0
