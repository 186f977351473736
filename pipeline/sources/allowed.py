"""The places that photos may be read from: what PICTOGRAPH_SOURCES lists, and everything below it.

Law: a place holds what lies below it as a folder. ``s3://photos/ann`` holds ``ann/1.jpg``, but neither ``anna/1.jpg``
nor an object called ``ann``. A key that goes up (``ann/../ben/1.jpg``) lies in no place: S3 takes it literally, but
servers that keep objects as files resolve it.

Nothing is listed unless the setting is there: then whoever may use these credentials may name any place.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.address import as_folder, parse_uri
from pipeline.errors import PhotoUnreadable, SourceError
from pipeline.records import Code
from pipeline.settings import PREFIX, Settings

LOCAL = "file://"  # the bucket of all local files

_VARIABLE = PREFIX + "SOURCES"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A bucket, or a part of it."""

    bucket: str  # as in `PhotoRef`
    prefix: str  # ends with a slash; empty: the whole bucket

    @classmethod
    def named(cls, text: str) -> "Place":
        """``s3://bucket/prefix`` or an absolute folder, whose links are followed now: photos have paths without links.

        Raises:
            SourceError: no such address.
        """
        if text.startswith("/"):
            return cls(bucket=LOCAL, prefix=as_folder(str(Path(text).resolve())))
        bucket, prefix = parse_uri(text)
        return cls(bucket=f"s3://{bucket}", prefix=as_folder(prefix))


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """Which places may be read. Decides by names alone, and asks nobody."""

    places: tuple[Place, ...] | None  # None: all

    @classmethod
    def of(cls, settings: Settings) -> "Allowed":
        """The places that the settings list."""
        return cls(places=None if settings.sources is None else tuple(map(Place.named, settings.sources)))

    def holds(self, bucket: str, key: str) -> bool:
        """Whether a photo, or all that lies below a key with a final slash, may be read."""
        if self.places is None:
            return True
        if not {".", ".."}.isdisjoint(key.split("/")):
            return False
        return any(place.bucket == bucket and key.startswith(place.prefix) for place in self.places)

    def check_source(self, kind: str, source: str) -> None:
        """Raise SourceError unless this source, as `kind_of` gives it, lies in a place that may be read.

        What it names is another question, asked of each photo.
        """
        if source.startswith("s3://"):
            bucket, key = parse_uri(source)
            held = self.holds(f"s3://{bucket}", as_folder(key) if kind == "s3" else key)
        else:
            held = self.holds(LOCAL, as_folder(source) if kind == "folder" else source)
        if not held:
            raise SourceError(f"{source} lies outside of the places that {_VARIABLE} lists; have it added to them.")

    def check_photo(self, bucket: str, key: str) -> None:
        """Raise PhotoUnreadable unless this photo lies in a place that may be read."""
        if not self.holds(bucket, key):
            raise PhotoUnreadable(f"The photo lies outside of the places that {_VARIABLE} lists.", Code.FORBIDDEN)


ANYWHERE = Allowed(places=None)
