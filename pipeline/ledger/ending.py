"""How jobs end: done, failed, given up as hopeless, or cancelled.

Theory of operation
    running ──nothing open──▶ succeeded | succeeded_with_errors
       └────cancel, fail────▶ cancelling ──wind_up, batch by batch──▶ cancelled | failed (if there is an error)

Laws
1. From the commit that says *cancelling* on nothing of the job is claimed, published or gathered.
2. What is leased is taken from its holder at once: its heart finds the lease gone and its stream drops what is not yet
   with the model. A photo that a merge brings before its batch is wound up has ended as it did; one that comes later
   is stored all the same (it is right, whoever asked for it) and counts as cancelled.
3. Every batch moves photos and their counts in one transaction, under the locks of the items; whoever is killed leaves
   the rest to the next redriver. A job ends once a look that began after all that finds nothing open.
4. Ending twice is ending once; what has ended stays as it ended.
"""

from collections.abc import Mapping
from functools import partial

from sqlalchemy import Connection, text

from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job
from pipeline.records import Code, ItemState, JobState, WorkState
from pipeline.store.session import Database
from pipeline.store.tally import apply_tally, ensure_tally

SHARDS_AT_ONCE = 20  # at most 10,000 photos
WAITING_AT_ONCE = 10_000  # photos that wait for another try
ROUNDS_AT_ONCE = 20  # batches by one process before it looks at something else: 200,000 photos
ROUNDS_OF_FAILURE = 3  # batches in the transaction that finds that a job cannot go on
FEWEST_TRIED = 100  # photos, before a share says anything

_OPEN_WORK = f"{WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED}"
_OPEN_ITEMS = f"{ItemState.PENDING}, {ItemState.RETRY}"


# ---- done

_FINISH_JOBS = f"""
UPDATE core.job j SET finished_at = now(), state = CASE
    WHEN EXISTS (SELECT FROM core.job_count c WHERE c.job_id = j.job_id AND c.state = {ItemState.FAILED}
                 AND c.photos > 0) THEN {JobState.SUCCEEDED_WITH_ERRORS} ELSE {JobState.SUCCEEDED} END
FROM (SELECT job_id FROM core.job WHERE state = {JobState.RUNNING} ORDER BY 1 FOR UPDATE SKIP LOCKED) running
WHERE j.job_id = running.job_id
  AND NOT EXISTS (SELECT FROM core.list_range r WHERE r.job_id = j.job_id AND r.state <> {WorkState.DONE})
  AND NOT EXISTS (SELECT FROM core.shard s WHERE s.job_id = j.job_id AND s.state IN ({_OPEN_WORK}))
  AND NOT EXISTS (SELECT FROM core.job_count c WHERE c.job_id = j.job_id
                  AND c.state IN ({_OPEN_ITEMS}) AND c.photos > 0)
RETURNING j.job_id"""


def finish_jobs(connection: Connection) -> list[int]:
    """End the jobs whose listing is complete and whose shards and photos are all in a terminal state."""
    return sorted(connection.execute(text(_FINISH_JOBS)).scalars())


# ---- given up and cancelled

_GIVE_UP = f"""
UPDATE core.job SET state = {JobState.CANCELLING}, error = :error, cancelled_by = :by,
    paused_by = NULL, paused_at = NULL, pause_reason = NULL, pause_until = NULL
WHERE job_id = :job AND state < {JobState.CANCELLING}"""


def fail(connection: Connection, job_id: int, error: str) -> None:
    """End a job that cannot go on; its open photos become `cancelled`, what is done stays.

    A large one is ended batch by batch, by the redrivers. A job that has ended stays as it ended, and one that is being
    cancelled is cancelled. Who acts on a lease confirms it first, in the same transaction.
    """
    if connection.execute(text(_GIVE_UP), {"job": job_id, "error": error, "by": None}).rowcount:
        any(wind_up(connection, job_id) for _ in range(ROUNDS_OF_FAILURE))


