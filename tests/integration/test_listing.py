"""Listing pages into the ledger: each photo met once, each gap found, nothing half written."""

import random
import threading

import pytest
from ledger_helpers import BUCKET, LEASE_SECONDS, Ledger, failed, page_of, ref

from pipeline.errors import LeaseLost
from pipeline.ledger import ending, redrive, work
from pipeline.ledger.jobs import REFUSALS_KEPT
from pipeline.ledger.listing import finish_range, record_page
from pipeline.ledger.work import RANGES
from pipeline.records import Code, ItemState, Refusal, WorkState
from pipeline.sources.source import Interval, Order, after_prefix, orders_of

WHOLE = Interval(bucket=BUCKET, after="", upto=after_prefix(""))


def counts(ledger, job_id):
    return {state: n for (state, _), n in ledger.job(job_id).counts.items()}


def refs(n, **options):
    return [ref(f"ann/{i:03d}.jpg", **options) for i in range(n)]


def test_new_unchanged_changed_and_moved(ledger):
    first = ledger.list(refs(4))
    assert counts(ledger, first) == {ItemState.PENDING: 4}
    ledger.tag_all(first, "dog")
    second = ledger.list(
        [
            ref("ann/000.jpg"),
            ref("ann/001.jpg", etag="e2"),
            ref("ann/002.jpg", user="ben"),
            ref("ann/003.jpg", size=11, user="ben"),
            ref("ann/004.jpg"),
        ]
    )
    assert counts(ledger, second) == {ItemState.PENDING: 3, ItemState.SKIPPED_UNCHANGED: 2}
    # Only the bytes decide whether a photo is looked at again; the owner's totals follow at once.
    due = {task.key for lease in ledger.claim_all(second) for task in ledger.tasks(lease)}
    assert due == {"ann/001.jpg", "ann/003.jpg", "ann/004.jpg"}
    assert (ledger.photos_with("dog", "ann"), ledger.photos_with("dog", "ben")) == ((2, 18_000), (2, 18_000))
    ledger.check()


def test_what_failed_for_good_is_not_due_again_but_what_had_trouble_is(ledger):
    job_id = ledger.list(refs(3))
    (lease,) = ledger.claim_all(job_id)
    corrupt, away, gone = ledger.tasks(lease)
    ledger.merge([failed(corrupt, Code.CORRUPT), failed(away, Code.INFRASTRUCTURE), failed(gone, Code.GONE)], [lease])
    again = ledger.list(refs(3))
    assert counts(ledger, again) == {ItemState.PENDING: 2, ItemState.SKIPPED_UNCHANGED: 1}
    ledger.check()


def test_a_crash_before_the_commit_leaves_nothing(ledger):
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    job = ledger.job(job_id)

    def crash(connection):
        record_page(connection, job, lease, page_of(refs(5), cursor="ann/004.jpg", last=False), WHOLE, 512)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.database.run(crash)
    for table in ("photo", "job_item", "job_count", "shard", "app_user", "bucket"):
        assert ledger.all(f"SELECT * FROM core.{table}") == []
    assert tuple(ledger.one("SELECT cursor, listed FROM core.list_range")) == (None, 0)
    ledger.write_page(job_id, lease, page_of(refs(5)), WHOLE)
    ledger.finish(job_id, lease)
    ledger.check()


def test_the_checkpoint_moves_with_its_page_and_a_repeat_is_refused_to_the_old_holder(ledger):
    job_id = ledger.submit()
    old = ledger.claim_range(job_id)
    ledger.write_page(job_id, old, page_of(refs(3), cursor="ann/002.jpg", last=False))
    ledger.expire("core.list_range")
    ledger.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
    new = ledger.claim_range(job_id)
    assert ledger.database.run(lambda c: work.cursor_of(c, new)) == "ann/002.jpg"
    for step in (
        lambda: ledger.write_page(job_id, old, page_of(refs(9)[3:])),
        lambda: ledger.finish(job_id, old),
    ):
        with pytest.raises(LeaseLost):
            step()
    assert ledger.job(job_id).total == 3
    ledger.write_page(job_id, new, page_of(refs(9)[3:]))
    ledger.finish(job_id, new)
    assert ledger.job(job_id).total == 9
    ledger.check()


