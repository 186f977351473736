"""Event messages become jobs: repeated, late, shuffled, of things that are gone, and of people who are."""

import random
from contextlib import suppress
from threading import Event, Thread

import pytest
from ledger_helpers import LEASE_SECONDS, Ledger, ref

from pipeline.errors import LeaseLost
from pipeline.ledger import events, jobs, users
from pipeline.ledger.erase import erase
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import JobRequest
from pipeline.records import Code, ItemState, JobState, Removed
from pipeline.sources.notification import ObjectEvent, sequencer_of
from pipeline.sources.rules import Rules
from pipeline.sources.s3 import create_bucket
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.heart import Heart
from workers.ingest import list_range

BUCKET = "told-photos"


@pytest.fixture
def client(access):
    create_bucket(access, BUCKET)
    found = access.client()
    yield found
    with suppress(found.exceptions.NoSuchBucket):
        found.delete_bucket(Bucket=BUCKET)


def event(key, sequencer, *, deleted=False, bucket=BUCKET):
    return ObjectEvent(
        bucket=bucket, key=key, sequencer=sequencer_of(f"{sequencer:X}"), deleted=deleted, version_id=None
    )


def put(client, *keys):
    for key in keys:
        client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())


class Desk:
    """Takes events in and lists what is new."""

    def __init__(self, ledger: Ledger, ingest: Ledger, settings) -> None:
        self.ledger, self.ingest, self.settings = ledger, ingest, settings

    def take(self, *told, **options):
        request = JobRequest(kind=events.KIND, source=events.KIND, user_rule="{user}/{photo}", **options)
        model = self.ledger.registered.model_id
        return self.ingest.database.run(lambda c: events.take_in(c, iter(told), request, model))

    def list(self, job_id, database: Database | None = None) -> Job:
        heart = Heart(database or self.ingest.database, "lister", "ingest", LEASE_SECONDS)
        list_range(self.settings, heart, self.ledger.range_of(job_id), Event())
        return self.ledger.job(job_id)

    def newest(self):
        return {
            row.key: (int(row.sequencer, 16), row.deleted) for row in self.ledger.all("SELECT * FROM core.object_event")
        }


@pytest.fixture
def desk(ledger, ingest, ledger_settings):
    return Desk(ledger, ingest, ledger_settings.model_copy(update={"page_keys": 3}))


def test_what_came_is_tagged_what_went_is_subtracted_and_a_repetition_does_nothing(desk, client):
    put(client, "ann/1.jpg", "ann/2.jpg", "ann/3.jpg", "ben/1.jpg", "top.jpg")
    told = [event(key, n) for n, key in enumerate(("ann/1.jpg", "ann/2.jpg", "ann/3.jpg", "ben/1.jpg", "top.jpg"), 1)]
    first = desk.take(*told)
    assert (first.created, first.removed, first.known) == (5, 0, 0)
    job = desk.list(first.job_id)
    assert (job.listing, job.total, job.waiting, job.count(ItemState.EXCLUDED)) == (False, 5, 4, 1)
    desk.ledger.tag_all(first.job_id, "dog")
    assert desk.ledger.photos_with("dog")[0] == 4
    again = desk.take(*told)
    assert (again.job_id, again.created, again.known) == (None, 0, 5)

    client.delete_object(Bucket=BUCKET, Key="ann/1.jpg")
    put(client, "ann/4.jpg")
    second = desk.take(event("ann/1.jpg", 9, deleted=True), event("ann/4.jpg", 10), event("ann/2.jpg", 1))
    assert (second.created, second.removed, second.known) == (1, 1, 1)
    job = desk.list(second.job_id)
    assert (job.subtracted, job.total, job.waiting) == (1, 1, 1)
    assert desk.ledger.photos_with("dog", "ann")[0] == 2
    desk.ledger.tag_all(second.job_id, "dog")
    assert desk.ledger.photos_with("dog", "ann")[0] == 3
    desk.ledger.check()

    put(client, "ann/1.jpg")  # it comes back
    desk.ledger.tag_all(desk.list(desk.take(event("ann/1.jpg", 11)).job_id).job_id, "dog")
    assert desk.ledger.photos_with("dog", "ann")[0] == 4
    desk.ledger.check()


@pytest.mark.parametrize("seed", range(3))
def test_in_whatever_order_and_however_often_they_come_the_newest_counts(desk, seed):
    chance = random.Random(seed)
    told = [event(f"ann/{chance.randrange(4)}.jpg", n, deleted=chance.random() < 0.4) for n in range(30, 60)]
    newest = {each.key: (int(each.sequencer, 16), each.deleted) for each in told}
    pieces = [chance.sample(told, 10) for _ in range(6)] + [told]
    chance.shuffle(pieces)
    taken = [desk.take(*piece) for piece in pieces]
    assert desk.newest() == newest
    assert desk.take(*told).job_id is None
    entries = desk.ledger.one("SELECT count(*) FROM core.job_entry")
    assert entries == sum(each.created + each.removed for each in taken)
    for each, piece in zip(taken, pieces, strict=True):
        assert each.created + each.removed + each.known == len(piece)


def test_the_store_has_the_last_word(desk, client):
    """An event that is late says what was; what is there now is a photo, and what is not is none."""
    put(client, "ann/1.jpg")
    job = desk.list(desk.take(event("ann/1.jpg", 1, deleted=True), event("ann/2.jpg", 2)).job_id)
    assert (job.total, job.waiting, job.subtracted) == (1, 1, 0)
    desk.ledger.check()


