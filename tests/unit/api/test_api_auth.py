"""Who asks and what they may, where no database is needed: default deny, scopes, origins, addresses, open mode."""

import re
from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.responses import RedirectResponse
from starlette.routing import Route

from api import auth
from api.access import sessions
from api.access.limits import address_of
from api.addresses import leaves
from api.app import create_app
from api.auth import BUNDLES, OPEN, PUBLIC, TENANT_WIDE, PhotoDesk, Principal, Scope, not_guarded
from api.errors import Problem
from api.pages.lasting import FOR_EVER
from api.pages.render import static
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.keys import Key, digest


def made(**settings: object) -> FastAPI:
    return create_app(Settings(**settings), None, None, None)  # type: ignore[arg-type] - none of them is asked


# ---- default deny


def test_every_route_is_public_with_a_reason_or_needs_a_scope() -> None:
    app = made()
    assert list(not_guarded(app)) == []
    addresses = {route.path for route in leaves(app.router.routes)}
    assert addresses >= PUBLIC.keys()  # what is named there exists
    assert {"/v1/jobs", "/v1/photos/{photo_id}/thumbnail", "/u/{user:anything}"} <= addresses - PUBLIC.keys()
    assert all(PUBLIC.values())


def test_whoever_has_no_key_is_refused_at_every_route_that_is_not_public() -> None:
    """Without a database: nothing at all is asked of it."""
    app, asked = made(), 0
    client = TestClient(app, base_url="http://127.0.0.1")
    for route in leaves(app.router.routes):
        if route.path in PUBLIC:
            continue
        for method in route.methods:
            address = re.sub(r"\{[^}]*\}", "7", route.path)
            kind = "application/json" if address.startswith("/v1/") else "application/x-www-form-urlencoded"
            body = {} if method == "GET" else {"content": "{}", "headers": {"Content-Type": kind}}
            answer = client.request(method, address, **body)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["code"]) == (401, "no_key"), (method, address)
            asked += 1
    assert asked > 5


def test_the_document_says_what_needs_a_key_and_how_problems_look() -> None:
    document = made().openapi()
    assert document["openapi"].startswith("3.1.")
    operations = [(path, each) for path, item in document["paths"].items() for each in item.values()]
    for path, each in operations:
        assert each.get("security") == (None if path in PUBLIC else [{"key": []}, {"session": []}]), path
        problem = each["responses"]["default"]["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/ProblemOut"}
    names = [each["operationId"] for _, each in operations]
    assert len(set(names)) == len(names)
    assert [name for name in names if "_v1_" in name] == []  # those that nobody chose hold their address
    assert "HTTPValidationError" not in document["components"]["schemas"]  # nobody is answered so
    assert {"status", "code", "request_id"} <= set(document["components"]["schemas"]["ProblemOut"]["required"])


def test_an_application_with_an_open_route_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PUBLIC, "/livez")
    with pytest.raises(AssertionError, match="/livez"):
        made()


async def nothing(request: Request) -> RedirectResponse:
    return RedirectResponse("/")


def guarded(desk: PhotoDesk) -> None: ...


def open_to_all(request: Request) -> None: ...


def needing_nothing(desk: Annotated[auth.Desk, auth.needs()]) -> None: ...


async def socket(found: WebSocket) -> None: ...


@pytest.mark.parametrize(
    ("endpoint", "found"), [(guarded, []), (open_to_all, ["/below/x"]), (needing_nothing, ["/below/x"])]
)
def test_open_routes_are_found_in_routers_of_routers(endpoint: object, found: list[str]) -> None:
    app, outer, inner = FastAPI(openapi_url=None), APIRouter(prefix="/below"), APIRouter()
    inner.get("/x")(endpoint)  # type: ignore[arg-type]
    outer.include_router(inner)
    app.include_router(outer)
    assert list(not_guarded(app)) == found


def test_what_is_no_route_of_ours_is_open() -> None:
    app = FastAPI(openapi_url=None)
    app.router.routes.append(Route("/plain", nothing))
    app.add_api_websocket_route("/socket", socket)
    app.mount("/mounted", nothing)
    assert list(not_guarded(app)) == ["/plain", "/socket", "/mounted"]


# ---- principals


def key(user: str | None = None, *scopes: str) -> Key:
    return Key(key_id=7, name="a key", user=user, scopes=frozenset(scopes), seconds_left=None)


def test_what_a_key_may() -> None:
    everything = [scope.value for scope in Scope]
    assert Principal.of(key(None, *everything)).scopes == frozenset(Scope) == OPEN.scopes
    assert Principal.of(key("ann", *everything)).scopes == frozenset(Scope) - TENANT_WIDE
    assert Principal.of(key(None, "photo.read", "not.of.this.release")).scopes == {Scope.PHOTO_READ}
    assert not Principal.of(key()).may(Scope.PHOTO_READ)
    assert (Principal.of(key("ann")).user, Principal.of(key()).key_id, OPEN.key_id) == ("ann", 7, None)


