"""The scratch installation: servers in a temporary folder, the photos in its S3, and a ledger that is emptied between
two measurements, so that each of them writes every row for the first time. Nobody's data is near it."""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from pictograph import stack
from pictograph.benching.photos import Original, unlike
from pictograph.places import servers, uploading
from pictograph.stack.home import Home
from pipeline.errors import ConfigurationError, PhotoChanged, ServiceDown, SkipPhoto
from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import JobRequest
from pipeline.records import WorkState
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket, translated
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from pipeline.store.totals import differences
from workers.ingest import list_range
from workers.ledger import open_database, register
from workers.models import registry
from workers.models.registry import folder_of
from workers.workbench import Bench

USERS = 10  # that the photos are dealt out to
UPLOADS_AT_ONCE = 8
ROOM = 1.5  # disk space for each byte of photos; and this for logs, database and the servers' own files:
ROOM_BYTES = 1 << 30

#: Of the ledger: what a job writes, and what goes with its users. Taxonomy, model, worker and breaker stay, and so do
#: the orders of operators.
WRITTEN_BY_JOBS = (
    "job",
    "job_line",
    "job_entry",
    "delivery",
    "firing",
    "list_range",
    "shard",
    "job_item",
    "job_count",
    "job_missing",
    "photo_result",
    "user_category",
    "category_total",
    "shared_total",
    "user_revision",
    "model_revision",
    "thumbnail",
    "verdict",
    "photo",
    "erasure",
    "app_user",
    "bucket",
)


@contextmanager
def scratch(settings: Settings) -> Iterator[Settings]:
    """The settings, with embedded servers of their own under a temporary folder, which is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="pictograph-bench-") as folder:
        home = Path(folder)
        embedded: dict[str, object] = {
            "home": home,
            "models": folder_of(settings),
            "database_url": None,
            "broker_url": None,
            "s3_endpoint_url": None,
            "s3_access_key_id": None,
            "s3_secret_access_key": None,
            "sources": None,  # they guard the photos' own place, and this is another
            "s3_region": Settings.model_fields["s3_region"].default,
        }
        try:
            with servers(settings.model_copy(update=embedded)) as found:
                with open_database(found, "pictograph bench") as database:
                    migrate(database)
                    register(database, registry.chosen(found))
                yield found
        finally:
            stack.wait_until_stopped(home)


def keeper_pid(settings: Settings) -> int:
    """The process whose children the servers are.

    Raises:
        ServiceDown: there is none any more.
    """
    status = Home(settings.home).status()
    if status is None:
        raise ServiceDown("The scratch servers have ended; try again.")
    return status.pid


def room_needed(photos: Sequence[Original], copies: int) -> int:
    """Bytes of disk that measuring so many copies of each photo takes."""
    return round(ROOM * copies * sum(photo.size for photo in photos)) + ROOM_BYTES


def upload(settings: Settings, photos: Sequence[Original], copies: int, prefix: str) -> list[int]:
    """Put so many copies of each photo under a prefix of the scratch bucket; the bytes of each that could be read.

    Each copy in bytes of its own: what is to be measured is looking at photos, not recognising them.

    Raises:
        ConfigurationError: the disk has no room for them.
    """
    need = room_needed(photos, copies)
    if shutil.disk_usage(settings.home).free < need:
        raise ConfigurationError(
            f"Measuring needs {need / 1e9:.1f} GB under {settings.home.parent}; ask for fewer with --photos or "
            "--copies, or set TMPDIR to a folder with more room."
        )
    access = S3Access.of(uploading(settings))
    create_bucket(access, settings.s3_bucket)
    client = access.client(UPLOADS_AT_ONCE)

    def put(numbered: tuple[int, Original]) -> int | None:
        n, photo = numbered
        try:
            body = photo.read()
        except (SkipPhoto, PhotoChanged):
            return None
        for copy in range(copies):
            key = f"{prefix}user-{(n + copy) % USERS}/{copy:05}-{n:05}"
            with translated(access.place, settings.s3_bucket):
                client.put_object(Bucket=settings.s3_bucket, Key=key, Body=unlike(body, copy * len(photos) + n))
        return len(body)

    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        return [size for size in pool.map(put, enumerate(photos)) if size is not None]


def empty(database: Database) -> None:
    """Forget every job and every photo; what the model is stays."""
    tables = ", ".join(f"core.{name}" for name in WRITTEN_BY_JOBS)
    database.run(lambda connection: connection.execute(text(f"TRUNCATE {tables} CASCADE")))


def submit(bench: Bench, prefix: str) -> int:
    """A job over a prefix of the scratch bucket."""
    source = f"s3://{bench.settings.s3_bucket}/{prefix}"
    request = JobRequest(kind="s3", source=source, user_rule="{user}/{photo}")
    return bench.database.run(lambda connection: jobs.submit(connection, request, bench.registered.model_id))


def list_photos(bench: Bench, job_id: int) -> int:
    """List the job, in this thread, as an ingest worker does; how many photos it has.

    Raises:
        ServiceDown: the listing failed.
    """
    query = "SELECT min(range_id) FROM core.list_range WHERE job_id = :job AND state = :pending"
    while (range_id := bench.database.run(lambda connection: _first(connection, query, job_id))) is not None:
        list_range(bench.settings, bench.heart, range_id, threading.Event())
    job = bench.database.run(lambda connection: jobs.find(connection, job_id))
    if job.error is not None:
        raise ServiceDown(f"The scratch photos cannot be listed ({job.error})")
    return job.total


def pending_shard(bench: Bench, job_id: int) -> int | None:
    """The first shard of the job that nobody has claimed."""
    query = "SELECT min(shard_id) FROM core.shard WHERE job_id = :job AND state = :pending"
    return bench.database.run(lambda connection: _first(connection, query, job_id))


def outcome(bench: Bench, job_id: int) -> tuple[Job, int]:
    """The job as it stands, and in how many rows the totals differ from a recount."""
    return bench.database.run(lambda connection: (jobs.find(connection, job_id), differences(connection)))


def is_first_copy(key: str) -> bool:
    """Whether this is the first copy of a photo."""
    return key.rpartition("/")[2].startswith(f"{0:05}-")


def _first(connection: Connection, query: str, job_id: int) -> int | None:
    values = {"job": job_id, "pending": int(WorkState.PENDING)}
    found: int | None = connection.execute(text(query), values).scalar_one()
    return found
