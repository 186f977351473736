"""`pictograph bench`: what it measures, and that it leaves nothing behind, however it ends."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pictograph import samples
from pipeline.sources.s3 import S3Access
from tests.acceptance.conftest import COMMAND, PATIENCE_SECONDS, Site, environment, run, wait_for

pytest.importorskip("torch", reason="torch is not installed")

FEW = ("--copies", 2, "--rounds", 1)
STAGES = {"fetch", "decode", "classify", "merge"}


@dataclass(frozen=True)
class Apart:
    """A place with photos, and with a home and a folder for temporary files of its own, both empty."""

    place: Path

    @property
    def photos(self) -> Path:
        return self.place / "photos"

    @property
    def env(self) -> dict[str, str]:
        return {**environment(home=self.place / "home"), "TMPDIR": str(self.place / "scratch")}

    def is_clean(self) -> bool:
        """Whether nothing is left of the scratch installation, no server runs in it, and that home has no data.

        The model's compiled form stays there: every worker keeps it.
        """
        data = [path for path in (self.place / "home").iterdir() if path.name != "models"]
        left = [*data, *(self.place / "scratch").glob("pictograph-*")]
        return not left and not servers_below(self.place)


def made_apart(place: Path) -> Apart:
    for name in ("home", "scratch", "photos"):
        (place / name).mkdir()
    (place / "photos" / "notes.txt").write_text("no photo")
    return Apart(place)


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Apart:
    """Seven photos and something that is none."""
    made = made_apart(tmp_path_factory.mktemp("bench"))
    for picture in samples.bundled()[:7]:
        shutil.copyfile(picture.path, made.photos / picture.path.name)
    return made


@pytest.fixture(scope="module")
def found(some: Apart) -> dict[str, Any]:
    """What was measured on them."""
    done = run(("bench", some.photos, *FEW, "--json"), some.env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def servers_below(folder: Path) -> list[psutil.Process]:
    """Processes whose current folder is, or was, below this one."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(folder)
        except psutil.Error:
            continue
        if inside:
            found.append(process)
    return found


def test_everything_is_measured(found: dict[str, Any]):
    assert (found["photos"], found["different_photos"], found["rounds"]) == (16, 8, 1)
    assert found["counts"]["failed:unsupported"] == 2
    assert sum(found["counts"].values()) == 16
    assert found["differing_totals"] == 0
    assert found["photos_per_s"] > found["photos_per_s_with_listing"] > 0
    assert set(found["ceilings"]) == STAGES
    assert all(rate > 0 for rate in found["ceilings"].values())
    assert found["binds"] in STAGES
    assert 0 < found["database_share"] < 1
    assert found["peak_memory_bytes"] > 100_000_000
    assert found["tuning"]["model"] == "efficientnet-lite0"
    assert "Only 88% of the photos could be read" in found["advice"]


def test_nothing_is_left(found: dict[str, Any], some: Apart):
    assert found
    assert some.is_clean()


def test_processor_time_adds_up(found: dict[str, Any]):
    cpu = found["cpu_s_per_1000_photos"]
    stages = sum(cpu[name] for name in STAGES)
    assert cpu["end_to_end"] == pytest.approx(stages + cpu["rest"], abs=0.001)
    for what, by in found["cpu_s_per_1000_photos_by_process"].items():
        assert cpu[what] == pytest.approx(sum(by.values()), abs=0.001)
    assert {"fetch", "decode", "classify", "merge"} <= set(found["cpu_s_per_1000_photos_by_thread"])
    if found["bound_by"] == "cores":
        assert found["bound_photos_per_s"] == pytest.approx(1000 * found["tuning"]["cores"] / stages, rel=0.01)
    assert found["efficiency"] == pytest.approx(found["photos_per_s"] / found["bound_photos_per_s"], rel=0.01)


def test_photos_in_s3_are_only_read(site: Site, tmp_path: Path):
    pictures = [picture.path for picture in samples.bundled()[:3]]
    site.upload("measured-photos", {f"ann/{path.name}": path for path in pictures})
    jobs = site.rows("SELECT count(*) FROM core.job")
    done = site.run("bench", "s3://measured-photos/ann", *FEW, "--photos", 2)
    assert done.returncode == 0, done.stderr
    for words in ("end to end", "decode alone", "bound", "efficiency", "equal to a recount", "efficientnet-lite0"):
        assert words in done.stdout
    assert "photos    4 (2 different ones)" in done.stdout
    assert site.rows("SELECT count(*) FROM core.job") == jobs
    assert keys(site.access, "measured-photos") == sorted(f"ann/{path.name}" for path in pictures)


def keys(access: S3Access, bucket: str) -> list[str]:
    return sorted(item["Key"] for item in access.client().list_objects_v2(Bucket=bucket)["Contents"])


@pytest.mark.parametrize("moment", ["Uploading", "Round 1 of 100: end to end"])
def test_ctrl_c_leaves_nothing(moment: str, some: Apart):
    command = [*COMMAND, "bench", str(some.photos), "--copies", "40", "--rounds", "100"]
    with subprocess.Popen(
        command, env=some.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        line = next(line for line in process.stderr if moment in line)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: its children get it, too
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT, line
        assert "Traceback" not in process.stderr.read()
    wait_for(some.is_clean)


def test_nothing_readable_is_said(tmp_path: Path):
    made = made_apart(tmp_path)
    done = run(("bench", made.photos, *FEW), made.env)
    assert done.returncode == 2
    assert "None of 1 photos could be read" in done.stderr
    assert made.is_clean()


def test_a_folder_that_is_not_there_starts_no_servers(tmp_path: Path):
    done = run(("bench", tmp_path / "nowhere"), made_apart(tmp_path).env)
    assert done.returncode == 2
    assert "There is no folder or manifest" in done.stderr
    assert "Starting" not in done.stderr
