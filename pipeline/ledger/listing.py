"""One page of a listing becomes rows, in one transaction with its checkpoint.

Laws
1. The page's photos, its counts, its shards and the cursor are written together: after a crash the next lister starts
   at the cursor and meets no photo twice.
2. A photo is work for the job iff it is due by the job's scope (`pipeline.ledger.due`); all others are counted
   `skipped_unchanged`.
3. A photo of the ledger that lies in the stretch of keys that a page accounts for, and was neither listed nor refused
   there, is missing, until any listing meets it. What is missing is subtracted only when the listing is complete, and
   only if it is no large part of the source.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, takewhile

from sqlalchemy import Connection, text

from pipeline.crashpoints import Point, reached
from pipeline.errors import LeaseLost
from pipeline.ledger import jobs, lines, pages
from pipeline.ledger.due import DANGEROUS, DUE
from pipeline.ledger.jobs import Job
from pipeline.records import Code, ItemState, Lease, Page, Refusal, TakenFrom, WorkState
from pipeline.sources.source import Interval, Order, after_prefix
from pipeline.store.merge import MASS_DELETE_SHARE
from pipeline.store.revisions import Changed, touch
from pipeline.store.staging import Field, copy_rows
from pipeline.store.totals import apply_delta, collect_forgotten, collect_moved, ensure_delta, mark_users

_STAGE = """ord int, line bigint, bucket text, key text, owner text, etag text, version_id text, size bigint,
            modified_at timestamptz"""

_BUCKETS = """
INSERT INTO core.bucket (uri) SELECT DISTINCT bucket FROM listed ORDER BY 1 ON CONFLICT DO NOTHING"""
_USERS = """
INSERT INTO core.app_user (name) SELECT DISTINCT owner COLLATE "C" FROM listed
WHERE NOT EXISTS (SELECT FROM core.app_user u WHERE u.name = owner COLLATE "C") ORDER BY 1 ON CONFLICT DO NOTHING"""
_LOCK_USERS = """
SELECT FROM core.app_user u WHERE u.name IN (SELECT owner COLLATE "C" FROM listed) ORDER BY u.user_id FOR KEY SHARE"""
_LOCK_PHOTOS = """
SELECT FROM core.photo p WHERE p.photo_id IN (
    SELECT photo_id FROM core.photo p JOIN core.bucket b USING (bucket_id)
    JOIN listed l ON l.bucket = b.uri AND l.key COLLATE "C" = p.key) ORDER BY p.photo_id FOR NO KEY UPDATE"""

# An object is met once per page; `met` has one row per photo, with what is new about it.
_UPSERT = f"""
WITH page AS (
    SELECT DISTINCT ON (b.bucket_id, l.key) b.bucket_id, l.key, u.user_id, l.etag, l.version_id, l.size, l.modified_at
    FROM listed l JOIN core.bucket b ON b.uri = l.bucket
    JOIN core.app_user u ON u.name = l.owner COLLATE "C" AND u.deleted_at IS NULL
    ORDER BY b.bucket_id, l.key, l.ord
), changed AS (
    INSERT INTO core.photo AS p (bucket_id, key, user_id, etag, version_id, size, taken_at)
    SELECT bucket_id, key, user_id, etag, version_id, size, modified_at FROM page ORDER BY bucket_id, key COLLATE "C"
    ON CONFLICT (bucket_id, key) DO UPDATE
    SET user_id = EXCLUDED.user_id, etag = EXCLUDED.etag, version_id = EXCLUDED.version_id, size = EXCLUDED.size,
        content_rev = p.content_rev + ((p.etag, p.size) IS DISTINCT FROM (EXCLUDED.etag, EXCLUDED.size)
                                       OR p.gone_at IS NOT NULL)::int,
        taken_at = CASE WHEN (p.etag, p.size) IS DISTINCT FROM (EXCLUDED.etag, EXCLUDED.size)
                        THEN EXCLUDED.taken_at ELSE p.taken_at END,
        taken_from = CASE WHEN (p.etag, p.size) IS DISTINCT FROM (EXCLUDED.etag, EXCLUDED.size)
                          THEN {TakenFrom.OBJECT} ELSE p.taken_from END,
        gone_at = NULL
    WHERE (p.user_id, p.etag, p.size, p.version_id, p.gone_at)
          IS DISTINCT FROM (EXCLUDED.user_id, EXCLUDED.etag, EXCLUDED.size, EXCLUDED.version_id, NULL)
    RETURNING new.photo_id, new.user_id, old.user_id AS before, old.photo_id IS NOT NULL
        AND (old.user_id, old.taken_at) <> (new.user_id, new.taken_at) AS moved
), marked AS (
    {mark_users("(SELECT user_id FROM changed UNION SELECT before FROM changed WHERE before IS NOT NULL) AS whose")}
)
INSERT INTO moved SELECT photo_id FROM changed WHERE moved"""

_MET = f"""
INSERT INTO met
SELECT p.photo_id, p.user_id, {{due}}, {DANGEROUS}
FROM (SELECT DISTINCT b.bucket_id, l.key COLLATE "C" AS key FROM listed l JOIN core.bucket b ON b.uri = l.bucket
      JOIN core.app_user o ON o.name = l.owner COLLATE "C" AND o.deleted_at IS NULL) l
