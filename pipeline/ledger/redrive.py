"""What the redriver decides: whose lease has ended, what a death means, and which photos are tried again.

Every function is one transaction's worth of SQL and safe to run in any number of processes at once (SKIP LOCKED).
Expired shards are locked before their items, against the merge's order; should a zombie's merge cross it, Postgres ends
one of the two and `Database.run` repeats it. What is rung for is `pipeline.ledger.publish`, which job is over
`pipeline.ledger.ending`, what an operator ordered `pipeline.ledger.control`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, text

from pipeline.crashpoints import Point, reached
from pipeline.ledger import ending, roster, work
from pipeline.ledger.cut import cut
from pipeline.records import Code, ItemState, JobState, Lease, PhotoResult, WorkState
from pipeline.store.merge import merge
from pipeline.store.tally import apply_tally, ensure_tally

DEATHS_ALLOWED = 2  # at the second, a shard is split; a photo alone is quarantined
LISTING_DEATHS_ALLOWED = 5  # in a row, without a page written in between
FAILURES_ALLOWED = 5  # of a shard in a row, by errors that no photo explains; then its job fails
BATCH = 500


class Verdict(StrEnum):
    """What becomes of a shard after a death."""

    AGAIN = "again"
    SPLIT = "split"
    QUARANTINE = "quarantine"


def judge(deaths: int, photos: int, still_open: int) -> tuple[Verdict, int]:
    """What becomes of a shard that has just had a death, and how many deaths count from now on.

    Args:
        deaths: before this one.
        photos: of the shard, open at the death before, or when it was made.
        still_open: of them, now.

    Deaths before are forgiven once half of the photos that were open then are done: what killed is not likely to be
    left, and if it is, it has been cornered as by a split. So random deaths of workers that get things done lead
    nowhere, while one photo among n that kills is alone after at most 2 log2(n) deaths, and quarantined two later.
    """
    counted = (0 if 2 * still_open <= photos else deaths) + 1
    if counted < DEATHS_ALLOWED:
        return Verdict.AGAIN, counted
    return (Verdict.SPLIT if still_open > 1 else Verdict.QUARANTINE), counted


# Who lives but renews nothing is stuck, not dead. Who took himself off the list stopped in good order. Who falls silent
# while Postgres itself is being restarted has not died: nobody could renew a lease then.
_DIED = """coalesce(w.last_seen < clock_timestamp() - make_interval(secs => :silence)
                  AND pg_postmaster_start_time() < w.last_seen, false)"""

_EXPIRED = f"""
SELECT s.shard_id, s.job_id, s.model_id, s.lease_epoch, s.lease_owner, s.photos, s.deaths,
       s.lease_started AND {_DIED} AS died
FROM core.shard s LEFT JOIN core.worker w ON w.worker_id = s.lease_owner
WHERE s.state = {WorkState.LEASED} AND s.lease_until < clock_timestamp()
ORDER BY s.shard_id LIMIT {BATCH} FOR UPDATE OF s SKIP LOCKED"""

# Whose deaths became too many while nobody held it: a device was found well after all (`pipeline.ledger.breaker`).
_CONDEMNED = f"""
SELECT shard_id, job_id, model_id, lease_epoch, NULL AS lease_owner, photos, deaths - 1 AS deaths, true AS died
FROM core.shard WHERE deaths >= {DEATHS_ALLOWED} AND state IN (0, 1)
ORDER BY shard_id LIMIT {BATCH} FOR UPDATE SKIP LOCKED"""


def expire_shards(connection: Connection, shard_photos: int, lease_seconds: float) -> dict[str, int]:
    """End leases that have run out; count deaths, split and quarantine. Returns how many of each.

    `lease_seconds` is what the workers claim for: their hearts beat in its rhythm.
    """
    done = {"expired": 0, "deaths": 0, "splits": 0, "quarantined": 0}
    doomed: dict[int, list[Lease]] = {}
    expired = connection.execute(text(_EXPIRED), {"silence": roster.silence_seconds(lease_seconds)}).all()
    for row in [*expired, *connection.execute(text(_CONDEMNED)).all()]:
        done["expired"] += row.lease_owner is not None
        done["deaths"] += row.died and row.lease_owner is not None
        verdict = _sentence(connection, row, shard_photos) if row.died else _let_go(connection, row.shard_id)
        done["splits"] += verdict is Verdict.SPLIT
        if verdict is Verdict.QUARANTINE:
            lease = Lease(work_id=row.shard_id, job_id=row.job_id, epoch=row.lease_epoch)
            doomed.setdefault(row.model_id, []).append(lease)
        reached(Point.REDRIVE_AFTER_UPDATE)
    for model_id, leases in doomed.items():
        done["quarantined"] += _quarantine(connection, model_id, leases)
    return done


def _let_go(connection: Connection, shard_id: int) -> Verdict:
    """Nobody died: whoever comes next may have it."""
    connection.execute(
        text(f"""UPDATE core.shard SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL
                 WHERE shard_id = :id"""),
        {"id": shard_id},
    )
    return Verdict.AGAIN


def _sentence(connection: Connection, row: Row[Any], shard_photos: int) -> Verdict:
    """Count a death of this shard, and split it if it was one too many."""
    still_open: int = connection.execute(
        text(f"SELECT count(*) FROM core.job_item WHERE shard_id = :id AND state = {ItemState.PENDING}"),
        {"id": row.shard_id},
    ).scalar_one()
    verdict, counted = judge(row.deaths, row.photos, still_open)
    if verdict is Verdict.AGAIN:
        values = {"id": row.shard_id, "deaths": counted, "anew": counted == 1, "open": still_open}
        connection.execute(text(_DIED_AGAIN), values | {"by": row.lease_owner})
    elif verdict is Verdict.SPLIT:
        _split(connection, row.shard_id, shard_photos)
    else:  # the merge that sets its photo aside finishes what is leased
        connection.execute(
            text(f"UPDATE core.shard SET state = {WorkState.LEASED} WHERE shard_id = :id"), {"id": row.shard_id}
        )
    return verdict


_DIED_AGAIN = f"""
UPDATE core.shard SET state = {WorkState.PENDING}, deaths = :deaths, photos = greatest(1, CAST(:open AS int)),
    lease_owner = NULL, lease_until = NULL, alone = true,
    dead_workers = array_cat(CASE WHEN :anew THEN CAST('{{}}' AS text[]) ELSE dead_workers END,
                             array_remove(ARRAY[CAST(:by AS text)], NULL))