def test_bundles_hold_what_they_are_called_for() -> None:
    assert BUNDLES["reader"] < BUNDLES["user"] < BUNDLES["operator"] == frozenset(Scope)
    assert not BUNDLES["user"] & TENANT_WIDE
    assert all(scope.endswith(".read") for scope in BUNDLES["reader"])


@pytest.mark.parametrize("secret", ["", "pk_", "pk_" + "a" * 42, "pk_" + "a" * 44, "xx_" + "a" * 43, "pk_" + "é" * 43])
def test_what_cannot_be_a_key_is_not_looked_up(secret: str) -> None:
    assert digest(secret) is None
    assert digest("pk_" + "a" * 43) is not None


# ---- requests


def request(method: str = "POST", client: str | None = "127.0.0.1", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    address = None if client is None else (client, 5)
    return Request(
        {"type": "http", "method": method, "headers": raw, "client": address, "path": "/", "query_string": b""}
    )


@pytest.mark.parametrize(
    ("headers", "program", "browser"),
    [
        ({}, True, False),  # a browser would have said whence
        ({"sec_fetch_site": "same-origin"}, True, True),
        ({"sec_fetch_site": "none"}, True, True),
        ({"sec_fetch_site": "same-site"}, False, False),
        ({"sec_fetch_site": "cross-site"}, False, False),
        ({"sec_fetch_site": "cross-site", "origin": "http://here:80"}, False, False),
        ({"origin": "http://here:80"}, True, True),
        ({"origin": "https://HERE:80"}, True, True),  # a proxy in front speaks https
        ({"origin": "http://there"}, False, False),
        ({"origin": "http://here"}, False, False),
        ({"origin": "http://here:80.evil.example"}, False, False),
        ({"origin": "null"}, False, False),
        ({"origin": "http://["}, False, False),
        ({"origin": ""}, False, False),
    ],
)
def test_only_pages_of_this_server_change_something(headers: dict[str, str], program: bool, browser: bool) -> None:
    for by_cookie, fine in ((False, program), (True, browser)):
        asking = request(host="here:80", **headers)
        if fine:
            sessions.check_origin(asking, by_cookie=by_cookie)
        else:
            with pytest.raises(Problem) as refused:
                sessions.check_origin(asking, by_cookie=by_cookie)
            assert (refused.value.status, refused.value.code) == (403, "cross_site")
        sessions.check_origin(request("GET", host="here:80", **headers), by_cookie=by_cookie)


@pytest.mark.parametrize("address", ["/", "/u/ada", "/u/Ada%20Lovelace?k=4&x=%2F", "/jobs?state=failed", "/c/n1#why"])
def test_people_come_back_to_where_they_were_going(address: str) -> None:
    assert sessions.local(address) == address


@pytest.mark.parametrize(
    "address",
    ["", "//evil.example", "https://evil.example", "evil.example", "/\\evil.example", "\\\\evil", "/\t/evil.example",
     "/\n/evil.example", "javascript:alert(1)", " //evil.example", "/é", "/\x00"],
)  # fmt: skip
def test_nobody_is_sent_to_another_server(address: str) -> None:
    assert sessions.local(address) == "/"


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),  # one customer has so many addresses
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("a socket", "a socket"),
        (None, "unknown"),
    ],
)
def test_by_which_address_requests_are_counted(client: str | None, counted: str) -> None:
    assert address_of(request(client=client)) == counted


# ---- open mode


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.0.2.1", False), ("api.example", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_only_an_address_of_this_machine_may_be_open(host: str, local: bool) -> None:
    assert Settings(api_host=host).api_is_local is local
    made(api_host=host)
    made(api_host=host, api_open=False)
    if local:
        made(api_host=host, api_open=True)
    else:
        with pytest.raises(ConfigurationError, match="`pictograph keys add`"):
            made(api_host=host, api_open=True)


def test_static_files_are_kept_for_ever_at_the_address_of_their_contents() -> None:
    client = TestClient(made(), base_url="http://127.0.0.1")
    kept = {static("style.css"): FOR_EVER, "/static/style.css": "no-cache", "/static/style.css?v=0": "no-cache"}
    for address, expected in kept.items():
        answer = client.get(address)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, expected)
        assert answer.headers["vary"] == "Accept-Encoding"
        again = client.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, expected)
    assert client.get("/static/nothing.css").status_code == client.get("/static/../base.html").status_code == 404
