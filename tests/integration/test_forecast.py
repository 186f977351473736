"""What a job would do, said beforehand: the counts that it then has, and not a row is written."""

from dataclasses import replace

import pytest
from ledger_helpers import BUCKET, Ledger, failed, page_of, ref
from sqlalchemy import text

from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger import ending, forecast, jobs
from pipeline.ledger.erase import erase
from pipeline.ledger.requests import JobRequest, Scope
from pipeline.records import Code, ItemState, Refusal
from pipeline.sources.rules import Rules
from pipeline.sources.source import Interval, after_prefix
from pipeline.store.roles import Role
from pipeline.store.tables import metadata


class Place:
    """A source of these pages; `whole`: one that lists all that is there."""

    def __init__(self, *pages, whole=True):
        self.pages, self.whole = pages, whole

    def check(self, *, may_be_empty=False):
        pass

    def page(self, cursor, limit):
        del limit
        n = 0 if cursor is None else next(n for n, page in enumerate(self.pages) if page.cursor == cursor) + 1
        return replace(self.pages[n], last=n == len(self.pages) - 1)

    def covered(self, cursor, page):
        upto = after_prefix("") if page.last else page.cursor
        return Interval(bucket=BUCKET, after=cursor or "", upto=upto) if self.whole else None


@pytest.fixture
def known(ledger: Ledger):
    """Ten tagged photos of Ann's, one that is corrupt, and an erased user."""
    refs = [ref(f"ann/{n}", etag=f"e{n}") for n in range(10)] + [ref("ann/corrupt"), ref("eve/1", user="eve")]
    job_id = ledger.list(refs)
    (lease,) = ledger.claim_all(job_id)
    tasks = ledger.tasks(lease)
    ledger.merge(
        [failed(t, Code.CORRUPT) if "corrupt" in t.key else ledger.tagged(t, "dog") for t in tasks],
        [lease],
    )
    assert ledger.database.run(ending.finish_jobs) == [job_id]
    ledger.execute("UPDATE core.job SET started_at = finished_at - interval '4 s'")
    erase(ledger.database, "eve")
    return job_id


FIRST = [ref(f"ann/{n}", etag=f"e{n}") for n in range(5)] + [ref("ann/5", etag="other"), ref("ann/corrupt")]
SECOND = [ref("ben/copy", user="ben", etag="e3"), ref("ben/new", user="ben"), ref("eve/1", user="eve")]
NO_PHOTO = Refusal(name="ben/", code=Code.NOT_A_PHOTO, reason="is a folder marker.")


def place(**options):
    return Place(page_of(FIRST, last=False), page_of([*SECOND], [NO_PHOTO], cursor="ben/~"), **options)


def look(ledger, source, **options):
    request = JobRequest(kind="s3", source=f"{BUCKET}/", user_rule="{user}/{photo}")
    request = replace(request, **options)
    return forecast.forecast(ledger.database, request, ledger.registered.model_id, source, 3)


def run(ledger, source, **options):
    """The job itself, listed to its end; its counts by state."""
    job_id = ledger.submit(**options)
    lease, cursor = ledger.claim_range(job_id), None
    while True:
        page = source.page(cursor, 0)
        ledger.write_page(job_id, lease, page, source.covered(cursor, page))
        cursor = page.cursor
        if page.last:
            ledger.finish(job_id, lease)
            return ledger.job(job_id)


def sizes(ledger):
    return {table: ledger.one(f"SELECT count(*) FROM {table}") for table in sorted(metadata.tables)}


def test_a_forecast_counts_every_entry_once_and_writes_nothing(ledger, known):
    before, started = sizes(ledger), ledger.all("SELECT xmin, ctid, * FROM core.photo ORDER BY photo_id")
    found = look(ledger, place())
    assert (found.listed, found.new, found.changed, found.unchanged, found.erased) == (11, 2, 1, 6, 1)
    assert (found.listed_twice, found.not_there, found.excluded) == (0, 0, {"not_a_photo": 1})
    assert found.due == 3
    assert found.same_version == 2  # the copy, and one whose etag and size the corrupt photo has
    assert found.gone == 4
    assert found.gone_kept.startswith("too many to believe")  # 4 of 15
    assert look(ledger, place(), allow_mass_delete=True).gone_kept is None
    assert look(ledger, place(), keep_missing=True).gone_kept == "kept, as you asked"
    assert sizes(ledger) == before
    assert ledger.all("SELECT xmin, ctid, * FROM core.photo ORDER BY photo_id") == started


