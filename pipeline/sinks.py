"""Files that are there whole or not at all: local ones renamed into place, objects of S3 by multipart upload.

Nobody sees a file before `commit`, and what was there under its name stays until then. Memory is one part.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from pipeline.errors import AccessDenied, ConfigurationError, PhotoGone, PictographError, SourceError
from pipeline.settings import PREFIX, Settings
from pipeline.sources.s3 import S3Access, translated

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_SCRATCH_END = re.compile(r"[0-9a-f]{8}\.part")
PART_BYTES = 8 * 1024 * 1024  # S3 takes 10,000 parts: 80 GB, or some 150 million lines


class Sink(Protocol):
    """A file that is being written."""

    def write(self, data: bytes) -> None:
        """Append."""

    def commit(self) -> None:
        """All is written: let it be seen."""

    def abandon(self) -> None:
        """Leave nothing behind. Safe after a failure, and after `commit`."""


def output_access(settings: Settings) -> S3Access:
    """Who writes results to S3; who reads photos, unless the settings name somebody else."""
    if settings.output_access_key_id is None and settings.output_secret_access_key is None:
        return S3Access.of(settings)
    if settings.output_access_key_id is None or settings.output_secret_access_key is None:
        raise ConfigurationError(
            f"Half of the credentials for results is set; set both {PREFIX}OUTPUT_ACCESS_KEY_ID and "
            f"{PREFIX}OUTPUT_SECRET_ACCESS_KEY, or neither."
        )
    changed = {
        "s3_access_key_id": settings.output_access_key_id,
        "s3_secret_access_key": settings.output_secret_access_key,
    }
    return S3Access.of(settings.model_copy(update=changed))


@contextmanager
def writing_to(settings: Settings, bucket: str | None, name: str) -> Iterator[Sink]:
    """A sink for an object of this bucket, or (None) for a local file; committed at the end, abandoned on any error.

    Raises:
        ConfigurationError: it cannot be written there.
        ServiceDown: the store does not answer.
    """
    sink: Sink = LocalFile(Path(name)) if bucket is None else Upload(output_access(settings), bucket, name)
    try:
        yield sink
        sink.commit()
    finally:
        sink.abandon()


class LocalFile:
    """A file beside its final place, under a name of its own; its folder is made where it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with self._reported():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._tidy()
            self._file: IO[bytes] = self._scratch.open("xb")

    def write(self, data: bytes) -> None:
        """See `Sink.write`."""
        with self._reported():
            self._file.write(data)

    def commit(self) -> None:
        """See `Sink.commit`."""
        with self._reported():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._scratch.replace(self.path)

    def abandon(self) -> None:
        """See `Sink.abandon`."""
        with suppress(OSError):  # a disk that was full is full at closing too, and the file must go all the more
            self._file.close()
        self._scratch.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what a process that was killed had written; whoever still writes it has lost its lease."""
        for name in os.listdir(self.path.parent):
            if name.startswith(f".{self.path.name}.") and _SCRATCH_END.fullmatch(name, len(self.path.name) + 2):
                self.path.with_name(name).unlink(missing_ok=True)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise ConfigurationError(
                f"{self.path} cannot be written on the machine of the ingest worker ({exc.strerror}); make room, give "
                "it the right to, or name another place."
            ) from exc


class Upload:
    """An object: at once if it is small, else in parts. What an earlier try of the same object left is given back."""

    def __init__(self, access: S3Access, bucket: str, key: str) -> None:
        self._place = access.place
        self._client = access.client()
        self._bucket, self._key = bucket, key
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[CompletedPartTypeDef] = []

    def write(self, data: bytes) -> None:
        """See `Sink.write`."""
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            self._send_part(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]

    def commit(self) -> None:
        """See `Sink.commit`."""
        if self._upload_id is None:
            with self._reported():
                self._client.put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send_part(bytes(self._buffer))
        with self._reported():
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
            )
        self._upload_id = None

    def abandon(self) -> None:
        """See `Sink.abandon`; parts that cannot be given back now are the next try's to give back."""
        if self._upload_id is not None:
            with suppress(PictographError), self._reported():
                self._give_back(self._upload_id)
        self._upload_id = None

    def _send_part(self, data: bytes) -> None:
        with self._reported():
            if self._upload_id is None:
                self._tidy()
                begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)
                self._upload_id = begun["UploadId"]
            number = len(self._parts) + 1
            answer = self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=data
            )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _tidy(self) -> None:
        """Give back what a process that was killed had sent; who may not list uploads leaves it to the bucket."""
        with suppress(SourceError), translated(self._place, self._bucket):
            found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._key).get("Uploads", [])
            for upload in found:
                if upload["Key"] == self._key:
                    self._give_back(upload["UploadId"])

    def _give_back(self, upload_id: str) -> None:
        self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=upload_id)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            with translated(self._place, self._bucket):
                yield
        except AccessDenied as exc:
            raise AccessDenied(
                f"The S3 credentials for results may not write s3://{self._bucket}/{self._key}; have them be given the "
                f"right, or set {PREFIX}OUTPUT_ACCESS_KEY_ID and {PREFIX}OUTPUT_SECRET_ACCESS_KEY."
            ) from exc
        except PhotoGone as exc:
            raise SourceError(f"There is no bucket {self._bucket} at {self._place} to write results to.") from exc
