"""Photo bytes in bulk: obstore for S3 (a quarter of the processor time that boto3 takes), plain reads for files.

Laws
1. A body counts only if it has exactly the listed length; anything else is trouble on the way, and retried.
2. Every request names the listed version (`If-Match`). A refusal is looked into with a HEAD: some servers answer 412
   for an object that is gone. A 404 is asked again: only an object is "gone", a bucket that is away is trouble.
3. Retries cover request and body, with jitter, within one deadline; what remains is infrastructure trouble.
"""

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from pipeline.errors import PhotoChanged, PhotoGone, PhotoUnreadable, ServiceDown, SourceError
from pipeline.records import Code, PhotoTask, Version
from pipeline.sources.folder import LOCAL, local_version, read_local
from pipeline.sources.objects import Objects
from pipeline.sources.s3 import S3Access, parse_uri, translated

T = TypeVar("T")

ATTEMPTS = 4
DEADLINE_SECONDS = 30.0
BACKOFF_SECONDS = 0.1  # doubled at each attempt


class Fetcher:
    """Reads the photos of claimed shards. Threads share it."""

    def __init__(self, access: S3Access, max_photo_bytes: int) -> None:
        self._access = access
        self._max_bytes = max_photo_bytes
        self._stores: dict[str, S3Store] = {}
        self._guard = threading.Lock()
        self._objects = Objects(access)

    def fetch(self, task: PhotoTask) -> bytes:
        """The bytes of a listed photo.

        Raises:
            PhotoUnreadable: too large to be read at all.
            PhotoGone, PhotoChanged: it is no longer what was listed.
            ServiceDown: still no complete answer after several attempts.
        """
        if task.size > self._max_bytes:
            raise PhotoUnreadable(
                f"The photo has {task.size:,} bytes; at most {self._max_bytes:,} are read.", Code.TOO_LARGE
            )
        if task.bucket == LOCAL:
            return read_local(task.key, task.etag, self._max_bytes)
        deadline = time.monotonic() + DEADLINE_SECONDS
        for attempt in range(ATTEMPTS):
            try:
                return self._get(task)
            except ServiceDown:
                pause = random.uniform(0, BACKOFF_SECONDS * 2**attempt)  # noqa: S311 - jitter, no secret
                if attempt == ATTEMPTS - 1 or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    def look(self, task: PhotoTask) -> Version:
        """What the object is now.

        Raises:
            PhotoGone: nothing any more.
            ServiceDown: the store does not answer, or does not let us look.
        """
        if task.bucket == LOCAL:
            return local_version(task.key)
        return self._slowly(task, lambda: self._objects.head(task.bucket, task.key))

    def _get(self, task: PhotoTask) -> bytes:
        what = f"{task.bucket}/{task.key}"
        if task.key.startswith("/") or task.key.endswith("/"):
            return self._read(task)  # obstore would drop the slash, and ask for another object
        try:
            answer = obstore.get(self._store(task.bucket), task.key, options={"if_match": f'"{task.etag}"'})
            data = bytes(answer.bytes())
        except (InvalidPathError, ValueError):
            return self._read(task)  # S3 allows keys such as "a//b" that obstore's paths cannot express
        except (NotFoundError, FileNotFoundError):
            return self._read(task)  # says whether the object is gone or the bucket is
        except (PreconditionError, AlreadyExistsError) as exc:
            raise PhotoChanged(f"{what} was overwritten since it was listed.") from exc
        except (PermissionDeniedError, UnauthenticatedError) as exc:
            raise ServiceDown(f"S3 at {self._access.place} does not let us read {what}; check permissions.") from exc
        except (BaseError, OSError) as exc:
            raise ServiceDown(f"S3 at {self._access.place} did not deliver {what}.") from exc
        if len(data) != task.size:
            raise ServiceDown(f"{what} came with {len(data)} of {task.size} bytes.")
        return data

    def _read(self, task: PhotoTask) -> bytes:
        return self._slowly(task, lambda: self._objects.read(task.bucket, task.key, task.etag, task.size))

    def _slowly(self, task: PhotoTask, ask: Callable[[], T]) -> T:
        """The slower way, with exact keys and exact errors; a place that is wrong is trouble, no fault of the photo."""
        try:
            return ask()
        except PhotoGone as exc:
            if not self._objects.has(task.bucket):
                raise ServiceDown(f"There is no bucket {task.bucket} any more; is it the right endpoint?") from exc
            raise
        except SourceError as exc:
            raise ServiceDown(str(exc)) from exc

    def _store(self, bucket: str) -> S3Store:
        with self._guard:
            if bucket not in self._stores:
                self._stores[bucket] = self._open(parse_uri(bucket)[0])
            return self._stores[bucket]

    def _open(self, name: str) -> S3Store:
        access = self._access
        with translated(access.place, name):
            return S3Store(
                name,
                endpoint=access.endpoint_url,
                access_key_id=access.access_key_id,
                secret_access_key=access.secret_access_key,
                region=access.region,
                virtual_hosted_style_request=access.endpoint_url is None,
                client_options={"allow_http": True, "connect_timeout": "3s", "timeout": "20s"},
                # Retrying is ours: the body must be part of it.
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
            )