@pytest.mark.parametrize("scope", Scope)
def test_a_job_does_what_was_forecast(ledger, known, scope):
    found = look(ledger, place(), scope=scope)
    job = run(ledger, place(), scope=scope, allow_mass_delete=True)
    assert job.total == found.listed
    assert job.waiting == found.due == {"missing": 3, "failed": 1, "stale": 1, "all": 9}[scope]
    assert job.count(ItemState.SKIPPED_UNCHANGED) == found.new + found.changed + found.unchanged - found.due
    assert job.count(ItemState.ERASED) == found.erased
    assert job.by_code(ItemState.EXCLUDED) == {Code.NOT_A_PHOTO: 1}
    assert job.subtracted == found.gone


def test_what_a_manifest_names_twice_is_found_over_any_number_of_lines(ledger, known):
    gone = Refusal(name="line 9", code=Code.GONE, reason="is no longer there.")
    pages = [
        page_of([ref("ben/new", user="ben"), ref("ann/0", etag="e0")] * 2, cursor="1"),
        page_of([ref("ben/new", user="ben")], gone=[gone], cursor="2"),
    ]
    found = look(ledger, Place(*pages, whole=False))
    assert (found.listed, found.new, found.unchanged, found.listed_twice, found.not_there) == (6, 1, 1, 3, 1)
    assert (found.due, found.gone) == (1, 0)
    assert run(ledger, Place(*pages, whole=False)).waiting == 1


def test_rules_leave_out_what_they_would_leave_out_of_the_job(ledger, known):
    rules = Rules(exclude_prefixes=("ann/1", "ben/c"))
    found = look(ledger, place(), rules=rules, allow_mass_delete=True)
    assert found.excluded == {"not_chosen": 2, "not_a_photo": 1}
    assert (found.listed, found.due, found.gone) == (11, 2, 4)  # what is left out is there: it is not gone
    rules = Rules(need_consent=True)
    assert look(ledger, place(), rules=rules).excluded == {"no_consent": 9, "not_a_photo": 1}


def test_what_is_new_is_looked_for_by_its_version_in_portions(ledger, known, monkeypatch):
    monkeypatch.setattr(forecast, "VERSIONS_AT_ONCE", 1)
    assert look(ledger, place()).same_version == 2


def test_photos_of_the_ledger_are_forecast_too(ledger, known):
    assert look_ledger(ledger, "photos") == (11, 0, {})
    assert look_ledger(ledger, "user:ann", scope=Scope.FAILED) == (11, 1, {})
    rules = Rules(exclude_prefixes=("ann/1", "ann/2"))
    assert look_ledger(ledger, "photos", scope=Scope.ALL, rules=rules) == (11, 9, {"not_chosen": 2})


def look_ledger(ledger, source, **options):
    request = JobRequest(kind="ledger", source=source, user_rule="{user}/{photo}", **options)
    found = forecast.forecast(ledger.database, request, ledger.registered.model_id, None, 3)
    return found.listed, found.due, found.excluded


def test_the_time_is_that_of_jobs_of_the_same_model_or_unknown(ledger, known):
    found = look(ledger, place())
    assert (found.pace.jobs, found.pace.photos) == ((known,), 11)
    assert found.pace.photos_per_s == pytest.approx(11 / 4)
    assert found.seconds == pytest.approx(3 * 4 / 11)
    ledger.execute("UPDATE core.job SET rested_seconds = 3")
    assert look(ledger, place()).pace.photos_per_s == pytest.approx(11)  # while it rested nobody was to tag
    other = ledger.register("other")
    request = JobRequest(kind="s3", source=f"{BUCKET}/", user_rule="{user}/{photo}")
    unknown = forecast.forecast(ledger.database, request, other.model_id, place(), 3)
    assert (unknown.pace, unknown.seconds) == (None, None)
    assert unknown.due == 9


def test_who_may_submit_may_ask(roles, known):
    assert look(roles[Role.INGEST], place()).due == 3


def test_the_server_refuses_every_write_of_a_forecast(ledger):
    with pytest.raises(ServiceDown, match="read-only"), forecast.looking(ledger.database) as connection:
        connection.execute(text("INSERT INTO core.bucket (uri) VALUES ('s3://x')"))


def test_the_same_key_and_request_are_the_same_job(ledger):
    first = ledger.submit(idempotency_key="night 1")
    assert ledger.submit(idempotency_key="night 1") == first
    assert ledger.submit() != first
    with pytest.raises(ConfigurationError, match=f"which is job {first}; take a new key"):
        ledger.submit(idempotency_key="night 1", priority=1)
    assert len(ledger.database.run(lambda c: jobs.newest(c, 10))) == 2
