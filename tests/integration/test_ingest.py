"""Listing as a task: real S3 and folders into a real ledger, interrupted in every way."""

import random
import threading
import time

import pytest
from ledger_helpers import LEASE_SECONDS

from pipeline.errors import ServiceDown, SourceError
from pipeline.ledger import ending, jobs, redrive
from pipeline.ledger.requests import JobRequest
from pipeline.records import Code, ItemState, JobState, WorkState
from pipeline.sources.s3 import S3Access, create_bucket
from workers import ingest
from workers.heart import Heart
from workers.ingest import list_range


class Listing:
    """A folder as a source, and tasks that list it."""

    def __init__(self, ledger, settings, folder):
        self.ledger, self.settings, self.folder = ledger, settings, folder

    def put(self, n, user="ann"):
        (self.folder / user).mkdir(exist_ok=True)
        for i in range(n):
            (self.folder / user / f"{i:03d}.jpg").write_bytes(b"x")

    def submit(self, **options):
        kind, source = options.pop("kind", "folder"), options.pop("source", str(self.folder))
        request = JobRequest(kind=kind, source=source, user_rule=options.pop("rule", "{user}/{photo}"), **options)
        return self.ledger.database.run(lambda c: jobs.submit(c, request, self.ledger.registered.model_id))

    def task(self, job_id, stop=None, **changes):
        settings = self.settings.model_copy(update=changes)
        heart = Heart(self.ledger.database, "lister", "ingest", settings.lease_seconds)
        list_range(settings, heart, self.ledger.range_of(job_id), stop or threading.Event())

    def range(self, job_id):
        return self.ledger.one("SELECT state, listed, deaths FROM core.list_range WHERE job_id = :job", job=job_id)


@pytest.fixture
def listing(ledger, ledger_settings, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return Listing(ledger, ledger_settings.model_copy(update={"page_keys": 10}), folder)


def test_a_source_is_listed_page_by_page_into_shards(listing):
    listing.put(25)
    job_id = listing.submit()
    listing.task(job_id)
    job = listing.ledger.job(job_id)
    assert (job.state, job.listing, job.total, job.waiting) == (JobState.RUNNING, False, 25, 25)
    assert [row.photos for row in listing.ledger.shards(job_id)] == [10, 10, 5]
    listing.ledger.check()
    listing.ledger.tag_all(job_id, "dog")
    assert listing.ledger.database.run(ending.finish_jobs) == [job_id]


@pytest.mark.parametrize("photos", [0, 1, 10, 20])
def test_a_source_of_whole_pages_ends_too(listing, photos):
    listing.put(photos)
    job_id = listing.submit()
    listing.task(job_id)
    assert tuple(listing.range(job_id)) == (WorkState.DONE, photos, 0)
    if not photos:
        assert listing.ledger.database.run(ending.finish_jobs) == [job_id]


def test_a_task_reads_so_many_pages_and_hands_the_range_back(listing, monkeypatch):
    monkeypatch.setattr(ingest, "PAGES_PER_TASK", 2)
    listing.put(35)
    job_id = listing.submit()
    seen = []
    for _ in range(2):
        listing.task(job_id)
        seen.append(tuple(listing.range(job_id)))
    assert seen == [(WorkState.PENDING, 20, 0), (WorkState.DONE, 35, 0)]
    assert listing.ledger.job(job_id).count(ItemState.PENDING) == 35
    listing.ledger.check()


def test_a_stop_between_pages_keeps_the_checkpoint(listing):
    listing.put(25)
    job_id = listing.submit()
    stop = threading.Event()
    stop.set()
    listing.task(job_id, stop)
    assert tuple(listing.range(job_id)) == (WorkState.PENDING, 0, 0)
    listing.task(job_id)
    assert listing.ledger.job(job_id).total == 25
    listing.ledger.check()


def test_a_range_that_is_held_or_done_is_left_alone(listing):
    listing.put(5)
    job_id = listing.submit()
    listing.ledger.claim_range(job_id)
    listing.task(job_id)
    assert tuple(listing.range(job_id)) == (WorkState.LEASED, 0, 0)
    listing.ledger.execute("UPDATE core.list_range SET state = 0")
    listing.task(job_id)
    listing.task(job_id)
    assert tuple(listing.range(job_id)) == (WorkState.DONE, 5, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "/no/such/folder"}, "no/such/folder"),
        ({"kind": "s3", "source": "s3://no-such-bucket/"}, "no-such-bucket"),
        ({"kind": "manifest", "source": "/no/such.jsonl"}, "no/such.jsonl"),
        ({"rule": "{user}"}, "--user-from"),
    ],
)
def test_a_source_that_cannot_be_listed_fails_the_job_with_its_reason(listing, options, words):
    job_id = listing.submit(**options)
    listing.task(job_id)
    job = listing.ledger.job(job_id)
    assert (job.state, job.listing) == (JobState.FAILED, False)
    assert words in job.error
    listing.ledger.check()


