"""Local files of results: there whole or not at all, and nothing beside them."""

import resource

import pytest

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.sinks import writing_to


def write(path, *parts):
    with writing_to(Settings(), None, str(path)) as sink:
        for part in parts:
            sink.write(part)


@pytest.fixture
def room():
    """No file may have more than 64 KiB, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("room")
def test_a_disk_that_is_full_keeps_the_old_file_and_no_part_of_the_new_one(tmp_path):
    path = tmp_path / "night.jsonl"
    write(path, b"old")
    with pytest.raises(ConfigurationError, match="make room"):
        write(path, *[b"x" * 1_000] * 100)
    assert [each.name for each in tmp_path.iterdir()] == ["night.jsonl"]
    assert path.read_bytes() == b"old"


def test_what_a_killed_process_left_goes_with_the_next_try_and_nothing_else_does(tmp_path):
    path = tmp_path / "night.jsonl"
    kept = [".night.jsonl.part", ".night.jsonl.mine.part", ".other.jsonl.0123abcd.part", "night.jsonl.0123abcd.part"]
    for name in (".night.jsonl.0123abcd.part", *kept):
        (tmp_path / name).write_bytes(b"half")
    write(path, b"whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([*kept, "night.jsonl"])
    assert path.read_bytes() == b"whole"