def cancel(connection: Connection, job_id: int, by: str) -> bool:
    """Give out nothing more of a job, for good; `wind_up` ends it. False: it is ending already.

    Raises:
        ConfigurationError: there is no such job, or it has ended.
    """
    jobs.refuse_ended(connection, job_id, "cancelled")
    return bool(connection.execute(text(_GIVE_UP), {"job": job_id, "error": None, "by": by}).rowcount)


def ending(connection: Connection) -> list[int]:
    """The jobs that are to be wound up."""
    query = f"SELECT job_id FROM core.job WHERE state = {JobState.CANCELLING} ORDER BY 1"
    return list(connection.execute(text(query)).scalars())


def wind_up_all(database: Database) -> list[int]:
    """Go on with every job that is ending, each batch a transaction of its own; returns those that have ended now."""
    over = []
    for job_id in database.run(ending):
        if any(database.run(partial(wind_up, job_id=job_id)) for _ in range(ROUNDS_AT_ONCE)):
            over.append(job_id)
    return over


_CANCELLED_WORK = f"state = {WorkState.CANCELLED}, lease_owner = NULL, lease_until = NULL"
_CANCEL_RANGES = text(f"UPDATE core.list_range SET {_CANCELLED_WORK} WHERE job_id = :job AND state IN ({_OPEN_WORK})")
_OPEN_SHARDS = text(f"""
SELECT shard_id FROM core.shard WHERE job_id = :job AND state IN ({_OPEN_WORK}) ORDER BY 1 LIMIT {SHARDS_AT_ONCE}""")
_CANCEL_SHARDS = text(f"""
UPDATE core.shard s SET {_CANCELLED_WORK}
FROM (SELECT shard_id FROM core.shard WHERE shard_id = ANY (:shards) AND state IN ({_OPEN_WORK})
      ORDER BY 1 FOR NO KEY UPDATE) mine WHERE s.shard_id = mine.shard_id""")

# The merge's lock order: items before their counts before the shards.
_CANCEL_ITEMS = f"""
WITH mine AS (
    SELECT photo_id FROM core.job_item WHERE job_id = :job AND {{which}} FOR NO KEY UPDATE
), moved AS (
    UPDATE core.job_item i SET state = {ItemState.CANCELLED}, code = {Code.NONE}, next_attempt_at = NULL
    FROM mine WHERE i.job_id = :job AND i.photo_id = mine.photo_id RETURNING old.state AS was, old.code AS code)
INSERT INTO tally SELECT :job, was, code, -count(*) FROM moved GROUP BY 2, 3
UNION ALL SELECT :job, {ItemState.CANCELLED}, {Code.NONE}, count(*) FROM moved HAVING count(*) > 0"""
_OF_SHARDS = f"shard_id = ANY (:shards) AND state = {ItemState.PENDING} ORDER BY photo_id"
_THAT_WAIT = f"state = {ItemState.RETRY} ORDER BY photo_id LIMIT {WAITING_AT_ONCE}"

# Whatever is left although no shard holds it and nothing waits: of a ledger that was damaged.
_STRAY = f"state IN ({_OPEN_ITEMS}) ORDER BY photo_id LIMIT {WAITING_AT_ONCE}"

_STILL_OPEN = text(f"""
SELECT EXISTS (SELECT FROM core.shard WHERE job_id = :job AND state IN ({_OPEN_WORK}))
    OR EXISTS (SELECT FROM core.list_range WHERE job_id = :job AND state IN ({_OPEN_WORK}))
    OR (EXISTS (SELECT FROM core.job_count WHERE job_id = :job AND state IN ({_OPEN_ITEMS}) AND photos > 0)
        AND EXISTS (SELECT FROM core.job_item WHERE job_id = :job AND state IN ({_OPEN_ITEMS})))""")
