"""Objects that event messages told of, from the ledger's own rows: looked at, and taken as they are by now.

An event says only that something happened to a key. What lies there is asked of S3, so that events which come late, or
not at all, make nothing untrue: an object that is there is a photo, whatever the event said, and one that is not is
gone. A bucket that is away takes nothing with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.errors import SourceError
from pipeline.records import Code, Page, Refusal, Removed
from pipeline.sources.allowed import ANYWHERE, Allowed
from pipeline.sources.manifest import paged
from pipeline.sources.named import Lookup, Named
from pipeline.sources.s3 import S3Access
from pipeline.sources.source import Interval
from pipeline.sources.user_rule import UserRule


@dataclass(frozen=True, kw_only=True, slots=True)
class EventEntry:
    """An object that a job is about."""

    line: int  # from 1
    bucket: str  # without "s3://"
    key: str


Entries = Callable[[int, int], Sequence[EventEntry]]  # those after a line, at most so many


class Events:
    """The objects of a job's entries. The cursor is the last line."""

    def __init__(self, read: Entries, rule: UserRule, access: S3Access, allowed: Allowed = ANYWHERE) -> None:
        self._read = read
        self._lookup = Lookup(rule, access, allowed)

    def check(self, *, may_be_empty: bool = False) -> None:
        """See `Source.check`."""
        if not self._read(0, 1) and not may_be_empty:
            raise SourceError("There are no events.")

    def page(self, cursor: str | None, limit: int) -> Page:
        """See `Source.page`; what is not there any more is `removed`, and counts as no photo of the job."""
        entries = self._read(int(cursor or 0), limit)
        named = [Named(name=f"event {e.line}", line=e.line, bucket=e.bucket, key=e.key) for e in entries]
        met = self._lookup.meet(named, datetime.now(UTC))
        gone = [isinstance(found, Refusal) and found.code is Code.GONE for found in met]
        self._confirm({entry.bucket for entry, is_gone in zip(entries, gone, strict=True) if is_gone})
        return paged(
            [found for found, is_gone in zip(met, gone, strict=True) if not is_gone],
            cursor=str(entries[-1].line) if entries else cursor or "0",
            last=len(entries) < limit,
            removed=tuple(
                Removed(bucket=f"s3://{entry.bucket}", key=entry.key)
                for entry, is_gone in zip(entries, gone, strict=True)
                if is_gone
            ),
        )

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """See `Source.covered`: never."""
        del cursor, page
        return None

    def _confirm(self, buckets: set[str]) -> None:
        """SourceError if one of the buckets is away, so that nothing in it was found."""
        for bucket in sorted(buckets):
            if not self._lookup.has(bucket):
                raise SourceError(f"There is no bucket {bucket} any more; is it the right endpoint?")
