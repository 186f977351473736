"""A model's whole way, through the command line: shadow, diff, promote, roll back, drop; and constants decided anew."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pictograph.cli.profile import read_profile
from pipeline.profile import CELLS
from pipeline.store.catalogue import newest_decision, store_decision
from taxonomy.decide import Decision
from tests.acceptance.conftest import Site

pytest.importorskip("torch", reason="torch is not installed")

LITE0, LITE1 = "efficientnet-lite0", "efficientnet-lite1"
USERS = ("ann", "ben")


@pytest.fixture(scope="module")
def folder(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs of two users, and something that is none."""
    folder = tmp_path_factory.mktemp("rollout")
    step = max(1, len(photos) // 12)
    for n, path in enumerate(photos[::step][:12]):
        place = folder / USERS[n % 2] / f"{n}{path.suffix}"
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    (folder / "ann" / "no.jpg").write_text("no photo")
    return folder


def profiles(site: Site) -> dict[str, Any]:
    """What each user is shown, as `pictograph profile` reads it."""
    with site.database.transaction() as connection:
        return {user: asdict(read_profile(connection, user, CELLS))["cells"] for user in USERS}


def ledger(site: Site) -> dict[str, dict[str, Any]]:
    """What `models list` says of the ledger's models."""
    done = site.run("models", "list", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line["ledger"] for line in lines if "ledger" in line}


def test_a_model_s_way(site: Site, folder: Path) -> None:
    assert site.tag(folder)["counts"]["succeeded"] == 12
    before = profiles(site)
    assert site.run("migrate", model=LITE1).returncode == 0
    site.start("worker", "annotate", "--model", LITE1)

    report = site.report("models", "shadow", LITE1)
    assert (report["state"], report["counts"]["succeeded"]) == ("succeeded_with_errors", 12)
    assert profiles(site) == before  # people see nothing of it
    listed = ledger(site)
    assert [listed[name]["active"] for name in (LITE0, LITE1)] == [True, False]
    assert (listed[LITE1]["photos_seen"], listed[LITE1]["coverage"]) == (12, 1.0)

    found = site.report("models", "diff", LITE0, LITE1, "--limit", 100)
    assert (found["coverage"]["photos"], found["coverage"]["both"], found["photos"]) == (13, 12, 13)
    assert sum(sum(row.values()) for row in found["outcomes"].values()) == 13
    assert found["outcomes"]["failed"] == {"tagged": 0, "abstained": 0, "failed": 1}
    for each in found["categories"]:
        assert each["base_photos"] + each["gained"] - each["lost"] == each["head_photos"]
    assert found["moved"], "two networks say the very same of twelve photographs"
    assert site.run("models", "diff", LITE0, LITE1).returncode == 0

    assert site.report("models", "promote", LITE1, "--reason", "larger")["changed"] is True
    after = profiles(site)
    shown = {user: [cell["name"] for cell in after[user] if cell["kind"] == "category"] for user in USERS}
    for change in found["users"]["most"]:
        assert shown[change["user"]] == change["head"]
    assert {user for user in USERS if set(names(before[user])) != set(names(after[user]))} == {
        change["user"] for change in found["users"]["most"]
    }
    assert before != after
    assert site.report("profile", "ann")["cells"] == json.loads(json.dumps(after["ann"]))
    same = site.run("models", "promote", LITE1)
    assert (same.returncode, "is the active one already" in same.stdout) == (0, True)
    assert site.report("models", "rollback")["active"].startswith(LITE0)
    assert profiles(site) == before
    assert site.run("models", "drop", LITE1).returncode == 2  # without --yes
    assert site.report("models", "drop", LITE1, "--yes")["totals"] > 0
    assert site.differences() == 0
    unknown = site.run("models", "promote", "efficientnet-lite9")
    assert unknown.returncode == 2
    assert "did you mean efficientnet-lite" in unknown.stderr
    other_constants_read_no_photo(site, folder)


def names(cells: list[dict[str, Any]]) -> list[str]:
    """The categories of a profile."""
    return [cell["wnid"] for cell in cells if cell["kind"] == "category"]


def other_constants_read_no_photo(site: Site, folder: Path) -> None:
    """The last step: the photos are deleted before it."""
    with site.database.transaction() as connection:
        (model_id,) = site.rows("SELECT model_id FROM core.active_model")[0]
        newest = newest_decision(connection, model_id)
        made = store_decision(connection, model_id, Decision(threshold=3_000), {"of": "a test"})
    tags = "SELECT photo_id, headline, tags FROM core.photo_result WHERE model_id = :m ORDER BY 1"
    before = site.rows(tags, m=model_id)
    shutil.rmtree(folder)  # whoever reads a byte now fails
    report = site.report("decide")
    assert (report["state"], report["counts"]["total"], report["counts"]["succeeded"]) == ("succeeded", 13, 12)
    after = site.rows(tags, m=model_id)
    assert before != after
    assert made.revision == newest.revision + 1
    assert {row.decision_rev for row in site.rows("SELECT decision_rev FROM core.photo_result")} == {made.revision}
    assert site.differences() == 0
