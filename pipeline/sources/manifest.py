"""Photos named one by one in a JSON-lines file: ``{"source-ref": "s3://bucket/key", "user": "ann"}``.

Each object is asked for its version (HEAD), several at a time. A line that cannot be read is refused by its number;
an object that is not there is counted as gone. A manifest is no complete listing: what it leaves out stays. It is read
once from beginning to end, however many pages that makes, and no line takes more memory than `MOST_LINE_BYTES`.

A line names an object of S3 and its user, and nothing else counts in it: no local file, no server, no credentials. An
object outside of the places that may be read is excluded, and nobody is asked for it.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pipeline.address import parse_uri
from pipeline.errors import PhotoGone, SourceError
from pipeline.records import Code, Page, PhotoRef, Refusal
from pipeline.sources.allowed import ANYWHERE, Allowed
from pipeline.sources.folder import open_plain
from pipeline.sources.s3 import S3Access, translated
from pipeline.sources.source import Interval, no_user, storable
from pipeline.sources.user_rule import UserRule

HEADS_AT_ONCE = 16
MOST_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    number: int  # from 1, blank lines counted
    end: int  # bytes before the line that follows
    text: str | None  # None: too long


class Manifest:
    """The objects that a manifest names. The cursor is "LINE:BYTES": the last line read, and where it ends."""

    def __init__(self, path: str, rule: UserRule, access: S3Access, allowed: Allowed = ANYWHERE) -> None:
        self.path = Path(path)
        self.allowed = allowed
        self.rule = rule
        self.place = access.place
        self.client = access.client(HEADS_AT_ONCE)

    def check(self, *, may_be_empty: bool = False) -> None:
        """See `Source.check`."""
        if next(self._lines(0, 0), None) is None and not may_be_empty:
            raise SourceError(f"The manifest {self.path} is empty.")

    def page(self, cursor: str | None, limit: int) -> Page:
        """See `Source.page`."""
        start = cursor or "0:0"
        lines = list(islice(self._lines(*map(int, start.split(":"))), limit))
        with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
            met = list(pool.map(self._meet, lines))
        refusals = [entry for entry in met if isinstance(entry, Refusal)]
        return Page(
            refs=tuple(entry for entry in met if isinstance(entry, PhotoRef)),
            refusals=tuple(entry for entry in refusals if entry.code is not Code.GONE),
            gone=tuple(entry for entry in refusals if entry.code is Code.GONE),
            cursor=f"{lines[-1].number}:{lines[-1].end}" if lines else start,
            last=len(lines) < limit,
        )

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """See `Source.covered`: never."""
        del cursor, page
        return None

    def _lines(self, number: int, offset: int) -> Iterator[_Line]:
        """Lines that are not blank, after line `number`, which ends at byte `offset`."""
        try:
            with self._open() as file:
                self._seek(file, offset)
                while line := file.readline(MOST_LINE_BYTES + 1):
                    number += 1
                    long = len(line) > MOST_LINE_BYTES
                    if long:
                        _skip_rest(file, line)
                    if long or line.strip():
                        text = None if long else line.decode("utf-8", "surrogateescape")
                        yield _Line(number=number, end=file.tell(), text=text)
        except OSError as exc:
            raise SourceError(f"The manifest {self.path} cannot be read: {exc.strerror}.") from exc

    def _open(self) -> BinaryIO:
        """The file itself: a job's row may name a link, or a pipe that would be waited for.

        Raises:
            SourceError, OSError: it is no plain file, or cannot be opened.
        """
        fd = open_plain(str(self.path))
        if fd is None:
            raise SourceError(f"The manifest {self.path} is no plain file, or is behind a link; name the file itself.")
        return open(fd, "rb")

    def _seek(self, file: BinaryIO, offset: int) -> None:
        """Go to a line's beginning; SourceError where none begins there any more."""
        size = os.fstat(file.fileno()).st_size
        file.seek(max(offset - 1, 0))
        if size < offset or (0 < offset < size and file.read(1) != b"\n"):
            raise SourceError(f"The manifest {self.path} was changed while it was listed; run the job again.")
        file.seek(offset)

    def _meet(self, line: _Line) -> PhotoRef | Refusal:
        number = line.number
        try:
            uri, user = _parse(line.text)
            bucket, key = parse_uri(uri)
        except (ValueError, RecursionError, SourceError) as exc:
            return Refusal(name=f"line {number}", code=Code.BAD_LINE, reason=str(exc))
        if not self.allowed.holds(f"s3://{bucket}", key):
            reason = f"lies outside of the places that may be read (s3://{bucket}/{key})."
            return Refusal(name=f"line {number}", code=Code.OUTSIDE, reason=reason)
        owner = user or self.rule.owner(key)
        if owner is None:
            return no_user(f"line {number} ({key})", self.rule.template)
        try:
            with translated(self.place, f"s3://{bucket}/{key}"):
                head = self.client.head_object(Bucket=bucket, Key=key)
        except PhotoGone as exc:
            return Refusal(name=f"line {number}", code=Code.GONE, reason=str(exc))
        return PhotoRef(
            bucket=f"s3://{bucket}",
            key=key,
            user=owner,
            etag=head["ETag"].strip('"'),
            size=head["ContentLength"],
            modified_at=head["LastModified"],
        )


def _skip_rest(file: BinaryIO, line: bytes) -> None:
    """Read on to the end of the line that `line` begins."""
    while line and not line.endswith(b"\n"):
        line = file.readline(MOST_LINE_BYTES)


def _parse(line: str | None) -> tuple[str, str | None]:
    """The object and the user that a line names; ValueError with one sentence if it cannot be read."""
    if line is None:
        raise ValueError(f"has more than {MOST_LINE_BYTES:,} bytes.")
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as exc:
        raise ValueError(f"is no JSON object ({exc.msg} at column {exc.colno}).") from exc
    if not isinstance(entry, dict) or not isinstance(entry.get("source-ref"), str):
        raise ValueError('must be an object with "source-ref": "s3://bucket/key".')
    user = entry.get("user")
    if user is not None and not (isinstance(user, str) and user):
        raise ValueError('"user" must be a non-empty string.')
    if not entry["source-ref"].removeprefix("s3://").partition("/")[2]:
        raise ValueError(f"names no object: {entry['source-ref']!r}; write s3://bucket/key.")
    if not (storable(entry["source-ref"]) and storable(user or "")):
        raise ValueError("holds a name that is not valid UTF-8, holds a NUL, or is too long.")
    return entry["source-ref"], user
