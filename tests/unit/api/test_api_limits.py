"""Bounds of requests, bodies and answers, on small applications."""

import gzip
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient

from api import errors
from api.access.limits import Bodies, Compressed, Throttle
from api.answers import answered, stamped, unchanged
from api.envelope import Envelope
from api.errors import Problem

MOST = 100
LONG = "what people photograph, " * 200


def test_each_has_so_many_requests_a_minute() -> None:
    throttle = Throttle(3, "too_many", "Too many.")
    for who in ("ann", "ben"):
        for _ in range(3):
            throttle.spend(who)
        with pytest.raises(Problem) as refused:
            throttle.spend(who)
        assert (refused.value.status, refused.value.code) == (429, "too_many")
        assert 1 <= (refused.value.retry_after_seconds or 0) <= 120  # two minutes count, the one before in part


def test_zero_is_any_number() -> None:
    throttle = Throttle(0, "too_many", "Too many.")
    for _ in range(1000):
        throttle.spend("ann")


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.post("/v1/echo")
    @app.post("/form")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.get("/answer")
    def answer(request: Request) -> Response:
        etag = stamped("of today")
        return unchanged(request, etag, vary="Accept") or answered(
            LONG, "text/html; charset=utf-8", etag, vary="Accept"
        )

    @app.get("/picture")
    def picture() -> Response:
        return answered(LONG.encode(), "image/png", stamped("a picture"))

    @app.get("/small")
    def small() -> Response:
        return answered("small", "text/plain", stamped("small"))

    errors.install(app)
    app.add_middleware(Compressed)
    app.add_middleware(Bodies, most_bytes=MOST)
    app.add_middleware(Envelope)
    return TestClient(app, raise_server_exceptions=False)


JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("path", "kind", "size", "status"),
    [
        ("/v1/echo", JSON, MOST, 200),
        ("/v1/echo", f"{JSON}; charset=utf-8", 1, 200),
        ("/v1/echo", JSON.upper(), 1, 200),
        ("/v1/echo", JSON, MOST + 1, 413),
        ("/v1/echo", FORM, 1, 415),  # which any page may make a browser send
        ("/v1/echo", "text/plain", 1, 415),
        ("/v1/echo", "", 1, 415),
        ("/v1/echo", "", 0, 200),  # nothing is of no kind
        ("/form", FORM, MOST, 200),
        ("/form", JSON, 1, 415),
        ("/form", "multipart/form-data; boundary=x", 1, 415),
    ],
)
def test_bodies_are_of_one_kind_and_of_bounded_size(
    client: TestClient, path: str, kind: str, size: int, status: int
) -> None:
    body = b"x" * size
    answer = client.post(path, content=body, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status
    if status == 200:
        assert answer.content == body
    else:
        assert answer.json()["code"] == {413: "too_large", 415: "unsupported_media_type"}[status]
        assert answer.headers["x-request-id"] == answer.json()["request_id"]


@pytest.mark.parametrize(("pieces", "status"), [(9, 200), (11, 413)])
def test_a_body_that_does_not_say_how_long_it_is_is_counted(client: TestClient, pieces: int, status: int) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(pieces):
            yield b"x" * 10

    answer = client.post("/v1/echo", content=body(), headers={"Content-Type": JSON})
    assert answer.status_code == status
    assert client.post("/v1/echo", content=body()).status_code == 415


def test_a_compressed_body_is_not_taken(client: TestClient) -> None:
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    assert client.post("/v1/echo", content=gzip.compress(b"x"), headers=headers).status_code == 415


def test_answers_are_compressed_for_those_who_take_it_under_an_etag_of_their_own(client: TestClient) -> None:
    plain = client.get("/answer", headers={"Accept-Encoding": "identity"})
    packed = client.get("/answer", headers={"Accept-Encoding": "br, gzip"})
    assert plain.text == packed.text == LONG
    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 10
    assert packed.headers["etag"] == plain.headers["etag"][:-1] + '-gzip"'
    for answer in (plain, packed):
        assert answer.headers["vary"] == "Accept, Authorization, Cookie, Accept-Encoding"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_who_has_the_answer_is_told_so_by_the_etag_that_it_has(client: TestClient, encoding: str) -> None:
    accepts = {"Accept-Encoding": encoding}
    etag = client.get("/answer", headers=accepts).headers["etag"]
    for held in (etag, f'"other", {etag}', f"W/{etag}"):
        again = client.get("/answer", headers={**accepts, "If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get("/answer", headers={**accepts, "If-None-Match": '"other-gzip"'}).status_code == 200


@pytest.mark.parametrize("path", ["/picture", "/small"])
def test_what_would_not_shrink_is_left_as_it_is(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert not answer.headers["etag"].endswith('-gzip"')
