"""Page tokens: good for the list that gave them, and for nothing else."""

from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.datastructures import State

from api import errors, parameters, tokens
from api.envelope import Envelope

POSITION = [0.25, 12, "ann", None]
assert parameters.AnythingConvertor  # imported for the convertor that it registers


def asking(
    path: str = "/v1/users/ann/photos", query: str = "under=n1&page_size=5", secret: bytes = b"s" * 32
) -> Request:
    services = SimpleNamespace(secrets=SimpleNamespace(of=lambda purpose: secret + purpose.encode()))
    app = SimpleNamespace(state=State({"services": services}))
    scope = {"type": "http", "method": "GET", "headers": [], "path": path, "query_string": query.encode(), "app": app}
    return Request(scope)


@pytest.fixture
def token() -> str:
    return tokens.seal(asking(), POSITION)


@pytest.mark.parametrize("query", ["under=n1&page_size=5", "under=n1", "page_size=500&under=n1&page_token=any"])
def test_a_token_opens_where_it_was_given_whatever_the_size_of_the_page(token: str, query: str) -> None:
    assert tokens.opened(asking(query=query), token) == POSITION


def test_the_order_of_parameters_does_not_matter() -> None:
    token = tokens.seal(asking(query="under=b&under=a&k=1"), POSITION)
    assert tokens.opened(asking(query="k=1&under=a&under=b"), token) == POSITION


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/v1/users/ben/photos"},
        {"path": "/v1/users/ann/profile"},
        {"query": "under=n2"},
        {"query": ""},
        {"query": "under=n1&under=n2"},
        {"query": "under=n1&sort=newest"},
        {"secret": b"t" * 32},
    ],
)
def test_a_token_opens_nothing_else(token: str, other: dict[str, str | bytes]) -> None:
    with pytest.raises(errors.Problem) as refused:
        tokens.opened(asking(**other), token)  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.code) == (400, "invalid_page_token")


def test_a_token_that_was_tampered_with_opens_nothing(token: str) -> None:
    payload, _, signature = token.rpartition(".")
    wrong = ["", ".", "x", payload, f"{payload}.", f".{signature}", f"{payload}x.{signature}", token + "x", "é" * 20]
    wrong += [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(len(token) - 1)]
    wrong += ["x" * 1_000_000, "." + token, token.replace(".", "..")]
    for each in wrong:
        with pytest.raises(errors.Problem, match="leave it out to begin anew"):
            tokens.opened(asking(), each)


def test_the_next_page_is_linked() -> None:
    asked = asking("/v1/users/a b/<ü>/photos", "under=n1&under=n2&page_token=old&name=%C3%BC%26")
    header = tokens.next_link(asked, "new.token")["Link"]
    address, relation = header.split("; ")
    assert relation == 'rel="next"'
    link = urlsplit(address.strip("<>"))
    assert link.path == "/v1/users/a%20b/%3C%C3%BC%3E/photos"
    assert parse_qsl(link.query) == [("under", "n1"), ("under", "n2"), ("name", "ü&"), ("page_token", "new.token")]
    assert tokens.next_link(asked, None) == {}


def test_a_list_is_walked_by_its_links_alone() -> None:
    app = FastAPI()
    app.state.services = SimpleNamespace(secrets=SimpleNamespace(of=lambda _: b"s" * 32))

    @app.get("/list/{name:anything}")
    def page(request: Request, page_token: str | None = None) -> dict[str, object]:
        start = tokens.opened(request, page_token)[0] if page_token else 0
        token = tokens.seal(request, [start + 1]) if start < 3 else None
        return {"at": start, "next": None if token is None else tokens.following(request, token)}

    errors.install(app)
    app.add_middleware(Envelope)
    client, address, seen = TestClient(app), "/list/a%20b%2Fc?under=x", []
    while address:
        found = client.get(address).json()
        seen.append(found["at"])
        address = found["next"]
    assert seen == [0, 1, 2, 3]
    assert client.get("/list/other?under=x&page_token=abc").json()["code"] == "invalid_page_token"
