"""The proxy: each fault against a tiny server, and against the real ones where their clients matter."""

import contextlib
import hashlib
import http.client
import http.server
import io
import socket
import socketserver
import struct
import threading
import time
from urllib.parse import urlsplit

import boto3
import psycopg2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline.errors import ServiceDown
from pipeline.records import PhotoTask
from pipeline.sources.s3 import S3Access
from pipeline.store.session import Database
from tests.chaos.proxy import Fault, FaultProxy, Kind, Speaks
from tests.chaos.proxy_postgres import Frames
from workers.fetch import Fetcher

PATIENCE_SECONDS = 60
QUICK_SECONDS = 0.3  # a delay that can be told from none
BODY = bytes(range(256)) * 8
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears."""

    def handle(self):
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class Store(http.server.BaseHTTPRequestHandler):
    """Has one body at every path, and takes every other one."""

    protocol_version = "HTTP/1.1"
    taken = b""

    def do_GET(self):
        self.answer()

    def do_HEAD(self):
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("ETag", ETAG)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(BODY)

    def do_PUT(self):
        Store.taken = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler, address=("127.0.0.1", 0)):
    kind = http.server.ThreadingHTTPServer if handler is Store else socketserver.ThreadingTCPServer
    kind.allow_reuse_address = kind.daemon_threads = True
    with kind(address, handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address
        server.shutdown()


@pytest.fixture
def echo():
    """A proxy before a server that says what it hears."""
    with serving(Echo) as address, FaultProxy(address) as proxy:
        yield proxy


@pytest.fixture
def store():
    """A proxy before a server that speaks HTTP."""
    with serving(Store) as address, FaultProxy(address, Speaks.S3, seed=7) as proxy:
        yield proxy


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS)


def said(connection, data):
    """What comes back for `data`, until there is as much of it or the connection ends."""
    connection.sendall(data)
    heard = b""
    while len(heard) < len(data) and (piece := connection.recv(65536)):
        heard += piece
    return heard


# ---- any protocol


def test_without_faults_everything_passes(echo):
    data = bytes(range(256)) * 4000
    with connect(echo) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        heard = b""
        while len(heard) < len(data):
            heard += connection.recv(65536)
        sender.join()
    assert heard == data
    assert not echo.bites


def test_latency_delays_each_request(echo):
    echo.inject(Fault(kind=Kind.LATENCY, seconds=QUICK_SECONDS, times=2))
    with connect(echo) as connection:
        for _ in range(2):
            began = time.monotonic()
            assert said(connection, b"ping") == b"ping"
            assert time.monotonic() - began >= QUICK_SECONDS
        assert said(connection, b"ping") == b"ping"
    assert echo.bites == {"latency": 2}


def test_a_line_that_hangs_is_silent_and_reset_when_healed(echo):
    with connect(echo) as old:
        assert said(old, b"ping") == b"ping"
        echo.inject(Fault(kind=Kind.HANG))
        with connect(echo) as new:
            for connection in (old, new):
                connection.settimeout(QUICK_SECONDS)
                with pytest.raises(TimeoutError):
                    said(connection, b"ping")
                connection.settimeout(PATIENCE_SECONDS)
            echo.heal()
            for connection in (old, new):
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)
    with connect(echo) as third:
        assert said(third, b"ping") == b"ping"
    assert echo.bites == {"hang": 2}


def test_a_line_that_hangs_does_not_tell_of_the_servers_end():
    with FaultProxy(("127.0.0.1", 1)) as proxy:  # nobody listens there
        proxy.inject(Fault(kind=Kind.HANG))
        with connect(proxy) as connection:
            connection.settimeout(QUICK_SECONDS)
            with pytest.raises(TimeoutError):
                said(connection, b"ping")


def test_a_reset_takes_the_request_with_it(echo):
    echo.inject(Fault(kind=Kind.RESET, times=1))
    with connect(echo) as connection, pytest.raises(ConnectionResetError):
        said(connection, b"ping")
    with connect(echo) as connection:
        assert said(connection, b"ping") == b"ping"
    assert echo.bites == {"reset": 1}


def test_a_sliced_answer_arrives_in_pieces_and_whole(echo):
    echo.inject(Fault(kind=Kind.SLICE, bytes=3, seconds=0.05))
    with connect(echo) as connection:
        connection.sendall(b"0123456789")
        pieces = [connection.recv(100)]
        while sum(map(len, pieces)) < 10:
            pieces.append(connection.recv(100))
    assert b"".join(pieces) == b"0123456789"
    assert len(pieces) > 1


def test_a_limit_closes_after_so_many_bytes(echo):
    echo.inject(Fault(kind=Kind.LIMIT, bytes=15))
    with connect(echo) as connection:
        assert said(connection, b"0123456789") == b"01234"  # ten went there, five came back
        assert connection.recv(1) == b""


def test_a_share_of_the_requests_is_bitten_and_the_seed_says_which():
    def bitten(seed):
        found = []
        with serving(Echo) as address, FaultProxy(address, seed=seed) as proxy:
            proxy.inject(Fault(kind=Kind.LATENCY, share=0.5, seconds=0))
            with connect(proxy) as connection:
                for _ in range(100):
                    before = proxy.bites["latency"]
                    said(connection, b"ping")
                    found.append(proxy.bites["latency"] > before)
        return found

    first = bitten(1)
    assert 25 <= sum(first) <= 75
    assert bitten(1) == first
    assert bitten(2) != first


def test_cutting_resets_what_is_open_and_says_how_many(echo):
    with connect(echo) as one, connect(echo) as two:
        for connection in (one, two):
            said(connection, b"ping")
        assert echo.cut() == 2
        for connection in (one, two):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    assert echo.cut() == 0


def test_a_server_that_is_away_is_a_reset_and_may_come_back():
    with serving(Echo) as address:
        pass
    with FaultProxy(address) as proxy:
        # The reset may come before connect() has returned, or after.
        with pytest.raises(ConnectionError), connect(proxy) as connection:
            said(connection, b"ping")
        with serving(Echo, address), connect(proxy) as connection:
            assert said(connection, b"ping") == b"ping"


# ---- Postgres


def message(kind, body):
    return kind + struct.pack(">i", len(body) + 4) + body


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 10_000])
def test_messages_are_found_however_they_are_cut(size):
    stream = message(b"Q", b"BEGIN\0") + message(b"d", b"x" * 3000) + message(b"d", b"") + message(b"P", b"\0COMMIT\0")
    frames, found = Frames(b"QP"), []
    for at in range(0, len(stream), size):
        found += frames.feed(stream[at : at + size])
    assert found == [(b"Q", b"BEGIN\0"), (b"P", b"\0COMMIT\0")]


@pytest.fixture
def ledger(endpoints):
    """A proxy before Postgres, a URL through it, and a table."""
    found = urlsplit(endpoints.database_url)
    with (
        contextlib.closing(psycopg2.connect(endpoints.database_url)) as direct,
        FaultProxy(("127.0.0.1", found.port), Speaks.POSTGRES) as proxy,
    ):
        direct.autocommit = True
        cursor = direct.cursor()
        cursor.execute(
            "DROP TABLE IF EXISTS public.proxied; CREATE TABLE public.proxied (n int PRIMARY KEY, word text)"
        )
        yield proxy, endpoints.database_url.replace(f":{found.port}/", f":{proxy.port}/"), cursor
        cursor.execute("DROP TABLE public.proxied")


def rows(cursor):
    cursor.execute("SELECT n FROM public.proxied ORDER BY n")
    return [n for (n,) in cursor.fetchall()]


def test_a_lost_reply_to_commit_leaves_the_row_and_an_error(ledger):
    proxy, url, direct = ledger
    proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, times=1))
    client = psycopg2.connect(url)
    client.cursor().execute("INSERT INTO public.proxied VALUES (1)")
    with pytest.raises(psycopg2.OperationalError):
        client.commit()
    assert rows(direct) == [1]
    assert proxy.bites == {"drop_commit_reply": 1}


def test_only_what_was_committed_counts_as_lost(ledger):
    proxy, url, direct = ledger
    proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, only="VALUES (3)"))
    client = psycopg2.connect(url)
    cursor = client.cursor()
    cursor.execute("INSERT INTO public.proxied VALUES (1)")
    client.rollback()
    cursor.execute("INSERT INTO public.proxied VALUES (2)")
    client.commit()
    with pytest.raises(psycopg2.errors.UniqueViolation):
        cursor.execute("INSERT INTO public.proxied VALUES (3); INSERT INTO public.proxied VALUES (2)")
    client.commit()  # of a transaction that has failed: the server rolls back
    assert not proxy.bites
    cursor.execute("INSERT INTO public.proxied VALUES (3)")
    with pytest.raises(psycopg2.OperationalError):
        client.commit()
    assert rows(direct) == [2, 3]
    assert proxy.bites == {"drop_commit_reply": 1}


def test_twenty_lost_replies_in_a_row_cost_twenty_errors(ledger):
    proxy, url, direct = ledger
    proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, times=20))
    statement = "INSERT INTO public.proxied VALUES (1) ON CONFLICT DO NOTHING"
    with Database(url, "tests") as database:
        for _ in range(20):
            with pytest.raises(ServiceDown):
                database.run(lambda connection: connection.exec_driver_sql(statement))
        database.run(lambda connection: connection.exec_driver_sql(statement))
    assert rows(direct) == [1]
    assert proxy.bites == {"drop_commit_reply": 20}


def test_a_large_copy_passes_and_its_commit_is_seen(ledger):
    proxy, url, direct = ledger
    client = psycopg2.connect(url)
    cursor = client.cursor()
    proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, only="COPY public.proxied"))
    lines = "".join(f"{n}\t{'COMMIT' * 20}\n" for n in range(20_000))
    cursor.copy_expert("COPY public.proxied FROM STDIN", io.StringIO(lines))
    with pytest.raises(psycopg2.OperationalError):
        client.commit()
    assert len(rows(direct)) == 20_000


# ---- S3


def get(proxy, path="/bucket/key", method="GET"):
    """Status, ETag and body, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("ETag"), answer.read()


