"""Addresses of S3: strict, because jobs and manifests are written by anybody.

An address is a bucket and a prefix and nothing else. It can say neither who we are nor which server is asked: there is
no room in it for a user, a password, a host, a port or a region; those come from the settings alone.
"""

import re

from pipeline.errors import SourceError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # as Amazon has it since 2018
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+){3}")  # an IP address


def parse_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/prefix`` into bucket and prefix.

    Raises:
        SourceError: no bucket is named, or none that can be.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise SourceError(f"{uri!r} is no S3 address; write s3://bucket/prefix.")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _NUMBERS.fullmatch(bucket):
        raise SourceError(f"{bucket!r} is no bucket's name; it has 3 to 63 small letters, digits, dots and hyphens.")
    return bucket, prefix


def as_folder(prefix: str) -> str:
    """A prefix is a folder: a final slash is added where it is missing, so that ``ann`` does not stand for ``anna``."""
    return prefix if prefix.endswith("/") or not prefix else prefix + "/"
