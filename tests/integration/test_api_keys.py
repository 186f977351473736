"""Keys and sessions against a real database: who is let in, for what, for how long, and how often."""

import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import quote

import httpx
import pytest
from api_helpers import Library, opened
from fastapi.testclient import TestClient
from key_helpers import bearer, closed_app, new_key
from sqlalchemy import text

from api.access import keyring, sessions
from api.auth import Desk, Principal, Scope
from pictograph.stack import Endpoints
from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger import control, erase, jobs
from pipeline.ledger.requests import JobRequest
from pipeline.settings import Settings
from pipeline.store import keys
from pipeline.store.session import Database
from tests.schema import make_empty
from workers.decode.pool import DecodePool

NOBODYS = "pk_" + "a" * 43
HTML = {"Accept": "text/html"}
OURS = {"Origin": "http://127.0.0.1"}
EMPTIED = ("api_key", "app_user", "photo", "photo_result", "user_category", "category_total", "shared_total", "job")


@pytest.fixture(scope="module")
def migrated(endpoints: Endpoints) -> Iterator[Database]:
    """A database with tables: to make them takes longer than these tests."""
    with Database(endpoints.database_url, "pictograph tests", connections=10) as found:
        make_empty(found)
        yield found


@pytest.fixture
def database(migrated: Database) -> Database:
    """The same, without keys, users, photos and jobs."""
    with migrated.transaction() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(f'core.{table}' for table in EMPTIED)} RESTART IDENTITY CASCADE"))
    return migrated