def test_a_reason_that_quotes_a_strange_name_can_be_stored(listing, monkeypatch):
    def refuse(*_):
        raise SourceError("/photos/b\udce4 cannot be read; give this user permission.")

    monkeypatch.setattr(ingest, "open_source", refuse)
    job_id = listing.submit()
    listing.task(job_id)
    assert listing.ledger.job(job_id).error == r"/photos/b\udce4 cannot be read; give this user permission."


def test_a_path_that_is_too_long_for_an_index_is_refused(listing):
    """Postgres cannot index it: its page must not fail for ever."""
    chance = random.Random(1)
    folder = listing.folder / "ann"
    for _ in range(12):
        folder /= "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=240))
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(b"x")
    listing.put(2)
    job_id = listing.submit()
    listing.task(job_id)
    assert listing.ledger.job(job_id).counts == {
        (ItemState.PENDING, Code.NONE): 2,
        (ItemState.EXCLUDED, Code.BAD_KEY): 1,
    }


def test_a_source_that_breaks_in_the_middle_cancels_what_is_open(listing, monkeypatch):
    monkeypatch.setattr(ingest, "PAGES_PER_TASK", 1)
    listing.put(25)
    job_id = listing.submit()
    listing.task(job_id)
    (first,) = listing.ledger.claim_all(job_id)
    task, *_ = listing.ledger.tasks(first)
    listing.ledger.merge([listing.ledger.tagged(task, "dog")])
    listing.folder.rename(listing.folder.parent / "elsewhere")
    listing.task(job_id)
    job = listing.ledger.job(job_id)
    assert job.state is JobState.FAILED
    assert (job.count(ItemState.SUCCEEDED), job.count(ItemState.CANCELLED)) == (1, 9)
    listing.ledger.check()


def test_a_store_that_is_away_makes_the_range_wait(listing):
    job_id = listing.submit(kind="s3", source="s3://some-bucket/")
    listing.task(job_id, s3_endpoint_url="http://127.0.0.1:9")
    assert tuple(listing.range(job_id)) == (WorkState.PENDING, 0, 0)
    assert listing.ledger.one("SELECT next_attempt_at > now() FROM core.list_range")
    assert listing.ledger.job(job_id).state is JobState.RUNNING


def test_a_lister_that_lost_its_lease_stops_and_writes_nothing(listing, monkeypatch):
    """Another one takes over between two pages; the first must not list along."""
    listing.put(25)
    job_id = listing.submit()
    pages = []
    real = ingest.open_source

    def watched(*arguments):
        source = real(*arguments)
        read = source.page

        def page(cursor, limit):
            pages.append(cursor)
            if len(pages) == 2:
                listing.ledger.expire("core.list_range")
                listing.ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
                listing.ledger.claim_range(job_id, owner="second")
            return read(cursor, limit)

        source.page = page
        return source

    monkeypatch.setattr(ingest, "open_source", watched)
    listing.task(job_id)
    assert len(pages) == 2
    assert tuple(listing.range(job_id)) == (WorkState.LEASED, 10, 0)  # it lives: no death
    listing.ledger.check()


def test_a_crash_between_the_last_page_and_the_end_lists_nothing_twice(listing, monkeypatch):
    listing.put(15)
    job_id = listing.submit()

    def crash(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "finish_range", crash)
        with pytest.raises(KeyboardInterrupt):
            listing.task(job_id)
    assert tuple(listing.range(job_id)) == (WorkState.LEASED, 15, 0)
    listing.ledger.expire("core.list_range")
    listing.ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
    listing.task(job_id)
    assert tuple(listing.range(job_id)) == (WorkState.DONE, 15, 0)
    assert listing.ledger.job(job_id).count(ItemState.PENDING) == 15
    listing.ledger.check()