def test_a_page_read_again_after_a_lost_reply_counts_as_duplicates(ledger):
    """The lister may be told that a commit failed which had happened; its range then has moved on, and it notices."""
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    page = page_of(refs(3))
    ledger.write_page(job_id, lease, page)
    ledger.write_page(job_id, lease, page)
    assert counts(ledger, job_id) == {ItemState.PENDING: 3, ItemState.DUPLICATE: 3}
    ledger.check()


# ---- what is missing


def tagged_library(ledger: Ledger, n=20):
    ledger.tag_all(ledger.list(refs(n)), "dog")
    assert ledger.photos_with("dog") == (n, 9000 * n)


def test_missing_photos_are_subtracted_exactly(ledger):
    tagged_library(ledger)
    job_id = ledger.list([r for r in refs(20) if r.key not in ("ann/003.jpg", "ann/019.jpg")])
    assert ledger.job(job_id).subtracted == 2
    assert ledger.photos_with("dog") == (18, 18 * 9000)
    gone = ledger.all("SELECT key FROM core.photo WHERE gone_at IS NOT NULL ORDER BY 1")
    assert gone == [("ann/003.jpg",), ("ann/019.jpg",)]
    assert ledger.all("SELECT * FROM core.job_missing") == []
    ledger.check()


def test_missing_and_moved_on_the_last_page_are_each_counted_once(ledger):
    tagged_library(ledger)
    rest = [ref(r.key, user="ben") for r in refs(19)]
    ledger.list(rest)
    assert (ledger.photos_with("dog", "ann"), ledger.photos_with("dog", "ben")) == ((0, 0), (19, 19 * 9000))
    ledger.check()


def test_missing_and_moved_in_one_transaction_are_each_counted_once(ledger):
    """Both leave signed deltas in one temporary table; applying the second must not apply the first again."""
    tagged_library(ledger)
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    job = ledger.job(job_id)

    def both(connection):
        record_page(connection, job, lease, page_of([ref(r.key, user="ben") for r in refs(19)]), WHOLE, 512)
        finish_range(connection, job, lease)

    ledger.database.run(both)
    assert (ledger.photos_with("dog", "ann"), ledger.photos_with("dog", "ben")) == ((0, 0), (19, 19 * 9000))
    ledger.check()


# 20 photos: 5 missing of 15 listed + 5 = 25 %, above the fifth that is believed; 4 of 20 = 20 % is not above.
@pytest.mark.parametrize(
    ("missing", "options", "subtracted", "said"),
    [
        (4, {}, 4, ""),
        (5, {}, 0, "--allow-mass-delete"),
        (20, {}, 0, "--allow-mass-delete"),
        (5, {"allow_mass_delete": True}, 5, ""),
        (20, {"allow_mass_delete": True}, 20, ""),
        (3, {"keep_missing": True}, 0, "kept"),
    ],
)
def test_what_is_missing_is_believed_within_reason(ledger, missing, options, subtracted, said):
    tagged_library(ledger)
    job_id = ledger.list(refs(20 - missing), **options)
    found = ledger.job(job_id)
    assert (found.subtracted, ledger.photos_with("dog")[0]) == (subtracted, 20 - subtracted)
    assert said in " ".join(found.notes)
    assert bool(said) == bool(found.notes)
    ledger.check()


def test_that_much_is_missing_is_said_before_what_was_refused(ledger):
    tagged_library(ledger)
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    refusals = [Refusal(name=f"bad/{n}", code=Code.NO_USER, reason="does not match.") for n in range(30)]
    ledger.write_page(job_id, lease, page_of([], refusals), WHOLE)
    ledger.finish(job_id, lease)
    first, *others = ledger.job(job_id).notes
    assert "--allow-mass-delete" in first
    assert len(others) == REFUSALS_KEPT