JOIN core.photo p ON p.bucket_id = l.bucket_id AND p.key = l.key
LEFT JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id"""

# What now lies there as a photo of somebody erased goes from whoever it belonged to.
_DISOWNED = """
WITH gone AS (
    UPDATE core.photo p SET gone_at = now()
    FROM listed l JOIN core.bucket b ON b.uri = l.bucket
    JOIN core.app_user o ON o.name = l.owner COLLATE "C" AND o.deleted_at IS NOT NULL
    WHERE p.bucket_id = b.bucket_id AND p.key = l.key COLLATE "C" AND p.user_id <> o.user_id AND p.gone_at IS NULL
      AND p.photo_id NOT IN (SELECT photo_id FROM met)
    RETURNING p.photo_id)
INSERT INTO forgotten SELECT photo_id FROM gone"""

# Whoever noted it missing, it is there now: another job's listing may have been under way while it was uploaded.
_FOUND_AGAIN = "DELETE FROM core.job_missing m USING met WHERE m.photo_id = met.photo_id"

_MISSING = """
INSERT INTO core.job_missing (job_id, photo_id)
SELECT :job, p.photo_id FROM core.photo p JOIN core.bucket b USING (bucket_id)
WHERE {stretch} AND p.key <> ALL (CAST(:refused AS text[]))
  AND p.created_at < (SELECT started_at FROM core.job WHERE job_id = :job)
  AND p.photo_id NOT IN (SELECT photo_id FROM met) ON CONFLICT DO NOTHING"""
_WITHIN = {
    Order.BYTES: "p.key > :after AND p.key <= :upto",
    Order.TREE: "translate(p.key, '/', chr(1)) > translate(:after, '/', chr(1)) "
    "AND translate(p.key, '/', chr(1)) <= translate(:upto, '/', chr(1))",
}


_ERASED = """
SELECT count(*) FROM listed l JOIN core.app_user u ON u.name = l.owner COLLATE "C" WHERE u.deleted_at IS NOT NULL"""


def record_page(
    connection: Connection, job: Job, lease: Lease, page: Page, span: Interval | None, shard_photos: int
) -> None:
    """Write one page: photos, owners, items, shards, counts, checkpoint. `span` is None where gaps mean nothing.

    Raises:
        LeaseLost: someone else lists this range now; nothing is written.
    """
    before = pages.checkpoint(connection, lease, page.cursor, len(page.refs) + len(page.refusals) + len(page.gone))
    numbers = lines.numbers(page, before)
    copy_rows(connection, "listed", _STAGE, _staged(page, numbers))
    reached(Point.LIST_AFTER_COPY)
    _create_work_tables(connection)
    for statement in (_BUCKETS, _USERS, _LOCK_USERS, _LOCK_PHOTOS, _UPSERT):
        connection.execute(text(statement))
    connection.execute(text(_MET.format(due=DUE[job.scope])), {"model": job.model_id})
    connection.execute(text(_FOUND_AGAIN))
    changed = _move_and_disown(connection)
    if span is not None and span.orders:
        _note_missing(connection, job, page, span)
    new = pages.make_items(connection, job, shard_photos)
    if job.keeps_lines:
        lines.keep(connection, job, page, numbers, new)
    _count(connection, job, page, len(new))
    jobs.add_refusals(connection, job.job_id, [_note(r) for r in chain(page.refusals, page.gone)])
    touch(connection, changed)
    reached(Point.LIST_BEFORE_COMMIT)


def _staged(page: Page, numbers: Sequence[int]) -> Iterator[Sequence[Field]]:
    for n, r in enumerate(page.refs):
        yield n, numbers[n], r.bucket, r.key, r.user, r.etag, r.version_id, r.size, r.modified_at


def _move_and_disown(connection: Connection) -> Changed:
    """Let results follow photos to other owners, and go with those that belong to somebody erased now."""
    collect_moved(connection)
    if connection.execute(text(_DISOWNED)).rowcount:
        collect_forgotten(connection)
    return apply_delta(connection)


def _note_missing(connection: Connection, job: Job, page: Page, span: Interval) -> None:
    refused = [refusal.name for refusal in page.refusals]
    stretch, values = stretch_of(span)
    query = text(_MISSING.format(stretch=stretch))
    connection.execute(query, {"job": job.job_id, "refused": refused, **values})


def stretch_of(span: Interval) -> tuple[str, dict[str, str]]:
    """The condition under which a photo `p` of a bucket `b` is there and lies in the span; and its values."""
    stem = _common(span.after, span.upto)
    values = {"bucket": span.bucket, "after": span.after, "upto": span.upto, "stem": stem, "beyond": after_prefix(stem)}
    within = " AND ".join(_WITHIN[order] for order in sorted(span.orders))
    here = "b.uri = :bucket AND p.key >= :stem AND p.key <= :beyond AND p.gone_at IS NULL"
    return f"{here} AND {within}", values


def _common(one: str, other: str) -> str:
    """What both begin with; in either order of keys, all that lies between begins with it too.

    Only by this can an index help where a place does not sort by bytes.
    """
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _create_work_tables(connection: Connection) -> None:
    ensure_delta(connection)
    pages.create_met(connection)
    for name in ("moved", "forgotten"):
        connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {name} (photo_id bigint) ON COMMIT DELETE ROWS"))


def _count(connection: Connection, job: Job, page: Page, due: int) -> None:
    """Count every entry of the page once: what is due, what is unchanged, what came twice, what was refused."""
    unchanged = pages.unchanged(connection)
    erased = connection.execute(text(_ERASED)).scalar_one()
    counts = Counter((ItemState.EXCLUDED, refusal.code) for refusal in page.refusals)
    counts.update((ItemState.FAILED, refusal.code) for refusal in page.gone)
    counts[ItemState.PENDING, Code.NONE] = due
    counts[ItemState.SKIPPED_UNCHANGED, Code.NONE] = unchanged
    counts[ItemState.ERASED, Code.NONE] = erased
    counts[ItemState.DUPLICATE, Code.LISTED_TWICE] = len(page.refs) - due - unchanged - erased
    pages.add_counts(connection, job.job_id, counts)


def _note(refusal: Refusal) -> str:
    return f"{refusal.name}: {refusal.reason}"


def finish_range(connection: Connection, job: Job, lease: Lease) -> None:
    """End the listing; subtract what is gone from the source, unless that is suspiciously much.

    Raises:
        LeaseLost: someone else lists this range now; nothing is written.
    """
    done = connection.execute(
        text(f"""UPDATE core.list_range SET state = {WorkState.DONE}, lease_owner = NULL, lease_until = NULL
                 WHERE range_id = :id AND lease_epoch = :epoch AND state = {WorkState.LEASED}"""),
        {"id": lease.work_id, "epoch": lease.epoch},
    )
    if done.rowcount == 0:
        raise LeaseLost(f"Range {lease.work_id} is listed by another worker now.")
    touch(connection, _subtract_missing(connection, job))


_FORGOTTEN = """
WITH gone AS (
    UPDATE core.photo p SET gone_at = now() FROM (
        SELECT p.photo_id FROM core.photo p JOIN core.job_missing m USING (photo_id)
        WHERE m.job_id = :job AND p.gone_at IS NULL ORDER BY p.photo_id
        FOR NO KEY UPDATE OF p FOR UPDATE OF m) missing
    WHERE p.photo_id = missing.photo_id RETURNING p.photo_id)
