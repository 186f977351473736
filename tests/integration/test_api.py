import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote
from xml.etree import ElementTree

import anyio
import anyio.to_thread
import httpx
import pytest
from api_helpers import STRANGE, Library, jpeg
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import text

from api import services
from api.app import create_app
from api.envelope import CONTENT_SECURITY_POLICY
from api.main import address, serve
from api.routes import health
from pipeline.errors import ConfigurationError
from pipeline.records import WHOLE
from pipeline.settings import Settings
from pipeline.sources.objects import Objects
from pipeline.sources.s3 import S3Access
from pipeline.store import migrate, policies, queries
from pipeline.store.session import Database
from taxonomy.policy import parse_rule
from workers.decode.pool import DecodePool


@pytest.fixture
def library(people: Library) -> Library:
    """Users with analysed photos; nobody at first."""
    return people


def test_profile_adds_up_and_names_its_versions(library: Library, client: TestClient) -> None:
    for name in ["pug", "pug", "pug", "espresso"]:
        library.add("ada", name)
    answer = client.get("/v1/users/ada/profile?k=2").json()
    assert (answer["user"], answer["photos"], answer["mass"]) == ("ada", 4, 4 * WHOLE)
    assert sum(cell["mass"] for cell in answer["cells"]) == 4 * WHOLE
    named = [(cell["name"], cell["photos"]) for cell in answer["cells"] if cell["kind"] == "category"]
    assert named == [("pug", 3), ("coffee", 1)]
    assert answer["versions"]["taxonomy_sha256"] == library.taxonomy.sha256
    assert (answer["versions"]["model"], answer["versions"]["decision_revision"]) == ("test model", 1)


@pytest.mark.parametrize(
    ("suffix", "accept", "kind"),
    [
        ("", "*/*", "application/json"),
        ("", "image/svg+xml", "image/svg+xml"),
        ("", "text/csv;q=0.9, image/svg+xml;q=0.5", "text/csv; charset=utf-8"),
        (".svg", "application/json", "image/svg+xml"),
        (".csv", "*/*", "text/csv; charset=utf-8"),
    ],
)
def test_formats_and_their_etags(library: Library, client: TestClient, suffix: str, accept: str, kind: str) -> None:
    library.add("ada", "pug")
    first = client.get(f"/v1/users/ada/profile{suffix}", headers={"Accept": accept})
    assert (first.status_code, first.headers["content-type"]) == (200, kind)
    assert "private" in first.headers["cache-control"]
    known = {"Accept": accept, "If-None-Match": first.headers["etag"]}
    again = client.get(f"/v1/users/ada/profile{suffix}", headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    library.add("ada", "espresso")
    assert client.get(f"/v1/users/ada/profile{suffix}", headers=known).status_code == 200


@pytest.mark.parametrize("name", STRANGE)
def test_users_may_have_any_name(library: Library, client: TestClient, name: str) -> None:
    library.add(name, "pug")
    segment = quote(name, safe="")
    assert client.get(f"/v1/users/{segment}/profile").json()["user"] == name
    ElementTree.fromstring(client.get(f"/v1/users/{segment}/profile.svg").content)
    shown = client.get(f"/u/{segment}")
    assert shown.status_code == 200
    assert "<script>alert" not in shown.text
    assert f'href="/u/{segment}"' in client.get("/people").text


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/v1/users/ada/profile?k=0", 400, "invalid_parameter"),
        ("/v1/users/ada/profile?k=13", 400, "invalid_parameter"),
        ("/v1/users/ada/profile?deep=2", 400, "unknown_parameter"),
        ("/v1/users/ada/profile?k=2&k=3", 400, "repeated_parameter"),
        ("/v1/users/nobody/profile", 404, "not_found"),
        ("/v1/jobs/7", 404, "not_found"),
        ("/v1/jobs/99999999999999999999", 400, "invalid_parameter"),
        ("/v1/photos/999/thumbnail", 404, "not_found"),
        ("/v1/photos/1/thumbnail?side=5000", 400, "invalid_parameter"),
        ("/v1/nothing", 404, "not_found"),
    ],
)
def test_problems(library: Library, client: TestClient, address: str, status: int, code: str) -> None:
    library.add("ada", "pug")
    answer = client.get(address, headers={"X-Request-ID": "abc-1"})
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["status"], problem["code"], problem["request_id"]) == (status, code, "abc-1")
    assert "errors" not in problem or all(
        each["pointer"].split(".")[0] in {"query", "path"} for each in problem["errors"]
    )


