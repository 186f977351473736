"""Which photos are measured, and how the work is dealt out to threads."""

import threading
import time
from pathlib import Path

import pytest

from pictograph.benching.photos import Original, copies_needed, evenly, originals
from pictograph.benching.scratch import WRITTEN_BY_JOBS, is_first_copy, room_needed
from pictograph.benching.stages import spread
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.tables import metadata

WHAT_STAYS = {
    "category",
    "category_closure",
    "taxonomy",
    "taxonomy_category",
    "model",
    "decision",
    "policy",
    "policy_rule",
    "policy_effect",
    "worker",
    "breaker",
    "promotion",
    "schedule",
    "queue_limit",
    "object_event",
    "api_key",
    "api_secret",
    "model_report",
}


def test_photos_are_evenly_spread():
    assert evenly(range(10), 5) == [0, 2, 4, 6, 8]
    assert evenly(range(3), 5) == [0, 1, 2]


def photos(number: int, size: int) -> list[Original]:
    return [Original(size=size, read=lambda: b"")] * number


@pytest.mark.parametrize(
    ("number", "size", "asked", "copies"),
    [
        (28, 100_000, 0, 72),  # 2,016 photos
        (2000, 100_000, 0, 1),
        (28, 100_000, 3, 3),
        (500, 3_000_000, 0, 1),  # 1.5 GB
        (100, 3_000_000, 0, 6),  # 1.8 GB
        (500, 5_000_000, 0, 1),  # each of them once, though they have more than 2 GB
        (1, 0, 0, 2000),
    ],
)
def test_copies_make_enough_to_be_measured_unless_they_are_asked_for(number: int, size: int, asked: int, copies: int):
    assert copies_needed(photos(number, size), asked) == copies


def test_the_disk_needs_room_for_every_copy_and_for_the_servers():
    assert room_needed(photos(10, 1_000_000), 4) == 60_000_000 + 2**30  # 1.5 x 40 MB


def test_a_folder_is_read_and_its_photos_are_spread(tmp_path: Path):
    for n in range(6):
        (tmp_path / f"{n}.jpg").write_bytes(bytes([n]))
    with originals(str(tmp_path), 3, Settings()) as found:
        assert [photo.read() for photo in found] == [b"\0", b"\2", b"\4"]
        assert {photo.size for photo in found} == {1}


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError), originals(str(tmp_path), 3, Settings()):
        pass


def test_every_table_that_a_job_writes_is_emptied():
    assert {table.name for table in metadata.tables.values()} == {*WRITTEN_BY_JOBS} | WHAT_STAYS


def test_the_first_copy_of_a_photo_is_known_by_its_key():
    assert is_first_copy("measured/user-3/00000-00017")
    assert not is_first_copy("measured/user-3/00010-00000")


def test_threads_share_the_items_and_each_is_done_once():
    done: list[int] = []
    spread(done.append, range(1000), 8)
    assert sorted(done) == list(range(1000))


def test_threads_work_at_the_same_time():
    together = threading.Barrier(4)
    spread(lambda _: together.wait(10), range(4), 4)  # each waits for the others
    assert not together.broken


def test_the_first_error_ends_it_and_is_raised():
    done: list[int] = []

    def fail_at_five(n: int) -> None:
        if n == 5:
            raise ValueError(n)
        time.sleep(0.001)
        done.append(n)

    with pytest.raises(ValueError, match="5"):
        spread(fail_at_five, range(100_000), 3)
    assert len(done) < 1000
