"""In which order the photos of a shard are asked for."""

from collections import Counter

import pytest

from pipeline.records import PhotoTask
from workers.engine.feeder import spread


def tasks(*keys, bucket="s3://b"):
    return [
        PhotoTask(
            job_id=1, shard_id=1, photo_id=n, content_rev=1, bucket=bucket, key=key, etag="e", size=1, version_id=None
        )
        for n, key in enumerate(keys)
    ]


def test_folders_take_turns_as_often_as_they_have_photos():
    found = spread(tasks("a/1", "a/2", "a/3", "a/4", "b/1", "b/2"))
    assert [task.key for task in found] == ["a/1", "b/1", "a/2", "a/3", "b/2", "a/4"]
    # places: a (0.5, 1.5, 2.5, 3.5) / 4, b (0.5, 1.5) / 2; the first of equals stays first


@pytest.mark.parametrize("keys", [(), ("1",), ("a/1", "a/2", "a/3")])
def test_one_folder_keeps_its_order(keys):
    assert [task.key for task in spread(tasks(*keys))] == list(keys)


def test_every_photo_is_asked_for_once_and_no_stretch_belongs_to_one_folder():
    keys = [f"{user}/{day}/{n}" for user in ("ann", "ben") for day in (1, 2) for n in range(25)]
    found = spread(tasks(*keys))
    assert Counter(task.key for task in found) == Counter(keys)
    for at in range(0, 100, 4):
        assert len({task.key.rpartition("/")[0] for task in found[at : at + 4]}) == 4
