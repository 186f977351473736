"""Photo bytes in bulk: obstore for S3 (a quarter of the processor time that boto3 takes), plain reads for files.

Laws
1. A body counts only if it has exactly the listed length, and over a line without TLS the MD5 that its ETag may be
   (`workers/integrity.py`); anything else is trouble on the way, and retried.
2. Every request names the listed ETag (`If-Match`), and the version where a manifest pins one. A refusal is looked
   into with a HEAD: some servers answer 412 for an object that is gone.
3. Only a photo is to blame, never its place: "gone" needs a bucket or folder that is there, "forbidden" needs one that
   still lets us in. A place that is away, or closed as a whole, is trouble, and retried.
4. Listing and fetching use one identity: the credentials are those of boto3.
5. Nothing outside of the places that may be read (PICTOGRAPH_SOURCES) is asked for, whatever the ledger says.
6. Retries cover request and body, with jitter, within one deadline; what remains is infrastructure trouble.
   A store that asks us to slow down gets a pause of all threads at once.
"""

import random
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from botocore.exceptions import NoCredentialsError
from obstore.auth.boto3 import Boto3CredentialProvider
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

from pipeline.address import parse_uri
from pipeline.crashpoints import Point, reached
from pipeline.errors import (
    AccessDenied,
    PhotoChanged,
    PhotoGone,
    PhotoUnreadable,
    ServiceDown,
    SourceError,
    Throttled,
)
from pipeline.records import Code, PhotoTask, Version
from pipeline.sources.allowed import ANYWHERE, LOCAL, Allowed
from pipeline.sources.folder import local_version, read_local
from pipeline.sources.objects import Objects
from pipeline.sources.s3 import S3Access, translated
from pipeline.sources.witnesses import Witnesses
from workers.integrity import Integrity
from workers.pace import Pace

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Config

T = TypeVar("T")

ATTEMPTS = 4
DEADLINE_SECONDS = 30.0
BACKOFF_SECONDS = 0.1  # doubled at each attempt
#: How long obstore uses what boto3 says. It asks again five minutes earlier, and boto3 itself renews what has less than
#: ten minutes to live: so none expires in use.
CREDENTIALS_LIVE = timedelta(minutes=10)

_SLOW_DOWN = re.compile(
    r"status code: (503|429) "
)  # obstore has no error of its own for it: its words are all there is


