"""Events of objects become a job: each key once, and only if its newest event says something new.

Laws
1. What is new and the job that comes of it are written in one transaction: a repeated delivery of the same messages,
   after whatever happened to the first, says nothing new and makes no job.
2. Of two events of one key the one with the greater sequencer counts, whichever came first (`sources.notification`).
3. What lies under a key is asked of S3 when the job's entries are read (`sources.events`); what is gone is subtracted
   in a transaction that the range's lease fences, and a repetition subtracts nothing.
4. Of erased users no key is kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Connection, text

from pipeline.ledger import jobs, work
from pipeline.ledger.requests import JobRequest
from pipeline.records import Lease, Removed
from pipeline.sources.events import EventEntry
from pipeline.sources.notification import ObjectEvent
from pipeline.sources.user_rule import UserRule
from pipeline.store.revisions import touch
from pipeline.store.staging import copy_rows
from pipeline.store.totals import apply_delta, collect_forgotten, ensure_delta

KIND = "events"
COPY_ROWS = 10_000  # at a time, so that a million events take no more memory than these


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What came of some events."""

    job_id: int | None  # None: nothing was new
    created: int  # objects of the job that came, by their newest event
    removed: int  # and that went
    erased: int  # events of erased users' objects
    known: int  # events that said nothing new: repeated, late, or overtaken in the same delivery


_ARRIVED = "bucket text, key text, sequencer text, deleted boolean, version_id text, owner text"
_FRESH = """
CREATE TEMP TABLE IF NOT EXISTS fresh (bucket text, key text, version_id text, deleted boolean) ON COMMIT DELETE ROWS"""
_LOCK_USERS = """
SELECT FROM core.app_user u WHERE u.name IN (SELECT owner COLLATE "C" FROM arrived) ORDER BY u.user_id FOR KEY SHARE"""
_ERASED = """
DELETE FROM arrived a USING core.app_user u WHERE u.name = a.owner COLLATE "C" AND u.deleted_at IS NOT NULL"""
_TAKE = """
WITH newest AS MATERIALIZED (
    SELECT DISTINCT ON (bucket, key) bucket, key, sequencer, deleted, version_id FROM arrived
    ORDER BY bucket, key, sequencer COLLATE "C" DESC
), fresh_ones AS (
    INSERT INTO core.object_event AS e (bucket, key, sequencer, deleted)
    SELECT 's3://' || bucket, key, sequencer, deleted FROM newest ORDER BY bucket COLLATE "C", key COLLATE "C"
    ON CONFLICT (bucket, key) DO UPDATE
    SET sequencer = EXCLUDED.sequencer, deleted = EXCLUDED.deleted, seen_at = now()
    WHERE e.sequencer < EXCLUDED.sequencer
    RETURNING bucket, key
)
INSERT INTO fresh SELECT n.bucket, n.key, n.version_id, n.deleted
FROM newest n JOIN fresh_ones f ON f.bucket = 's3://' || n.bucket AND f.key = n.key COLLATE "C" """
_COUNT = "SELECT count(*) FILTER (WHERE NOT deleted) AS created, count(*) FILTER (WHERE deleted) AS removed FROM fresh"
_ENTRIES = """
INSERT INTO core.job_entry (job_id, line, bucket, key, version_id, deleted)
SELECT :job, row_number() OVER (ORDER BY bucket COLLATE "C", key COLLATE "C"), 's3://' || bucket, key, version_id,
       deleted
FROM fresh"""


def take_in(connection: Connection, events: Iterable[ObjectEvent], request: JobRequest, model_id: int) -> Intake:
    """Write down what is new in `events`, and the job that works on it. The transaction must be committed whole."""
    rule = UserRule.parse(request.user_rule, request.fixed_user)
    arrived = 0
    copy_rows(connection, "arrived", _ARRIVED, ())
    for some in _batches(events):
        rows = ((e.bucket, e.key, e.sequencer, e.deleted, e.version_id, rule.owner(e.key)) for e in some)
        copy_rows(connection, "arrived", _ARRIVED, rows)
        arrived += len(some)
    connection.execute(text(_FRESH))
    connection.execute(text(_LOCK_USERS))  # an erasure waits for us and forgets what we write, or we see its tombstone
    erased = connection.execute(text(_ERASED)).rowcount
    connection.execute(text(_TAKE))
    created, removed = connection.execute(text(_COUNT)).one()
    job_id = None
    if created or removed:
        job_id = jobs.submit(connection, request, model_id)
        connection.execute(text(_ENTRIES), {"job": job_id})
    known = arrived - erased - created - removed
    return Intake(job_id=job_id, created=created, removed=removed, erased=erased, known=known)


def _batches(events: Iterable[ObjectEvent]) -> Iterator[list[ObjectEvent]]:
    following = iter(events)
    while some := list(islice(following, COPY_ROWS)):
        yield some


def entries(connection: Connection, job_id: int, after: int, limit: int) -> Sequence[EventEntry]:
    """The next objects that a job is about, after a line."""
    rows = connection.execute(
        text("""SELECT line, substr(bucket, 6) AS bucket, key FROM core.job_entry
                WHERE job_id = :job AND line > :after ORDER BY line LIMIT :limit"""),
        {"job": job_id, "after": after, "limit": limit},
    )
    return [EventEntry(**row) for row in rows.mappings()]


_REMOVE = """
WITH gone AS (
    UPDATE core.photo p SET gone_at = now() FROM (
        SELECT p.photo_id FROM unnest(CAST(:buckets AS text[]), CAST(:keys AS text[])) AS r(bucket, key)
        JOIN core.bucket b ON b.uri = r.bucket COLLATE "C"
        JOIN core.photo p ON p.bucket_id = b.bucket_id AND p.key = r.key COLLATE "C"
        WHERE p.gone_at IS NULL ORDER BY p.photo_id FOR NO KEY UPDATE OF p) missing
    WHERE p.photo_id = missing.photo_id RETURNING p.photo_id)
INSERT INTO forgotten SELECT photo_id FROM gone"""


def subtract(connection: Connection, lease: Lease, removed: Sequence[Removed]) -> int:
    """Take objects that are gone out of the ledger's present and out of the totals; returns how many photos they were.

    Raises:
        LeaseLost: someone else lists this range now; nothing is written.
    """
    work.RANGES.confirm(connection, lease)
    ensure_delta(connection)
    connection.execute(text("CREATE TEMP TABLE IF NOT EXISTS forgotten (photo_id bigint) ON COMMIT DELETE ROWS"))
    values = {"buckets": [each.bucket for each in removed], "keys": [each.key for each in removed]}
    gone = connection.execute(text(_REMOVE), values).rowcount
    collect_forgotten(connection)
    changed = apply_delta(connection)
    connection.execute(
        text("UPDATE core.job SET subtracted = subtracted + :n WHERE job_id = :job"), {"n": gone, "job": lease.job_id}
    )
    touch(connection, changed)
    return gone


_FORGET = """
DELETE FROM core.{table} e USING core.photo p JOIN core.bucket b USING (bucket_id)
WHERE p.photo_id = ANY (CAST(:photos AS bigint[])) AND e.bucket = b.uri AND e.key = p.key"""


def forget(connection: Connection, photo_ids: Sequence[int]) -> int:
    """Delete what events told of these photos, which are about to be erased; returns how many rows those were."""
    values = {"photos": list(photo_ids)}
    return sum(
        connection.execute(text(_FORGET.format(table=table)), values).rowcount
        for table in ("job_entry", "object_event")
    )
