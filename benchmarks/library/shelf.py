"""The drawn library in a real ledger: the rows that a listing leaves are copied in, results come by the merge alone.

Copied straight into the tables, because a listing of ten million photos would be another benchmark: owners, photos in
order of their keys, items, and shards as `pipeline.ledger.cut` cuts them page by page, each leased by us.
"""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, text

from benchmarks.library.drawing import Model, Stretch, moment, stretches
from pipeline.ledger import jobs
from pipeline.ledger.cut import cut
from pipeline.ledger.requests import JobRequest
from pipeline.records import Annotation, Code, ItemState, Lease, PhotoResult, PhotoTask, WorkState
from pipeline.store.catalogue import Registered
from pipeline.store.session import Database

PAGE = 1000  # photos of a page of a listing
SHARD = 512
PAGES_AT_ONCE = 50  # photos of so many pages are written, and then merged
OWNER = "benchmark"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A leased shard with what the model said of its photos."""

    lease: Lease
    results: list[PhotoResult]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Photo:
    photo_id: int
    user_id: int
    label: int
    taken: int
    uploaded: int
    has_exif: bool


class Shelf:
    """Fills an empty ledger."""

    def __init__(self, database: Database, registered: Registered, model: Model, labels: int, seed: int) -> None:
        self._database, self._registered, self._model = database, registered, model
        self._labels, self._seed = labels, seed
        self._chance = np.random.default_rng([seed, 2])
        request = JobRequest(kind="s3", source="s3://library/", user_rule="{user}/{photo}")
        self._job = database.run(lambda c: jobs.submit(c, request, registered.model_id))
        database.run(lambda c: jobs.start(c, self._job))
        self._bucket = database.run(_bucket)
        self._shards = 0

    def fill(self, photos: int, users: int) -> Iterator[list[Shard]]:
        """Write all photos, some pages at a time; yields the shards of these pages before it writes the next."""
        self._database.run(lambda c: _copy(c, "core.app_user (user_id, name)", _users(users)))
        drawn = _photos(stretches(photos, users, self._labels, self._seed, PAGE))
        while some := list(itertools.islice(drawn, PAGE * PAGES_AT_ONCE)):
            yield self._database.run(lambda c, some=some: self._write(c, some))  # type: ignore[misc]

    def close(self) -> None:
        """Bring sequences and statistics to where a listing and autovacuum would have brought them."""
        with self._database.transaction() as connection:
            for table, key in (("photo", "photo_id"), ("app_user", "user_id"), ("shard", "shard_id")):
                sequence = f"pg_get_serial_sequence('core.{table}', '{key}')"
                connection.execute(text(f"SELECT setval({sequence}, max({key})) FROM core.{table}"))
            connection.execute(text("UPDATE core.list_range SET state = :done"), {"done": int(WorkState.DONE)})

    def _write(self, connection: Connection, photos: Sequence[_Photo]) -> list[Shard]:
        columns = "photo_id, bucket_id, key, user_id, etag, size, taken_at"
        _copy(connection, f"core.photo ({columns})", map(self._photo_row, photos))
        by_id = {photo.photo_id: photo for photo in photos}
        pieces = [
            piece
            for at in range(0, len(photos), PAGE)
            for piece in cut([(p.photo_id, p.user_id) for p in photos[at : at + PAGE]], SHARD)
        ]
        numbered = list(enumerate(pieces, self._shards + 1))
        self._shards += len(pieces)
        _copy(connection, f"core.shard ({_SHARD})", (self._shard_row(n, piece) for n, piece in numbered))
        items = ((self._job, photo_id, n, int(ItemState.PENDING)) for n, piece in numbered for photo_id in piece)
        _copy(connection, "core.job_item (job_id, photo_id, shard_id, state)", items)
        connection.execute(_COUNT, {"job": self._job, "state": int(ItemState.PENDING), "n": len(photos)})
        connection.execute(_LISTED, {"job": self._job, "n": len(photos)})
        return [self._shard(n, [by_id[photo_id] for photo_id in piece]) for n, piece in numbered]

    def _photo_row(self, photo: _Photo) -> Sequence[object]:
        n = photo.photo_id
        return (n, self._bucket, _key(photo), photo.user_id, f"{n:032x}", 100_000 + n % 1000, moment(photo.uploaded))

    def _shard_row(self, number: int, piece: list[int]) -> Sequence[object]:
        return number, self._job, self._registered.model_id, 0, len(piece), int(WorkState.LEASED), 1, OWNER

    def _shard(self, number: int, photos: list[_Photo]) -> Shard:
        notes = self._model.says(np.array([photo.label for photo in photos]), self._chance)
        digests = self._chance.bytes(32 * len(photos))
        return Shard(
            lease=Lease(work_id=number, job_id=self._job, epoch=1),
            results=[
                self._result(number, photo, note, digests[32 * at : 32 * at + 32])
                for at, (photo, note) in enumerate(zip(photos, notes, strict=True))
            ],
        )

    def _result(self, shard: int, photo: _Photo, note: Annotation, digest: bytes) -> PhotoResult:
        task = PhotoTask(
            job_id=self._job,
            shard_id=shard,
            photo_id=photo.photo_id,
            content_rev=1,
            bucket="s3://library",
            key=_key(photo),
            etag="",
            size=0,
            version_id=None,
        )
        return PhotoResult(
            task=task,
            state=ItemState.SUCCEEDED,
            code=Code.TAGGED if note.tags else Code.ABSTAINED,
            annotation=note,
            sha256=digest,
            taken_at=moment(photo.taken) if photo.has_exif else None,
        )


_SHARD = "shard_id, job_id, model_id, priority, photos, state, lease_epoch, lease_owner"
_COUNT = text("""
INSERT INTO core.job_count AS t (job_id, state, code, photos) VALUES (:job, :state, 0, :n)
ON CONFLICT (job_id, state, code) DO UPDATE SET photos = t.photos + EXCLUDED.photos""")
_LISTED = text("UPDATE core.list_range SET listed = listed + :n WHERE job_id = :job")


def _bucket(connection: Connection) -> int:
    found: int = connection.execute(
        text("INSERT INTO core.bucket (uri) VALUES ('s3://library') RETURNING bucket_id")
    ).scalar_one()
    return found


def _users(users: int) -> Iterator[Sequence[object]]:
    return ((n + 1, f"user-{n:07d}") for n in range(users))


def _photos(drawn: Iterable[Stretch]) -> Iterator[_Photo]:
    numbers = itertools.count(1)
    for stretch in drawn:
        columns = (stretch.labels, stretch.taken, stretch.uploaded, stretch.has_exif)
        for label, taken, uploaded, has_exif in zip(*(column.tolist() for column in columns), strict=True):
            yield _Photo(
                photo_id=next(numbers),
                user_id=stretch.user + 1,
                label=label,
                taken=taken,
                uploaded=uploaded,
                has_exif=has_exif,
            )


def _key(photo: _Photo) -> str:
    return f"user-{photo.user_id - 1:07d}/{photo.photo_id:09d}.jpg"


def _copy(connection: Connection, table: str, rows: Iterable[Sequence[object]]) -> None:
    lines = io.StringIO("".join("\t".join(map(str, row)) + "\n" for row in rows))
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} FROM STDIN", lines)
