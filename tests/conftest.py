"""Fixtures that every level shares: one embedded stack per run, an empty migrated database per test."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import text

from pictograph import stack
from pictograph.stack import Endpoints
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from pipeline.store.session import Database
from taxonomy.graph import load
from tests.schema import make_empty

REPOSITORY = Path(__file__).parent.parent

# A property is about what comes out, not about how long it took on a machine that had other things to do.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


#: Files that take half a minute or more, the longest first. Processes that test side by side share the files of a run:
#: should one come upon such a file last, the others would have nothing to do meanwhile.
LONG = (
    "chaos/test_drills.py",
    "integration/test_stack.py",
    "chaos/test_sweep.py",
    "integration/test_engine.py",
    "chaos/test_orders.py",
    "chaos/test_ledger_machine.py",
    "acceptance/test_models_cli.py",
    "acceptance/test_bench.py",
    "acceptance/test_broken_model.py",
    "acceptance/test_embedded.py",
    "acceptance/test_rollout.py",
    "acceptance/test_watchdog.py",
    "browser/test_pictograph.py",
    "browser/test_fathom.py",
    "browser/test_pages.py",
    "acceptance/test_infra.py",
    "acceptance/test_killed_worker.py",
    "contract/test_fidelity.py",
    "acceptance/test_tag_options.py",
    "acceptance/test_named_sources.py",
    "integration/test_deaths.py",
    "integration/test_manifests.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first; all else stays as it is."""
    places = {REPOSITORY / "tests" / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def shared_photos() -> Path:
    """The folder of test photographs; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("PICTOGRAPH_TEST_PHOTOS", REPOSITORY.parent / "shared" / "photos"))
    if not folder.is_dir():
        pytest.skip("the test photographs are not here; set PICTOGRAPH_TEST_PHOTOS to their folder")
    return folder


@pytest.fixture(scope="session")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Real PostgreSQL, Valkey and S3 for the whole run. No test kills these: commits need not reach the disk."""
    with stack.open(tmp_path_factory.mktemp("stack")) as found:
        with Database(found.database_url, "pictograph tests") as database, database.transaction() as connection:
            connection.execute(text(f"ALTER DATABASE {database.engine.url.database} SET synchronous_commit = off"))
        yield found


@pytest.fixture
def settings(endpoints: Endpoints, database: Database) -> Settings:
    """Settings that name the servers, with leases and ticks short enough for tests."""
    return Settings(
        database_url=endpoints.database_url,
        broker_url=endpoints.broker_url,
        s3_endpoint_url=endpoints.s3_endpoint_url,
        s3_access_key_id=endpoints.s3_access_key_id,
        s3_secret_access_key=endpoints.s3_secret_access_key,
        lease_seconds=3,
        tick_seconds=0.2,
        stale_seconds=3,
        decode_processes=1,
        fetch_threads=4,
        api_open=True,
    )


#: Fixtures that register the bundled taxonomy: to them it may be known.
OVER_THE_BUNDLED_TAXONOMY = {"people", "shelf"}


@pytest.fixture
def database(endpoints: Endpoints, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The test's own database: empty, with the schema that the migrations make."""
    with Database(endpoints.database_url, "pictograph tests", connections=10) as fresh:
        make_empty(fresh, but=load() if OVER_THE_BUNDLED_TAXONOMY & {*request.fixturenames} else None)
        yield fresh


@pytest.fixture
def s3(settings: Settings) -> S3Access:
    """Access to the object store."""
    return S3Access.of(settings)


@pytest.fixture
def bucket(s3: S3Access, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket of the test's own; deleted, because the server sets disk aside for each that there is."""
    name = "test-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:50].strip("-")
    create_bucket(s3, name)
    yield name
    client = s3.client()
    if name in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.delete_bucket(Bucket=name)  # this server takes what is in it along
