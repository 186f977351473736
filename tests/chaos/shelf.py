"""The bucket of a storm: what is put there, overwritten and taken away, straight at the server; and what is there."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import obstore
from obstore.store import S3Store

from pipeline.sources.s3 import S3Access, create_bucket
from tests.chaos.corpus import Corpus, Item

BUCKET = "storm"
PREFIX = "photos/"
SOURCE = f"s3://{BUCKET}/{PREFIX}"
AT_ONCE = 8  # requests


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object of the bucket."""

    etag: str
    size: int  # bytes
    body: bytes = field(repr=False)

    @property
    def sha256(self) -> bytes:
        """Of its bytes."""
        return hashlib.sha256(self.body).digest()


class Shelf:
    """The bucket, and a memory of everything that ever was in it."""

    def __init__(self, access: S3Access, corpus: Corpus, first: Mapping[int, bytes]) -> None:
        self.corpus = corpus
        self._first = first
        create_bucket(access, BUCKET)
        self._client = access.client()
        assert access.endpoint_url is not None
        self._store = S3Store(
            BUCKET,
            config={
                "region": access.region,
                "endpoint": access.endpoint_url,
                "access_key_id": access.access_key_id or "",
                "secret_access_key": access.secret_access_key or "",
            },
            client_options={"allow_http": True},
            retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
        )
        self.revisions: dict[int, int] = {}  # of what is there, by number; 0: taken away
        self._last: dict[int, int] = {}  # revisions, whether it is there or not
        self.touched: dict[int, float] = {}  # when each was last changed, by number
        self.taken_away: set[str] = set()  # keys that were deleted at some time

    def put(self, items: Iterable[Item]) -> None:
        """Upload them; those that are there already, as another picture."""
        self._each(items, self._put)

    def take_away(self, items: Iterable[Item]) -> None:
        """Delete them."""
        self._each(items, self._take_away)

    def there(self, among: Iterable[Item]) -> list[Item]:
        """Those that are there now."""
        return [item for item in among if self.revisions.get(item.number)]

    def touched_since(self, moment: float) -> frozenset[str]:
        """The keys that were changed after it."""
        return frozenset(PREFIX + self.corpus.items[number].key for number, at in self.touched.items() if at >= moment)

    def everything(self) -> dict[str, Thing]:
        """What is there, by key: the truth that the ledger is held against."""
        found = {}
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX):
            for entry in page.get("Contents", []):
                found[entry["Key"]] = entry["ETag"].strip('"'), entry["Size"]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            bodies = pool.map(lambda key: bytes(obstore.get(self._store, key).bytes()), found)
        return {
            key: Thing(etag=etag, size=size, body=body)
            for (key, (etag, size)), body in zip(found.items(), bodies, strict=True)
        }

    def _put(self, item: Item) -> None:
        revision = self._last.get(item.number, 0) + 1
        first = revision == 1 and item.number in self._first
        body = self._first[item.number] if first else self.corpus.body(item, revision)
        self.touched[item.number] = time.time()
        self._last[item.number] = revision
        self.revisions[item.number] = revision  # before it is there: who asks what ever was must hear of it
        obstore.put(self._store, PREFIX + item.key, body, use_multipart=False)

    def _take_away(self, item: Item) -> None:
        self.touched[item.number] = time.time()
        self.taken_away.add(PREFIX + item.key)
        obstore.delete(self._store, PREFIX + item.key)
        self.revisions[item.number] = 0

    def _each(self, items: Iterable[Item], act: Callable[[Item], None]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(act, items))
