"""Photos named one by one in JSON lines, of a file or of S3: ``{"source-ref": "s3://bucket/key", "user": "ann"}``.

``source-ref`` is spelt as Amazon's manifests have it. A line may say more: ``version_id`` (these bytes are read,
whatever came later), ``consent`` (true or false), and ``etag`` with ``size`` in bytes (and ``last_modified``), which
spare asking for the object. Whatever else it holds means nothing.

A line that cannot be read is refused by its number, and the rest is done. A manifest is no complete listing: what it
leaves out stays. It is read once from beginning to end, however many pages that makes.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from pipeline.errors import SourceError
from pipeline.records import Code, Page, PhotoRef, Refusal, Removed
from pipeline.sources.allowed import ANYWHERE, Allowed
from pipeline.sources.document import Stamp, document
from pipeline.sources.lines import MOST_LINE_BYTES, START, Line, Position, lines
from pipeline.sources.named import Lookup, Named, checked, etag_of, size_of, time_of
from pipeline.sources.s3 import S3Access
from pipeline.sources.source import Interval, shown
from pipeline.sources.user_rule import UserRule

__all__ = ["MOST_LINE_BYTES", "Entry", "Manifest", "bad_line"]

Entry = tuple[Position, Named | Refusal | None]  # where the next one begins, and what it names; None: nothing, rightly


class Manifest:
    """The objects that a manifest names.

    The cursor is "LINE:BYTES:VERSION": the last line read, where it ends, and of which version of the text.
    """

    def __init__(self, place: str, rule: UserRule, access: S3Access, allowed: Allowed = ANYWHERE) -> None:
        self._lookup = Lookup(rule, access, allowed)
        self.document = document(place, access, self._lookup.client)
        self._stamped: Stamp | None = None

    def check(self, *, may_be_empty: bool = False) -> None:
        """See `Source.check`."""
        with self.document.reading(0, self._stamp().version) as file:
            if (
                next((entry for _, entry in self._entries(file) if entry is not None), None) is None
                and not may_be_empty
            ):
                raise SourceError(f"The manifest {self.document.name} is empty.")

    def page(self, cursor: str | None, limit: int) -> Page:
        """See `Source.page`."""
        stamp = self._stamp()
        line, byte, version = (cursor or f"0:0:{stamp.version}").split(":", 2)
        start = Position(line=int(line), byte=int(byte))
        with self.document.reading(start.byte, version) as file:
            read = list(islice(self._entries(file, start), limit))
        end = read[-1][0] if read else start
        met = self._lookup.meet([entry for _, entry in read if entry is not None], stamp.modified_at)
        return paged(met, cursor=f"{end.line}:{end.byte}:{version}", last=len(read) < limit)

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """See `Source.covered`: never."""
        del cursor, page
        return None

    def _stamp(self) -> Stamp:
        """What the text was when it was first looked at; each piece that is read must still be of it."""
        self._stamped = self._stamped or self.document.stamp()
        return self._stamped

    def _entries(self, file: BinaryIO, start: Position = START) -> Iterator[Entry]:
        for line in lines(file, start):
            yield line.after, _named(line)


def paged(met: list[PhotoRef | Refusal], *, cursor: str, last: bool, removed: tuple[Removed, ...] = ()) -> Page:
    """A page of what was named: what could not be had failed, what should not have been named is refused."""
    refusals = [entry for entry in met if isinstance(entry, Refusal)]
    return Page(
        refs=tuple(entry for entry in met if isinstance(entry, PhotoRef)),
        refusals=tuple(entry for entry in refusals if entry.code not in (Code.GONE, Code.FORBIDDEN)),
        gone=tuple(entry for entry in refusals if entry.code in (Code.GONE, Code.FORBIDDEN)),
        cursor=cursor,
        last=last,
        removed=removed,
    )


def bad_line(name: str, line: int, reason: str) -> Refusal:
    """Refuse a line that says nothing that could be understood."""
    return Refusal(name=name, code=Code.BAD_LINE, reason=shown(reason), line=line)


def _named(line: Line) -> Named | Refusal:
    name = f"line {line.number}"
    try:
        return _parse(name, line)
    except (ValueError, RecursionError, SourceError) as exc:
        return bad_line(name, line.number, str(exc))


def _parse(name: str, line: Line) -> Named:
    """What a line names; ValueError with one sentence if it cannot be read."""
    if line.bad is not None:
        raise ValueError(line.bad)
    try:
        entry = json.loads(line.text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"is no JSON object ({exc.msg} at column {exc.colno}).") from exc
    if not isinstance(entry, dict) or not isinstance(entry.get("source-ref"), str):
        raise ValueError('must be an object with "source-ref": "s3://bucket/key".')
    consent, size = entry.get("consent"), entry.get("size")
    if not (consent is None or isinstance(consent, bool)):
        raise ValueError('"consent" must be true or false.')
    if not (size is None or (isinstance(size, int) and not isinstance(size, bool))):
        raise ValueError('"size" must be a number of bytes.')
    etag, time = _text(entry, "etag"), _text(entry, "last_modified")
    return checked(
        name,
        line.number,
        entry["source-ref"],
        user=_text(entry, "user"),
        version_id=_text(entry, "version_id"),
        consent=consent,
        etag=None if etag is None else etag_of(etag),
        size=None if size is None else size_of(str(size)),
        modified_at=None if time is None else time_of(time),
    )


def _text(entry: dict[str, Any], field: str) -> str | None:
    value = entry.get(field)
    if value is not None and not (isinstance(value, str) and value):
        raise ValueError(f'"{field}" must be a non-empty string.')
    return value