def test_the_users_page_shows_covers_numbers_and_newest_photos(library: Library, client: TestClient) -> None:
    faint = library.add("ada", "pug", certain=0.82, day=1)
    clear = library.add("ada", "pug", certain=0.97, day=2)
    nothing = library.add("ada", "espresso", certain=0.01, day=3)
    shown = client.get("/u/ada?k=1").text
    assert f"/v1/photos/{clear}/thumbnail?size=768" in shown
    assert f"/v1/photos/{faint}/thumbnail?size=768" not in shown
    newest = [shown.index(f"/v1/photos/{photo}/thumbnail?size=192") for photo in (nothing, clear, faint)]
    assert newest == sorted(newest)
    assert "not sure" in shown
    assert "style=" not in shown


def test_covers_show_what_is_drawn_in_the_category(library: Library, database: Database) -> None:
    # A wheeled vehicle is a container to the graph, and so tagged, but drawn among the vehicles.
    library.add("ada", "fire engine", certain=0.99)
    cup = library.add("ada", "mixing bowl", certain=0.9)
    taxonomy = library.taxonomy
    (container,) = taxonomy.find("container")
    with database.transaction() as connection:
        found = queries.user_profile_totals(connection, library.model.model_id, "ada")
        assert found is not None
        areas = {container: int(taxonomy.area_column[container])}
        assert queries.covers(connection, library.model.model_id, found.user_id, areas) == {container: cup}


def test_every_answer_is_enveloped(library: Library, client: TestClient) -> None:
    library.add("ada", "pug")
    for asked in ("/", "/u/ada", "/jobs", "/livez", "/static/style.css", "/v1/users/ada/profile", "/nowhere"):
        answer = client.get(asked, headers={"X-Request-ID": "bad id\t"})
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-request-id"].isalnum()
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/u/nobody", headers={"Accept": "text/html"}).text.startswith("<!doctype html>")


def test_people_in_pages(library: Library, client: TestClient) -> None:
    for name in ("ada", "bob", "cleo"):
        library.add(name, "pug")
    first = client.get("/v1/users?limit=2").json()
    assert (first["users"], first["next_after"]) == (
        [{"name": "ada", "photos": 1}, {"name": "bob", "photos": 1}],
        "bob",
    )
    last = client.get("/v1/users", params={"limit": 2, "after": first["next_after"]}).json()
    assert ([user["name"] for user in last["users"]], last["next_after"]) == (["cleo"], None)


def test_erased_users_are_gone(library: Library, client: TestClient, database: Database) -> None:
    photo = library.add("ada", "pug")
    with database.transaction() as connection:
        connection.execute(text("UPDATE core.app_user SET deleted_at = now()"))
    for asked in ("/v1/users/ada/profile", "/u/ada", f"/v1/photos/{photo}/thumbnail"):
        assert client.get(asked).status_code == 404
    assert client.get("/v1/users").json()["users"] == []


def test_thumbnails_are_square_bare_and_cached(library: Library, client: TestClient, database: Database) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    photo = library.add("ada", "pug", data=jpeg(exif=exif))
    first = client.get(f"/v1/photos/{photo}/thumbnail?side=96")
    picture = Image.open(io.BytesIO(first.content))
    assert (first.status_code, first.headers["content-type"], picture.size) == (200, "image/jpeg", (96, 96))
    assert not picture.getexif()
    for path in library.folder.iterdir():
        path.unlink()
    assert client.get(f"/v1/photos/{photo}/thumbnail?side=96").content == first.content
    gone = client.get(f"/v1/photos/{photo}/thumbnail?side=192")
    assert (gone.status_code, gone.json()["code"]) == (404, "photo_gone")