def test_what_another_job_meets_meanwhile_is_not_missing(ledger):
    """Uploaded again between the two listings."""
    tagged_library(ledger)
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    ledger.write_page(job_id, lease, page_of(refs(18)), WHOLE)
    assert len(ledger.all("SELECT * FROM core.job_missing")) == 2
    ledger.list([ref("ann/019.jpg")], whole=False)
    ledger.finish(job_id, lease)
    assert (ledger.job(job_id).subtracted, ledger.photos_with("dog")[0]) == (1, 19)
    ledger.check()


def test_the_thumbnails_of_what_is_gone_go_too(ledger):
    tagged_library(ledger, 10)
    ledger.execute("INSERT INTO core.thumbnail SELECT photo_id, 64, 1, 'x' FROM core.photo")
    ledger.list(refs(9))
    left = ledger.all("SELECT p.key FROM core.thumbnail JOIN core.photo p USING (photo_id) ORDER BY 1")
    assert left == [(f"ann/{n:03d}.jpg",) for n in range(9)]


def test_a_photo_that_comes_back_is_looked_at_again(ledger):
    tagged_library(ledger)
    ledger.list(refs(19))
    job_id = ledger.list(refs(20))
    assert counts(ledger, job_id) == {ItemState.PENDING: 1, ItemState.SKIPPED_UNCHANGED: 19}
    ledger.tag_all(job_id, "dog")
    assert ledger.photos_with("dog") == (20, 20 * 9000)
    ledger.check()


def test_a_prefix_does_not_miss_what_lies_outside_it(ledger):
    inner, outer = [ref(f"a/{n}.jpg") for n in range(3)], [ref(key) for key in ("a", "a-b/1.jpg", "a.jpg", "b/1.jpg")]
    ledger.tag_all(ledger.list(inner + outer), "dog")
    job_id = ledger.list(inner[:2], prefix="a/", source=f"{BUCKET}/a/", allow_mass_delete=True)
    assert (ledger.job(job_id).subtracted, ledger.photos_with("dog")[0]) == (1, 6)
    ledger.check()


def test_a_source_inside_another_counts_no_photo_twice(ledger):
    everything = [ref(key) for key in ("a/1.jpg", "a/2.jpg", "b/1.jpg")]
    whole = ledger.list(everything)
    part = ledger.list(everything[:2], prefix="a/", source=f"{BUCKET}/a/")
    assert ledger.one("SELECT count(*) FROM core.photo") == 3
    ledger.tag_all(whole, "dog")
    ledger.tag_all(part, "dog")  # due for both: each job accounts for its own
    assert ledger.photos_with("dog") == (3, 27_000)
    assert [ledger.job(job_id).total for job_id in (whole, part)] == [3, 2]
    ledger.check()


def test_a_refused_key_is_not_gone(ledger):
    """Another user rule refuses a key that an earlier one accepted: the photo is still there."""
    tagged_library(ledger)
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    refused = Refusal(name="ann/019.jpg", code=Code.NO_USER, reason="does not match.")
    ledger.write_page(job_id, lease, page_of(refs(19), [refused]), WHOLE)
    ledger.finish(job_id, lease)
    assert ledger.job(job_id).subtracted == 0
    assert ledger.photos_with("dog")[0] == 20
    ledger.check()


def test_photos_that_another_job_found_meanwhile_are_not_missing(ledger):
    tagged_library(ledger)
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    ledger.list([ref("ann/500.jpg")], whole=False)
    ledger.write_page(job_id, lease, page_of(refs(20)), WHOLE)
    ledger.finish(job_id, lease)
    assert ledger.job(job_id).subtracted == 0


