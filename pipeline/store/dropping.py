"""Dropping a model: its results and totals go, while merges of other models and erasures go on.

Theory of operation
    begin ──▶ drop_partition ──▶ delete_some, again and again ──▶ gone

    The first step is one transaction: from then on nobody submits a job for the model, and no audit counts it. Then the
    partition goes: a merge of the model that is still under way ends before it, or fails after it as a whole. So the
    totals, which go last and in batches, come from nobody any more. Whoever is killed in between runs it again.

Laws
1. Not the active model, and none with a job that has not ended.
2. Dropping a partition locks all results for a moment. It waits for that lock for a second, then lets the others pass
   and tries again: nobody queues up behind it for longer.
3. The model's row, its decisions and its promotions stay: they say what was shown when.
"""

import logging
import time
from collections.abc import Sequence

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.records import JobState
from pipeline.store import promotions
from pipeline.store.catalogue import partition_of
from pipeline.store.promotions import KnownModel
from pipeline.store.revisions import touch_model
from pipeline.store.session import Database

log = logging.getLogger(__name__)

LOCK_WAIT = "1s"
TRIES = 30
PAUSE_SECONDS = 0.5  # before the second try; each further one waits as much longer, up to ten times that
BATCH_ROWS = 20_000  # of totals; a transaction of well under a second

_TABLES = {
    "core.user_category": ("model_id", "user_id", "node"),
    "core.category_total": ("model_id", "node", "slot"),
    "core.shared_total": ("model_id", "node", "slot"),
}
_DROPPED = "EXISTS (SELECT FROM core.model WHERE model_id = :model AND dropped_at IS NOT NULL)"


def drop(database: Database, model: KnownModel) -> int:
    """Delete a model's results and totals, as the ledger's owner, or complete what was begun; returns rows of totals.

    Raises:
        ConfigurationError: it is active, a job of it has not ended, or the login does not own the tables.
        ServiceDown: others kept the results locked all the time; run it again.
    """
    database.run(lambda c: begin(c, model))
    if _jobs(database, model.model_id):  # one that was submitted in the very moment
        database.run(lambda c: _take_back(c, model.model_id))
        raise ConfigurationError(_busy(model, _jobs(database, model.model_id)))
    drop_partition(database, model.model_id)
    return sum(_delete(database, table, key, model.model_id) for table, key in _TABLES.items())


def begin(connection: Connection, model: KnownModel) -> None:
    """Say that the model is dropped, if it may be; if it is already, nothing changes."""
    promotions.lock(connection)
    active = promotions.active(connection)
    if active is not None and active.model_id == model.model_id:
        raise ConfigurationError(
            f"Model {model.label} is active: people see its results. Promote another one first, or roll back."
        )
    if open_jobs := unended(connection, model.model_id):
        raise ConfigurationError(_busy(model, open_jobs))
    dropped = connection.execute(
        text("UPDATE core.model SET dropped_at = now() WHERE model_id = :model AND dropped_at IS NULL"),
        {"model": model.model_id},
    )
    if dropped.rowcount:
        touch_model(connection, model.model_id)


def _busy(model: KnownModel, open_jobs: list[int]) -> str:
    numbers = ", ".join(map(str, open_jobs))
    return f"Model {model.label} has jobs that go on ({numbers}); let them end, or cancel them, and drop it then."


def _jobs(database: Database, model_id: int) -> list[int]:
    return database.run(lambda c: unended(c, model_id))


def unended(connection: Connection, model_id: int) -> list[int]:
    """The jobs of a model that have not ended; the first few."""
    query = f"SELECT job_id FROM core.job WHERE model_id = :model AND state < {JobState.SUCCEEDED} ORDER BY 1 LIMIT 5"
    return list(connection.execute(text(query), {"model": model_id}).scalars())


def _take_back(connection: Connection, model_id: int) -> None:
    connection.execute(text("UPDATE core.model SET dropped_at = NULL WHERE model_id = :model"), {"model": model_id})


def drop_partition(database: Database, model_id: int) -> None:
    """Drop the table of a model's results, if it is there, without holding up others for longer than a second."""
    for attempt in range(1, TRIES + 1):
        try:
            database.run(lambda c: _drop_now(c, model_id))
        except ServiceDown as exc:
            if attempt == TRIES:
                raise ServiceDown(
                    "Others kept the results locked all the time, so the model's could not be dropped; run it again."
                ) from exc
            log.info("the results are in use (%s); trying again", exc)
            time.sleep(PAUSE_SECONDS * min(attempt, 10))
        else:
            return


def _drop_now(connection: Connection, model_id: int) -> None:
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'"))
    promotions.lock(connection)
    if not connection.execute(text(f"SELECT {_DROPPED}"), {"model": model_id}).scalar_one():
        raise ConfigurationError("The model was registered again meanwhile; nothing of it was dropped.")
    connection.execute(text(f"DROP TABLE IF EXISTS {partition_of(model_id)}"))


def _delete(database: Database, table: str, key: Sequence[str], model_id: int) -> int:
    """Delete a model's rows of totals, a batch at a time; returns how many."""
    total = 0
    while rows := database.run(lambda c: delete_some(c, table, key, model_id)):
        total += rows
    return total


def delete_some(connection: Connection, table: str, key: Sequence[str], model_id: int) -> int:
    """Delete at most a batch of a model's rows of one table of totals, in key order."""
    columns = ", ".join(key)
    same = " AND ".join(f"t.{column} = d.{column}" for column in key)
    statement = f"""
        DELETE FROM {table} t USING (
            SELECT {columns} FROM {table} WHERE model_id = :model ORDER BY {columns} LIMIT {BATCH_ROWS} FOR UPDATE) d
        WHERE {same} AND {_DROPPED}"""
    return connection.execute(text(statement), {"model": model_id}).rowcount
