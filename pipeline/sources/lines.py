"""Lines of JSON and rows of CSV, cut out of bytes: each with its number, and where the next one begins.

Laws
1. Whatever the bytes, a bad line costs itself alone, and the next one is found again.
2. No line takes more memory than `MOST_LINE_BYTES`, nor does a row of several lines.
3. Numbers are those that an editor shows: lines of the text, from 1, blank ones counted. A row has that of its first.
"""

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MOST_LINE_BYTES = 1024 * 1024

_BOM = "\ufeff"  # which spreadsheets put before a text
_TOO_LONG = f"has more than {MOST_LINE_BYTES:,} bytes."


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Between two lines."""

    line: int = 0  # lines before it
    byte: int = 0  # bytes before it


START = Position()


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line that is not blank; bytes that are no UTF-8 are lone surrogates in it."""

    number: int
    after: Position
    text: str  # empty if it is bad
    bad: str | None = None  # why it cannot be read, as a sentence without its subject


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a table that is not blank."""

    number: int
    after: Position
    fields: list[str]  # empty if it is bad
    bad: str | None = None  # as in `Line`


def lines(file: BinaryIO, start: Position) -> Iterator[Line]:
    """The lines of `file`, which stands at `start`."""
    number, byte = start.line, start.byte
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        long = len(line) > MOST_LINE_BYTES
        byte += len(line) + (_skip_rest(file, line) if long else 0)
        if long:
            yield Line(number=number, after=Position(line=number, byte=byte), text="", bad=_TOO_LONG)
        elif line.strip():
            yield Line(number=number, after=Position(line=number, byte=byte), text=_decoded(line, number))


def rows(file: BinaryIO, start: Position) -> Iterator[Row]:
    """The rows of `file`, which stands at `start`, as RFC 4180 has them: a quoted field may hold line breaks.

    A row whose quotes cannot be made sense of is bad, and the next is looked for on the line that follows its first.
    """
    feed = _Feed(file, start)
    reader = csv.reader(feed, strict=True)
    while True:
        number, bad, fields = feed.begin(), None, []
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as exc:
            bad = str(exc) if isinstance(exc, _TooLong) else f"is no row of a table ({exc})."
            feed.only_first()
            reader = csv.reader(feed, strict=True)
        if fields or bad:
            yield Row(number=number, after=feed.position, fields=fields, bad=bad)


class _TooLong(Exception):
    """A row grows beyond what is held in memory."""


class _Feed:
    """Gives a CSV reader line after line, and takes back what a bad row should not have swallowed."""

    def __init__(self, file: BinaryIO, start: Position) -> None:
        self._file = file
        self._begun = start  # where the present row begins
        self._taken: list[tuple[bytes, int]] = []  # lines of it, and how many bytes more they have
        self._bytes = 0  # of `_taken`
        self._given_back: deque[tuple[bytes, int]] = deque()

    def begin(self) -> int:
        """The number of the row that begins now."""
        self._begun, self._taken, self._bytes = self.position, [], 0
        return self._begun.line + 1

    @property
    def position(self) -> Position:
        """After the lines of the present row."""
        return Position(line=self._begun.line + len(self._taken), byte=self._begun.byte + self._bytes)

    def only_first(self) -> None:
        """The row ends with its first line; the others belong to those that follow."""
        self._given_back.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
        self._bytes = sum(len(line) + more for line, more in self._taken)

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line, more = self._given_back.popleft() if self._given_back else self._read()
        if not line:
            raise StopIteration
        self._taken.append((line, more))
        self._bytes += len(line) + more
        if self._bytes > MOST_LINE_BYTES:
            raise _TooLong(_TOO_LONG)
        return _decoded(line, self._begun.line + len(self._taken))

    def _read(self) -> tuple[bytes, int]:
        line = self._file.readline(MOST_LINE_BYTES + 1)
        return line, (_skip_rest(self._file, line) if len(line) > MOST_LINE_BYTES else 0)


def _skip_rest(file: BinaryIO, line: bytes) -> int:
    """Read on to the end of the line that `line` begins; returns how many bytes that were."""
    skipped = 0
    while line and not line.endswith(b"\n"):
        line = file.readline(MOST_LINE_BYTES)
        skipped += len(line)
    return skipped


def _decoded(line: bytes, number: int) -> str:
    text = line.decode("utf-8", "surrogateescape")
    return text.removeprefix(_BOM) if number == 1 else text