KEYS = ["a b/1.jpg", "a-b/1.jpg", "a.jpg", "a/1.jpg", "a/b/1.jpg", "a/b.jpg", "a0/1.jpg", "ab.jpg", "ä/1.jpg", "b"]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("order", list(Order))
def test_gaps_are_found_and_never_invented_whatever_the_order_of_the_server(ledger, order, size):
    """S3 sorts by bytes, SeaweedFS folder by folder; we learn which from the pages themselves."""
    rank = (lambda key: key.replace("/", "\1").encode()) if order is Order.TREE else str.encode
    keys = sorted(KEYS, key=rank)
    ledger.tag_all(ledger.list([ref(key) for key in keys]), "dog")
    for lost in [None, *keys]:
        there = [key for key in keys if key != lost]
        job_id = ledger.submit(allow_mass_delete=True, keep_missing=True)
        lease = ledger.claim_range(job_id)
        cursor = None
        for at in range(0, len(there) + 1, size):
            part = there[at : at + size]
            page = page_of(map(ref, part), cursor=part[-1] if part else cursor, last=len(part) < size)
            span = Interval(
                bucket=BUCKET,
                after=cursor or "",
                upto=after_prefix("") if page.last else page.cursor,
                orders=orders_of([cursor or "", *part, page.cursor]),
            )
            ledger.write_page(job_id, lease, page, span)
            cursor = page.cursor
        query = "SELECT p.key FROM core.job_missing m JOIN core.photo p USING (photo_id) WHERE m.job_id = :job"
        found = {row.key for row in ledger.all(query, job=job_id)}
        assert found <= {lost}
        if order is Order.BYTES and size > 1:
            assert found == {lost} - {None}
        ledger.execute("DELETE FROM core.job_missing")


# ---- what is refused, erased, named twice


def test_refusals_are_counted_and_the_first_few_are_told(ledger):
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    refusals = [Refusal(name=f"bad/{n}", code=Code.NO_USER, reason="does not match.") for n in range(30)]
    for part in (refusals[:15], refusals[15:]):
        ledger.write_page(job_id, lease, page_of([], part, cursor="x", last=False), WHOLE)
    ledger.finish(job_id, lease)
    found = ledger.job(job_id)
    assert found.counts == {(ItemState.EXCLUDED, Code.NO_USER): 30}
    assert found.notes == tuple(f"bad/{n}: does not match." for n in range(REFUSALS_KEPT))
    ledger.check()
    assert ledger.database.run(ending.finish_jobs) == [job_id]


def test_objects_named_twice_are_duplicates_within_a_page_and_across_pages(ledger):
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    gone = [Refusal(name="line 9", code=Code.GONE, reason="is no longer there.")]
    ledger.write_page(job_id, lease, page_of([*refs(3), *refs(2)], cursor="5", last=False))
    ledger.write_page(job_id, lease, page_of([*refs(4)], gone=gone))
    ledger.finish(job_id, lease)
    assert counts(ledger, job_id) == {ItemState.PENDING: 4, ItemState.DUPLICATE: 5, ItemState.FAILED: 1}
    ledger.check()


def test_the_first_of_two_owners_in_one_page_counts(ledger):
    ledger.list([ref("x.jpg", user="ann"), ref("x.jpg", user="ben")])
    assert ledger.one("SELECT u.name FROM core.photo JOIN core.app_user u USING (user_id)") == "ann"
    ledger.check()


def test_photos_of_an_erased_user_are_counted_and_not_touched(ledger):
    tagged_library(ledger, 5)
    ledger.execute("UPDATE core.app_user SET deleted_at = now()")
    job_id = ledger.list([*refs(5), ref("ann/9.jpg"), ref("ben/1.jpg", user="ben")], whole=False)
    assert counts(ledger, job_id) == {ItemState.ERASED: 6, ItemState.PENDING: 1}
    ledger.check()


