import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import errors
from api.access.hosts import EVERY_NAME, TrustedHosts, name_of, trusted_hosts
from api.envelope import CONTENT_SECURITY_POLICY, Envelope
from api.names import encoded
from api.parameters import only
from pipeline.errors import (
    ConfigurationError,
    LeaseLost,
    ModelError,
    PhotoChanged,
    PhotoGone,
    PhotoUnreadable,
    PictographError,
    ServiceDown,
    SourceError,
    Throttled,
)


def client_of(error: Exception) -> TestClient:
    app = FastAPI()

    @app.get("/fails")
    def fails() -> None:
        raise error

    @app.get("/u/{name:anything}/end", dependencies=[only("k")])
    def named(name: str) -> str:
        return name

    errors.install(app)
    app.add_middleware(Envelope)
    return TestClient(app, raise_server_exceptions=False)


def test_what_is_not_allowed_says_what_is() -> None:
    answer = client_of(ZeroDivisionError()).post("/fails")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method_not_allowed", "GET")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ServiceDown("at 10.0.0.7"), 503, "service_down"),
        (Throttled("at 10.0.0.7"), 503, "throttled"),
        (ConfigurationError("say so"), 503, "not_set_up"),
        (SourceError("say so"), 503, "not_set_up"),
        (PhotoGone("say so"), 404, "photo_gone"),
        (PhotoUnreadable("say so"), 422, "photo_unreadable"),
        (PhotoChanged("say so"), 409, "photo_changed"),
        (LeaseLost("at 10.0.0.7"), 500, "internal"),
        (ModelError("at 10.0.0.7"), 500, "internal"),
        (PictographError("at 10.0.0.7"), 500, "internal"),
        (ZeroDivisionError("at 10.0.0.7"), 500, "internal"),
    ],
)
def test_every_error_has_one_answer(error: Exception, status: int, code: str) -> None:
    answer = client_of(error).get("/fails")
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "10.0.0.7" not in answer.text  # what is behind us is for the log
    assert str(error) not in ("say so",) or "say so" in problem["detail"]


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_nothing_in_a_problem_moves_a_cursor_or_turns_the_text(accept: str) -> None:
    name = "x\x1b[2J\x9b31m\x7f\r\n\u202e\u2066y"
    answer = client_of(ConfigurationError(f"{name} is not set")).get("/fails", headers={"accept": accept})
    text = answer.json()["detail"] if accept == "application/json" else answer.text
    assert r"x\x1b[2J\x9b31m\x7f\r\n\u202e\u2066y" in text
    assert not [c for c in text if not c.isprintable() and c != "\n"]


def test_every_error_of_the_tree_is_in_the_table() -> None:
    assert errors.ANSWERS[-1][0] is PictographError
    kinds = [kind for kind, _ in errors.ANSWERS]
    assert not any(issubclass(later, kind) for i, kind in enumerate(kinds) for later in kinds[i + 1 :])


@pytest.mark.parametrize("name", ["a", "a/b", "a/", "/a", "a\nb\n", "ü ☂", "50%", "?#&", "end", "a/end"])
def test_any_name_survives_the_path(name: str) -> None:
    assert client_of(PictographError()).get(f"/u/{encoded(name)}/end").json() == name


@pytest.mark.parametrize(("query", "code"), [("depth=1", "unknown_parameter"), ("k=1&k=2", "repeated_parameter")])
def test_parameters_are_refused_by_name(query: str, code: str) -> None:
    problem = client_of(PictographError()).get(f"/u/a/end?{query}").json()
    name = query.partition("=")[0]
    assert (problem["status"], problem["code"], problem["errors"][0]["pointer"]) == (400, code, f"query.{name}")
    assert repr(name) in problem["detail"]


def test_head_is_answered_like_get() -> None:
    assert client_of(PictographError()).head("/u/a/end").status_code == 200


def test_methods_that_change_things_are_refused() -> None:
    answer = client_of(PictographError()).post("/u/a/end")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("host", "trusted"),
    [("127.0.0.1", False), ("::1", False), ("pictures.example", False), ("0.0.0.0", True), ("::", True)],
)
def test_only_who_listens_everywhere_trusts_every_name(host: str, trusted: bool) -> None:
    hosts = trusted_hosts(host)
    assert (hosts == {EVERY_NAME}) == trusted
    assert trusted or {"127.0.0.1", "localhost", host} <= hosts


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8000", "localhost"),
        ("localhost.", "localhost"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:8000", "::1"),
        ("[0:0:0:0:0:0:0:1]:8000", "::1"),
        ("::1", None),
        ("[::1", None),
        ("[evil.example]", None),
        ("localhost:80:80", None),
        ("localhost@evil.example", None),
        ("localhost/x", None),
        ("localhost localhost", None),
        ("", None),
    ],
)
def test_names_in_host_headers(header: str, name: str | None) -> None:
    assert name_of(header) == name


@pytest.mark.parametrize(
    ("listens_on", "called", "status"),
    [
        ("::1", "http://[::1]:8000", 200),
        ("127.0.0.1", "http://127.0.0.1:8000", 200),
        ("127.0.0.1", "http://localhost", 200),
        ("127.0.0.1", "http://evil.example", 400),
        ("127.0.0.1", "http://[::2]", 400),
        ("pictures.example", "http://Pictures.Example:8000", 200),
        ("fd00::0:1", "http://[fd00::1]:8000", 200),
        ("0.0.0.0", "http://evil.example", 200),
    ],
)
def test_only_known_names_are_answered(listens_on: str, called: str, status: int) -> None:
    app = FastAPI()
    app.get("/")(lambda: "hello")
    app.add_middleware(TrustedHosts, allowed=trusted_hosts(listens_on))
    app.add_middleware(Envelope)
    answer = TestClient(app, base_url=called).get("/")
    assert answer.status_code == status
    if status == 400:
        assert (answer.json()["code"], answer.headers["x-request-id"]) == ("unknown_host", answer.json()["request_id"])