def test_a_bucket_that_is_away_takes_nothing_with_it(desk, client):
    put(client, "ann/1.jpg")
    desk.ledger.tag_all(desk.list(desk.take(event("ann/1.jpg", 1)).job_id).job_id, "dog")
    client.delete_bucket(Bucket=BUCKET)
    job = desk.list(desk.take(event("ann/1.jpg", 2, deleted=True)).job_id)
    assert job.state is JobState.FAILED
    assert f"no bucket {BUCKET}" in job.error
    assert desk.ledger.photos_with("dog")[0] == 1


def test_what_is_gone_is_subtracted_once_and_only_by_whoever_holds_the_listing(desk):
    desk.ledger.tag_all(desk.ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")]), "cat")
    intake = desk.take(event("x", 1))
    lease = desk.ledger.claim_range(intake.job_id)
    gone = [Removed(bucket="s3://photos", key="ann/1.jpg"), Removed(bucket="s3://photos", key="never")]
    run = desk.ingest.database.run
    assert [run(lambda c: events.subtract(c, lease, gone)) for _ in range(2)] == [1, 0]
    assert (desk.ledger.job(intake.job_id).subtracted, desk.ledger.photos_with("cat")[0]) == (1, 1)
    desk.ledger.expire("core.list_range")
    desk.ledger.execute("UPDATE core.list_range SET lease_epoch = lease_epoch + 1")
    with pytest.raises(LeaseLost):
        run(lambda c: events.subtract(c, lease, gone))
    desk.ledger.check()


def test_of_somebody_erased_no_key_is_taken_in_or_kept(desk, roles):
    desk.ledger.tag_all(desk.ledger.list([ref("ann/1.jpg"), ref("ben/1.jpg", user="ben")]), "cat")
    told = [event(key, 1, bucket="photos") for key in ("ann/1.jpg", "ben/1.jpg")]
    desk.take(*told)
    photos = [row.photo_id for row in desk.ledger.all("SELECT photo_id FROM core.photo WHERE key LIKE 'ann/%'")]
    assert roles[Role.ERASER].database.run(lambda c: events.forget(c, photos)) == 2  # its entry, and its newest event
    assert set(desk.newest()) == {"ben/1.jpg"}
    erase(roles[Role.ERASER].database, "ann")
    intake = desk.take(*told, event("ann/2.jpg", 5, bucket="photos"))
    assert (intake.job_id, intake.erased, intake.known) == (None, 2, 1)
    assert set(desk.newest()) == {"ben/1.jpg"}


# ---- rules, on the way from a page to the ledger


def test_an_erasure_waits_for_events_that_are_being_taken_in(desk, roles):
    desk.ledger.list([ref("ann/1.jpg", bucket=f"s3://{BUCKET}")])
    request = JobRequest(kind=events.KIND, source=events.KIND, user_rule="{user}/{photo}")
    eraser = Thread(target=erase, args=(roles[Role.ERASER].database, "ann"))
    with desk.ingest.database.transaction() as connection:
        model = desk.ledger.registered.model_id
        assert events.take_in(connection, iter([event("ann/1.jpg", 1)]), request, model).created == 1
        eraser.start()
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
        while eraser.is_alive() and not desk.ledger.one(blocked):
            eraser.join(0.02)
    eraser.join()
    assert desk.ledger.all("SELECT key FROM core.object_event UNION ALL SELECT key FROM core.job_entry") == []


def test_rules_leave_photos_out_and_what_is_stored_of_them_stays(desk, client):
    put(client, "ann/1.jpg", "ann/x/2.jpg", "ben/1.jpg", "cleo/1.jpg")
    run = desk.ingest.database.run
    run(lambda c: users.set_consent(c, "ann", True))
    run(lambda c: users.set_consent(c, "cleo", False))
    source = {"kind": "s3", "source": f"s3://{BUCKET}/"}

    def listed(rules):
        request = JobRequest(**source, user_rule="{user}/{photo}", rules=rules)
        return desk.list(run(lambda c: jobs.submit(c, request, desk.ledger.registered.model_id)))

    everything = listed(Rules())
    assert everything.waiting == 4
    desk.ledger.tag_all(everything.job_id, "dog")
    job = listed(Rules(exclude_prefixes=("ann/x",), need_consent=True))
    assert job.counts == {
        (ItemState.SKIPPED_UNCHANGED, Code.NONE): 1,
        (ItemState.EXCLUDED, Code.NOT_CHOSEN): 1,
        (ItemState.EXCLUDED, Code.NO_CONSENT): 2,
    }
    assert (job.subtracted, job.listing, desk.ledger.photos_with("dog")[0]) == (0, False, 4)
    desk.ledger.check()


def test_who_consents_is_known_before_the_first_photo(desk, ingest):
    run = ingest.database.run
    assert run(lambda c: users.set_consent(c, "dora", True)).consent is True
    assert run(lambda c: users.set_consent(c, "dora", None)).consent is None
    assert [(u.user, u.consent) for u in run(lambda c: users.listed(c, 10))] == [("dora", None)]
    assert run(lambda c: users.listed(c, 10, "dora")) == []
    standings = run(lambda c: users.standings(c, ["dora", "nobody"]))
    assert {name: (each.consent, each.erased) for name, each in standings.items()} == {"dora": (None, False)}
