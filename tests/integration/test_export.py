"""Exporting a user: everything that is held of them, nothing of anybody else, as row-level security sees it."""

import base64
import json
import stat

import pytest
from ledger_helpers import BUCKET, ref, wnid
from typer.testing import CliRunner

from pictograph.cli import export as cli
from pipeline.errors import ConfigurationError
from pipeline.ledger import export
from pipeline.ledger.erase import erase
from pipeline.ledger.export import everything
from pipeline.ledger.requests import Output
from pipeline.settings import PREFIX


@pytest.fixture
def library(ledger):
    """Three photos of Ann's, tagged by two models, and one of Ben's; all with lines, thumbnails and events."""
    refs = [*(ref(f"ann/{n}.jpg") for n in range(3)), ref("ben/0.jpg", user="ben")]
    job_id = ledger.list(refs, outputs=(Output(target="/results.jsonl"),))
    results = ledger.tag_all(job_id, "dog")
    ledger.merge([ledger.tagged(r.task, "cat") for r in results], model=ledger.register("other"))
    ledger.execute("INSERT INTO core.thumbnail SELECT photo_id, 64, 1, 'x' FROM core.photo")
    ledger.execute(
        "INSERT INTO core.object_event (bucket, key, sequencer) SELECT b.uri, p.key, '00a1' "
        "FROM core.photo p JOIN core.bucket b USING (bucket_id)"
    )
    ledger.execute(
        "INSERT INTO core.verdict (photo_id, node, verdict, content_rev, model_id, decision_rev, headline, given_by) "
        "SELECT photo_id, :animal, 'generalise', 1, model_id, decision_rev, headline, 'open' FROM core.photo_result "
        "WHERE model_id = :model",
        animal=ledger.node["animal"],
        model=ledger.registered.model_id,
    )
    return job_id


def told(api, user):
    with api.database.transaction() as connection:
        return list(everything(connection, user))


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_all_that_is_held_is_told_and_nothing_of_others(api, library, monkeypatch, at_once):
    monkeypatch.setattr(export, "PHOTOS_AT_ONCE", at_once)
    user, *rest = told(api, "ann")
    assert (user["kind"], user["name"], user["consent"]) == ("user", "ann", None)
    photos = [fact for fact in rest if fact["kind"] == "photo"]
    assert [photo["key"] for photo in photos] == [f"ann/{n}.jpg" for n in range(3)]
    for photo in photos:
        assert photo["bucket"] == BUCKET
        assert [result["outcome"] for result in photo["results"]] == ["tagged", "tagged"]
        assert [job["state"] for job in photo["jobs"]] == ["succeeded"]
        assert [line["uri"] for line in photo["lines"]] == [f"{BUCKET}/{photo['key']}"]
        assert [base64.b64decode(picture["jpeg_base64"]) for picture in photo["thumbnails"]] == [b"x"]
        assert [event["sequencer"] for event in photo["events"]] == ["00a1"]
        (verdict,) = photo["verdicts"]
        assert (verdict["name"], verdict["verdict"], verdict["model"]) == ("animal", "generalise", "small")
        assert (verdict["headline_wnid"], verdict["given_by"]) == (wnid("dog"), "open")
    dog = {c["name"]: c for c in photos[0]["results"][0]["categories"]}["dog"]
    assert (dog["probability"], dog["shown"]) == (0.9, True)
    totals = {(fact["model"], fact["name"]): fact["photos"] for fact in rest if fact["kind"] == "total"}
    assert (totals["small", "dog"], totals["other", "cat"]) == (3, 3)
    assert "ben" not in json.dumps([user, *rest])


def test_unknown_and_erased_users_are_refused(ledger, api, library):
    erase(ledger.database, "ben")
    for user in ("ben", "nobody"):
        with pytest.raises(ConfigurationError, match=f"There is no user '{user}'"):
            told(api, user)


def test_the_command_writes_a_new_file_that_is_its_readers_alone(ledger, endpoints, library, tmp_path, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}DATABASE_URL", endpoints.database_url)
    path = tmp_path / "ann.jsonl"
    done = CliRunner().invoke(cli.group, ["ann", "--to", str(path)])
    assert (done.exit_code, done.output) == (0, f"{path}: {len(path.read_text().splitlines()):,} lines.\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="is there already"):
        CliRunner().invoke(cli.group, ["ann", "--to", str(path)], catch_exceptions=False)
    with pytest.raises(ConfigurationError, match="no user"):
        CliRunner().invoke(cli.group, ["nobody", "--to", str(tmp_path / "no")], catch_exceptions=False)
    assert not (tmp_path / "no").exists()
