"""What every page has in common, whether a place was listed or the ledger itself: a checkpoint, items, shards, counts.

A page fills the temporary table `met`, one row per photo: whether it is due (`pipeline.ledger.due`), and whether it
must be worked on alone.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from pipeline.errors import LeaseLost
from pipeline.ledger.cut import cut
from pipeline.ledger.jobs import Job
from pipeline.ledger.redrive import create_shard
from pipeline.records import Code, ItemState, Lease, WorkState
from pipeline.store.tally import apply_tally, ensure_tally

MET = "photo_id bigint, user_id bigint, due boolean, dangerous boolean"

_CHECKPOINT = f"""
UPDATE core.list_range SET cursor = :cursor, listed = listed + :listed, deaths = 0
WHERE range_id = :id AND lease_epoch = :epoch AND state = {WorkState.LEASED} RETURNING old.listed"""

# A photo that the job has met before has its item already: it came twice.
_ITEMS = f"""
WITH new AS (
    INSERT INTO core.job_item (job_id, photo_id, state) SELECT :job, photo_id, {ItemState.PENDING} FROM met WHERE due
    ORDER BY photo_id ON CONFLICT DO NOTHING RETURNING photo_id)
SELECT m.photo_id, m.user_id, m.dangerous FROM new JOIN met m USING (photo_id)"""


def create_met(connection: Connection) -> None:
    """Make sure that the temporary table `met` is there. It is created once per connection and emptied at commit."""
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS met ({MET}) ON COMMIT DELETE ROWS"))


def checkpoint(connection: Connection, lease: Lease, cursor: str, listed: int) -> int:
    """Move a range's cursor on, past so many entries; returns how many there were before.

    Raises:
        LeaseLost: someone else lists this range now; nothing is written.
    """
    values = {"cursor": cursor, "listed": listed, "id": lease.work_id, "epoch": lease.epoch}
    before: int | None = connection.execute(text(_CHECKPOINT), values).scalar()
    if before is None:
        raise LeaseLost(f"Range {lease.work_id} is listed by another worker now.")
    return before


def make_items(connection: Connection, job: Job, shard_photos: int) -> list[int]:
    """Items and shards for what is due in `met` and new to the job; returns its photo ids."""
    new = connection.execute(text(_ITEMS), {"job": job.job_id}).all()
    for piece in cut([(row.photo_id, row.user_id) for row in new if not row.dangerous], shard_photos):
        create_shard(connection, job.job_id, job.model_id, job.priority, piece)
    for row in new:
        if row.dangerous:
            create_shard(connection, job.job_id, job.model_id, job.priority, [row.photo_id], alone=True)
    return [row.photo_id for row in new]


def unchanged(connection: Connection) -> int:
    """Photos in `met` that are not due."""
    found: int = connection.execute(text("SELECT count(*) FROM met WHERE NOT due")).scalar_one()
    return found


def add_counts(connection: Connection, job_id: int, counts: Mapping[tuple[ItemState, Code], int]) -> None:
    """Add what a page was to the job's counts."""
    ensure_tally(connection)
    tally = [{"job": job_id, "state": int(state), "code": int(code), "n": n} for (state, code), n in counts.items()]
    if tally := [row for row in tally if row["n"]]:
        connection.execute(text("INSERT INTO tally VALUES (:job, :state, :code, :n)"), tally)
    apply_tally(connection)