@pytest.fixture
def closed(settings: Settings, as_api: Database, decoder: DecodePool) -> Iterator[TestClient]:
    """A client of an application that wants keys."""
    with closed_app(settings, as_api, decoder) as made:
        yield made


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are looked up at every request."""
    monkeypatch.setattr(keyring, "KEY_SECONDS", 0.0)


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---- keys


def test_who_has_no_key_is_told_how_to_get_one(people: Library, closed: TestClient) -> None:
    people.add("ada", "pug")
    for address in ("/v1/users/ada/profile", "/v1/users/nobody/profile", "/v1/jobs", "/v1/jobs/99", "/jobs", "/"):
        answer = closed.get(address)
        assert told(answer) == (401, "no_key")
        assert "`pictograph keys add`" in answer.json()["detail"]
        assert answer.headers["www-authenticate"] == 'Bearer realm="pictograph"'
        assert "ada" not in answer.text.replace(address, "")
    for address in ("/livez", "/readyz", "/v1/openapi.json", "/static/style.css", "/sign-in"):
        assert closed.get(address).status_code == 200


def test_a_wrong_key_opens_nothing_not_even_an_open_server(
    people: Library, client: TestClient, closed: TestClient
) -> None:
    for header in ("Bearer", "Bearer ", f"Bearer {NOBODYS}", "Bearer pk_x", "Basic cDpx", NOBODYS, ""):
        for each in (client, closed):
            answer = each.get("/v1/jobs", headers={"Authorization": header})
            assert told(answer) == (401, "wrong_key")
            assert answer.headers["www-authenticate"] == 'Bearer realm="pictograph", error="invalid_token"'


def test_a_key_opens_what_its_scopes_say(people: Library, closed: TestClient, database: Database) -> None:
    people.add("ada", "pug")
    everything, reader = new_key(database, "operator"), new_key(database, "reader", name="for reading")
    own = new_key(database, "user", user="ada")
    asked = {"/v1/users/ada/profile": (200, 200, 200), "/v1/jobs": (200, 403, 403)}
    for address, expected in asked.items():
        given = [closed.get(address, headers=bearer(secret)) for secret in (everything, reader, own)]
        assert tuple(answer.status_code for answer in given) == expected
    refused = closed.get("/v1/jobs", headers=bearer(reader))
    assert told(refused) == (403, "forbidden")
    assert refused.json()["detail"] == "The key for reading lacks the scope job.read."
    # Also where somebody has written more into the row than `keys add` would.
    again = new_key(database, "user", "job.read", user="ada")
    assert told(closed.get("/v1/jobs", headers=bearer(again))) == (403, "forbidden")
    # A page of an error, too, offers what its reader may do, and nothing else.
    page = closed.get("/u/nobody", headers={**HTML, **bearer(own)}).text
    assert ('<a href="/u/ada"' in page, 'href="/jobs"' in page) == (True, False)
    assert 'href="/jobs"' in closed.get("/u/nobody", headers={**HTML, **bearer(everything)}).text


def test_keys_end(
    people: Library, closed: TestClient, database: Database, forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.add("ada", "pug")
    revoked, erased = new_key(database, "operator"), new_key(database, "user", user="ada")
    expired = new_key(database, "operator", seconds=3600)
    with database.transaction() as connection:
        ended = "UPDATE core.api_key SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL"
        connection.execute(text(ended))
        row, was_valid = keys.revoke(connection, 1)
        assert (row.state, was_valid) == ("revoked", True)
        assert keys.revoke(connection, 1)[1] is False
    assert closed.get("/v1/users/ada/profile", headers=bearer(erased)).status_code == 200
    erase.erase(database, "ada")
    for secret in (revoked, expired, erased):
        assert told(closed.get("/v1/users/ada/profile", headers=bearer(secret))) == (401, "wrong_key")
    with database.transaction() as connection:
        assert [key.state for key in keys.listed(connection, 10, everything=True)] == ["expired", "revoked", "revoked"]
        assert keys.listed(connection, 10) == []
        with pytest.raises(ConfigurationError, match="no key 99"):
            keys.revoke(connection, 99)


def test_a_key_is_remembered_for_seconds_and_never_beyond_its_end(
    people: Library, closed: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keyring.KEY_SECONDS <= 5
    now = time.monotonic()
    monkeypatch.setattr(keyring.time, "monotonic", lambda: now)
    lasting, ending = new_key(database, "operator"), new_key(database, "operator", seconds=2)
    late = new_key(database, "operator")
    asked = [closed.get("/v1/jobs", headers=bearer(each)).status_code for each in (lasting, ending, NOBODYS)]
    assert asked == [200, 200, 401]
    with database.transaction() as connection:
        connection.execute(text("UPDATE core.api_key SET revoked_at = now()"))
    assert closed.get("/v1/jobs", headers=bearer(lasting)).status_code == 200  # for a moment
    assert closed.get("/v1/jobs", headers=bearer(late)).status_code == 401  # was not asked for before
    now += 2.5
    assert closed.get("/v1/jobs", headers=bearer(ending)).status_code == 401
    assert closed.get("/v1/jobs", headers=bearer(lasting)).status_code == 200
    now += keyring.KEY_SECONDS
    assert closed.get("/v1/jobs", headers=bearer(lasting)).status_code == 401


def test_only_a_digest_is_stored_and_use_is_noted_once_an_hour(
    people: Library, closed: TestClient, database: Database, forgetful: None
) -> None:
    secret = new_key(database, "operator")
    row = "SELECT key_id::text || encode(secret_sha256, 'escape') || api_key::text FROM core.api_key"
    used = "SELECT used_at FROM core.api_key"
    aged = "UPDATE core.api_key SET used_at = now() - CAST(:ago AS interval)"

    def ask() -> object:
        assert closed.get("/v1/jobs", headers=bearer(secret)).status_code == 200
        return database.run(lambda c: c.execute(text(used)).scalar_one())

    assert secret not in database.run(lambda c: c.execute(text(row)).scalar_one())
    assert database.run(lambda c: c.execute(text(used)).scalar_one()) is None
    first = ask()
    assert first is not None
    assert ask() == first
    for ago, changes in (("50 minutes", False), ("70 minutes", True)):
        database.run(lambda c, ago=ago: c.execute(text(aged), {"ago": ago}))
        before = database.run(lambda c: c.execute(text(used)).scalar_one())
        assert (ask() != before) is changes


def test_many_secrets_do_not_fill_the_memory(
    people: Library, closed: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "MOST", 10)
    for number in range(25):
        closed.get("/v1/jobs", headers=bearer(f"pk_{number:043}"))
    assert len(closed.app.state.services.keyring._known) <= 10  # type: ignore[attr-defined]


def test_without_a_database_nobody_is_known(
    people: Library, closed: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    secret = new_key(database, "operator")

    def away(*_: object) -> None:
        raise ServiceDown("at 10.0.0.7")

    monkeypatch.setattr(keys, "opening", away)
    answer = closed.get("/v1/jobs", headers=bearer(secret))
    assert told(answer) == (503, "service_down")
    assert "10.0.0.7" not in answer.text


# ---- limits


def test_each_key_has_so_many_requests_a_minute(
    people: Library, settings: Settings, as_api: Database, decoder: DecodePool, database: Database
) -> None:
    one, other = new_key(database, "operator"), new_key(database, "operator")
    with closed_app(settings, as_api, decoder, api_requests_per_minute=5) as client:
        given = [client.get("/v1/jobs", headers=bearer(one)) for _ in range(6)]
        assert [answer.status_code for answer in given] == [200] * 5 + [429]
        assert told(given[-1]) == (429, "too_many_requests")
        assert 1 <= int(given[-1].headers["retry-after"]) <= 120
        assert client.get("/v1/jobs", headers=bearer(other)).status_code == 200
        assert client.get("/livez").status_code == 200


def test_wrong_keys_are_counted_and_right_ones_go_on(
    people: Library, settings: Settings, as_api: Database, decoder: DecodePool, database: Database
) -> None:
    right = new_key(database, "operator")
    with closed_app(settings, as_api, decoder, api_failures_per_minute=3) as client:
        wrong = [client.get("/v1/jobs", headers=bearer(NOBODYS)) for _ in range(3)]
        assert [told(answer) for answer in wrong] == [(401, "wrong_key")] * 3
        late = client.post("/sign-in", data={"key": NOBODYS}, headers=OURS)
        assert told(late) == told(client.get("/v1/jobs", headers=bearer(NOBODYS))) == (429, "too_many_failures")
        assert int(late.headers["retry-after"]) >= 1
        assert client.get("/v1/jobs", headers=bearer(right)).status_code == 200


# ---- sessions


def sign_in(client: TestClient, secret: str, going: str = "/jobs", forwarded: str = "http") -> httpx.Response:
    headers = {**OURS, "X-Forwarded-Proto": forwarded}
    return client.post("/sign-in", data={"key": f" {secret} ", "next": going}, headers=headers)


def test_people_are_sent_to_sign_in_and_come_back(people: Library, closed: TestClient, database: Database) -> None:
    address = f"/u/{quote('Ada Lovelace & <co>')}?k=4"
    asked = closed.get(address, headers=HTML)
    assert (asked.status_code, asked.headers["cache-control"]) == (303, "no-store")
    form = closed.get(asked.headers["location"], headers=HTML)
    assert form.status_code == 200
    going = re.search(r'name="next" value="([^"]*)"', form.text)
    assert going is not None
    wrong = closed.post("/sign-in", data={"key": NOBODYS, "next": going[1]}, headers={**HTML, **OURS})
    assert (wrong.status_code, "set-cookie" in wrong.headers, NOBODYS in wrong.text) == (401, False, False)
    answer = sign_in(closed, new_key(database, "operator"), going[1])
    assert (answer.status_code, answer.headers["location"]) == (303, address)
    assert closed.post("/jobs", headers=HTML).status_code in (303, 405)


def test_a_session_is_a_cookie_that_only_this_server_gets(
    people: Library, closed: TestClient, database: Database
) -> None:
    secret = new_key(database, "operator")
    plain = sign_in(closed, secret).headers["set-cookie"]
    proxied = sign_in(closed, secret, forwarded="https").headers["set-cookie"]
    for cookie in (plain, proxied):
        parts = set(cookie.split("; "))
        assert {"HttpOnly", "Path=/", "SameSite=strict", f"Max-Age={sessions.SESSION_SECONDS}"} <= parts
        assert "Domain" not in cookie
        assert secret not in cookie
    assert ("Secure" in plain, plain.startswith("pictograph_session=")) == (False, True)
    assert ("Secure" in proxied, proxied.startswith("__Host-pictograph_session=")) == (True, True)


def test_a_session_opens_what_its_key_does_until_either_ends(
    people: Library, closed: TestClient, database: Database, forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.add("ada", "pug")
    secret = new_key(database, "user", user="ada", name="ada's")
    assert sign_in(closed, secret, "/").headers["location"] == "/u/ada"
    assert closed.get("/v1/users/ada/profile").status_code == 200
    assert closed.get("/v1/jobs").status_code == 403
    assert told(closed.get("/v1/users/ada/profile", headers=bearer(NOBODYS))) == (401, "wrong_key")  # the header counts
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr(sessions, "time", SimpleNamespace(time=lambda: now + sessions.SESSION_SECONDS + 1))
        assert closed.get("/v1/users/ada/profile").status_code == 401
    assert closed.get("/v1/users/ada/profile").status_code == 200
    out = closed.post("/sign-out", headers=OURS)
    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert closed.get("/v1/users/ada/profile").status_code == 401
    sign_in(closed, secret)
    assert closed.get("/v1/users/ada/profile").status_code == 200
    database.run(lambda c: keys.revoke(c, 1))
    assert closed.get("/u/ada", headers=HTML).status_code == 303


def test_sessions_that_were_tampered_with_or_signed_by_another_secret_are_none(
    people: Library, closed: TestClient, database: Database
) -> None:
    sign_in(closed, new_key(database, "operator"))
    (cookie,) = closed.cookies.jar
    value = cookie.value or ""
    page_token = closed.app.state.services.secrets.of("page_token")  # type: ignore[attr-defined]
    forged = sessions.URLSafeSerializer(page_token, salt="session").dumps([1, int(time.time()) + 1000])
    payload, _, signature = value.rpartition(".")
    resigned = f"WzEsOTk5OTk5OTk5OV0.{signature}"
    for wrong in (payload, f"{payload}.", value + "x", value[1:], resigned, forged, "x" * 5000):
        closed.cookies.clear()
        assert closed.get("/v1/jobs", headers={"Cookie": f"{sessions.COOKIE}={wrong}"}).status_code == 401
    assert closed.get("/v1/jobs", headers={"Cookie": f"{sessions.COOKIE}={value}"}).status_code == 200
    database.run(lambda c: keys.renew_secret(c, "session"))
    with opened(closed.app) as again:  # type: ignore[arg-type]
        again.app.state.services.secrets._known.clear()  # type: ignore[attr-defined]  # a minute later
        assert again.get("/v1/jobs", headers={"Cookie": f"{sessions.COOKIE}={value}"}).status_code == 401


def test_another_site_cannot_sign_anybody_in_or_out(people: Library, closed: TestClient, database: Database) -> None:
    secret = new_key(database, "operator")
    sign_in(closed, secret)
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        for address in ("/sign-in", "/sign-out"):
            answer = closed.post(address, data={"key": secret}, headers=headers)
            assert told(answer) == (403, "cross_site")
            assert "set-cookie" not in answer.headers


# ---- the desk


def test_only_pages_of_this_server_change_anything_here(
    people: Library, client: TestClient, closed: TestClient, database: Database
) -> None:
    """Forms of another site's page come with the session, or reach an open server; programs send keys, or come open."""
    secret = new_key(database, "operator")
    sign_in(closed, secret)
    command, foreign = "/v1/jobs/99:cancel", {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
    not_there = (404, "not_found")
    assert told(closed.post(command, headers=OURS)) == not_there
    for headers in ({}, foreign, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}):
        assert told(closed.post(command, headers=headers)) == (403, "cross_site")
    assert told(client.post(command)) == not_there
    assert told(client.post(command, headers=foreign)) == (403, "cross_site")
    assert told(client.post("/jobs/99/cancel", headers=foreign)) == (403, "cross_site")
    closed.cookies.clear()
    assert told(closed.post(command, headers={**foreign, **bearer(secret)})) == not_there