@pytest.mark.parametrize("tagged", [False, True])
def test_a_photo_that_moves_to_an_erased_user_is_accounted_for_once(ledger, tagged):
    first = ledger.list(refs(1))
    if tagged:
        ledger.tag_all(first, "dog")
    ledger.execute("INSERT INTO core.app_user (name, deleted_at) VALUES ('ghost', now())")
    job_id = ledger.list([ref("ann/000.jpg", user="ghost")], allow_mass_delete=True)
    assert counts(ledger, job_id) == {ItemState.ERASED: 1}
    assert ledger.photos_with("dog") == (0, 0)  # nothing of a ghost's is kept, under anybody's name
    ledger.check()


def test_a_photo_that_leaves_an_erased_user_belongs_to_its_new_owner(ledger):
    ledger.list(refs(1))
    ledger.execute("UPDATE core.app_user SET deleted_at = now()")
    job_id = ledger.list([ref("ann/000.jpg", user="ben")])
    assert counts(ledger, job_id) == {ItemState.PENDING: 1}
    ledger.check()


def test_strange_names_survive(ledger):
    keys = [
        "tab\there",
        "new\nline",
        "back\\slash",
        r"\.",
        r"\N",
        "quote'\"",
        "ü/ñ.jpg",
        "🐕/1",
        "a//b",
        " ",
        "%41+x",
        "\x01",
    ]
    job_id = ledger.list([ref(key, user=key) for key in keys])
    (lease,) = ledger.claim_all(job_id)
    assert sorted(task.key for task in ledger.tasks(lease)) == sorted(keys)
    assert {row.name for row in ledger.all("SELECT name FROM core.app_user")} == set(keys)
    again = ledger.list([ref(key, user=key) for key in keys])
    assert ledger.one("SELECT count(*) FROM core.photo") == len(keys)
    assert counts(ledger, again) == {ItemState.PENDING: len(keys)}
    ledger.check()


def test_shards_are_cut_by_user(ledger):
    photos = [ref(f"u{n % 3}/{n}.jpg", user=f"u{n % 3}") for n in range(30)]
    job_id = ledger.list(photos, shard_photos=8)
    rows = ledger.all("""SELECT count(DISTINCT p.user_id) AS users, count(*) AS photos
                         FROM core.job_item i JOIN core.photo p USING (photo_id) GROUP BY i.shard_id""")
    assert sorted((row.users, row.photos) for row in rows) == [(1, 8), (1, 8), (1, 8), (3, 6)]
    assert sum(row.photos for row in ledger.shards(job_id)) == 30


def test_a_released_range_goes_on_where_it_stood(ledger):
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    ledger.write_page(job_id, lease, page_of(refs(2), cursor="ann/001.jpg", last=False))
    ledger.database.run(lambda c: RANGES.release(c, [lease]))
    assert ledger.one("SELECT state FROM core.list_range") == WorkState.PENDING
    assert ledger.job(job_id).listing
    again = ledger.claim_range(job_id)
    assert ledger.database.run(lambda c: work.cursor_of(c, again)) == "ann/001.jpg"


def test_listers_that_meet_the_same_new_photos_at_once_agree(ledger):
    """Overlapping jobs insert the same users, buckets and photos at the same time, each in an order of its own."""
    errors, jobs_made = [], []
    users = ["ann", "ben", "cleo", "dan"]

    def list_some(seed):
        chance = random.Random(seed)
        try:
            for turn in range(4):
                keys = chance.sample(range(40), 40)
                photos = [ref(f"{turn}/{n:02d}.jpg", user=chance.choice(users) + str(turn)) for n in keys]
                jobs_made.append(ledger.list(photos, whole=False, shard_photos=10))
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=list_some, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ledger.one("SELECT count(*), count(DISTINCT (bucket_id, key)) FROM core.photo") == (160, 160)
    ledger.check()
    for job_id in jobs_made:
        ledger.tag_all(job_id)
    assert sorted(ledger.database.run(ending.finish_jobs)) == sorted(jobs_made)
    ledger.check()
