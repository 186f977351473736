"""On an empty data folder, with nothing configured: the demonstration, an interrupted job, and `up`, which ends it."""

import json
import re
import signal
import subprocess
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pictograph.stack import wait_until_stopped
from pipeline.settings import PREFIX
from tests.acceptance.conftest import COMMAND, PATIENCE_SECONDS, environment, fresh, run, wait_for

DEMO_SECONDS = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder that is empty at first; nothing may run on it at the end."""
    folder = tmp_path_factory.mktemp("embedded") / "new home"
    yield folder
    assert wait_until_stopped(folder)
    assert wait_for(lambda: not running_on(folder))


@pytest.fixture(scope="module")
def env(home: Path) -> dict[str, str]:
    return environment(home=home, api_port=0, decode_processes=1)


def running_on(home: Path) -> list[str]:
    """Processes that have to do with this data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            told = process.environ().get(PREFIX + "HOME", "") if process.name().startswith("python") else ""
            if str(home) in " ".join([*process.cmdline(), told]):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_the_demonstration_shows_four_categories_of_each_of_three_users(env, home, tmp_path):
    start = time.monotonic()
    done = run(("demo", "--once", "--out", tmp_path / "pictures"), env)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < DEMO_SECONDS
    for user in ("cleo", "marie", "otto"):
        part = done.stdout.split(f"\n{user}  (")[1].split(" analysed")[0]
        cells = re.findall(r"^(\S[\w ]*?) +(\d+\.\d) % +(\d*) *$", part, re.MULTILINE)
        assert sum(photos != "" for _, _, photos in cells) == 4
        assert [name for name, _, photos in cells if not photos] == ["other", "unsure"]
        assert round(sum(float(share) for _, share, _ in cells), 1) == 100.0
        svg = ET.parse(tmp_path / "pictures" / f"{user}.svg").getroot()
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        assert cells[0][0] in "".join(svg.itertext())
    assert "\x1b" not in done.stdout + done.stderr


def test_code_in_the_current_folder_is_not_executed(env, photos, tmp_path):
    for package in ("api", "pipeline", "workers", "pictograph", "celery", "torch"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('executed')")
    user = tmp_path / "photos of" / "mira"
    user.mkdir(parents=True)
    (user / "1").write_bytes(fresh(photos[0]))
    done = run(("tag", "photos of", "--json"), env, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["succeeded"] == 1


@pytest.fixture(scope="module")
def interrupted(env, home, photos, tmp_path_factory) -> int:
    """The number of a job whose `tag` was ended by Ctrl-C."""
    folder = tmp_path_factory.mktemp("mine") / "nina"
    folder.mkdir()
    for n, path in enumerate(photos[:60]):
        (folder / str(n)).write_bytes(fresh(path))
    tagging = subprocess.Popen(
        [*COMMAND, "tag", str(folder.parent)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: (home / "logs" / "annotate.log").exists() and last_job(env) is not None)
    tagging.send_signal(signal.SIGINT)
    printed, said = tagging.communicate(timeout=PATIENCE_SECONDS)
    assert tagging.returncode == 130, said
    assert printed == ""
    assert "Traceback" not in said
    return int(re.search(r"Job (\d+) is not lost", said)[1])


def last_job(env) -> dict | None:
    """The newest job that has not ended."""
    listed = run(("jobs", "list", "--limit", "1", "--json"), env).stdout
    jobs = [job for job in map(json.loads, listed.splitlines()) if job["state"] in ("created", "running")]
    return jobs[0] if jobs else None


def test_up_ends_the_job_that_was_interrupted_serves_pages_and_ends_when_told(env, home, interrupted):
    up = subprocess.Popen(
        [*COMMAND, "up", "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        addresses = json.loads(up.stdout.readline())
        assert addresses.keys() == {"api", "s3", "database", "broker", "logs"}
        assert "@" not in str(addresses)
        wait_for(lambda: job(env, interrupted)["state"].startswith("succeeded"))
        counts = job(env, interrupted)["counts"]
        assert counts["total"] == counts["succeeded"] > 0
        with urllib.request.urlopen(addresses["api"] + "/v1/users/nina/profile") as answer:
            assert json.load(answer)["photos"] == counts["total"]
        up.send_signal(signal.SIGTERM)
        printed, said = up.communicate(timeout=PATIENCE_SECONDS)
    finally:
        up.kill()
    assert up.returncode in (0, 128 + signal.SIGTERM), said
    assert printed == ""  # one line, which was read above
    assert "Traceback" not in said


def job(env, number: int) -> dict:
    return json.loads(run(("jobs", "show", number, "--json"), env).stdout)
