"""One photo's bytes, for whoever needs just one: thumbnails and checks. (Workers fetch in bulk: `workers.fetch`.)"""

from typing import TypedDict

from pipeline.address import parse_uri
from pipeline.errors import PhotoChanged, PhotoGone, SourceError
from pipeline.records import Version
from pipeline.sources.allowed import ANYWHERE, LOCAL, Allowed
from pipeline.sources.folder import read_local
from pipeline.sources.s3 import S3Access, translated


class Objects:
    """Reads photos from where the ledger says they are. Threads may share it."""

    def __init__(self, access: S3Access, allowed: Allowed = ANYWHERE) -> None:
        self.place = access.place
        self.allowed = allowed
        self._client = access.client()

    def has(self, bucket: str) -> bool:
        """Whether the bucket is there, be it closed to us; ServiceDown if nobody answers."""
        name, _ = parse_uri(bucket)
        try:
            with translated(self.place, name):
                self._client.head_bucket(Bucket=name)
        except PhotoGone:
            return False
        except SourceError:
            return True  # it refuses us, so it is there
        return True

    def lets_in(self, bucket: str, key: str) -> bool:
        """Whether these credentials may still list the bucket where `key` is; ServiceDown if nobody answers.

        Not HEAD of the bucket: rights that are given for one prefix only would not allow it.
        """
        name, _ = parse_uri(bucket)
        try:
            with translated(self.place, name):
                self._client.list_objects_v2(Bucket=name, Prefix=key, MaxKeys=1)
        except (PhotoGone, SourceError):
            return False
        return True

    def head(self, bucket: str, key: str, version_id: str | None = None) -> Version:
        """What the object is now, or that version of it; PhotoGone if it is not there any more."""
        name, _ = parse_uri(bucket)
        with translated(self.place, f"{bucket}/{key}"):
            answer = self._client.head_object(Bucket=name, Key=key, **_version(version_id))
        return Version(etag=answer["ETag"].strip('"'), size=answer["ContentLength"])

    def read(self, bucket: str, key: str, etag: str, size: int, version_id: str | None = None) -> bytes:
        """The bytes of the photo, if it is still the one that was listed, or of that version of it.

        Raises:
            PhotoGone, PhotoChanged: it is not.
            PhotoUnreadable: it lies where nothing may be read.
            ServiceDown: the store does not answer.
        """
        self.allowed.check_photo(bucket, key)
        if bucket == LOCAL:
            return read_local(key, etag, size)
        name, _ = parse_uri(bucket)
        with translated(self.place, f"{bucket}/{key}"):
            answer = self._client.get_object(Bucket=name, Key=key, IfMatch=f'"{etag}"', **_version(version_id))
            data = answer["Body"].read()
        if len(data) != size:
            raise PhotoChanged(f"{bucket}/{key} has {len(data)} bytes, listed were {size}.")
        return data


class _Versioned(TypedDict, total=False):
    VersionId: str


def _version(version_id: str | None) -> _Versioned:
    """Of a request: the version that is meant, or none, for the newest."""
    return {} if version_id is None else {"VersionId": version_id}
