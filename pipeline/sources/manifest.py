"""Photos named one by one in a JSON-lines file: ``{"source-ref": "s3://bucket/key", "user": "ann"}``.

Each object is asked for its version (HEAD), several at a time. A line that cannot be read is refused by its number;
an object that is not there is counted as gone. A manifest is no complete listing: what it leaves out stays.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from pipeline.errors import PhotoGone, SourceError
from pipeline.records import Code, Page, PhotoRef, Refusal
from pipeline.sources.s3 import S3Access, parse_uri, translated
from pipeline.sources.source import Interval, no_user, storable
from pipeline.sources.user_rule import UserRule

HEADS_AT_ONCE = 16


class Manifest:
    """The objects that a manifest names. The cursor is the number of the last line read."""

    def __init__(self, path: str, rule: UserRule, access: S3Access) -> None:
        self.path = Path(path)
        self.rule = rule
        self.place = access.place
        self.client = access.client(HEADS_AT_ONCE)

    def check(self) -> None:
        """See `Source.check`."""
        if next(self._lines(0), None) is None:
            raise SourceError(f"The manifest {self.path} is empty.")

    def page(self, cursor: str | None, limit: int) -> Page:
        """See `Source.page`."""
        start = int(cursor or 0)
        lines = list(islice(self._lines(start), limit))
        with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
            met = list(pool.map(lambda line: self._meet(*line), lines))
        refusals = [entry for entry in met if isinstance(entry, Refusal)]
        return Page(
            refs=tuple(entry for entry in met if isinstance(entry, PhotoRef)),
            refusals=tuple(entry for entry in refusals if entry.code is not Code.GONE),
            gone=tuple(entry for entry in refusals if entry.code is Code.GONE),
            cursor=str(lines[-1][0] if lines else start),
            last=len(lines) < limit,
        )

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """See `Source.covered`: never."""
        del cursor, page
        return None

    def _lines(self, after: int) -> Iterator[tuple[int, str]]:
        """Numbered lines that are not blank, after line `after`."""
        try:
            with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
                for number, line in enumerate(file, start=1):
                    if number > after and line.strip():
                        yield number, line
        except OSError as exc:
            raise SourceError(f"The manifest {self.path} cannot be read: {exc.strerror}.") from exc

    def _meet(self, number: int, line: str) -> PhotoRef | Refusal:
        try:
            uri, user = _parse(line)
            bucket, key = parse_uri(uri)
        except (ValueError, RecursionError, SourceError) as exc:
            return Refusal(name=f"line {number}", code=Code.BAD_LINE, reason=str(exc))
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


def _parse(line: str) -> tuple[str, str | None]:
    """The object and the user that a line names; ValueError with one sentence if it cannot be read."""
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