class Slow:
    """An object store that delivers when it is told to."""

    def __init__(self, photo: bytes) -> None:
        self.photo = photo
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()

    def read(self, *_: object) -> bytes:
        self.asked.release()
        assert self.go.wait(120)
        return self.photo


def test_who_waits_too_long_for_a_thumbnail_is_told_to_come_back(
    library: Library, settings: Settings, database: Database, decoder: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "TURN_SECONDS", 0.2)
    photos = [library.add("ada", "pug") for _ in range(services.THUMBNAILS_AT_ONCE + 1)]
    slow = Slow(jpeg())
    client = TestClient(create_app(settings, database, slow, decoder), base_url="http://127.0.0.1")
    with ThreadPoolExecutor(len(photos)) as pool:
        first = [pool.submit(client.get, f"/v1/photos/{photo}/thumbnail") for photo in photos[:-1]]
        assert all(slow.asked.acquire(timeout=60) for _ in first)
        late = client.get(f"/v1/photos/{photos[-1]}/thumbnail")
        assert (late.status_code, late.json()["code"], late.headers["retry-after"]) == (503, "busy", "5")
        slow.go.set()
        assert [answer.result().status_code for answer in first] == [200] * len(first)
    assert client.get(f"/v1/photos/{photos[-1]}/thumbnail").status_code == 200


def test_the_first_thumbnail_after_a_start_already_keeps_the_cap(
    library: Library, settings: Settings, database: Database, decoder: DecodePool
) -> None:
    """Servers that are restarted often would else never come to it."""
    old, new = library.add("ada", "pug"), library.add("ada", "pug")
    with database.transaction() as connection:
        queries.cache_thumbnail(connection, old, 96, 1, b"x" * 20_000)
        connection.execute(text("UPDATE core.thumbnail SET used_at = now() - interval '1 hour'"))
    small = settings.model_copy(update={"thumbnail_cache_bytes": 20_000})
    app = create_app(small, database, Objects(S3Access.of(settings)), decoder)
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get(f"/v1/photos/{new}/thumbnail?side=96").status_code == 200
    with database.transaction() as connection:
        assert queries.cached_thumbnail(connection, old, 96, 1) is None
        assert queries.cached_thumbnail(connection, new, 96, 1) is not None


def test_a_broken_photo_is_a_problem_and_not_an_error(library: Library, client: TestClient) -> None:
    photo = library.add("ada", "pug", data=jpeg()[:300])
    answer = client.get(f"/v1/photos/{photo}/thumbnail")
    assert (answer.status_code, answer.json()["code"]) == (422, "photo_unreadable")


def test_the_least_recently_used_thumbnails_go_first(library: Library, database: Database) -> None:
    old, new = library.add("ada", "pug"), library.add("ada", "pug")
    with database.transaction() as connection:
        for photo, hours in ((old, 5), (new, 2)):
            queries.cache_thumbnail(connection, photo, 96, 1, b"x" * 1000)
            aged = "UPDATE core.thumbnail SET used_at = now() - :h * interval '1 hour' WHERE photo_id = :photo"
            connection.execute(text(aged), {"h": hours, "photo": photo})
    with database.transaction() as connection:
        assert queries.cached_thumbnail(connection, old, 96, 1) == b"x" * 1000  # and so it is used again
    with database.transaction() as connection:
        assert queries.evict_thumbnails(connection, 1500) == 1
        assert queries.cached_thumbnail(connection, new, 96, 1) is None
        assert queries.cached_thumbnail(connection, old, 96, 1) is not None
        assert queries.cached_thumbnail(connection, old, 96, 2) is None  # other bytes, other thumbnail


def test_health(client: TestClient, database: Database) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").json()["status"] == "ready"
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'older'"))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_migrated", "10")


