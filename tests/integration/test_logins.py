"""Logins: what one needs to act in a role, what one that is only a member may do, and who makes the roles."""

import copy
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
from ledger_helpers import Ledger, make, ref, wait_for
from sqlalchemy import text
from test_roles import NO

from pictograph.stack.wheels import postgres_binaries
from pipeline.errors import ConfigurationError
from pipeline.store.migrate import current, migrate, newest
from pipeline.store.roles import Role, act_as
from pipeline.store.session import Database

REPOSITORY = Path(__file__).parents[2]
LOGIN, PASSWORD = "pictograph-test-login", "not-for-the-log"


@pytest.fixture
def login(ledger):
    """The address for a login that is a member of nothing; it and what it owns are gone afterwards."""
    _forget_login(ledger.database)
    ledger.execute(f"CREATE ROLE \"{LOGIN}\" LOGIN PASSWORD '{PASSWORD}'")
    yield ledger.database.engine.url.set(username=LOGIN, password=PASSWORD).render_as_string(hide_password=False)
    _forget_login(ledger.database)


def _forget_login(database):
    with database.transaction() as connection:
        if connection.execute(text("SELECT to_regrole(:login)"), {"login": f'"{LOGIN}"'}).scalar() is None:
            return
        connection.execute(text(f'GRANT "{LOGIN}" TO CURRENT_USER'))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :l"), {"l": LOGIN}
        )
        connection.execute(text(f'DROP OWNED BY "{LOGIN}" CASCADE'))
        connection.execute(text(f'DROP ROLE "{LOGIN}"'))


def test_a_login_that_is_no_member_is_told_what_to_grant_and_can_then_work(ledger, ingest, login):
    other = copy.copy(ledger)
    job_id = ingest.list([ref("a.jpg")])
    with Database(login, "a container", connections=1, role=Role.WORKER) as other.database:
        with pytest.raises(ConfigurationError) as caught:
            other.claim_all(job_id)
        sentence = str(caught.value)
        assert sentence.count("\n") == 0
        ledger.execute(sentence.split("`")[1])
        other.tag_all(job_id, "dog")
    ledger.check()
    assert ledger.photos_with("dog") == (1, 9_000)


def test_a_login_that_is_the_api_alone_is_told_what_to_grant_to_command_jobs(ledger, login):
    ledger.execute(f'GRANT {Role.API} TO "{LOGIN}"')
    with Database(login, "a container", connections=1, role=Role.API) as database:
        with pytest.raises(ConfigurationError) as caught:
            database.run(lambda c: act_as(c, Role.INGEST))
        ledger.execute(str(caught.value).split("`")[1])
        with database.transaction() as connection:
            act_as(connection, Role.INGEST)
            assert connection.execute(text("SELECT current_user")).scalar_one() == Role.INGEST
        with database.transaction() as connection:
            assert connection.execute(text("SELECT current_user")).scalar_one() == Role.API


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM core.app_user",
        "ALTER TABLE core.photo ADD COLUMN mine int",
        "SELECT name FROM core.app_user",
        "SELECT * FROM tags.photo",
        "SET ROLE pictograph",
        "SET ROLE pictograph_eraser",
        "SET ROLE NONE; DELETE FROM core.app_user",
        "RESET ROLE; CREATE ROLE mine",
        "SET SESSION AUTHORIZATION postgres",
    ],
)
def test_a_login_of_a_worker_is_nothing_else(ledger, two_users, login, query):
    ledger.execute(f'GRANT {Role.WORKER} TO "{LOGIN}"')
    with (
        Database(login, "a container", connections=1, role=Role.WORKER) as database,
        pytest.raises(ConfigurationError, match=NO),
    ):
        database.run(lambda c: c.execute(text(query)))


def test_a_server_without_the_roles_says_how_to_get_them(ledger):
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    with (
        Database(url, "test", role="pictograph_nobody") as database,
        pytest.raises(ConfigurationError, match="has no role pictograph_nobody; run `pictograph migrate`"),
    ):
        database.run(lambda c: c.execute(text("SELECT 1")))


def test_an_older_ledger_says_that_it_must_be_migrated(ledger, worker):
    with ledger.database.transaction() as connection:
        connection.execute(text(f"REVOKE USAGE ON SCHEMA core FROM {Role.WORKER}"))
    try:
        with pytest.raises(ConfigurationError, match="run `pictograph migrate`"):
            worker.all("SELECT FROM core.shard")
    finally:
        ledger.execute(f"GRANT USAGE ON SCHEMA core TO {Role.WORKER}")


# ---- making them


def run_roles_sql(url, **environment):
    psql = [f"{postgres_binaries()}/psql", "--no-psqlrc", f"--file={REPOSITORY / 'infra' / 'roles.sql'}", url]
    done = subprocess.run(psql, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def bare(ledger, login, endpoints):
    """A database without tables, in which the login may make some; made again for others afterwards."""
    owner = ledger.database
    with owner.transaction() as connection:
        connection.execute(text("DROP SCHEMA tags, core CASCADE; DROP TABLE alembic_version"))
        connection.execute(text(f'GRANT ALL ON SCHEMA public TO "{LOGIN}"'))
        connection.execute(text(f'GRANT CREATE, TEMPORARY ON DATABASE "{owner.engine.url.database}" TO "{LOGIN}"'))
    yield endpoints.database_url
    _forget_login(owner)
    make(owner)


def test_who_may_not_make_roles_is_sent_to_an_administrator_and_can_then_migrate(bare, login):
    with Database(login, "a migrator") as database:
        with pytest.raises(ConfigurationError, match=r"administrator .* run infra/roles\.sql"):
            migrate(database)
        assert current(database) is None
        for _ in range(2):  # safe to repeat
            run_roles_sql(bare, POSTGRES_OWNER=LOGIN)
        assert migrate(database) == (None, newest())
        Ledger(database).list([ref("a.jpg")])


def test_two_databases_may_be_migrated_at_once(ledger):
    """The second of two transactions that make a role waits for the first, and finds it made."""
    make_role = text(import_module("migrations.versions.0005_roles").MAKE_ROLE.format(role="pictograph_test_role"))
    pids = []

    def second(connection):
        pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        connection.execute(make_role)

    with ThreadPoolExecutor(1) as pool:
        with ledger.database.transaction() as first:
            first.execute(make_role)
            started = pool.submit(ledger.database.run, second)
            waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = ANY (:pids)")
            wait_for(lambda: pids and first.execute(waits, {"pids": pids}).scalar_one())
        started.result(60)
    assert ledger.one("SELECT pg_has_role('pictograph_test_role', 'SET')")
    ledger.execute("DROP ROLE pictograph_test_role")