class Fetcher:
    """Reads the photos of claimed shards. Threads share it."""

    def __init__(self, access: S3Access, max_photo_bytes: int, allowed: Allowed = ANYWHERE) -> None:
        self._access = access
        self._allowed = allowed
        self._max_bytes = max_photo_bytes
        self._stores: dict[str, S3Store] = {}
        self._guard = threading.Lock()
        self._objects = Objects(access)
        self._witnesses = Witnesses()
        self._pace = Pace()
        self._integrity = Integrity(access.endpoint_url)

    def fetch(self, task: PhotoTask) -> bytes:
        """The bytes of a listed photo.

        Raises:
            PhotoUnreadable: too large to be read at all, closed to us, or where nothing may be read.
            PhotoGone, PhotoChanged: it is no longer what was listed.
            ServiceDown: still no complete answer after several attempts.
        """
        self._allowed.check_photo(task.bucket, task.key)
        if task.size > self._max_bytes:
            raise PhotoUnreadable(
                f"The photo has {task.size:,} bytes; at most {self._max_bytes:,} are read.", Code.TOO_LARGE
            )
        if task.bucket == LOCAL:
            return self._read_local(task)
        deadline = time.monotonic() + DEADLINE_SECONDS
        doubted: set[bytes] = set()
        for attempt in range(ATTEMPTS):
            self._pace.wait()
            try:
                data = self._integrity.checked(task, self._get(task), doubted)
            except ServiceDown as exc:
                if isinstance(exc, Throttled):
                    self._pace.slow_down()
                pause = random.uniform(0, BACKOFF_SECONDS * 2**attempt)  # noqa: S311 - jitter, no secret
                if attempt == ATTEMPTS - 1 or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
            else:
                self._pace.went_well()
                return data
        raise AssertionError("unreachable")

    def look(self, task: PhotoTask) -> Version:
        """What the object is now.

        Raises:
            PhotoGone: nothing any more.
            PhotoUnreadable: we may look into its bucket, but not at it; or it lies where nothing may be read.
            ServiceDown: the store does not answer, or does not let us look.
        """
        self._allowed.check_photo(task.bucket, task.key)
        if task.bucket == LOCAL:
            return self._locally(task, lambda: local_version(task.key))
        return self._slowly(task, lambda: self._objects.head(task.bucket, task.key, task.version_id))

    def _read_local(self, task: PhotoTask) -> bytes:
        data = self._locally(task, lambda: read_local(task.key, task.etag, self._max_bytes))
        self._witnesses.saw(task.job_id, task.key)
        return data

    def _locally(self, task: PhotoTask, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except PhotoGone as exc:
            if self._witnesses.confirm_gone(task.job_id, task.key):
                raise
            raise ServiceDown(f"{task.key} is not there, nor anything beside it; is its disk mounted?") from exc

    def _get(self, task: PhotoTask) -> bytes:
        what = f"{task.bucket}/{task.key}"
        if task.key.startswith("/") or task.key.endswith("/"):
            return self._read(task)  # obstore would drop the slash, and ask for another object
        store = self._slowly(task, lambda: self._store(task.bucket))
        try:
            answer = obstore.get(store, task.key, options=_options(task))
            if answer.meta["size"] != task.size:  # not read at all: it may be larger than what there is memory for
                raise ServiceDown(f"{what} comes with {answer.meta['size']} bytes, listed were {task.size}.")
            reached(Point.FETCH_MID_BODY)
            data = bytes(answer.bytes())
        except (InvalidPathError, ValueError):
            return self._read(task)  # S3 allows keys such as "a//b" that obstore's paths cannot express
        except (NotFoundError, FileNotFoundError):
            return self._read(task)  # says whether the object is gone or the bucket is
        except (PermissionDeniedError, UnauthenticatedError):
            return self._read(task)  # says whether the object is closed or the bucket is
        except (PreconditionError, AlreadyExistsError) as exc:
            raise PhotoChanged(f"{what} was overwritten since it was listed.") from exc
        except (BaseError, OSError) as exc:
            if _SLOW_DOWN.search(str(exc)):
                raise Throttled(f"S3 at {self._access.place} is throttled: it asks us to slow down.") from exc
            raise ServiceDown(f"S3 at {self._access.place} did not deliver {what}.") from exc
        if len(data) != task.size:
            raise ServiceDown(f"{what} came with {len(data)} of {task.size} bytes.")
        return data

    def _read(self, task: PhotoTask) -> bytes:
        return self._slowly(
            task, lambda: self._objects.read(task.bucket, task.key, task.etag, task.size, task.version_id)
        )

    def _slowly(self, task: PhotoTask, ask: Callable[[], T]) -> T:
        """The slower way, with exact keys and exact errors; a place that is wrong is trouble, no fault of the photo."""
        try:
            return ask()
        except PhotoGone as exc:
            if not self._objects.has(task.bucket):
                raise ServiceDown(f"There is no bucket {task.bucket} any more; is it the right endpoint?") from exc
            raise
        except AccessDenied as exc:
            if self._objects.lets_in(task.bucket, task.key):
                raise PhotoUnreadable(str(exc), Code.FORBIDDEN) from exc
            raise ServiceDown(str(exc)) from exc
        except SourceError as exc:
            raise ServiceDown(str(exc)) from exc

    def _store(self, bucket: str) -> S3Store:
        with self._guard:
            if bucket not in self._stores:
                self._stores[bucket] = self._open(parse_uri(bucket)[0])
            return self._stores[bucket]

    def _open(self, name: str) -> S3Store:
        access = self._access
        config: S3Config = {"region": access.region}
        if access.endpoint_url is not None:
            config["endpoint"] = access.endpoint_url
        with translated(access.place, name):
            return S3Store(
                name,
                config=config,
                credential_provider=self._credentials(),
                # As boto3 does: certificates of Amazon's do not cover bucket names with dots.
                virtual_hosted_style_request=access.endpoint_url is None and "." not in name,
                client_options={"allow_http": True, "connect_timeout": "3s", "timeout": "20s"},
                # Retrying is ours: the body must be part of it.
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
            )

    def _credentials(self) -> Boto3CredentialProvider:
        session = self._access.session()
        if session.get_credentials() is None:
            raise NoCredentialsError
        return Boto3CredentialProvider(session, ttl=CREDENTIALS_LIVE)


def _options(task: PhotoTask) -> "GetOptions":
    """Exactly the bytes that were listed, and no others."""
    match = f'"{task.etag}"'
    return {"if_match": match} if task.version_id is None else {"if_match": match, "version": task.version_id}