_END = text(f"""
UPDATE core.job SET finished_at = now(),
    state = CASE WHEN error IS NULL THEN {JobState.CANCELLED} ELSE {JobState.FAILED} END
WHERE job_id = :job AND state = {JobState.CANCELLING}""")


def wind_up(connection: Connection, job_id: int) -> bool:
    """Cancel the next batch of what is open in a job that is ending; whether it has ended."""
    query = text("SELECT state FROM core.job WHERE job_id = :job FOR NO KEY UPDATE")
    if connection.execute(query, {"job": job_id}).scalar_one() != JobState.CANCELLING:
        return True
    connection.execute(_CANCEL_RANGES, {"job": job_id})  # first: a page that is being written is waited for
    shards = list(connection.execute(_OPEN_SHARDS, {"job": job_id}).scalars())
    if shards:
        _cancel_items(connection, job_id, _OF_SHARDS, shards=shards)
        connection.execute(_CANCEL_SHARDS, {"shards": shards})
        if len(shards) == SHARDS_AT_ONCE:
            return False
    if _cancel_items(connection, job_id, _THAT_WAIT) == WAITING_AT_ONCE:
        return False
    if connection.execute(_STILL_OPEN, {"job": job_id}).scalar_one():
        if not connection.execute(_OPEN_SHARDS, {"job": job_id}).first():
            _cancel_items(connection, job_id, _STRAY)
        return False
    connection.execute(text("DELETE FROM core.job_missing WHERE job_id = :job"), {"job": job_id})
    connection.execute(_END, {"job": job_id})
    return True


def _cancel_items(connection: Connection, job_id: int, which: str, **values: list[int]) -> int:
    """How many photos became cancelled, and are counted so."""
    ensure_tally(connection)
    connection.execute(text(_CANCEL_ITEMS.format(which=which)), {"job": job_id, **values})
    return apply_tally(connection).get((ItemState.CANCELLED, Code.NONE), 0)


# ---- hopeless


def is_hopeless(succeeded: int, failed: int, most_failed_share: float) -> bool:
    """Whether more than the allowed share of the photos that were tried has failed; no few photos decide."""
    tried = succeeded + failed
    return tried >= FEWEST_TRIED and failed / tried > most_failed_share


_DOUBTED = text(f"""
SELECT j.job_id, j.most_failed_share AS most,
       coalesce(sum(c.photos) FILTER (WHERE c.state = {ItemState.SUCCEEDED}
                                      OR c.code = {Code.SAME_CONTENT}), 0)::bigint AS succeeded,
       coalesce(sum(c.photos) FILTER (WHERE c.state = {ItemState.FAILED}), 0)::bigint AS failed
FROM core.job j JOIN core.job_count c USING (job_id)
WHERE j.state = {JobState.RUNNING} AND j.most_failed_share IS NOT NULL GROUP BY 1, 2 ORDER BY 1""")


def fail_hopeless(connection: Connection) -> list[int]:
    """Fail the jobs of which too large a share has failed; returns them."""
    found = [row for row in connection.execute(_DOUBTED) if is_hopeless(row.succeeded, row.failed, row.most)]
    for row in found:
        fail(connection, row.job_id, hopeless(jobs.find(connection, row.job_id)))
    return [row.job_id for row in found]


def hopeless(job: Job) -> str:
    """Why a job of which too large a share has failed was stopped, and what to do."""
    failed = job.count(ItemState.FAILED)
    share = failed / max(1, failed + job.tagged)
    most = job.most_failed_share or 0.0
    return (
        f"{share:.1%} of the photos that were tried failed ({failed:,}), and at most {most:.1%} may; "
        f"{_commonest(job.by_code(ItemState.FAILED))}. See `pictograph jobs show {job.job_id}`, mend the cause, and "
        "run the job again: what is done is not done twice."
    )


def _commonest(reasons: Mapping[Code, int]) -> str:
    code, photos = next(iter(reasons.items()), (Code.NONE, 0))
    return f"the commonest reason is {code.name.lower().replace('_', ' ')} ({photos:,})"
