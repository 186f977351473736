"""The main job on S3: every photo accounted for, the right numbers stored, nothing twice, what is gone subtracted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from taxonomy.graph import load
from tests.acceptance.conftest import Site, fresh
from workers.decode.pool import DecodePool
from workers.models import registry
from workers.models.load import load as load_model

BUCKET = "main-job"
USERS = 7
CHECKED = 20
KEPT = 200  # ten-thousandths of a photo: what has less is not stored
PHOTOS_STORED = "SELECT count(*) FROM core.photo_result JOIN core.photo USING (photo_id) WHERE key LIKE 'main/%'"


@pytest.fixture(scope="module")
def uploaded(site: Site, photos: list[Path]) -> dict[str, Path]:
    """What was put into the bucket, by key; users differ in how much they have."""
    keys = {f"main/u{min(n % 10, USERS - 1)}/{path.name}": path for n, path in enumerate(photos)}
    site.upload(BUCKET, keys)
    return keys


@pytest.fixture(scope="module")
def first(site: Site, uploaded: dict[str, Path]) -> dict[str, object]:
    """The report of the first run."""
    return site.tag(f"s3://{BUCKET}/main")


def test_every_photo_is_tagged_or_abstained(first, uploaded):
    counts = first["counts"]
    assert counts["total"] == counts["succeeded"] == len(uploaded)
    assert first["state"] == "succeeded"
    assert first["reasons"].keys() == {"tagged", "abstained"}
    assert sum(first["reasons"].values()) == len(uploaded)
    assert first["photos_per_s"] > 0


def test_each_user_has_the_photos_below_the_first_folder(site, first, uploaded):
    by_user = Counter(key.split("/")[1] for key in uploaded)
    stored = site.rows(
        "SELECT u.name, count(*) FROM core.photo_result r JOIN core.app_user u USING (user_id)"
        " JOIN core.photo p USING (photo_id) WHERE p.key LIKE 'main/%' GROUP BY 1"
    )
    assert dict(map(tuple, stored)) == by_user


def test_stored_masses_are_a_float64_rollup_of_the_models_output(site, first, uploaded):
    spec = registry.get("efficientnet-lite0")
    model, taxonomy = load_model(spec, spec.decision), load(spec.taxonomy)
    query = "SELECT DISTINCT node, position FROM core.taxonomy_category"
    positions = dict(map(tuple, site.rows(query)))
    chosen = sorted(uploaded)[:: max(1, len(uploaded) // CHECKED)][:CHECKED]
    with DecodePool(1, spec.target) as decoders:
        pixels = np.stack([decoders.decode(uploaded[key].read_bytes()).pixels for key in chosen])
    probabilities = model.predict(pixels).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = np.floor(10_000 * probabilities @ taxonomy.membership.astype(np.float64))
    query = "SELECT key, nodes, masses FROM core.photo_result JOIN core.photo USING (photo_id) WHERE key = ANY (:keys)"
    stored = {key: (nodes, masses) for key, nodes, masses in site.rows(query, keys=chosen)}
    assert stored.keys() == set(chosen)
    for key, masses in zip(chosen, expected, strict=True):
        columns = [positions[node] for node in stored[key][0]]
        assert np.abs(masses[columns] - stored[key][1]).max() <= 1, key
        assert set(np.flatnonzero(masses > KEPT + 1)) <= set(columns), key
        assert min(stored[key][1]) >= KEPT


def test_a_second_run_tags_nothing(site, first, uploaded):
    counts = site.tag(f"s3://{BUCKET}/main/")["counts"]
    assert counts["skipped_unchanged"] == counts["total"] == len(uploaded)


def test_only_what_changed_is_tagged_again(site, first, uploaded):
    changed, other = sorted(uploaded)[0], uploaded[sorted(uploaded)[1]]
    site.access.client().put_object(Bucket=BUCKET, Key=changed, Body=fresh(other))
    counts = site.tag(f"s3://{BUCKET}/main/")["counts"]
    assert (counts["succeeded"], counts["skipped_unchanged"]) == (1, len(uploaded) - 1)


def test_what_was_deleted_is_subtracted_exactly(site, first, uploaded):
    deleted = sorted(uploaded)[-(10 if len(uploaded) >= 100 else 3) :]
    before = site.rows(PHOTOS_STORED)[0][0]
    for key in deleted:
        site.access.client().delete_object(Bucket=BUCKET, Key=key)
    report = site.tag(f"s3://{BUCKET}/main/")
    assert report["subtracted"] == len(deleted)
    assert report["counts"]["skipped_unchanged"] == report["counts"]["total"] == len(uploaded) - len(deleted)
    assert site.rows(PHOTOS_STORED)[0][0] == before - len(deleted)
    gone = site.rows("SELECT key FROM core.photo WHERE gone_at IS NOT NULL AND key LIKE 'main/%'")
    assert sorted(key for (key,) in gone) == deleted


def test_a_source_that_lost_most_of_its_photos_is_not_believed(site, photos):
    site.upload("shrunk", {f"ann/{path.name}": path for path in photos[:4]})
    site.tag("s3://shrunk")
    for path in photos[1:4]:
        site.access.client().delete_object(Bucket="shrunk", Key=f"ann/{path.name}")
    doubted = site.tag("s3://shrunk")
    assert doubted["subtracted"] == 0
    assert "--allow-mass-delete" in doubted["notes"][0]
    assert site.tag("s3://shrunk", "--keep-missing")["subtracted"] == 0
    assert site.tag("s3://shrunk", "--allow-mass-delete")["subtracted"] == 3
