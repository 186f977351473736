"""The circuit breaker of a model that does not work on a machine.

Theory of operation
    closed ──cannot load, wrong canaries, device lost──▶ open ──next_attempt_at──▶ who waited tries
       ▲                                                  ▲                            │      │
       └──────────────────── it works: the row is deleted ┼────────────────────────────┘      │
                                                          └── it fails: a longer pause ───────┘

    While it is open no process of that queue and machine is on the list of workers, so nobody rings for it: what is
    queued stays queued, for other machines or for later.

Laws
1. The row is the state. One line is logged when it appears and one when it goes, however many processes come and go.
2. A model that does not work is nobody's fault: leases are released, no shard, photo or job is blamed.
3. A photo may break the device each time, and then every process after it finds the device well. So a lost device
   leaves a *suspicion* on the shards that were in hand. If the next process on that machine finds the device broken,
   they are acquitted. If it finds the device well, the suspicion counts as a death: the shard runs alone from then on,
   is split at the second, and a photo alone is quarantined after two of its own (`pipeline.ledger.redrive`). So the
   loop ends after about 2 log2(photos) lost devices, and a device that fails by itself costs no photo anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.records import Lease, WorkState

FIRST_PAUSE_SECONDS = 5.0  # after the first failure; doubled by each further one
LONGEST_PAUSE_SECONDS = 600.0
MOST_DOUBLINGS = 20  # more would only overflow

_OPEN_SHARDS = f"({WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED})"

# A pause is between half and all of what it may be, so that the machines of a site do not try in step.
_PAUSE = "make_interval(secs => (0.5 + random() / 2) * least(:longest, :first * 2.0 ^ least({k}, :doublings)))"

_FAIL = f"""
INSERT INTO core.breaker AS b (queue, host, failures, next_attempt_at, reason)
VALUES (:queue, :host, 1, clock_timestamp() + {_PAUSE.format(k=0)}, :reason)
ON CONFLICT (queue, host) DO UPDATE SET failures = b.failures + 1, reason = EXCLUDED.reason,
    next_attempt_at = clock_timestamp() + {_PAUSE.format(k="b.failures")}
RETURNING old.failures IS NULL, new.failures, new.next_attempt_at, new.reason"""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A breaker after a failure."""

    newly: bool  # it was closed before
    failures: int
    next_attempt_at: datetime
    reason: str


def fail(
    connection: Connection, queue: str, host: str, reason: str, first_seconds: float = FIRST_PAUSE_SECONDS
) -> Opened:
    """The model did not work there: nobody tries again before a pause, longer each time."""
    values = {"queue": queue, "host": host, "reason": reason, "first": first_seconds}
    bounds = {"longest": LONGEST_PAUSE_SECONDS, "doublings": MOST_DOUBLINGS}
    newly, failures, moment, said = connection.execute(text(_FAIL), values | bounds).one()
    return Opened(newly=newly, failures=failures, next_attempt_at=moment, reason=said)


def pause_seconds(connection: Connection, queue: str, host: str) -> float:
    """How long nobody may try; 0 where the breaker is closed or its pause is over."""
    query = """SELECT extract(epoch FROM next_attempt_at - clock_timestamp())::float FROM core.breaker
               WHERE queue = :queue AND host = :host"""
    left: float | None = connection.execute(text(query), {"queue": queue, "host": host}).scalar()
    return max(0.0, left or 0.0)


def reason(connection: Connection, queue: str, host: str) -> str | None:
    """Why the breaker is open; None where it is closed."""
    query = "SELECT reason FROM core.breaker WHERE queue = :queue AND host = :host"
    found: str | None = connection.execute(text(query), {"queue": queue, "host": host}).scalar()
    return found


def close(connection: Connection, queue: str, host: str) -> bool:
    """The model works there; whether the breaker was open."""
    query = "DELETE FROM core.breaker WHERE queue = :queue AND host = :host"
    return connection.execute(text(query), {"queue": queue, "host": host}).rowcount > 0


_SUSPECT = f"""
UPDATE core.shard w SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL, next_attempt_at = NULL,
       suspicions = array_append(array_remove(suspicions, :by), :by), alone = true
FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS bigint[])) AS l(id, epoch)
WHERE w.shard_id = l.id AND w.lease_epoch = l.epoch AND w.state = {WorkState.LEASED}"""


def release_suspects(connection: Connection, leases: Sequence[Lease], queue: str, host: str) -> None:
    """Hand shards back whose photos were in hand when the device was lost: nobody is blamed yet (law 3)."""
    ids, epochs = [lease.work_id for lease in leases], [lease.epoch for lease in leases]
    connection.execute(text(_SUSPECT), {"ids": ids, "epochs": epochs, "by": _accuser(queue, host)})


def acquit(connection: Connection, queue: str, host: str) -> int:
    """The device there is broken whatever it is given; returns how many shards are no suspects of it any more."""
    query = f"""UPDATE core.shard SET suspicions = array_remove(suspicions, :by)
                WHERE :by = ANY (suspicions) AND state IN {_OPEN_SHARDS}"""
    return connection.execute(text(query), {"by": _accuser(queue, host)}).rowcount


def convict(connection: Connection, queue: str, host: str) -> int:
    """The device there is well: what it was lost over counts as a death of each suspect. Returns how many."""
    query = f"""UPDATE core.shard SET suspicions = array_remove(suspicions, :by), deaths = deaths + 1,
                    dead_workers = array_append(dead_workers, :by)
                WHERE :by = ANY (suspicions) AND state IN {_OPEN_SHARDS}"""
    return connection.execute(text(query), {"by": _accuser(queue, host)}).rowcount


def _accuser(queue: str, host: str) -> str:
    return f"{queue}@{host}"
