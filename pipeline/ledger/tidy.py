"""Old jobs: what they did with each photo and line is deleted some time after their end; what they did in sum stays.

Theory of operation
    A redriver takes the job that ended first of those that are old, and deletes a batch of its items, lines and
    entries, tick after tick, until none is left. Where nothing is old, it asks an index and is done.

Laws
1. The transaction that deletes a job's first row says so in `tidying_at`; from it on nobody compares what is left with
   the counts, writes results of it, or tries its failures again.
2. The job, its counts and its deliveries stay, and so does every photo with its result and its totals.
3. A job whose results are still to be delivered, or whose failures another job is selecting, is not begun.
4. A batch is one transaction under the job's lock, which others skip: whoever is killed leaves the rest to the next.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.ledger.selection import JOB, KIND
from pipeline.records import JobState, WorkState

ROWS_AT_ONCE = 10_000  # a fifth of a second, or so

_OLD = f"""
FROM core.job j WHERE tidied_at IS NULL AND finished_at < now() - make_interval(days => :days)
AND (tidying_at IS NOT NULL OR NOT EXISTS (
         SELECT FROM core.delivery d WHERE d.job_id = j.job_id
         AND d.state IN ({WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED}))
     AND NOT EXISTS (
         SELECT FROM core.job r WHERE r.kind = '{KIND}' AND r.source = '{JOB}:' || j.job_id
         AND r.state < {JobState.SUCCEEDED}))"""
_NEXT = text(f"SELECT job_id {_OLD} ORDER BY finished_at, job_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED")
_BEGIN = text("UPDATE core.job SET tidying_at = now() WHERE job_id = :job AND tidying_at IS NULL")
_END = text("UPDATE core.job SET tidied_at = now() WHERE job_id = :job")

#: By their keys in a job, in whose order they are deleted.
_ROWS = {"core.job_line": "line", "core.job_entry": "line", "core.job_item": "photo_id"}
_DELETE = """
DELETE FROM {table} WHERE job_id = :job AND {key} <= (
    SELECT max({key}) FROM (SELECT {key} FROM {table} WHERE job_id = :job ORDER BY {key} LIMIT :rows) AS first)"""


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """A batch of an old job that was deleted."""

    job_id: int
    rows: int
    done: bool  # nothing is left of it


def is_due(connection: Connection, keep_days: int) -> bool:
    """Whether something of a job is left that ended more than `keep_days` ago."""
    due: bool = connection.execute(text(f"SELECT EXISTS (SELECT {_OLD})"), {"days": keep_days}).scalar_one()
    return due


def tidy_next(connection: Connection, keep_days: int, rows: int = ROWS_AT_ONCE) -> Tidied | None:
    """Delete up to `rows` rows of the job that ended first of those that are old; None: there is none for us."""
    job_id: int | None = connection.execute(_NEXT, {"days": keep_days}).scalar()
    if job_id is None:
        return None
    connection.execute(_BEGIN, {"job": job_id})
    deleted = 0
    for table, key in _ROWS.items():
        if deleted < rows:
            values = {"job": job_id, "rows": rows - deleted}
            deleted += connection.execute(text(_DELETE.format(table=table, key=key)), values).rowcount
    if deleted < rows:
        connection.execute(_END, {"job": job_id})
    return Tidied(job_id=job_id, rows=deleted, done=deleted < rows)