def test_who_comes_by_a_link_from_elsewhere_is_offered_to_go_on(people: Library, closed: TestClient) -> None:
    """The browser keeps a strict cookie back then; from our own page it sends it."""
    linked = closed.get("/sign-in?next=/u/ada", headers={**HTML, "Sec-Fetch-Site": "cross-site"})
    assert '<a href="/u/ada">' in linked.text
    assert '<a href="/u/ada">' not in closed.get("/sign-in?next=/u/ada", headers=HTML).text
    assert "evil.example" not in closed.get("/sign-in?next=//evil.example", headers=HTML).text


def desk_of(client: TestClient, user: str | None) -> Desk:
    services = client.app.state.services  # type: ignore[attr-defined]
    return Desk(principal=Principal(name="somebody", user=user, scopes=frozenset(Scope)), services=services)


def test_a_query_that_forgets_its_where_finds_nothing_of_others(people: Library, client: TestClient) -> None:
    """Row-level security is the second wall."""
    for user in ("ada", "ben", "cleo"):
        people.add(user, "pug")
    people.consent("cleo")
    tables = ("app_user", "photo", "photo_result", "user_category")
    users = "SELECT DISTINCT u.name FROM core.{} t JOIN core.app_user u USING (user_id) ORDER BY 1"
    seen = {
        ("ada", "transaction"): ["ada"],
        ("ada", "gallery"): ["ada", "cleo"],
        ("nobody", "transaction"): [],
        ("nobody", "gallery"): ["cleo"],
        (None, "transaction"): ["ada", "ben", "cleo"],
        (None, "gallery"): ["ada", "ben", "cleo"],
    }
    for (user, kind), expected in seen.items():
        with getattr(desk_of(client, user), kind)() as connection:
            found = {table: list(connection.execute(text(users.format(table))).scalars()) for table in tables}
        assert found == dict.fromkeys(tables, expected), (user, kind)
    with client.app.state.services.database.transaction() as connection:  # type: ignore[attr-defined]
        assert not connection.execute(text("SELECT FROM core.photo")).first()  # who says nothing sees nothing


def test_commands_are_for_those_who_are_bound_to_nobody(people: Library, client: TestClient) -> None:
    request = JobRequest(kind="s3", source="s3://photos/", user_rule="{user}/{photo}")
    desk = desk_of(client, None)
    with desk.commanding() as connection:
        job_id = jobs.submit(connection, request, people.model.model_id)
        control.pause(connection, job_id, desk.principal.name)
    with desk.transaction() as connection:
        assert jobs.find(connection, job_id).paused_by == "somebody"
        assert connection.execute(text("SELECT current_user")).scalar_one() == "pictograph_api"
    with pytest.raises(AssertionError, match="bound to a user"), desk_of(client, "ada").commanding():
        pass