def test_the_process_lives_also_when_every_thread_is_busy(client: TestClient) -> None:
    async def ask() -> int:
        limiter = anyio.to_thread.current_default_thread_limiter()
        for _ in range(int(limiter.total_tokens)):
            await limiter.acquire_on_behalf_of(object())
        transport = httpx.ASGITransport(client.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as asking:
            with anyio.fail_after(5):
                return (await asking.get("/livez")).status_code

    assert anyio.run(ask) == 200


def test_readiness_reads_the_migrations_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = migrate.newest()
    read = []
    monkeypatch.setattr(migrate, "newest", lambda: read.append(1) or newest)
    health._needed.cache_clear()
    assert [client.get("/readyz").status_code for _ in range(3)] == [200] * 3
    assert len(read) == 1


def test_a_database_that_is_away_is_503_and_says_nothing_of_it(settings: Settings, decoder: DecodePool) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but not listening: refused
        url = f"postgresql://someone:secret@127.0.0.1:{closed.getsockname()[1]}/nothing"
        with Database(url, "api test") as away:
            app = create_app(settings, away, Objects(S3Access.of(settings)), decoder)
            client = TestClient(app, base_url="http://127.0.0.1")
            answer = client.get("/v1/jobs")
            assert (answer.status_code, answer.json()["code"]) == (503, "service_down")
            assert "retry-after" in answer.headers
            assert "someone" not in answer.text
            assert client.get("/livez").status_code == 200


def test_before_any_model_there_is_a_hint(client: TestClient) -> None:
    answer = client.get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "pictograph migrate" in answer.text


def test_openapi_names_every_route(client: TestClient) -> None:
    paths = json.loads(client.get("/v1/openapi.json").content)["paths"]
    assert {"/v1/users/{user}/profile", "/v1/jobs/{job_id}", "/v1/photos/{photo_id}/thumbnail"} <= paths.keys()


SERVE = """
from api.main import serve
from pipeline.settings import Settings
serve(Settings(api_port=0), lambda url: print(url, flush=True))
print("closed")
"""


@pytest.mark.parametrize(("number", "host"), [(signal.SIGTERM, "127.0.0.1"), (signal.SIGINT, "::1")])
def test_it_serves_on_a_port_of_its_own_and_stops_on_a_signal(
    settings: Settings, number: signal.Signals, host: str
) -> None:
    command = [sys.executable, "-c", SERVE]
    environment = {**os.environ, **settings.model_copy(update={"api_host": host}).environment()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/readyz", timeout=60) as answer:
            assert json.load(answer)["status"] == "ready"
        with urllib.request.urlopen(urllib.request.Request(f"{url}/livez", method="HEAD"), timeout=60) as head:
            assert (head.status, head.read()) == (200, b"")
        server.send_signal(number)
        assert server.stdout.read() == "closed\n"
        assert server.wait(60) == 0


def test_a_taken_port_is_said(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = settings.model_copy(update={"api_port": taken.getsockname()[1]})
        with pytest.raises(ConfigurationError, match="PICTOGRAPH_API_PORT"):
            serve(busy, print)


def test_address_of_a_wildcard_can_be_called() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert address("0.0.0.0", listener) == f"http://127.0.0.1:{port}"
        assert address("localhost", listener) == f"http://localhost:{port}"


def test_a_policy_holds_in_profile_page_and_views(library: Library, client: TestClient) -> None:
    for name in ["gorilla", "gorilla", "chimpanzee", "pug"]:
        library.add("ada", name)
    before = client.get("/v1/users/ada/profile")
    with library.database.transaction() as connection:
        model = queries.active_model(connection)
        assert model is not None
        policies.add_version(connection, [parse_rule("coarsen gorilla to ape", library.taxonomy)])
        policies.apply(connection, 1, library.taxonomy)
    after = client.get("/v1/users/ada/profile")
    assert (before.json()["versions"]["policy_version"], after.json()["versions"]["policy_version"]) == (0, 1)
    assert before.headers["etag"] != after.headers["etag"]
    assert sum(cell["mass"] for cell in after.json()["cells"]) == 4 * WHOLE
    page = client.get("/u/ada").text
    assert "gorilla" not in after.text + page.replace("ada/gorilla", "")  # file names are the user's own words
    assert "ape" in page
    with library.database.transaction() as connection:
        tags = set(connection.execute(text("SELECT name FROM tags.photo_tag")).scalars())
        headlines = set(connection.execute(text("SELECT headline FROM tags.photo")).scalars())
        names = set(connection.execute(text("SELECT name FROM tags.category")).scalars())
    assert {"ape", "pug"} <= tags
    assert "gorilla" not in tags | headlines | names