WHERE shard_id = :id"""


def give_up_failing(connection: Connection, lease: Lease, error: str) -> bool:
    """Hand a shard back after an error that no photo explains; at the fifth in a row its job fails. Whether it does."""
    failures = work.release_failed(connection, lease, error)
    if failures < FAILURES_ALLOWED:
        return False
    ending.fail(
        connection,
        lease.job_id,
        f"The work on shard {lease.work_id} failed {failures} times in a row ({error}); see the annotate worker's log, "
        "then run the job again.",
    )
    return True


def _split(connection: Connection, shard_id: int, size: int) -> None:
    photos = connection.execute(
        text(f"""SELECT i.photo_id, p.user_id FROM core.job_item i JOIN core.photo p USING (photo_id)
                 WHERE i.shard_id = :id AND i.state = {ItemState.PENDING}"""),
        {"id": shard_id},
    ).all()
    connection.execute(
        text(f"""UPDATE core.shard SET state = {WorkState.SPLIT}, lease_owner = NULL, lease_until = NULL
                 WHERE shard_id = :id"""),
        {"id": shard_id},
    )
    half = max(1, min(size, (len(photos) + 1) // 2))
    ids = sorted((photo.photo_id, photo.user_id) for photo in photos)
    for piece in cut(ids, half):
        create_shard_like(connection, shard_id, piece)
        reached(Point.SPLIT_MID)


def create_shard_like(connection: Connection, shard_id: int, photo_ids: list[int]) -> None:
    """Give `photo_ids`, open items of the shard's job, a new shard like it, to run alone."""
    connection.execute(
        text(f"""WITH piece AS (
                   INSERT INTO core.shard (job_id, model_id, priority, photos, state, alone)
                   SELECT job_id, model_id, priority, :n, {WorkState.PENDING}, true FROM core.shard WHERE shard_id = :id
                   RETURNING shard_id, job_id)
                 UPDATE core.job_item i SET shard_id = piece.shard_id FROM piece
                 WHERE i.job_id = piece.job_id AND i.photo_id = ANY (:photos)"""),
        {"id": shard_id, "n": len(photo_ids), "photos": photo_ids},
    )


_QUARANTINED = "Ended the process that read it, twice; it is set aside until its bytes change."


def _quarantine(connection: Connection, model_id: int, leases: Sequence[Lease]) -> int:
    """Store for the one photo of each shard that nobody shall try it again; returns how many photos.

    It becomes a result like any other, so that the next job does not die of the same photo.
    """
    revision: int = connection.execute(
        text("SELECT max(revision) FROM core.decision WHERE model_id = :model"), {"model": model_id}
    ).scalar_one()
    results = [
        PhotoResult(task=task, state=ItemState.FAILED, code=Code.QUARANTINED, message=_QUARANTINED)
        for lease in leases
        for task in work.open_photos(connection, lease)
    ]
    merged = merge(
        connection, model_id=model_id, decision_rev=revision, results=results, leases=leases, patience_seconds=0
    )
    return merged.closed.get((ItemState.FAILED, Code.QUARANTINED), 0)


