"""Local files of results: there whole or not at all, and nothing beside them."""

import subprocess
import sys

from pipeline.settings import Settings
from pipeline.sinks import writing_to


def write(path, *parts):
    with writing_to(Settings(), None, str(path)) as sink:
        for part in parts:
            sink.write(part)


# The limit is a process's own: ours may be writing a log that is longer.
ON_A_FULL_DISK = """
import resource, sys
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.sinks import writing_to

resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
try:
    with writing_to(Settings(), None, sys.argv[1]) as sink:
        for _ in range(100):
            sink.write(b"x" * 1_000)
except ConfigurationError as exc:
    print(exc)
"""


def test_a_disk_that_is_full_keeps_the_old_file_and_no_part_of_the_new_one(tmp_path):
    path = tmp_path / "night.jsonl"
    write(path, b"old")
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "make room" in done.stdout
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
