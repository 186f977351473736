"""Fixtures for tests of the ledger and the engine on real servers.

Building the schema takes longer than most of these tests: they find it made, and only empty it.
"""

import copy
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import api_helpers
import pytest
from api_helpers import ClientAs, app_of, asking_as, opened
from engine_helpers import SIDE, Library
from fastapi.testclient import TestClient
from ledger_helpers import Ledger, prepare, ref
from pydantic import SecretStr

from api.auth import Principal, Scope
from pictograph.stack import Endpoints
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.decode.pool import DecodePool
from workers.decode.records import Target


@pytest.fixture(scope="session")
def connections(endpoints: Endpoints) -> Iterator[Database]:
    """Connections that outlive a test, to a database that may hold anything."""
    with Database(endpoints.database_url, "pictograph ledger tests", connections=12) as found:
        yield found


@pytest.fixture(scope="session")
def access(endpoints: Endpoints) -> S3Access:
    """Access to the object store that outlives a test."""
    return S3Access(
        endpoint_url=endpoints.s3_endpoint_url,
        access_key_id=endpoints.s3_access_key_id,
        secret_access_key=endpoints.s3_secret_access_key,
        region="us-east-1",
    )


@pytest.fixture
def ledger(connections: Database) -> Ledger:
    """An empty ledger that knows one small model."""
    prepare(connections)
    return Ledger(connections)


@pytest.fixture
def ledger_settings(endpoints: Endpoints) -> Settings:
    """Settings that name the servers, with times short enough for tests."""
    return Settings(
        database_url=SecretStr(endpoints.database_url),
        broker_url=SecretStr(endpoints.broker_url),
        s3_endpoint_url=endpoints.s3_endpoint_url,
        s3_access_key_id=endpoints.s3_access_key_id,
        s3_secret_access_key=SecretStr(endpoints.s3_secret_access_key),
        lease_seconds=5,
        tick_seconds=0.2,
        stale_seconds=3,
        batch_photos=8,
        decode_processes=1,
        fetch_threads=4,
    )


def acting(ledger: Ledger, role: Role) -> Ledger:
    """The same ledger for a process of that role."""
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    other = copy.copy(ledger)
    other.database = Database(url, f"test of {role}", connections=1, role=role)
    return other


@pytest.fixture
def roles(ledger: Ledger) -> Iterator[dict[Role, Ledger]]:
    """The ledger as each role reaches it."""
    made = {role: acting(ledger, role) for role in Role}
    yield made
    for each in made.values():
        each.database.close()


@pytest.fixture
def ingest(roles: dict[Role, Ledger]) -> Ledger:
    """The ledger as role ingest reaches it."""
    return roles[Role.INGEST]


@pytest.fixture
def worker(roles: dict[Role, Ledger]) -> Ledger:
    """The ledger as role worker reaches it."""
    return roles[Role.WORKER]


@pytest.fixture
def api(roles: dict[Role, Ledger]) -> Ledger:
    """The ledger as role api reaches it."""
    return roles[Role.API]


@pytest.fixture
def analyst(roles: dict[Role, Ledger]) -> Ledger:
    """The ledger as role analyst reaches it."""
    return roles[Role.ANALYST]


@pytest.fixture
def two_users(ledger: Ledger, ingest: Ledger, worker: Ledger) -> int:
    """Two photos of Ann's and three of Ben's, tagged and confirmed, each with a thumbnail; the job."""
    photos = [ref(f"ann/{n}.jpg") for n in range(2)] + [ref(f"ben/{n}.jpg", user="ben") for n in range(3)]
    job_id = ingest.list(photos, notify=("https://example.org/ended",))
    worker.tag_all(job_id, "dog")
    ledger.execute("INSERT INTO core.thumbnail SELECT photo_id, 64, 1, 'x' FROM core.photo")
    ledger.execute("""
        INSERT INTO core.verdict (photo_id, node, verdict, content_rev, model_id, decision_rev, headline, given_by)
        SELECT photo_id, headline, 'confirm', content_rev, model_id, decision_rev, headline, 'open'
        FROM core.photo_result""")
    return job_id


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecodePool]:
    """Decode children for streams."""
    with DecodePool(1, Target(size=SIDE, resize=36)) as pool:
        yield pool


@pytest.fixture
def library(
    ledger: Ledger, ledger_settings: Settings, decoders: DecodePool, request: pytest.FixtureRequest
) -> Iterator[Library]:
    """An empty bucket, and streams over jobs on it; none leaves a thread behind."""
    settings = ledger_settings.model_copy(update={"shard_photos": 10})
    name = "engine-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-40:].strip("-")
    create_bucket(S3Access.of(settings), name)
    found = Library(ledger, settings, decoders, name)
    yield found
    for heart in found.hearts:
        heart.stop()
    client = S3Access.of(settings).client()
    if name in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.delete_bucket(Bucket=name)  # the server sets disk aside for each that there is
    steps = {"feed", "fetch", "recognise", "decode", "merge", "close"}
    assert [thread.name for thread in threading.enumerate() if thread.name in steps] == []


# ---- the API


@pytest.fixture
def people(database: Database, tmp_path: Path) -> api_helpers.Library:
    """Users with analysed photos, in a database of the test's own; nobody at first."""
    return api_helpers.Library(database, tmp_path)


@pytest.fixture(scope="session")
def decoder() -> Iterator[DecodePool]:
    """A decode child for thumbnails."""
    with DecodePool(1) as pool:
        yield pool


@pytest.fixture
def as_api(endpoints: Endpoints, database: Database) -> Iterator[Database]:
    """The database as the API reaches it: row-level security and all."""
    with Database(endpoints.database_url, "pictograph api", role=Role.API) as found:
        yield found


@pytest.fixture
def client(settings: Settings, as_api: Database, decoder: DecodePool) -> Iterator[TestClient]:
    """A client of an application that runs open: it may do everything."""
    with opened(app_of(settings, as_api, decoder)) as made:
        yield made


@pytest.fixture
def client_as(settings: Settings, as_api: Database, decoder: DecodePool) -> Iterator[ClientAs]:
    """Makes clients that ask as a principal bound to a user (None: to nobody), with these scopes (none given: all)."""
    with ExitStack() as stack:

        def made(user: str | None, *scopes: Scope) -> TestClient:
            principal = Principal(name=f"key of {user}", user=user, scopes=frozenset(scopes or Scope))
            app = asking_as(app_of(settings, as_api, decoder), principal)
            return stack.enter_context(opened(app))

        yield made