def test_without_faults_requests_pass_one_after_the_other(store):
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=PATIENCE_SECONDS)
    for method in ("GET", "HEAD", "GET"):
        connection.request(method, "/bucket/a%20key")
        assert connection.getresponse().read() == (BODY if method == "GET" else b"")
    connection.request("PUT", "/bucket/key", body=BODY[:100])
    assert connection.getresponse().status == 204
    assert Store.taken == BODY[:100]
    connection.close()


@pytest.mark.parametrize(("kind", "status", "code"), [(Kind.S3_503, 503, b"SlowDown"), (Kind.S3_500, 500, b"Internal")])
def test_a_refusal_is_for_objects_unless_told_otherwise(store, kind, status, code):
    store.inject(Fault(kind=kind, times=1))
    assert get(store, "/bucket?list-type=2")[0] == 200
    assert get(store, method="HEAD")[0] == 200
    assert get(store)[0] == status
    assert get(store)[0] == 200
    store.inject(Fault(kind=kind, everything=True, times=3))
    found = get(store, "/bucket?list-type=2")
    assert found[0] == status
    assert code in found[2]
    assert get(store, method="HEAD") == (status, None, b"")
    assert get(store)[0] == status
    assert store.bites == {kind.value: 4}


def test_a_wrong_etag_comes_with_the_right_bytes(store):
    store.inject(Fault(kind=Kind.S3_WRONG_ETAG, times=1))
    status, etag, body = get(store)
    assert (status, body) == (200, BODY)
    assert etag != ETAG
    assert get(store) == (200, ETAG, BODY)


