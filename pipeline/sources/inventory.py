"""What an S3 Inventory lists: ``manifest.json``, its checksum, and the gzipped tables that it names.

Laws
1. Nothing of an inventory is believed before its MD5 is right: the manifest's stands beside it in
   ``manifest.checksum``, those of the tables in the manifest.
2. Only what is newest under its key, and no delete marker, is a photo. It is read as it is by then, and not as the
   version that the inventory names: an inventory is a day or a week old, and who wants old bytes names them in a
   manifest.
3. For the same reason an inventory is no complete listing: a photo that came since is not in it, and one that it does
   not hold may be there. So what it leaves out stays, and only listing the prefix itself subtracts what is gone.

An inventory that was copied to a folder is read there, its tables from the folder ``data`` beside it, above it or
in it. Rows are numbered through all tables.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.errors import SourceError
from pipeline.records import Page, Refusal
from pipeline.sources.allowed import ANYWHERE, LOCAL, Allowed
from pipeline.sources.document import Document, document, folder_of
from pipeline.sources.lines import Position, Row, rows
from pipeline.sources.manifest import paged
from pipeline.sources.named import Lookup, Named
from pipeline.sources.s3 import S3Access
from pipeline.sources.source import Interval, shown
from pipeline.sources.table import Header, named
from pipeline.sources.user_rule import UserRule

MOST_MANIFEST_BYTES = 16 * 1024 * 1024
SKIP_BYTES = 1024 * 1024  # at a time, on the way to the row where a listing goes on

_COLUMNS = {
    "Bucket": "bucket",
    "Key": "key",
    "Size": "size",
    "ETag": "etag",
    "LastModifiedDate": "last_modified",
    "IsLatest": "is_latest",
    "IsDeleteMarker": "is_delete_marker",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    place: str
    md5: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Contents:
    """What a manifest.json says."""

    md5: str  # of itself
    tables: tuple[_Table, ...]
    header: Header
    written_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cursor:
    """The last row read."""

    inventory: str  # the manifest's MD5
    table: int
    row: int  # rows before, of all tables
    byte: int  # of the table's text
    version: str  # of the table's object; empty: its MD5 is still to be taken

    @classmethod
    def parse(cls, text: str) -> "_Cursor":
        inventory, table, row, byte, version = text.split(":", 4)
        return cls(inventory=inventory, table=int(table), row=int(row), byte=int(byte), version=version)

    def __str__(self) -> str:
        return f"{self.inventory}:{self.table}:{self.row}:{self.byte}:{self.version}"


class Inventory:
    """The newest objects of an inventory."""

    def __init__(self, place: str, rule: UserRule, access: S3Access, allowed: Allowed = ANYWHERE) -> None:
        self._access, self._allowed = access, allowed
        self._lookup = Lookup(rule, access, allowed)
        self._manifest = self._document(place)
        self._checksum = self._document(folder_of(place) + "manifest.checksum")
        self._read: _Contents | None = None
        self._reading: tuple[_Cursor, Iterator[Row]] | None = None  # where the last page ended

    def check(self, *, may_be_empty: bool = False) -> None:
        """See `Source.check`."""
        if not self._contents().tables and not may_be_empty:
            raise SourceError(f"The inventory {self._manifest.name} lists no tables, so it is empty.")

    def page(self, cursor: str | None, limit: int) -> Page:
        """See `Source.page`."""
        contents = self._contents()
        at = _Cursor.parse(cursor) if cursor else _Cursor(inventory=contents.md5, table=0, row=0, byte=0, version="")
        if at.inventory != contents.md5:
            raise SourceError(f"{self._manifest.name} was changed while it was listed; run the job again.")
        entries: list[Named | Refusal] = []
        taken = 0
        while taken < limit and at.table < len(contents.tables):
            at, found, exhausted = self._take(contents, at, limit - taken)
            taken += len(found)
            entries += (entry for row in found if (entry := _entry(row, contents.header)) is not None)
            if exhausted:
                at = _Cursor(inventory=at.inventory, table=at.table + 1, row=at.row, byte=0, version="")
        return paged(
            self._lookup.meet(entries, contents.written_at), cursor=str(at), last=at.table == len(contents.tables)
        )

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """See `Source.covered`: never."""
        del cursor, page
        return None

    def _take(self, contents: _Contents, at: _Cursor, limit: int) -> tuple[_Cursor, list[Row], bool]:
        """The next rows of the table that `at` is in, each numbered; and whether it has no more."""
        at, reading = self._continued(contents.tables[at.table], at)
        try:
            found = list(islice(reading, limit))
        except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
            place = contents.tables[at.table].place
            raise SourceError(f"{place} is no whole gzip file ({exc}); have the inventory made again.") from exc
        end = found[-1].after.byte if found else at.byte
        row = at.row + len(found)
        numbered = [
            Row(number=at.row + n, after=each.after, fields=each.fields, bad=each.bad)
            for n, each in enumerate(found, start=1)
        ]
        after = _Cursor(inventory=at.inventory, table=at.table, row=row, byte=end, version=at.version)
        self._reading = (after, reading)
        return after, numbered, len(found) < limit

    def _continued(self, table: _Table, at: _Cursor) -> tuple[_Cursor, Iterator[Row]]:
        """The rows that follow `at`, and `at` with the version that they are of."""
        reading, self._reading = self._reading, None
        if reading is not None and reading[0] == at:
            return reading
        opened = self._document(table.place)
        pinned = at.version and table.place.startswith("s3://")  # a file may be another one by now
        version = at.version if pinned else _verified(opened, table.md5)
        begun = _Cursor(inventory=at.inventory, table=at.table, row=at.row, byte=at.byte, version=version)
        return begun, _rows(opened, version, at.byte)

    def _document(self, place: str) -> Document:
        return document(place, self._access, self._lookup.client)

    def _contents(self) -> _Contents:
        if self._read is None:
            data, checksum = _whole(self._manifest), _whole(self._checksum)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if checksum.strip().lower() != md5.encode():
                raise SourceError(f"{self._manifest.name} is not what manifest.checksum says; have it made again.")
            self._read = self._parse(data, md5, self._manifest.stamp().modified_at)
        return self._read

    def _parse(self, data: bytes, md5: str, written_at: datetime) -> _Contents:
        try:
            facts = json.loads(data)
            form, schema, files = facts["fileFormat"], facts["fileSchema"], facts["files"]
            bucket = facts["destinationBucket"].rpartition(":")[2]
            tables = tuple(_Table(place=self._place(bucket, f["key"]), md5=f["MD5checksum"].lower()) for f in files)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
            raise SourceError(f"{self._manifest.name} is no manifest.json of an S3 Inventory.") from exc
        if form != "CSV":
            raise SourceError(f"{self._manifest.name} is of form {shown(str(form))}; have the inventory made as CSV.")
        columns = [column.strip() for column in str(schema).split(",")]
        if not {"Bucket", "Key"} <= set(columns):
            raise SourceError(f"The schema of {self._manifest.name} names no Bucket and Key.")
        names = tuple(_COLUMNS.get(column, column) for column in columns)
        header = Header(names, number=0, given=True, encoded=True)
        return _Contents(md5=md5, tables=tables, header=header, written_at=written_at)

    def _place(self, bucket: str, key: str) -> str:
        """Where a table is; SourceError if nothing may be read there."""
        if self._manifest.name.startswith("s3://"):
            place, held = f"s3://{bucket}/{key}", self._allowed.holds(f"s3://{bucket}", key)
        else:
            place = _beside(Path(self._manifest.name).parent, Path(key).name)
            held = self._allowed.holds(LOCAL, place)
        if not held:
            raise SourceError(
                f"{shown(place)}, which the inventory names, lies outside of the places that may be read."
            )
        return place


def _beside(folder: Path, name: str) -> str:
    """The table of this name, near an inventory that was copied here."""
    for place in (folder / "data" / name, folder.parent / "data" / name):
        if place.is_file():
            return str(place)
    return str(folder / name)


def _whole(text: Document) -> bytes:
    stamp = text.stamp()
    if stamp.size > MOST_MANIFEST_BYTES:
        raise SourceError(f"{text.name} has {stamp.size:,} bytes, which is too many for a manifest of an inventory.")
    with text.reading(0, stamp.version) as file:
        return file.read(MOST_MANIFEST_BYTES)


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)


def _verified(table: Document, md5: str) -> str:
    """The version of a table, all of whose bytes are what the manifest says."""
    stamp = table.stamp()
    with table.reading(0, stamp.version) as file:
        found = hashlib.file_digest(cast(io.BufferedReader, file), _md5).hexdigest()
    if found != md5:
        raise SourceError(f"{table.name} is not what the inventory's manifest says; have the inventory made again.")
    return stamp.version or found


def _rows(table: Document, version: str, byte: int) -> Iterator[Row]:
    """The rows of a table after `byte` of its text, which is read from its beginning: gzip knows no other way."""
    with table.reading(0, version) as file, gzip.open(file) as opened:
        text = cast(BinaryIO, opened)
        left = byte
        while left and (skipped := len(text.read(min(left, SKIP_BYTES)))):
            left -= skipped
        yield from rows(text, Position(byte=byte))


def _entry(row: Row, header: Header) -> Named | Refusal | None:
    """What a row lists; None: nothing that is there now."""
    given: dict[str, Any] = dict(zip(header.names, row.fields, strict=False))
    if given.get("is_latest", "true") == "false" or given.get("is_delete_marker", "false") == "true":
        return None
    return named(row, f"row {row.number}", header)
