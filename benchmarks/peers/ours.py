"""Pictograph itself: an ingest job is listed into the ledger, a worker's stream commits results and totals to Postgres.

The clock starts with the stream's first claim and stops with its last commit; the others are told their keys, so the
listing, which is only ours, is measured apart.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Connection, text

from benchmarks.peers.harness import Answer, Job
from pipeline.ledger import ending, jobs
from pipeline.ledger.requests import JobRequest
from pipeline.settings import Settings
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from pipeline.store.totals import differences
from workers.engine.stream import Stream
from workers.ingest import list_range
from workers.ledger import register
from workers.models import registry
from workers.workbench import build_bench

#: The label with the largest mass of each photo; none where no label has the two per cent that are stored.
ANSWERS = """
    SELECT p.key, best.wnid, best.mass / 10000.0 AS score
    FROM core.photo p
    JOIN core.photo_result r USING (photo_id)
    LEFT JOIN LATERAL (
        SELECT c.wnid, of.mass FROM unnest(r.nodes, r.masses) AS of(node, mass) JOIN core.category c USING (node)
        WHERE c.wnid = ANY(:labels) ORDER BY of.mass DESC LIMIT 1
    ) AS best ON true
"""
NEXT_SHARD = "SELECT min(shard_id) FROM core.shard WHERE job_id = :job AND state = 0"


class Ours:
    """An empty database, and a worker's bench: the model loaded, the decode children running."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings = Settings.read().model_copy(
            update={
                "database_url": SecretStr(job.database_url),
                "broker_url": SecretStr(job.broker_url),
                "s3_endpoint_url": job.endpoint_url,
                "s3_access_key_id": job.access_key_id,
                "s3_secret_access_key": SecretStr(job.secret_access_key),
            }
        )
        with Database(job.database_url, "benchmark") as database:
            database.run(_empty)
            migrate(database)
            register(database, registry.chosen(self.settings))
        self.bench = build_bench(self.settings, role=None)
        began = time.perf_counter()
        self.job_id = self._list()
        self.list_seconds = time.perf_counter() - began

    def _list(self) -> int:
        source = f"s3://{self.job.bucket}/{self.job.prefix}/"
        request = JobRequest(kind="s3", source=source, user_rule="{user}/{photo}")
        job_id = self.bench.database.run(lambda c: jobs.submit(c, request, self.bench.registered.model_id))
        while True:
            with self.bench.database.transaction() as connection:
                if not jobs.find(connection, job_id).listing:
                    return job_id
                query = text("SELECT range_id FROM core.list_range WHERE job_id = :job")
                range_id = connection.execute(query, {"job": job_id}).scalar_one()
            list_range(self.settings, self.bench.heart, range_id, threading.Event())

    def run(self, began: Callable[[], None]) -> dict[str, object]:
        _forget_peak()
        began()
        efforts = []
        while (shard_id := self._next_shard()) is not None:  # a stream ends after some minutes, and there may be more
            stream = Stream(self.bench, threading.Event())
            stream.run(shard_id)
            efforts.append(stream.effort)
        return {
            "tuning": str(self.bench.tuning),
            "photos": sum(effort.photos for effort in efforts),
            "list_seconds": self.list_seconds,
            "thread_cpu_seconds": _summed([effort.cpu_seconds for effort in efforts]),
            "process_cpu_seconds": sum(effort.process_cpu_seconds for effort in efforts),
            "starved_seconds": sum(effort.starved_seconds for effort in efforts),
            "worker_peak_mb": _peak_mb(),
        }

    def _next_shard(self) -> int | None:
        with self.bench.database.transaction() as connection:
            shard_id: int | None = connection.execute(text(NEXT_SHARD), {"job": self.job_id}).scalar()
            return shard_id

    def answers(self) -> Iterable[Answer]:
        database = self.bench.database
        database.run(ending.finish_jobs)
        with database.transaction() as connection:
            wrong = differences(connection)
            if wrong:
                raise RuntimeError(f"{wrong} totals differ from a recount")
            found = {row.key: row for row in connection.execute(text(ANSWERS), {"labels": list(self.job.labels)})}
        for key in self.job.keys:
            row = found.get(key)
            yield Answer(key=key, wnid=(row.wnid or "") if row else "", score=float(row.score or 0) if row else 0.0)

    def close(self) -> None:
        self.bench.close()


def _forget_peak() -> None:
    """Let the kernel's peak of this process's memory begin anew: loading a model takes more than using it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    """The most memory that this process has had resident since then."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By name, over all."""
    return dict(sum((Counter(part) for part in parts), Counter()))


def _empty(connection: Connection) -> None:
    """Drop all that an earlier run has left."""
    for schema in ("tags", "core"):
        connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
    connection.execute(text("DROP TABLE IF EXISTS alembic_version"))


CONTENDER = Ours
