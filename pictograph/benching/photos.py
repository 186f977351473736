"""Which photos are measured: those that come with the demonstration, or some of a source, evenly spread over it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from pictograph import samples
from pictograph.places import servers
from pictograph.stack import Service
from pipeline.errors import ConfigurationError
from pipeline.records import PhotoRef, PhotoTask
from pipeline.settings import Settings
from pipeline.sources.allowed import Allowed
from pipeline.sources.opening import kind_of, open_source
from pipeline.sources.s3 import S3Access
from pipeline.sources.source import Source
from pipeline.sources.user_rule import UserRule
from workers.fetch import Fetcher

T = TypeVar("T")

MOST_LISTED = 20_000  # photos of a source that are looked at; listing a million would take longer than measuring
PAGE_KEYS = 1000
ENOUGH_PHOTOS = 2000  # with their copies: some seconds' work, of which filling and emptying the stream is little
ENOUGH_BYTES = 2_000_000_000  # with their copies; of larger photos fewer do, because they take longer

_ANYBODY = UserRule.parse("{user}/{photo}", "bench")


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """A photo where its owner keeps it. It is only read."""

    size: int  # bytes
    read: Callable[[], bytes]  # SkipPhoto, PhotoChanged: it cannot be


@contextmanager
def originals(source: str | None, most: int, settings: Settings) -> Iterator[list[Original]]:
    """At most so many photos of a folder, a prefix in S3 or a manifest; None: the demonstration's.

    They can be read while the block runs: an embedded S3 is up for as long.

    Raises:
        ConfigurationError: there are none.
    """
    if source is None:
        paths = [picture.path for picture in samples.bundled()]
        yield evenly([Original(size=path.stat().st_size, read=path.read_bytes) for path in paths], most)
        return
    kind, place = kind_of(source)
    with servers(settings, frozenset() if kind == "folder" else frozenset({Service.S3})) as found:
        access = S3Access.of(found)
        allowed = Allowed.of(settings)
        fetcher = Fetcher(access, settings.max_photo_bytes, allowed)
        refs = list(islice(_listed(open_source(kind, place, _ANYBODY, access, allowed)), MOST_LISTED))
        if not refs:
            raise ConfigurationError(f"There is no photo in {source}; name another folder or prefix.")
        yield [Original(size=ref.size, read=partial(fetcher.fetch, _task(ref))) for ref in evenly(refs, most)]


def unlike(data: bytes, n: int) -> bytes:
    """The same photo in other bytes: decoders ignore what follows its end, content hashes do not."""
    return data + n.to_bytes(8, "big")


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spread."""
    number = min(most, len(items))
    return [items[n * len(items) // number] for n in range(number)]


def copies_needed(photos: Sequence[Original], asked: int) -> int:
    """How many copies of each photo: as many as were asked for, or (0) as make enough to be measured."""
    if asked:
        return asked
    enough = -(-ENOUGH_PHOTOS // len(photos))
    total = sum(photo.size for photo in photos)
    return max(1, min(enough, ENOUGH_BYTES // max(total, 1)))


def _listed(source: Source) -> Iterator[PhotoRef]:
    source.check()
    cursor = None
    while True:
        page = source.page(cursor, PAGE_KEYS)
        yield from page.refs
        if page.last:
            return
        cursor = page.cursor


def _task(ref: PhotoRef) -> PhotoTask:
    """A photo of no job."""
    return PhotoTask(
        job_id=0,
        shard_id=0,
        photo_id=0,
        content_rev=1,
        bucket=ref.bucket,
        key=ref.key,
        etag=ref.etag,
        size=ref.size,
        version_id=ref.version_id,
    )
