"""Fetching from a store that answers badly: what is tried again, what is not, and what is never read."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from pipeline.errors import PhotoChanged, ServiceDown, Throttled
from pipeline.records import PhotoTask
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access
from workers import fetch
from workers.fetch import Fetcher
from workers.pace import FIRST_PAUSE_SECONDS

BODY = b"hello"
PHOTO = PhotoTask(
    job_id=1, shard_id=1, photo_id=1, content_rev=1, bucket="s3://photos", key="ann/1.jpg", etag="e", size=len(BODY),
    version_id=None,
)  # fmt: skip
GOOD = (200, len(BODY), BODY)
BUSY = (503, 0, b"")
CUT = (200, len(BODY), BODY[:2])
LARGER = (200, 1 << 26, bytes(1 << 26))  # far more than sockets hold
SHORTER = (200, 2, BODY[:2])
OVERWRITTEN = (412, 0, b"")


class Store(ThreadingHTTPServer):
    """Gives one scripted answer (status, announced length, body) after the other, the last one again and again."""

    daemon_threads = True

    def __init__(self, answers: list[tuple[int, int, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers = answers
        self.conditions: list[str | None] = []  # If-Match of each request
        self.delivered = 0  # bodies that were taken whole


class Answering(BaseHTTPRequestHandler):
    """One request."""

    server: Store

    def do_GET(self) -> None:
        """The next answer of the script."""
        done = len(self.server.conditions)
        self.server.conditions.append(self.headers["If-Match"])
        status, length, body = self.server.answers[min(done, len(self.server.answers) - 1)]
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)
            self.server.delivered += 1

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(*answers: tuple[int, int, bytes]) -> Iterator[tuple[Store, Fetcher]]:
    with Store(list(answers)) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        settings = Settings(
            s3_endpoint_url=f"http://127.0.0.1:{store.server_port}", s3_access_key_id="a",
            s3_secret_access_key=SecretStr("b"),
        )  # fmt: skip
        yield store, Fetcher(S3Access.of(settings), 1000)
        store.shutdown()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_SECONDS", 0.001)


@pytest.mark.parametrize("trouble", [BUSY, CUT, SHORTER, LARGER])
def test_trouble_on_the_way_is_retried_and_each_request_names_the_version(trouble: tuple[int, int, bytes]) -> None:
    with serving(trouble, trouble, GOOD) as (store, fetcher):
        assert fetcher.fetch(PHOTO) == BODY
        assert store.conditions == ['"e"'] * 3


@pytest.mark.parametrize("trouble", [BUSY, CUT, SHORTER, LARGER])
def test_trouble_that_stays_is_nobodys_fault(trouble: tuple[int, int, bytes]) -> None:
    with serving(trouble) as (store, fetcher):
        with pytest.raises(ServiceDown):
            fetcher.fetch(PHOTO)
        assert len(store.conditions) == fetch.ATTEMPTS


def test_a_body_that_is_larger_than_listed_is_not_read() -> None:
    """It would take memory that nobody has set aside for it."""
    with serving(LARGER) as (store, fetcher):
        with pytest.raises(ServiceDown, match="67108864 bytes, listed were 5"):
            fetcher.fetch(PHOTO)
        assert store.delivered == 0


def test_no_further_attempt_begins_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "DEADLINE_SECONDS", 0.0)
    with serving(BUSY) as (store, fetcher):
        with pytest.raises(ServiceDown):
            fetcher.fetch(PHOTO)
        assert len(store.conditions) == 1


def test_an_overwritten_photo_is_not_asked_for_again() -> None:
    with serving(OVERWRITTEN) as (store, fetcher):
        with pytest.raises(PhotoChanged):
            fetcher.fetch(PHOTO)
        assert store.conditions == ['"e"']


def test_a_store_that_asks_us_to_slow_down_is_asked_less_often_by_all_threads() -> None:
    """Sixteen threads meet the refusal; without a pause in common they would ask again at once, each by itself."""
    with serving(*[BUSY] * 16, GOOD) as (store, fetcher), ThreadPoolExecutor(16) as pool:
        start = time.monotonic()
        assert list(pool.map(fetcher.fetch, [PHOTO] * 16)) == [BODY] * 16
        assert time.monotonic() - start >= FIRST_PAUSE_SECONDS / 2
        assert len(store.conditions) <= 3 * 16


def test_a_photo_whose_store_stays_throttled_says_so() -> None:
    with serving(BUSY) as (_, fetcher), pytest.raises(Throttled, match="throttled"):
        fetcher.fetch(PHOTO)
