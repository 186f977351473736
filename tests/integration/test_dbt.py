"""The dbt package over the tags: parsed, built and tested by dbt, as a login that reads as an analyst."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from pictograph.stack.wheels import postgres_binaries
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from tests.integration.sql_docs import fill

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "infra" / "dbt"
DBT = REPOSITORY / ".venv-dbt" / "bin" / "dbt"
LOGIN, PASSWORD, SCHEMA = "pictograph-dbt", "not-for-the-log", "pictograph_dbt"

pytestmark = pytest.mark.skipif(not DBT.exists(), reason="dbt is not here; `make dbt` makes its environment")

FORGET = f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
DROP SCHEMA IF EXISTS tags, core CASCADE;
DROP TABLE IF EXISTS alembic_version;
DO $$ BEGIN
    IF to_regrole('"{LOGIN}"') IS NOT NULL THEN
        DROP OWNED BY "{LOGIN}" CASCADE;
        DROP ROLE "{LOGIN}";
    END IF;
END $$;"""


def make_login(url):
    """The login and its schema, as an administrator makes them."""
    psql = [postgres_binaries() / "psql", "--no-psqlrc", f"--file={REPOSITORY / 'infra' / 'roles.sql'}", url]
    environment = os.environ | {"POSTGRES_DBT_PASSWORD": PASSWORD}
    done = subprocess.run(psql, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def corpus(endpoints):
    """The photos of docs/sql.md, and a login with a schema for dbt; all gone afterwards."""
    with Database(endpoints.database_url, "dbt") as database:
        with database.transaction() as connection:
            connection.execute(text(FORGET))
        migrate(database)
        fill(database)
        make_login(endpoints.database_url)
        yield database
        with database.transaction() as connection:
            connection.execute(text(FORGET))


@pytest.fixture(scope="module")
def dbt(corpus, tmp_path_factory):
    """Runs a command of dbt; gives its status, what it printed, and the folder of what it wrote."""
    out = tmp_path_factory.mktemp("dbt")
    url = corpus.engine.url
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(out),
        "PGHOST": url.host,
        "PGPORT": str(url.port),
        "PGUSER": LOGIN,
        "PGPASSWORD": PASSWORD,
        "PGDATABASE": url.database,
        "DBT_TARGET_PATH": str(out / "target"),
        "DBT_LOG_PATH": str(out / "logs"),
        "DBT_PROFILES_DIR": str(PACKAGE),
        "DO_NOT_TRACK": "1",
    }

    def run(*arguments):
        done = subprocess.run(
            [DBT, "--no-use-colors", *arguments],
            cwd=PACKAGE,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, out / "target"

    return run


@pytest.fixture(scope="module")
def built(dbt):
    """What `dbt build` said of every model and test."""
    status, said, target = dbt("build")
    assert status == 0, said
    results = json.loads((target / "run_results.json").read_text())["results"]
    manifest = json.loads((target / "manifest.json").read_text())
    assert "deprecat" not in said.lower(), said
    return results, manifest


def test_everything_is_built_and_every_test_passes(built):
    results, _ = built
    kinds = [result["unique_id"].split(".")[0] for result in results]
    assert (kinds.count("model"), kinds.count("test")) == (10, 34)
    assert {result["status"] for result in results} == {"success", "pass", "no-op"}  # nothing is done for an exposure


def test_the_models_are_the_views(built, corpus):
    counts = "SELECT (SELECT count(*) FROM tags.{0}), (SELECT count(*) FROM {1}.stg_{0})"
    for view in ("photo", "photo_tag", "user_category", "category", "job"):
        with corpus.transaction() as connection:
            ours, theirs = connection.execute(text(counts.format(view, SCHEMA))).one()
        assert ours == theirs > 0, view


WORDS = """
SELECT c.relname, a.attname, col_description(c.oid, a.attnum) AS words, obj_description(c.oid, 'pg_class') AS grain
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind = 'v' AND a.attnum > 0"""


def test_every_model_says_of_every_column_what_the_view_says(built, corpus):
    """The package's words, in its files and, by persist_docs, in the database."""
    with corpus.transaction() as connection:
        ours, theirs = (connection.execute(text(WORDS), {"schema": schema}).all() for schema in ("tags", SCHEMA))
    views = {f"stg_{row.relname}": row.grain for row in ours}
    columns = {(f"stg_{row.relname}", row.attname): row.words for row in ours}
    for row in theirs:
        assert row.grain == views[row.relname]
        assert row.words == columns[row.relname, row.attname], (row.relname, row.attname)
    staged = {row.relname for row in theirs}
    assert {key for key in columns if key[0] in staged} == {(row.relname, row.attname) for row in theirs}


def test_what_reads_the_tags_is_named_with_owner_and_maturity(built):
    _, manifest = built
    exposures = {exposure["name"]: exposure for exposure in manifest["exposures"].values()}
    assert set(exposures) == {"profile_api", "category_pages"}
    for exposure in exposures.values():
        assert exposure["owner"]["name"]
        assert exposure["maturity"] in ("high", "medium", "low")
        assert exposure["depends_on"]["nodes"]


def test_old_jobs_and_photos_are_noticed(dbt, corpus, built):
    with corpus.transaction() as connection:
        connection.execute(text("UPDATE core.job SET finished_at = now() WHERE job_id = 1"))
    status, said, target = dbt("source", "freshness")
    found = json.loads((target / "sources.json").read_text())["results"]
    assert {row["unique_id"].rpartition(".")[2]: row["status"] for row in found} == {"job": "pass", "photo": "error"}
    assert status == 1, said


def test_a_broken_total_fails_the_tests(dbt, corpus, built):
    """Last in this file: nothing is right afterwards."""
    with corpus.transaction() as connection:
        connection.execute(text("UPDATE core.user_category SET photos = photos + 1 WHERE photos > 0"))
    status, said, target = dbt("test", "--select", "test_type:singular")
    results = json.loads((target / "run_results.json").read_text())["results"]
    failed = {row["unique_id"].split(".")[2] for row in results if row["status"] == "fail"}
    assert status == 1, said
    assert failed == {"nothing_is_incoherent", "users_add_up_to_the_totals", "months_add_up_to_the_users"}


def test_the_login_reads_as_an_analyst_and_writes_to_its_schema_alone(corpus):
    url = corpus.engine.url.set(username=LOGIN, password=PASSWORD)
    may = """
        SELECT has_schema_privilege('core', 'USAGE'), has_table_privilege('tags.photo', 'SELECT'),
               has_schema_privilege('tags', 'CREATE'), has_schema_privilege('public', 'CREATE')"""
    with Database(url.render_as_string(hide_password=False), "dbt") as database, database.transaction() as connection:
        assert tuple(connection.execute(text(may)).one()) == (False, True, False, False)


def test_the_package_sends_nothing_home():
    project = yaml.safe_load((PACKAGE / "dbt_project.yml").read_text())
    assert project["flags"]["send_anonymous_usage_stats"] is False
