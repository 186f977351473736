"""A text that names photos, in a file or in S3, read forward from any byte.

What lies in S3 is read in pieces, each of the one version (ETag) that the reading began with: an object that is
overwritten while it is read stops the listing with a sentence, and never gives half of one text and half of another.
A file is read as it is; whether a line still begins where the last one ended is all that is asked of it.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from pipeline.address import parse_uri
from pipeline.errors import PhotoChanged, PhotoGone, ServiceDown, SourceError
from pipeline.sources.folder import open_plain
from pipeline.sources.s3 import S3Access, translated

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client

PIECE_BYTES = 4 * 1024 * 1024  # of one request; a page of a thousand lines has a fraction of it, and the rest is kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """What a document is now."""

    version: str  # by which its pieces are pinned; empty: a file, which has none
    size: int  # bytes
    modified_at: datetime


class Document(Protocol):
    """Bytes at a place."""

    name: str  # for sentences

    def stamp(self) -> Stamp:
        """What it is now; SourceError if it is not there, or closed to us."""

    def reading(self, offset: int, version: str) -> "AbstractContextManager[BinaryIO]":
        """Its bytes of that version, from `offset` on, where a line begins.

        Raises:
            SourceError: it is not there, or not any more what it was.
        """


def document(place: str, access: S3Access, client: "S3Client") -> Document:
    """The document at an absolute path or ``s3://bucket/key``; `client` is one of `access`."""
    return _StoredDocument(place, access, client) if place.startswith("s3://") else _LocalDocument(place)


def _changed(name: str) -> SourceError:
    return SourceError(f"{name} was changed while it was listed; run the job again.")


class _LocalDocument:
    """A plain file, behind no link: a job's row may name a link, or a pipe that would be waited for."""

    def __init__(self, path: str) -> None:
        self.name = path

    def stamp(self) -> Stamp:
        """See `Document`."""
        with self.reading(0, "") as file:
            about = os.fstat(file.fileno())
        return Stamp(version="", size=about.st_size, modified_at=datetime.fromtimestamp(about.st_mtime, UTC))

    @contextmanager
    def reading(self, offset: int, version: str) -> Iterator[BinaryIO]:
        """See `Document`."""
        del version
        try:
            with self._open() as file:
                self._seek(file, offset)
                yield file
        except OSError as exc:
            raise SourceError(f"{self.name} cannot be read: {exc.strerror}.") from exc

    def _open(self) -> BinaryIO:
        fd = open_plain(self.name)
        if fd is None:
            raise SourceError(f"{self.name} is no plain file, or is behind a link; name the file itself.")
        return open(fd, "rb")

    def _seek(self, file: BinaryIO, offset: int) -> None:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(offset - 1, 0))
        if size < offset or (0 < offset < size and file.read(1) != b"\n"):
            raise _changed(self.name)
        file.seek(offset)


class _StoredDocument:
    """An object of S3. The last piece is kept, so that pages which follow each other do not fetch it again."""

    def __init__(self, uri: str, access: S3Access, client: "S3Client") -> None:
        self.name = uri
        self._bucket, self._key = parse_uri(uri)
        self._place = access.place
        self._client = client
        self._version: str | None = None  # of what `_file` reads
        self._file: io.BufferedReader | None = None

    def stamp(self) -> Stamp:
        """See `Document`."""
        try:
            with translated(self._place, self.name):
                head = self._client.head_object(Bucket=self._bucket, Key=self._key)
        except PhotoGone as exc:
            raise SourceError(f"There is no object {self.name}; check the address.") from exc
        return Stamp(version=head["ETag"].strip('"'), size=head["ContentLength"], modified_at=head["LastModified"])

    @contextmanager
    def reading(self, offset: int, version: str) -> Iterator[BinaryIO]:
        """See `Document`."""
        if self._file is None or self._version != version:
            stamp = self.stamp()
            if stamp.version != version:
                raise _changed(self.name)
            pieces = _Pieces(self._client, self._place, self.name, stamp)
            self._file, self._version = io.BufferedReader(pieces, PIECE_BYTES), version
        self._file.seek(offset)
        yield cast(BinaryIO, self._file)


class _Pieces(io.RawIOBase):
    """One version of an object, a request for each read."""

    def __init__(self, client: "S3Client", place: str, uri: str, stamp: Stamp) -> None:
        super().__init__()
        self._client, self._place, self._uri, self._stamp = client, place, uri, stamp
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes before the next read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte; nobody is asked."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._stamp.size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer`, as far as there are bytes."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._stamp.size - self._at)
        if wanted <= 0:
            return 0
        view[:wanted] = self._fetch(self._at, wanted)
        self._at += wanted
        return wanted

    def _fetch(self, at: int, wanted: int) -> bytes:
        bucket, key = parse_uri(self._uri)
        pin = f'"{self._stamp.version}"'
        try:
            with translated(self._place, self._uri):
                answer = self._client.get_object(
                    Bucket=bucket, Key=key, Range=f"bytes={at}-{at + wanted - 1}", IfMatch=pin
                )
                data = answer["Body"].read()
        except (PhotoChanged, PhotoGone) as exc:  # some servers answer "changed" for what is gone
            raise _changed(self._uri) from exc
        if len(data) != wanted:
            raise ServiceDown(f"S3 at {self._place} gave {len(data)} of {wanted} bytes of {self._uri}.")
        return data


def folder_of(place: str) -> str:
    """What `place` lies in, with a final slash."""
    return place.rpartition("/")[0] + "/" if place.startswith("s3://") else str(Path(place).parent) + "/"