INSERT INTO forgotten SELECT photo_id FROM gone"""


def _subtract_missing(connection: Connection, job: Job) -> Changed:
    changed = Changed()
    missing: int = connection.execute(
        text("SELECT count(*) FROM core.job_missing WHERE job_id = :job"), {"job": job.job_id}
    ).scalar_one()
    listed = jobs.find(connection, job.job_id).total
    if missing and job.keep_missing:
        jobs.add_notes(connection, job.job_id, [f"{missing} photos are gone from the source; kept, as you asked."])
    elif too_many(missing, listed) and not job.allow_mass_delete:
        note = (
            f"{missing} of {missing + listed} photos are gone from the source, which is too many to believe: nothing "
            "was subtracted. If it is right, run the job again with --allow-mass-delete."
        )
        jobs.add_notes(connection, job.job_id, [note])
    elif missing:
        changed = _subtract(connection, job.job_id)
    connection.execute(text("DELETE FROM core.job_missing WHERE job_id = :job"), {"job": job.job_id})
    return changed


def too_many(missing: int, listed: int) -> bool:
    """Whether so much is missing that a mistake is likelier than a clean-up."""
    return missing > MASS_DELETE_SHARE * (missing + listed)


def _subtract(connection: Connection, job_id: int) -> Changed:
    ensure_delta(connection)
    connection.execute(text("CREATE TEMP TABLE IF NOT EXISTS forgotten (photo_id bigint) ON COMMIT DELETE ROWS"))
    gone = connection.execute(text(_FORGOTTEN), {"job": job_id}).rowcount
    collect_forgotten(connection)
    changed = apply_delta(connection)
    connection.execute(text("UPDATE core.job SET subtracted = :n WHERE job_id = :job"), {"n": gone, "job": job_id})
    return changed
