"""What is rung for: the messages that the ledger has room for, foremost work first.

None of this talks to the broker: `publishable` commits first, its caller sends afterwards. A crash in between costs the
stale time. Every function is safe to run in any number of processes at once (SKIP LOCKED).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.ledger import limits, roster
from pipeline.ledger.limits import INGEST_QUEUE, Use, annotate_queue
from pipeline.records import JobState, WorkState

WINDOW_PER_WORKER = 2  # messages in flight per living worker; the backlog stays in Postgres

__all__ = ["INGEST_QUEUE", "WINDOW_PER_WORKER", "Doorbell", "annotate_queue", "publishable", "take_back", "unqueue"]


@dataclass(frozen=True, kw_only=True)
class Doorbell:
    """A message to send: "start here"."""

    kind: str  # "annotate" or "ingest"
    queue: str
    work_id: int


# Chosen once, whatever the plan: joined as a subquery it might be asked again, and then pass over the rows that it has
# locked before and take more than there is room for. RETURNING keeps no order, so what is foremost is said again.
_PUBLISH_SHARDS = f"""
WITH chosen AS MATERIALIZED (
    SELECT shard_id FROM core.shard JOIN core.job j USING (job_id)
    WHERE core.shard.state = {WorkState.PENDING} AND core.shard.model_id = :model
      AND (next_attempt_at IS NULL OR next_attempt_at <= now()) AND j.state = {JobState.RUNNING}
    ORDER BY core.shard.priority DESC, core.shard.alone DESC, shard_id LIMIT :room
    FOR UPDATE OF shard SKIP LOCKED
), rung AS (
    UPDATE core.shard s SET state = {WorkState.QUEUED}, published_at = clock_timestamp() FROM chosen
    WHERE s.shard_id = chosen.shard_id RETURNING s.shard_id, s.priority, s.alone
) SELECT shard_id FROM rung ORDER BY priority DESC, alone DESC, shard_id"""

_PUBLISH_RANGES = f"""
WITH chosen AS MATERIALIZED (
    SELECT range_id, j.priority FROM core.list_range JOIN core.job j USING (job_id)
    WHERE core.list_range.state = {WorkState.PENDING} AND (next_attempt_at IS NULL OR next_attempt_at <= now())
      AND j.state IN ({JobState.CREATED}, {JobState.RUNNING})
    ORDER BY j.priority DESC, range_id LIMIT :room FOR UPDATE OF list_range SKIP LOCKED
), rung AS (
    UPDATE core.list_range r SET state = {WorkState.QUEUED}, published_at = clock_timestamp() FROM chosen
    WHERE r.range_id = chosen.range_id RETURNING r.range_id, chosen.priority
) SELECT range_id FROM rung ORDER BY priority DESC, range_id"""


def publishable(connection: Connection) -> list[Doorbell]:
    """Mark as queued what there is room for, foremost first, and return the messages to send after the commit."""
    most = limits.standing(connection)
    use = limits.in_use(connection)
    room = min(_window(connection, INGEST_QUEUE, use), limits.room(most, use, INGEST_QUEUE))
    ranges = list(connection.execute(text(_PUBLISH_RANGES), {"room": max(0, room)}).scalars())  # first: they are few
    bells: list[Doorbell] = []
    models = connection.execute(text("SELECT model_id, name FROM core.model ORDER BY 1")).all()
    for model_id, name in models:
        queue = annotate_queue(name)
        room = min(_window(connection, queue, use), limits.room(most, use, queue, ahead=len(bells) + len(ranges)))
        ids = connection.execute(text(_PUBLISH_SHARDS), {"model": model_id, "room": max(0, room)}).scalars()
        bells += [Doorbell(kind="annotate", queue=queue, work_id=work_id) for work_id in ids]
    return bells + [Doorbell(kind="ingest", queue=INGEST_QUEUE, work_id=work_id) for work_id in ranges]


def _window(connection: Connection, queue: str, use: dict[str, Use]) -> int:
    """How many messages may be sent to a queue: none where no worker listens, each would only grow stale."""
    return WINDOW_PER_WORKER * roster.living(connection, queue) - use.get(queue, Use()).queued


def take_back(connection: Connection, bells: Sequence[Doorbell]) -> None:
    """These messages could not be sent: the work is pending again, for whoever looks for more."""
    for kind, table, key in (("annotate", "core.shard", "shard_id"), ("ingest", "core.list_range", "range_id")):
        connection.execute(
            text(
                f"""UPDATE {table} SET state = {WorkState.PENDING}
                    WHERE {key} = ANY (CAST(:ids AS bigint[])) AND state = {WorkState.QUEUED}"""
            ),
            {"ids": [bell.work_id for bell in bells if bell.kind == kind]},
        )


def unqueue(connection: Connection, older_than_seconds: float) -> int:
    """Take back messages that nobody answered: lost ones, or (0 s) all of them when the broker was wiped."""
    total = 0
    for table in ("core.shard", "core.list_range"):
        result = connection.execute(
            text(f"""UPDATE {table} SET state = {WorkState.PENDING}
                     WHERE state = {WorkState.QUEUED}
                       AND published_at <= clock_timestamp() - make_interval(secs => :age)"""),
            {"age": older_than_seconds},
        )
        total += result.rowcount
    return total
