"""Models over HTTP: where each stands, and what another one would change, from totals and from a kept comparison."""

from contextlib import ExitStack

import pytest
from job_api_helpers import ROBOT, site_of
from ledger_helpers import ref, small_taxonomy, wnid
from sqlalchemy import text

from pipeline.ledger import ending
from pipeline.store import dropping, model_diff, model_reports, promotions
from pipeline.store.policies import add_version, apply
from taxonomy.policy import Rule


@pytest.fixture(autouse=True)
def small_is_at_hand(ledger, monkeypatch):
    """The small taxonomy can be loaded by its name, as a bundled one can; no policy outlives a test."""
    real = model_diff.graph.load
    monkeypatch.setattr(model_diff.graph, "load", lambda name: small_taxonomy() if name == "small" else real(name))
    yield
    ledger.execute("DELETE FROM core.model_report; DELETE FROM core.policy_effect")
    ledger.execute("DELETE FROM core.policy_rule; DELETE FROM core.policy")


@pytest.fixture
def client(ledger, ledger_settings, decoder):
    with ExitStack() as stack, site_of(ledger, ledger_settings, decoder, stack) as found:
        yield found.client(ROBOT)


def tag(ledger, tags, model=None):
    """Tag a photo of each of u0, u0, u1, u1, ... so."""
    photos = [ref(f"u{n // 2}/{n}.jpg", user=f"u{n // 2}") for n in range(len(tags))]
    job_id = ledger.list(photos, model=model, whole=False)
    tasks = [(lease, task) for lease in ledger.claim_all(job_id) for task in ledger.tasks(lease)]
    for lease, task in tasks:
        ledger.merge([ledger.tagged(task, tags[int(task.key[3:-4])])], [lease], model=model)
    ledger.database.run(ending.finish_jobs)


@pytest.fixture
def both(ledger):
    """Four photos of two users, tagged by two models: one dog of the first is a cat to the second."""
    other = ledger.register("other")
    tag(ledger, ["dog", "dog", "cup", "car"])
    tag(ledger, ["dog", "cat", "cup", "car"], model=other)


def keep(ledger, ingest):
    """What `pictograph models diff small other` keeps."""
    with ledger.database.transaction() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        base, head = (promotions.find_model(connection, name) for name in ("small", "other"))
        version = model_reports.policy_version(connection)
        found = model_diff.diff(connection, base, head, 50)
    ingest.database.run(lambda c: model_reports.keep(c, base, head, found, version))


def test_where_each_model_stands(ledger, ingest, client, both):
    by_name = {each["name"]: each for each in client.get("/v1/models").json()["models"]}
    small, other = by_name["small"], by_name["other"]
    assert (small["state"], small["photos_seen"], other["state"], other["photos_seen"]) == ("active", 4, "shadow", 4)
    assert (small["decision"]["revision"], small["calibration"]) == (1, None)
    assert 0 < small["decision"]["threshold"] <= 1
    assert small["label"] == f"small@{small['fingerprint'][:8]}"
    assert other["since"] == other["registered_at"]
    ingest.database.run(lambda c: promotions.promote(c, promotions.find_model(c, "other"), "ann", "better cats"))
    now = {each["name"]: each for each in client.get("/v1/models").json()["models"]}
    assert (now["small"]["state"], now["other"]["state"]) == ("shadow", "active")
    assert now["other"]["since"] > other["since"]
    ingest.database.run(lambda c: promotions.rollback(c, "ann"))
    dropping.drop(ledger.database, promotions_of(ledger, "other"))
    gone = {each["name"]: each for each in client.get("/v1/models").json()["models"]}["other"]
    assert (gone["state"], gone["photos_seen"], gone["since"]) == ("dropped", 0, gone["dropped_at"])
    refused = client.get("/v1/models/diff?base=small&head=other")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_dropped")


def promotions_of(ledger, name):
    with ledger.database.transaction() as connection:
        return promotions.find_model(connection, name)


def test_what_another_model_would_change(ledger, ingest, client, both):
    before = client.get("/v1/models/diff?base=small&head=other").json()
    changes = {each["name"]: each for each in before["categories"]}
    assert {name: (c["base_photos"], c["head_photos"], c["gained"], c["lost"]) for name, c in changes.items()} == {
        "dog": (2, 1, 0, 1),
        "cat": (0, 1, 1, 0),
    }
    assert (before["report"], before["report_made_at"]) == (None, None)
    assert "`pictograph models diff small@" in before["message"]

    keep(ledger, ingest)
    stored = str(ledger.one("SELECT report FROM core.model_report"))
    assert "u0" not in stored
    assert ".jpg" not in stored
    after = client.get("/v1/models/diff?base=small&head=other").json()
    report = after["report"]
    assert after["message"] is None
    assert [(each["user"], each["replaced"]) for each in report["users"]["most"]] == [("u0", 1)]
    assert [(each["user"], each["key"], each["base"], each["head"]) for each in report["moved"]] == [
        ("u0", "u0/1.jpg", "dog", "cat")
    ]
    assert (report["photos"], report["retagged"], report["coverage"]["share"]) == (4, 1, 1.0)

    keep(ledger, ingest)
    assert ledger.one("SELECT count(*) FROM core.model_report") == 1, "the newest of each pair"
    ledger.execute("UPDATE core.app_user SET deleted_at = now() WHERE name = 'u0'")
    erased = client.get("/v1/models/diff?base=small&head=other")
    assert (erased.json()["report"]["users"]["most"], erased.json()["report"]["moved"]) == ([], [])
    assert "u0" not in erased.text


def test_a_policy_holds_and_makes_an_older_report_none(ledger, ingest, client, both):
    keep(ledger, ingest)
    with ledger.database.transaction() as connection:
        taxonomy = small_taxonomy()
        rule = Rule(wnid=wnid("cat"), target=wnid("animal"))
        add_version(connection, [rule])
        apply(connection, 1, taxonomy)
    found = client.get("/v1/models/diff?base=small&head=other").json()
    assert (found["policy_version"], found["report"]) == (1, None)
    assert "under another policy" in found["message"]
    assert "cat" not in {each["name"] for each in found["categories"]}


@pytest.mark.parametrize(
    ("query", "status"), [("base=small&head=smal", 404), ("base=small", 400), ("base=small&head=small&k=1", 400)]
)
def test_models_that_there_are_not(client, query, status):
    answer = client.get(f"/v1/models/diff?{query}")
    assert answer.status_code == status
    assert status == 400 or "did you mean small" in answer.json()["detail"]