def test_files_that_were_deleted_are_subtracted_by_the_next_listing(listing):
    listing.put(12)
    job_id = listing.submit()
    listing.task(job_id)
    listing.ledger.tag_all(job_id, "dog")
    for n in (0, 10):
        (listing.folder / f"ann/{n:03d}.jpg").unlink()
    again = listing.submit()
    listing.task(again)
    assert listing.ledger.job(again).subtracted == 2
    assert listing.ledger.photos_with("dog") == (10, 90_000)
    listing.ledger.check()


def test_nothing_is_missing_after_an_unchanged_bucket_is_listed_again(listing):
    """Folders with names that begin alike: the order of keys is not that of folders, and pages end within them."""
    access = S3Access.of(listing.settings)
    create_bucket(access, "twice-listed")
    client = access.client()
    users = ["ann", "ann b", "ann-marie", "ann.c", "ann0", "anna"]
    for user in users:
        for n in range(4):
            client.put_object(Bucket="twice-listed", Key=f"{user}/{n}.jpg", Body=b"x")
    for page_keys in (1000, 10, 5, 3, 1):
        job_id = listing.submit(kind="s3", source="s3://twice-listed/", allow_mass_delete=True)
        listing.task(job_id, page_keys=page_keys)
        listing.ledger.tag_all(job_id, "dog")
        assert listing.ledger.job(job_id).subtracted == 0
        assert listing.ledger.photos_with("dog")[0] == 24
    client.delete_object(Bucket="twice-listed", Key="ann/2.jpg")
    job_id = listing.submit(kind="s3", source="s3://twice-listed/")
    listing.task(job_id)
    assert (listing.ledger.job(job_id).subtracted, listing.ledger.photos_with("dog")[0]) == (1, 23)
    listing.ledger.check()


def test_a_database_that_goes_away_leaves_a_range_to_expire(listing, monkeypatch):
    listing.put(5)
    job_id = listing.submit()

    def away(*_, **__):
        raise ServiceDown("Postgres does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "record_page", away)
        listing.task(job_id)
    assert tuple(listing.range(job_id)) == (WorkState.PENDING, 0, 0)
    listing.ledger.execute("UPDATE core.list_range SET next_attempt_at = now()")
    listing.task(job_id)
    assert listing.ledger.job(job_id).total == 5


def watched(monkeypatch, before_page):
    """Call `before_page` with the number of each page before it is read."""
    real, pages = ingest.open_source, []

    def opened(*arguments):
        source = real(*arguments)
        read = source.page

        def page(cursor, limit):
            pages.append(cursor)
            before_page(len(pages))
            return read(cursor, limit)

        source.page = page
        return source

    monkeypatch.setattr(ingest, "open_source", opened)


def test_a_page_that_takes_longer_than_a_lease_does_not_lose_it(listing, monkeypatch):
    listing.put(5)
    job_id = listing.submit()
    expired = []

    def slow(_):
        for _ in range(12):
            time.sleep(0.1)
            expired.append(listing.ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS)))

    watched(monkeypatch, slow)
    settings = listing.settings.model_copy(update={"lease_seconds": 0.8})
    heart = Heart(listing.ledger.database, "lister", "ingest", settings.lease_seconds)
    heart.start()
    list_range(settings, heart, listing.ledger.range_of(job_id), threading.Event())
    heart.stop()
    assert set(expired) == {0}
    assert tuple(listing.range(job_id)) == (WorkState.DONE, 5, 0)


def test_a_lister_that_lost_its_lease_does_not_fail_the_job(listing, monkeypatch):
    """It sees a folder that cannot be read; whoever lists it now may see more."""
    listing.put(5)
    job_id = listing.submit()

    def lose(_):
        listing.ledger.expire("core.list_range")
        listing.ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
        listing.ledger.claim_range(job_id, owner="second")
        raise SourceError("the folder is gone")

    watched(monkeypatch, lose)
    listing.task(job_id)
    assert listing.ledger.job(job_id).state is JobState.RUNNING
    assert tuple(listing.range(job_id)) == (WorkState.LEASED, 0, 0)
