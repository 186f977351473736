"""Folders, manifests and owners, through the command line."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.store import queries
from tests.acceptance.conftest import Site, fresh


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Two users with two photos each."""
    for n, path in enumerate(photos[:4]):
        place = tmp_path / "album" / ("eva", "max")[n % 2] / f"{n}{path.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(fresh(path))
    return tmp_path / "album"


def photos_of(site: Site, user: str) -> int:
    with site.database.transaction() as connection:
        model = queries.active_model(connection)
        totals = queries.user_profile_totals(connection, model.model_id, user)
    return 0 if totals is None else max(total.mass for total in totals.totals) // 10_000


def test_a_folder_is_tagged_and_what_is_new_later(site, folder, photos):
    assert site.tag(folder)["counts"]["succeeded"] == 4
    assert (photos_of(site, "eva"), photos_of(site, "max")) == (2, 2)
    (folder / "eva" / "later.jpg").write_bytes(fresh(photos[4]))
    (folder / "max" / "no photo.txt").write_text("no photo")
    report = site.tag(folder)
    assert report["state"] == "succeeded_with_errors"
    assert (report["counts"]["succeeded"], report["counts"]["failed"]) == (1, 1)
    assert report["reasons"] == {"tagged": 1, "unsupported": 1} or report["reasons"] == {
        "abstained": 1,
        "unsupported": 1,
    }
    assert photos_of(site, "eva") == 3


def test_all_photos_may_be_given_to_one_user_who_takes_them_over(site, folder):
    site.tag(folder)
    before = photos_of(site, "eva")
    counts = site.tag(folder, "--user", "zoe")["counts"]
    assert counts["skipped_unchanged"] == 4  # another owner needs no second look
    assert photos_of(site, "zoe") == 4
    assert photos_of(site, "eva") == before - 2


def test_a_key_may_name_its_owner_elsewhere(site, folder):
    report = site.tag(folder.parent, "--user-from", "album/{user}/{photo}")
    assert report["counts"]["succeeded"] == 4


def test_keys_that_name_no_owner_are_named_and_excluded(site, tmp_path, photos):
    for n in range(25):
        shutil.copyfile(photos[0], tmp_path / f"{n:02}{photos[0].suffix}")
    report = site.tag(tmp_path)
    assert report["counts"]["excluded"] == report["counts"]["total"] == 25
    assert report["reasons"] == {"no_user": 25}
    assert [f"{tmp_path}/{n:02}" in note for n, note in enumerate(report["notes"])] == [True] * 20
    assert all("--user-from" in note for note in report["notes"])


def test_a_manifest_names_bad_lines_by_number_and_counts_every_line(site, tmp_path, photos):
    site.upload("listed", {f"x/{n}": photos[n] for n in range(3)})
    lines = [
        json.dumps({"source-ref": "s3://listed/x/0", "user": "mia"}),
        json.dumps({"source-ref": "s3://listed/x/1"}),  # the key names its owner
        "{",
        "",
        '{"source": "s3://listed/x/2"}',
        '{"source-ref": "s3://listed/x/2", "user": ""}',
        '{"source-ref": "http://listed/x/2"}',
        '"s3://listed/x/2"',
        json.dumps({"source-ref": "s3://listed/x/9", "user": "mia"}),
        json.dumps({"source-ref": "s3://listed/x/0", "user": "mia"}),
    ]
    manifest = tmp_path / "photos.jsonl"
    manifest.write_text("\n".join(lines))
    report = site.tag(manifest)
    assert report["reasons"].pop("bad_line") == 5
    assert report["reasons"].pop("gone") == report["reasons"].pop("listed_twice") == 1
    assert report["counts"]["succeeded"] == 2
    assert report["counts"]["total"] == 9
    assert [note.partition(":")[0] for note in report["notes"][:5]] == [f"line {n}" for n in (3, 5, 6, 7, 8)]
    assert photos_of(site, "mia") == 1
    assert site.tag(manifest)["counts"]["skipped_unchanged"] == 2


def test_a_manifest_may_name_a_bucket_that_is_not_there(site, tmp_path):
    manifest = tmp_path / "photos.jsonl"
    manifest.write_text('{"source-ref": "s3://no-such-bucket/x/2"}\n')
    report = site.report("tag", manifest, status=0)
    assert report["counts"]["total"] == report["counts"]["failed"] + report["counts"]["excluded"] == 1


def test_without_waiting_a_job_goes_on_by_itself(site, folder):
    submitted = site.report("tag", folder, "--no-wait", "--user", "ida")
    assert submitted["state"] == "created"
    assert submitted["counts"]["total"] == 0
    done = site.run("jobs", "show", submitted["job"])
    assert done.returncode == 0
    assert f"Job {submitted['job']}" in done.stdout


def test_a_source_that_was_emptied_is_subtracted_when_that_is_allowed(site, tmp_path, photos):
    photo = tmp_path / "emptied" / "vera" / "1"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(fresh(photos[0]))
    assert site.tag(photo.parents[1])["counts"]["succeeded"] == 1
    photo.unlink()
    assert site.run("tag", photo.parents[1]).returncode == 2
    assert site.tag(photo.parents[1], "--allow-mass-delete")["subtracted"] == 1