def test_a_flipped_bit_is_one_bit(store):
    store.inject(Fault(kind=Kind.S3_BIT_FLIP, times=1))
    _, _, body = get(store)
    assert sum((a ^ b).bit_count() for a, b in zip(body, BODY, strict=True)) == 1


def test_a_short_body_ends_before_its_length(store):
    store.inject(Fault(kind=Kind.S3_SHORT_BODY, times=1))
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(store)
    assert caught.value.partial == BODY[: len(BODY) // 2]


def test_a_short_length_looks_like_a_whole_body(store):
    store.inject(Fault(kind=Kind.S3_SHORT_LENGTH, times=1))
    assert get(store) == (200, ETAG, BODY[: len(BODY) // 2])


def test_a_reset_in_the_middle_of_a_body(store):
    store.inject(Fault(kind=Kind.S3_RESET_MID_BODY, times=1))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        get(store)


def test_a_stall_lasts_so_long_or_until_it_is_healed(store):
    store.inject(Fault(kind=Kind.S3_STALL, times=1, seconds=QUICK_SECONDS))
    began = time.monotonic()
    assert get(store)[2] == BODY
    assert time.monotonic() - began >= QUICK_SECONDS
    store.inject(Fault(kind=Kind.S3_STALL, times=1))
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/bucket/key")
        answer = connection.getresponse()
        assert answer.read(len(BODY) // 2) == BODY[: len(BODY) // 2]
        store.heal()
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            answer.read()


def test_a_trickle_is_a_byte_at_a_time(store):
    store.inject(Fault(kind=Kind.S3_TRICKLE, times=1, seconds=0.1))
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/bucket/key")
        answer = connection.getresponse()
        began = time.monotonic()
        assert answer.read(5) == BODY[:5]
        assert time.monotonic() - began >= 0.3
    assert get(store)[2] == BODY


def test_faults_may_be_meant_for_some_paths_only(store):
    store.inject(Fault(kind=Kind.S3_503, only="a key"))
    assert get(store, "/bucket/another")[0] == 200
    assert get(store, "/bucket/a%20key")[0] == 503


@pytest.fixture
def photo(endpoints):
    """A proxy before the real object store, access through it, and a photo in there."""
    direct = S3Access(
        endpoint_url=endpoints.s3_endpoint_url,
        access_key_id=endpoints.s3_access_key_id,
        secret_access_key=endpoints.s3_secret_access_key,
        region="us-east-1",
    )
    bucket = "behind-the-proxy"
    client = direct.client()
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="a b/ü.jpg", Body=BODY)
    with FaultProxy(("127.0.0.1", urlsplit(endpoints.s3_endpoint_url).port), Speaks.S3) as proxy:
        access = S3Access(**{**vars(direct), "endpoint_url": f"http://127.0.0.1:{proxy.port}"})
        task = PhotoTask(
            job_id=1,
            shard_id=1,
            photo_id=1,
            content_rev=1,
            bucket=f"s3://{bucket}",
            key="a b/ü.jpg",
            etag=ETAG.strip('"'),
            size=len(BODY),
            version_id=None,
        )
        yield proxy, access, task
    client.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize(
    "kind",
    [Kind.S3_503, Kind.S3_500, Kind.S3_SHORT_BODY, Kind.S3_SHORT_LENGTH, Kind.S3_RESET_MID_BODY, Kind.S3_WRONG_ETAG],
)
def test_the_product_gets_its_photo_all_the_same(photo, kind):
    proxy, access, task = photo
    fetcher = Fetcher(access, 1 << 20)
    assert fetcher.fetch(task) == BODY
    proxy.inject(Fault(kind=kind, times=2))
    assert fetcher.fetch(task) == BODY
    assert fetcher.fetch(task) == BODY
    assert proxy.bites == {kind.value: 2}


def test_boto3_uploads_and_lists_through_it(photo):
    proxy, access, task = photo
    client = boto3.client(
        "s3",
        endpoint_url=access.endpoint_url,
        aws_access_key_id=access.access_key_id,
        aws_secret_access_key=access.secret_access_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    bucket = task.bucket.removeprefix("s3://")
    large = BODY * 1000
    client.put_object(Bucket=bucket, Key="large", Body=large)
    assert client.get_object(Bucket=bucket, Key="large")["Body"].read() == large
    proxy.inject(Fault(kind=Kind.S3_503, everything=True, times=1))
    with pytest.raises(ClientError, match="SlowDown"):
        client.list_objects_v2(Bucket=bucket)
    keys = [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["a b/ü.jpg", "large"]
