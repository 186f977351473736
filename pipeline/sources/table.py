"""Photos named one by one in a table of comma-separated values, of a file or of S3.

With a header, columns go by their names: ``bucket`` and ``key``, and as there are ``version_id``, ``user``,
``consent`` (yes or no), ``etag`` with ``size`` and ``last_modified``, as in a manifest of JSON lines. Without one it is
what S3 Batch Operations reads: bucket, key, version, user, consent, as many as there are, with URL-encoded keys. They
are encoded, too, under a header that spells ``Key`` as Amazon does; under ``key`` they are taken as they stand.
"""

from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote_plus

from pipeline.errors import SourceError
from pipeline.records import Refusal
from pipeline.sources.lines import START, Position, Row, rows
from pipeline.sources.manifest import Entry, Manifest, bad_line
from pipeline.sources.named import Named, checked, consent_of, etag_of, size_of, time_of
from pipeline.sources.source import shown

COLUMNS = ("bucket", "key", "version_id", "user", "consent")  # where there is no header
_SPELT = {"versionid": "version_id", "lastmodifieddate": "last_modified", "lastmodified": "last_modified"}


class Table(Manifest):
    """The objects that a table names. The cursor is that of a manifest."""

    _header: "Header | None" = None

    def _entries(self, file: BinaryIO, start: Position = START) -> Iterator[Entry]:
        if self._header is None:
            self._header = self._read_header(file, start)
        header = self._header
        for row in rows(file, start):
            is_header = header.given and row.number == header.number
            yield row.after, None if is_header else named(row, f"line {row.number}", header)

    def _read_header(self, file: BinaryIO, start: Position) -> "Header":
        """What the first row says of the columns; `file` stands at `start` again afterwards."""
        if start.byte:
            file.seek(0)
        first = next(rows(file, START), None)
        file.seek(start.byte)
        return Header.of(first)


class Header:
    """What the columns of a table mean."""

    def __init__(self, names: tuple[str, ...], *, number: int, given: bool, encoded: bool) -> None:
        self.number = number  # of its line
        self.given = given  # a row of its own, and none that names an object
        self.names = names
        self.encoded = encoded  # whether keys are URL-encoded

    @classmethod
    def of(cls, first: Row | None) -> "Header":
        """From the first row, which may be a header or not."""
        fields = [] if first is None else [field.strip() for field in first.fields]
        names = tuple(_SPELT.get(name, name) for name in (field.lower() for field in fields))
        number = 0 if first is None else first.number
        if {"bucket", "key"} <= set(names):
            return cls(names, number=number, given=True, encoded="Key" in fields)
        return cls(COLUMNS, number=number, given=False, encoded=True)


def named(row: Row, name: str, header: Header) -> Named | Refusal:
    """What a row names."""
    try:
        return _parse(row, name, header)
    except (ValueError, SourceError) as exc:
        return bad_line(name, row.number, str(exc))


def _parse(row: Row, name: str, header: Header) -> Named:
    if row.bad is not None:
        raise ValueError(row.bad)
    if len(row.fields) < 2 or len(row.fields) > len(header.names):
        most = f"as many as its header, {len(header.names)}" if header.given else "bucket, key, version, user, consent"
        raise ValueError(f"has {len(row.fields)} fields; give {most}.")
    given = {column: field for column, field in zip(header.names, row.fields, strict=False) if field}
    bucket, key = given.get("bucket", "").strip(), given.get("key", "")
    if "/" in bucket:
        raise ValueError(f"names no bucket ({shown(bucket)}).")
    uri = f"s3://{bucket}/" + (unquote_plus(key, errors="surrogateescape") if header.encoded else key)
    consent, etag, size, time = map(given.get, ("consent", "etag", "size", "last_modified"))
    return checked(
        name,
        row.number,
        uri,
        user=given.get("user"),
        version_id=given.get("version_id"),
        consent=None if consent is None else consent_of(consent),
        etag=None if etag is None else etag_of(etag),
        size=None if size is None else size_of(size),
        modified_at=None if time is None else time_of(time),
    )
