"""Photos per second, from S3 object to committed row, on the embedded servers; prints one JSON object.

    python benchmarks/end_to_end.py FOLDER [--copies N] [--home DIR]

The photos of FOLDER (any depth) are put N times into the embedded S3, listed, and worked through by one stream in this
process. All servers share the machine with it. `photos_per_s` is of the stream alone, `photos_per_s_with_listing` of
listing and stream together; upload and model start are in neither. The seconds per step are summed over the step's
threads and so may exceed the wall clock.
"""

import argparse
import json
import os
import resource
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text

from pictograph import stack
from pictograph.places import servers
from pipeline.ledger import jobs, redrive
from pipeline.ledger.jobs import JobRequest
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from pipeline.store.totals import differences
from workers.bench import build_bench
from workers.engine import Bench, Stream
from workers.ingest import list_range

USERS = 10


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or Path(scratch)
        with servers(Settings(home=home)) as settings:
            print(json.dumps(measure(settings, options.folder, options.copies), indent=2))
        stack.wait_until_stopped(home)


def measure(settings: Settings, folder: Path, copies: int) -> dict[str, object]:
    """Upload, list, stream, check; the figures."""
    photos, uploaded_bytes = _upload(settings, folder, copies)
    began = time.perf_counter()
    bench = build_bench(settings)
    ready = time.perf_counter() - began
    try:
        list_seconds, job_id = _submit(settings, bench)
        return {
            "photos": photos,
            "megabytes": round(uploaded_bytes / 1e6, 1),
            "cores": os.cpu_count(),
            "model": settings.model,
            "start_s": round(ready, 2),
            "list_s": round(list_seconds, 3),
            **_stream(bench, job_id, list_seconds),
        }
    finally:
        bench.decoders.close()
        bench.heart.stop()


def _upload(settings: Settings, folder: Path, copies: int) -> tuple[int, int]:
    access = S3Access.of(settings)
    create_bucket(access, settings.s3_bucket)
    client = access.client()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    keys = [(n, copy, path) for copy in range(copies) for n, path in enumerate(files)]

    def put(entry: tuple[int, int, Path]) -> int:
        n, copy, path = entry
        # Appended bytes, which decoders ignore, make each copy an object of its own, for caches and content hashes.
        body = path.read_bytes() + copy.to_bytes(8, "big")
        client.put_object(Bucket=settings.s3_bucket, Key=f"bench/user-{n % USERS}/{copy}-{path.name}", Body=body)
        return len(body)

    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(put, keys))
    with Database(_url(settings), "benchmark") as database:
        migrate(database)
    return len(keys), sum(sizes)


def _submit(settings: Settings, bench: Bench) -> tuple[float, int]:
    request = JobRequest(kind="s3", source=f"s3://{settings.s3_bucket}/bench/", user_rule="{user}/{photo}")
    job_id = bench.database.run(lambda c: jobs.submit(c, request, bench.registered.model_id))
    query = text("SELECT range_id FROM core.list_range WHERE job_id = :job")
    began = time.perf_counter()
    while True:
        with bench.database.transaction() as connection:
            range_id = connection.execute(query, {"job": job_id}).scalar_one()
            if not jobs.find(connection, job_id).listing:
                return time.perf_counter() - began, job_id
        list_range(settings, bench.heart, range_id, threading.Event())


def _stream(bench: Bench, job_id: int, list_seconds: float) -> dict[str, object]:
    with bench.database.transaction() as connection:
        query = text("SELECT min(shard_id) FROM core.shard WHERE job_id = :job")
        shard_id = connection.execute(query, {"job": job_id}).scalar_one()
    stream = Stream(bench, threading.Event())
    began, cpu = time.perf_counter(), _cpu_seconds()
    done = stream.run(shard_id)
    seconds = time.perf_counter() - began
    bench.database.run(redrive.finish_jobs)
    with bench.database.transaction() as connection:
        wrong = differences(connection)
        job = jobs.find(connection, job_id)
    return {
        "stream_s": round(seconds, 2),
        "photos_per_s": round(done / seconds, 1),
        "photos_per_s_with_listing": round(done / (list_seconds + seconds), 1),
        "own_cpu_s_per_1000_photos": round((_cpu_seconds() - cpu) / done * 1000, 2),
        "step_s": {step: round(spent, 2) for step, spent in stream.watch.seconds().items()},
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "state": job.state.name.lower(),
        "counts": {f"{state.name.lower()}:{code.name.lower()}": n for (state, code), n in job.counts.items()},
        "totals_unlike_recount": wrong,
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


if __name__ == "__main__":
    main()
