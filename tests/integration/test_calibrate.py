"""Constants that were calibrated are stored, and are what a worker decides by from then on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from pictograph.cli import judge
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.catalogue import newest_decision, store_decision
from pipeline.store.session import Database
from taxonomy.ballot import NO_HEADLINE
from taxonomy.decide import NO_TAG, Decision
from taxonomy.errors import TooFewPhotos
from workers.ledger import register
from workers.models.registry import get

MODEL = "efficientnet-lite0"

pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture
def ledger(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the test's database."""
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)


def calibrate(folder: Path, *options: str) -> dict[str, object]:
    result = CliRunner().invoke(judge.group, ["calibrate", str(folder), "--json", *options])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout.splitlines()[-1])


def revisions(database: Database) -> list[int]:
    with database.transaction() as connection:
        return list(connection.execute(text("SELECT revision FROM core.decision ORDER BY revision")).scalars())


def test_the_shipped_decision_is_the_first(database: Database) -> None:
    registered = register(database, get(MODEL))
    assert registered.decision == get(MODEL).decision
    assert registered.decision_rev == 1
    assert register(database, get(MODEL)).decision == registered.decision


def test_a_stored_decision_is_the_newest_in_every_constant(database: Database) -> None:
    model_id = register(database, get(MODEL)).model_id
    made = Decision(
        rule="expected",
        lam=12_345,
        threshold=9_100,
        vague_share=0.3,
        ambiguous_mass=2_500,
        keep_mass=150,
    )
    with database.transaction() as connection:
        stored = store_decision(connection, model_id, made, {"photos": 12})
    assert stored == replace(made, revision=2)
    assert register(database, get(MODEL)).decision == stored
    with database.transaction() as connection:
        assert newest_decision(connection, model_id) == stored
        query = text("SELECT calibration ->> 'photos' FROM core.decision WHERE revision = 2")
        assert connection.execute(query).scalar() == "12"


def test_a_model_without_a_decision_says_so(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="no decision"), database.transaction() as connection:
        newest_decision(connection, 77)


def test_calibrating_stores_a_revision_that_workers_read(ledger: None, database: Database, shared_photos: Path) -> None:
    folder = shared_photos / "imagenet"
    found = calibrate(folder, "--limit", "60", "--target", "0.8", "--degrade", "user:0.6")
    assert found["stored"] is True
    assert found["revision"] == 2
    assert found["calibration"]["photos"] == 60
    assert found["calibration"]["achieved"] >= 0.8
    assert found["calibration"]["degradation"] == "user:0.6"
    decision = register(database, get(MODEL)).decision
    assert (decision.revision, decision.lam, decision.threshold) == (2, found["lam"], found["threshold"])


def evaluate(folder: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(judge.group, ["evaluate", str(folder), "--json", *options])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout.splitlines()[-1])


def test_a_stored_decision_can_be_evaluated(ledger: None, database: Database, shared_photos: Path) -> None:
    model_id = register(database, get(MODEL)).model_id
    silent = replace(get(MODEL).decision, lam=NO_HEADLINE, threshold=NO_TAG)
    with database.transaction() as connection:
        store_decision(connection, model_id, silent, {})
    found = {
        which: evaluate(shared_photos / "imagenet", "--limit", "20", "--splits", "1", *which)
        for which in ((), ("--decision", "1"), ("--decision", "2"), ("--decision", "newest"))
    }
    revisions = [each["decision"]["revision"] for each in found.values()]
    assert revisions == [1, 1, 2, 2]
    assert [each["default"]["abstained"] == 1 for each in found.values()] == [False, False, True, True]
    with pytest.raises(ConfigurationError, match="no decision of revision 3; the newest one is 2"):
        evaluate(shared_photos / "imagenet", "--decision", "3")
    with pytest.raises(ConfigurationError, match="no decision 'latest'"):
        evaluate(shared_photos / "imagenet", "--decision", "latest")


def test_a_dry_run_stores_nothing(ledger: None, database: Database, shared_photos: Path) -> None:
    register(database, get(MODEL))
    found = calibrate(shared_photos / "imagenet", "--limit", "40", "--target", "0.8", "--dry-run")
    assert found["stored"] is False
    assert revisions(database) == [1]


def test_too_few_photos_store_nothing(ledger: None, database: Database, shared_photos: Path) -> None:
    register(database, get(MODEL))
    with pytest.raises(TooFewPhotos, match=r"12 photos can promise 92\.3% at best, not 95\.0%; use 19 or more"):
        calibrate(shared_photos / "imagenet", "--limit", "12")
    with pytest.raises(TooFewPhotos, match=r"40 photos can promise 92\.8% at best"):
        calibrate(shared_photos / "imagenet", "--limit", "40", "--guarantee", "high-probability")
    assert revisions(database) == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--guarantee", "sometimes"], "There is no guarantee 'sometimes'"),
        (["--of", "mine"], "cannot be one of 'mine'"),
        (["--degrade", "fog:1"], "no degradation 'fog'"),
        (["--model", "lite9"], "no model 'lite9'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        calibrate(tmp_path, *options)
