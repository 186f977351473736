"""Objects that something names one by one: a line of a manifest, a row of a table, an event. What are they now?

Each object is asked for its version (HEAD), several at a time, and once per page however many lines name it; one whose
ETag and size are given is not asked for at all. What is wrong with one object ends that one, and nothing else: it is
gone, or closed to us. Only what is wrong with all of them (credentials, endpoint) ends the listing.

A line names an object of S3 and its user, and nothing else counts in it: no local file, no server, no credentials. An
object outside of the places that may be read is excluded, and nobody is asked for it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.address import parse_uri
from pipeline.errors import AccessDenied, PhotoGone, SourceError
from pipeline.records import Code, PhotoRef, Refusal
from pipeline.sources.allowed import Allowed
from pipeline.sources.s3 import S3Access, translated
from pipeline.sources.source import MOST_NAME_BYTES, shown, storable
from pipeline.sources.user_rule import UserRule

HEADS_AT_ONCE = 16
MOST_BYTES = 2**63 - 1  # that the ledger can hold

_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_Object = tuple[str, str, str | None]  # bucket, key, version


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """What a line says of one object."""

    name: str  # of the line, for sentences
    line: int
    bucket: str  # without "s3://"
    key: str
    user: str | None = None  # None: the rule says it
    version_id: str | None = None
    consent: bool | None = None
    etag: str | None = None  # with `size`: nobody need be asked
    size: int | None = None  # bytes
    modified_at: datetime | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/{self.key}"

    def refused(self, code: Code, reason: str) -> Refusal:
        """This line, refused."""
        return Refusal(
            name=self.name, code=code, reason=reason, line=self.line, uri=self.uri, version_id=self.version_id
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    etag: str
    size: int
    modified_at: datetime


class Lookup:
    """Says what named objects are. Threads may share it."""

    def __init__(self, rule: UserRule, access: S3Access, allowed: Allowed) -> None:
        self._rule, self._allowed, self._place = rule, allowed, access.place
        self.client = access.client(HEADS_AT_ONCE)

    def meet(self, entries: Sequence[Named | Refusal], written_at: datetime) -> list[PhotoRef | Refusal]:
        """Each entry as what it is now. `written_at` dates those whose line says everything but the time.

        Raises:
            SourceError: whoever is asked refuses us altogether.
            ServiceDown: nobody answers.
        """
        owned = [self._owned(entry) if isinstance(entry, Named) else entry for entry in entries]
        asked = {_object(entry): None for entry in owned if isinstance(entry, Named) and not _complete(entry)}
        found: dict[_Object, _Head | tuple[Code, str]] = {}
        if asked:
            with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
                found = dict(zip(asked, pool.map(self._head, asked), strict=True))
        return [
            entry if isinstance(entry, Refusal) else _met(entry, found.get(_object(entry)), written_at)
            for entry in owned
        ]

    def has(self, bucket: str) -> bool:
        """Whether the bucket is there, be it closed to us."""
        try:
            with translated(self._place, bucket):
                self.client.head_bucket(Bucket=bucket)
        except PhotoGone:
            return False
        except AccessDenied:
            return True
        return True

    def _owned(self, entry: Named) -> Named | Refusal:
        if not self._allowed.holds(f"s3://{entry.bucket}", entry.key):
            reason = f"lies outside of the places that may be read ({shown(entry.uri)})."
            return entry.refused(Code.OUTSIDE, reason)
        if entry.user is not None:
            return entry
        owner = self._rule.owner(entry.key)
        if owner is None:
            reason = f"names {shown(entry.key)}, which does not match --user-from {self._rule.template!r}."
            return entry.refused(Code.NO_USER, reason)
        return _with_user(entry, owner)

    def _head(self, asked: _Object) -> _Head | tuple[Code, str]:
        bucket, key, version = asked
        try:
            with translated(self._place, f"s3://{bucket}/{key}"):
                head = (
                    self.client.head_object(Bucket=bucket, Key=key)
                    if version is None
                    else self.client.head_object(Bucket=bucket, Key=key, VersionId=version)
                )
        except PhotoGone as exc:
            return Code.GONE, str(exc) if version is None else f"s3://{bucket}/{key} has no version {version} any more."
        except SourceError as exc:
            self._blame_the_object(bucket, key)
            return Code.FORBIDDEN, str(exc)
        return _Head(etag=head["ETag"].strip('"'), size=head["ContentLength"], modified_at=head["LastModified"])

    def _blame_the_object(self, bucket: str, key: str) -> None:
        """Raise SourceError if S3 knows no such user as we are. An answer to HEAD says only that something was wrong.

        A bucket that is closed to us is its objects' trouble: a manifest may name objects of many buckets.
        """
        try:
            with translated(self._place, bucket):
                self.client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        except AccessDenied:
            return


def _object(entry: Named) -> _Object:
    return entry.bucket, entry.key, entry.version_id


def _complete(entry: Named) -> bool:
    return entry.etag is not None and entry.size is not None


def _with_user(entry: Named, owner: str) -> Named:
    """Written out, because `dataclasses.replace` takes longer than all else that is done for a line."""
    return Named(
        name=entry.name,
        line=entry.line,
        bucket=entry.bucket,
        key=entry.key,
        user=owner,
        version_id=entry.version_id,
        consent=entry.consent,
        etag=entry.etag,
        size=entry.size,
        modified_at=entry.modified_at,
    )


def _met(entry: Named, head: _Head | tuple[Code, str] | None, written_at: datetime) -> PhotoRef | Refusal:
    if isinstance(head, tuple):
        return entry.refused(*head)
    assert entry.user is not None
    if head is None:
        assert entry.etag is not None
        assert entry.size is not None
        head = _Head(etag=entry.etag, size=entry.size, modified_at=entry.modified_at or written_at)
    return PhotoRef(
        bucket=f"s3://{entry.bucket}",
        key=entry.key,
        user=entry.user,
        etag=head.etag,
        size=head.size,
        modified_at=head.modified_at,
        version_id=entry.version_id,
        line=entry.line,
        consent=entry.consent,
    )


# ---- what the fields of a line may hold; ValueError with one sentence, without its subject, if they do not


def checked(
    name: str,
    line: int,
    uri: str,
    *,
    user: str | None = None,
    version_id: str | None = None,
    consent: bool | None = None,
    etag: str | None = None,
    size: int | None = None,
    modified_at: datetime | None = None,
) -> Named:
    """An entry whose names can be stored and asked for.

    Raises:
        ValueError, SourceError: it is none.
    """
    if not uri.removeprefix("s3://").partition("/")[2]:
        raise ValueError(f"names no object ({shown(uri)}); write s3://bucket/key.")
    for value in (uri, user, version_id, etag):
        if value is not None and not storable(value):
            raise ValueError(
                f"holds a name that is not valid UTF-8, holds a NUL, or has more than {MOST_NAME_BYTES:,} bytes "
                f"({shown(value)})."
            )
    bucket, key = parse_uri(uri)
    return Named(
        name=name,
        line=line,
        bucket=bucket,
        key=key,
        user=user,
        version_id=version_id,
        consent=consent,
        etag=etag,
        size=size,
        modified_at=modified_at,
    )


def etag_of(text: str) -> str:
    """An ETag, with or without its quotes."""
    bare = text.strip('"')
    if not bare or not bare.isascii() or not bare.isprintable() or '"' in bare:
        raise ValueError(f"holds an etag that is none ({shown(text)}).")
    return bare


def size_of(text: str) -> int:
    """A number of bytes."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MOST_BYTES)) or int(text) > MOST_BYTES:
        raise ValueError(f"holds a size that is no number of bytes ({shown(text)}).")
    return int(text)


def time_of(text: str) -> datetime:
    """A time as ISO 8601 has it; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ValueError(f"holds a last_modified that is no time ({shown(text)}).") from exc
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def consent_of(text: str) -> bool:
    """A yes or a no."""
    answer = _WORDS.get(text.strip().lower())
    if answer is None:
        raise ValueError(f"holds a consent that is neither yes nor no ({shown(text)}).")
    return answer