_EXPIRED_RANGES = f"""
UPDATE core.list_range r SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL,
       deaths = deaths + expired.died::int
FROM (SELECT r.range_id, {_DIED} AS died
      FROM core.list_range r LEFT JOIN core.worker w ON w.worker_id = r.lease_owner
      WHERE r.state = {WorkState.LEASED} AND r.lease_until < clock_timestamp()
      ORDER BY 1 FOR UPDATE OF r SKIP LOCKED) expired
WHERE r.range_id = expired.range_id RETURNING r.job_id, r.deaths, r.cursor"""


def expire_ranges(connection: Connection, lease_seconds: float) -> int:
    """Hand key ranges whose lease has run out back to the front; their checkpoints stand.

    A listing that ends its worker again and again at the same page would do so for ever: it fails its job. As with
    shards, only who fell silent has died.
    """
    silence = roster.silence_seconds(lease_seconds)
    expired = connection.execute(text(_EXPIRED_RANGES), {"silence": silence}).all()
    for row in expired:
        _give_up_if_hopeless(connection, row)
    return len(expired)


_LISTING_FAILED = f"""
UPDATE core.list_range r SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL, deaths = deaths + 1,
       next_attempt_at = now() + make_interval(secs => :pause * 2 ^ least(deaths, 10))
WHERE r.range_id = :id AND r.lease_epoch = :epoch AND r.state = {WorkState.LEASED}
RETURNING r.job_id, r.deaths, r.cursor"""


def give_up_listing(connection: Connection, lease: Lease, error: str) -> None:
    """Hand a range back after an error that no source explains; at the fifth at the same page its job fails."""
    values = {"id": lease.work_id, "epoch": lease.epoch, "pause": work.FAILURE_PAUSE_SECONDS}
    row = connection.execute(text(_LISTING_FAILED), values).first()
    if row is not None:
        _give_up_if_hopeless(connection, row, f" ({error})")


def _give_up_if_hopeless(connection: Connection, row: Row[Any], error: str = "") -> None:
    job_id, deaths, cursor = row.job_id, row.deaths, row.cursor
    if deaths >= LISTING_DEATHS_ALLOWED:
        place = f"after {cursor!r}" if cursor else "at its beginning"
        ending.fail(
            connection,
            job_id,
            f"The listing broke off {deaths} times {place}{error}; see the ingest worker's log, then run the job "
            "again.",
        )


_DUE_RETRIES = f"""
SELECT i.job_id, j.model_id, j.priority, i.photo_id, p.user_id
FROM core.job_item i JOIN core.job j USING (job_id) JOIN core.photo p USING (photo_id)
WHERE i.state = {ItemState.RETRY} AND i.next_attempt_at <= now() AND j.state = {JobState.RUNNING}
ORDER BY i.job_id, i.photo_id LIMIT 10000 FOR UPDATE OF i SKIP LOCKED"""


def gather_retries(connection: Connection, shard_photos: int) -> int:
    """Put photos whose waiting time is over into new shards. Returns how many photos."""
    rows = connection.execute(text(_DUE_RETRIES)).all()
    ensure_tally(connection)
    for job_id in sorted({row.job_id for row in rows}):
        mine = [row for row in rows if row.job_id == job_id]
        for piece in cut([(row.photo_id, row.user_id) for row in mine], shard_photos):
            create_shard(connection, job_id, mine[0].model_id, mine[0].priority, piece)
        connection.execute(
            text(
                f"""INSERT INTO tally VALUES (:job, {ItemState.RETRY}, 0, -(:n)), (:job, {ItemState.PENDING}, 0, :n)"""
            ),
            {"job": job_id, "n": len(mine)},
        )
    apply_tally(connection)
    return len(rows)


def create_shard(
    connection: Connection, job_id: int, model_id: int, priority: int, photo_ids: list[int], *, alone: bool = False
) -> None:
    """Create one pending shard and put these items of the job into it, as pending."""
    values = {"job": job_id, "model": model_id, "priority": priority, "n": len(photo_ids), "alone": alone}
    connection.execute(
        text(f"""WITH made AS (
                   INSERT INTO core.shard (job_id, model_id, priority, photos, state, alone)
                   VALUES (:job, :model, :priority, :n, {WorkState.PENDING}, :alone) RETURNING shard_id)
                 UPDATE core.job_item i SET shard_id = made.shard_id, state = {ItemState.PENDING}, code = 0
                 FROM made WHERE i.job_id = :job AND i.photo_id = ANY (:photos)"""),
        values | {"photos": photo_ids},
    )
