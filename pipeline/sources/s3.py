"""Photos under an S3 prefix, listed with boto3; and the one place that knows how S3 says no.

S3 lists keys in the order of their UTF-8 bytes, at most 1,000 at a time; `StartAfter` resumes after any key, so the
checkpoint is simply the last key. Some servers go folder by folder instead (SeaweedFS): they resume as well, but what
lies between two keys is then another stretch, so each page says which orders it agrees with. (Directory buckets have
neither order nor StartAfter and are refused by their name.)
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from pipeline.address import as_folder, parse_uri
from pipeline.errors import AccessDenied, PhotoChanged, PhotoGone, ServiceDown, SourceError, Throttled
from pipeline.records import Code, Page, PhotoRef, Refusal
from pipeline.settings import Settings
from pipeline.sources.source import Interval, address, after_prefix, bad_key, no_user, orders_of, storable
from pipeline.sources.user_rule import UserRule

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

AMAZON = "aws"  # PICTOGRAPH_S3_ENDPOINT_URL=aws means Amazon's own endpoints

_DIRECTORY_BUCKET = "--x-s3"  # how the names of directory buckets end

_THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"})
_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
_GONE = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """How to reach the object store."""

    endpoint_url: str | None  # None: Amazon's own
    access_key_id: str | None  # None: the usual AWS chain
    secret_access_key: str | None
    region: str

    @classmethod
    def of(cls, settings: Settings) -> "S3Access":
        """The access that the settings describe."""
        secret = settings.s3_secret_access_key
        endpoint = settings.s3_endpoint_url
        return cls(
            endpoint_url=None if endpoint == AMAZON else endpoint,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else None,
            region=settings.s3_region,
        )

    @property
    def place(self) -> str:
        """The endpoint, for messages."""
        return self.endpoint_url or f"Amazon S3 ({self.region})"

    def session(self) -> boto3.Session:
        """Who we are: the given keys, or whoever the usual AWS chain finds."""
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise SourceError(
                "Half of the S3 credentials is set; set both PICTOGRAPH_S3_ACCESS_KEY_ID and "
                "PICTOGRAPH_S3_SECRET_ACCESS_KEY, or neither."
            )
        with translated(self.place):
            return boto3.Session(
                aws_access_key_id=self.access_key_id,
                aws_secret_access_key=self.secret_access_key,
                region_name=self.region,
            )

    def client(self, connections: int = 16) -> "S3Client":
        """A client; threads may share it, processes may not."""
        own = self.endpoint_url is not None
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=3,
            read_timeout=15,
            max_pool_connections=connections,
            s3={"addressing_style": "path" if own else "auto"},
            # Other servers than Amazon's store or refuse the newer checksum trailers.
            request_checksum_calculation="when_required" if own else "when_supported",
            response_checksum_validation="when_required" if own else "when_supported",
        )
        with translated(self.place):
            return self.session().client("s3", endpoint_url=self.endpoint_url, config=config)


@contextmanager
def translated(place: str, what: str = "") -> Iterator[None]:
    """Turn botocore's errors into ours; `what` is the bucket or object the call was about."""
    try:
        yield
    except ClientError as exc:
        raise _from_response(exc, place, what) from exc
    except (NoCredentialsError, PartialCredentialsError) as exc:
        raise SourceError(
            "There are no S3 credentials; set PICTOGRAPH_S3_ACCESS_KEY_ID and PICTOGRAPH_S3_SECRET_ACCESS_KEY."
        ) from exc
    except (ParamValidationError, ValueError) as exc:
        raise SourceError(f"{what or place} is no valid S3 name ({str(exc).splitlines()[-1]}).") from exc
    except (BotoConnectionError, HTTPClientError) as exc:
        raise ServiceDown(f"S3 at {place} does not answer; is it running, and is the address right?") from exc
    except BotoCoreError as exc:
        raise ServiceDown(f"S3 at {place} failed: {exc}.") from exc


def _from_response(exc: ClientError, place: str, what: str) -> Exception:
    code = str(exc.response.get("Error", {}).get("Code", ""))
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return _no_bucket(what, place)
    if code in _CREDENTIALS:
        return SourceError(f"S3 at {place} refuses our credentials ({code}); check the access key and its secret.")
    if code in _THROTTLED or status == 503:
        return Throttled(f"S3 at {place} is throttled: it asks us to slow down ({code}).")
    if code in ("AccessDenied", "403", "Forbidden") or status == 403:
        return AccessDenied(
            f"Our S3 credentials may not list or read {what or place}; ask for list and read permission."
        )
    if code in _GONE or status in (404, 405):  # 405: of a version that is a delete marker
        return PhotoGone(f"{what} is no longer there.")
    if code == "PreconditionFailed" or status == 412:
        return PhotoChanged(f"{what} was overwritten since it was listed.")
    if status >= 500:
        return ServiceDown(f"S3 at {place} failed with {status} {code}.")
    message = str(exc.response.get("Error", {}).get("Message", "")).rstrip(". ")
    return SourceError(f"S3 at {place} refused {what} ({code}: {message}); check the address.")


