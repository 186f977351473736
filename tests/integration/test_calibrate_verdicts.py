"""Constants from what people said of photos: from stored masses, stored as a revision that promises nothing."""

import json

import pytest
from api_helpers import Library
from sqlalchemy import text
from typer.testing import CliRunner

from pictograph.cli import judge
from pictograph.evaluation.spoken import FEWEST
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.catalogue import newest_decision
from pipeline.store.photos import promises
from taxonomy.errors import TooFewPhotos
from workers.ledger import register
from workers.models.registry import get

COPIES = """
WITH copies AS (
    INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at)
    SELECT bucket_id, key || n, user_id, etag, size, taken_at FROM core.photo, generate_series(2, :copies) AS n
    RETURNING photo_id)
INSERT INTO core.photo_result
    (model_id, photo_id, user_id, content_rev, decision_rev, outcome, headline, nodes, masses, tags, taken_at)
SELECT r.model_id, c.photo_id, r.user_id, 1, 1, r.outcome, r.headline, r.nodes, r.masses, r.tags, r.taken_at
FROM core.photo_result r, copies c"""
CONFIRMED = """
INSERT INTO core.verdict (photo_id, node, verdict, content_rev, model_id, decision_rev, headline, given_by)
SELECT photo_id, headline, 'confirm', content_rev, model_id, decision_rev, headline, 'open' FROM core.photo_result"""


def calibrate(*options: str) -> dict[str, object]:
    result = CliRunner().invoke(judge.group, ["calibrate", *options])
    if result.exception is not None:
        raise result.exception
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1]) if "--json" in options else {}
    return found or {"said": result.stdout}


@pytest.fixture
def reviewed(people: Library, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Library:
    """So many photos of one pug, each confirmed, under the configured model; the environment names the database."""
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    people.model = register(people.database, get("efficientnet-lite0"))
    people.add("ada", "pug", certain=0.97)
    with people.database.transaction() as connection:
        connection.execute(text(COPIES), {"copies": FEWEST})
        connection.execute(text(CONFIRMED))
    return people


def test_verdicts_choose_constants_that_are_stored_and_promise_nothing(reviewed: Library) -> None:
    model_id = reviewed.model.model_id
    dry = calibrate("--from-verdicts", "--json", "--dry-run")
    assert (dry["stored"], dry["revision"]) == (False, 1)
    said = calibrate("--from-verdicts", "--dry-run")["said"]
    assert f"{FEWEST} photos with {FEWEST} verdicts, 0 of them rejections" in " ".join(str(said).split())
    assert "nothing is promised about others" in " ".join(str(said).split())
    found = calibrate("--from-verdicts", "--json", "--target", "0.9")
    calibration = found["calibration"]
    assert isinstance(calibration, dict)
    assert (calibration["from"], calibration["guarantee"], calibration["photos"]) == ("verdicts", None, FEWEST)
    assert calibration["achieved"] == 1
    with reviewed.database.transaction() as connection:
        newest = newest_decision(connection, model_id)
        assert (newest.revision, newest.lam, newest.threshold) == (2, found["lam"], found["threshold"])
        assert promises(connection, model_id) == []


def test_words_of_other_bytes_and_of_photos_that_are_gone_do_not_count(reviewed: Library) -> None:
    with reviewed.database.transaction() as connection:
        connection.execute(text("UPDATE core.photo SET content_rev = 2 WHERE photo_id = 1"))
    with pytest.raises(ConfigurationError, match=rf"said something of {FEWEST - 1} photos .* and {FEWEST} are needed"):
        calibrate("--from-verdicts")
    with reviewed.database.transaction() as connection:
        connection.execute(text("UPDATE core.photo SET content_rev = 1, gone_at = now() WHERE photo_id = 1"))
    with pytest.raises(ConfigurationError, match=rf"said something of {FEWEST - 1} photos"):
        calibrate("--from-verdicts")


def test_what_cannot_be_reached_stores_nothing(reviewed: Library) -> None:
    with pytest.raises(TooFewPhotos, match="100 photos can promise"):
        calibrate("--from-verdicts", "--target", "0.999")
    with reviewed.database.transaction() as connection:
        connection.execute(text("UPDATE core.verdict SET verdict = 'reject'"))
    with pytest.raises(ConfigurationError, match="Only by showing nothing"):
        calibrate("--from-verdicts")
    for wrong in (("photos", "--from-verdicts"), ("--from-verdicts", "--limit", "5"), ()):
        with pytest.raises(ConfigurationError):
            calibrate(*wrong)
    with reviewed.database.transaction() as connection:
        assert newest_decision(connection, reviewed.model.model_id).revision == 1
