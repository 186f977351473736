import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.harness import Answer, Job, in_a_line, read_answers, write_answers

#: A contender as short as can be; it breaks where the job has no photos.
TOY = """
import sys
from pathlib import Path
from benchmarks.peers.harness import Answer, serve

class Toy:
    def __init__(self, job):
        print("libraries may say what they like")
        self.job = job
    def run(self, began):
        began()
        if not self.job.keys:
            raise ValueError("no photos")
        return {"photos": len(self.job.keys)}
    def answers(self):
        return [Answer(key=key, wnid="n1", score=0.5) for key in self.job.keys]
    def close(self):
        (Path(self.job.scratch) / "closed").touch()

serve(Toy, Path(sys.argv[1]))
"""


def job(scratch: Path, keys: tuple[str, ...] = ("a", "b")) -> Job:
    words = ("endpoint_url", "access_key_id", "secret_access_key", "region", "bucket", "prefix")
    return Job(
        **dict.fromkeys(words, "x"),
        keys=keys,
        labels=("n1",),
        database_url="x",
        broker_url="x",
        cores=1,
        batch=1,
        scratch=str(scratch),
    )


def talk(folder: Path, keys: tuple[str, ...]) -> list[dict]:
    """What a contender says when it is told to go and to show."""
    job(folder, keys).write(folder / "job.json")
    done = subprocess.run(
        [sys.executable, "-c", TOY, str(folder / "job.json")],
        input="go\nshow\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_contender_talks_by_the_rules(tmp_path: Path):
    said = talk(tmp_path, ("a", "b"))
    assert [message["event"] for message in said] == ["ready", "began", "done", "shown"]
    assert said[2]["more"] == {"photos": 2}
    assert said[2]["seconds"] >= 0
    assert [answer.key for answer in read_answers([tmp_path / "answers.csv"])] == ["a", "b"]
    assert (tmp_path / "closed").exists()


def test_one_that_breaks_says_why(tmp_path: Path):
    said = talk(tmp_path, ())
    assert said[2]["event"] == "broke"
    assert said[2]["error"] == "ValueError: no photos"
    assert (tmp_path / "closed").exists()


def test_a_job_is_read_as_it_was_written_and_by_its_owner_alone(tmp_path: Path):
    job(tmp_path).write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job(tmp_path)
    assert (tmp_path / "job.json").stat().st_mode & 0o777 == 0o600


def test_answers_are_read_as_they_were_written(tmp_path: Path):
    found = [Answer(key='odd,"key"', wnid="n2", score=0.25), Answer(key="b", wnid="", score=0.0)]
    write_answers(tmp_path / "a.csv", found)
    assert read_answers([tmp_path / "a.csv", tmp_path / "missing.csv"]) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cut off", "RuntimeError: cut off"),
        ("Caught\nTraceback:\n  File x\nOSError: cut off\nwhich caused\na.b.UserError: it broke", "OSError: cut off"),
        ("", "RuntimeError: "),
    ],
)
def test_an_error_in_a_line(text: str, line: str):
    assert in_a_line(RuntimeError(text)) == line