def _no_bucket(name: str, place: str) -> SourceError:
    return SourceError(f"There is no bucket {name} at {place}; check the name and the endpoint.")


class S3Prefix:
    """All objects under ``s3://bucket/prefix/``. The prefix is a folder: a final slash is added where it is missing."""

    def __init__(self, uri: str, rule: UserRule, access: S3Access) -> None:
        self.bucket, prefix = parse_uri(uri)
        if self.bucket.endswith(_DIRECTORY_BUCKET):
            raise SourceError(f"{self.bucket} is a directory bucket, and lists in no order; copy the photos elsewhere.")
        self.prefix = as_folder(prefix)
        self.rule = rule
        self.place = access.place
        self.client = access.client()

    def check(self, *, may_be_empty: bool = False) -> None:
        """See `Source.check`; that objects may be read, and not only listed, is tried on the first one."""
        objects, _ = self._list(None, 1)
        if not objects and may_be_empty:
            return
        if not objects:
            raise SourceError(
                f"There is nothing under s3://{self.bucket}/{self.prefix}; check the prefix, or upload photos first."
            )
        key = objects[0]["Key"]
        with suppress(PhotoGone), translated(self.place, f"s3://{self.bucket}/{key}"):
            self.client.head_object(Bucket=self.bucket, Key=key)

    def page(self, cursor: str | None, limit: int) -> Page:
        """See `Source.page`; the cursor is the last key."""
        objects, more = self._list(cursor, limit)
        met = [self._meet(item) for item in objects]
        end = objects[-1]["Key"] if objects else cursor or self.prefix
        return Page(
            refs=tuple(entry for entry in met if isinstance(entry, PhotoRef)),
            refusals=tuple(entry for entry in met if isinstance(entry, Refusal)),
            gone=(),
            cursor=end,
            last=not more,
        )

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """See `Source.covered`: everything between the two cursors; on the last page, to the end of the prefix."""
        after = cursor or self.prefix
        upto = after_prefix(self.prefix) if page.last else page.cursor
        orders = orders_of([after, *(ref.key for ref in page.refs), page.cursor])
        return Interval(bucket=f"s3://{self.bucket}", after=after, upto=upto, orders=orders)

    def _list(self, after: str | None, limit: int) -> "tuple[list[ObjectTypeDef], bool]":
        """The next objects, and whether there are more. A page may be short, or even empty, and not be the last."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix, StartAfter=after or "", PaginationConfig={"PageSize": limit}
        )
        with translated(self.place, self.bucket):
            for answer in pages:
                if answer.get("Contents"):
                    return answer["Contents"], answer.get("IsTruncated", False)
        return [], False

    def _meet(self, item: "ObjectTypeDef") -> PhotoRef | Refusal:
        key, size = item["Key"], item["Size"]
        if not storable(key):
            return bad_key(key)
        if key.endswith("/") and size == 0:
            reason = "is a folder marker, not a photo."
            return Refusal(name=key, code=Code.NOT_A_PHOTO, reason=reason, uri=address(f"s3://{self.bucket}", key))
        user = self.rule.owner(key.removeprefix(self.prefix))
        if user is None:
            return no_user(f"s3://{self.bucket}", key, self.rule.template)
        return PhotoRef(
            bucket=f"s3://{self.bucket}",
            key=key,
            user=user,
            etag=item["ETag"].strip('"'),
            size=size,
            modified_at=item["LastModified"],
        )


def check_bucket(access: S3Access, bucket: str) -> None:
    """Ask whether the bucket is there and open to us; needs the right to list it, no other.

    Raises:
        AccessDenied: it is closed to us, or the credentials are wrong: S3 does not say which.
        SourceError: there is no such bucket.
        ServiceDown: nobody answers.
    """
    client = access.client()
    try:
        with translated(access.place, bucket):
            client.head_bucket(Bucket=bucket)
    except PhotoGone as exc:
        raise _no_bucket(bucket, access.place) from exc


def create_bucket(access: S3Access, bucket: str) -> None:
    """Create the bucket unless it is there."""
    client = access.client()
    try:
        with translated(access.place, bucket):
            client.head_bucket(Bucket=bucket)
    except PhotoGone:
        with translated(access.place, bucket):
            client.create_bucket(Bucket=bucket)
