"""When a worker that died is started again, and how a worker process is called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pictograph.stack.processes import python, python_environment
from pictograph.supervisor import MOST_PAUSES, RESTART_PAUSE_SECONDS, STEADY_SECONDS, _Process


def pauses(lives: list[float]) -> list[float]:
    """How long a worker that dies after each of these lives is left alone, in seconds."""
    process = _Process(("redriver",), subprocess.Popen(["true"]), started=0.0)
    process.running.wait()
    found = []
    for life in lives:
        died = process.started + life
        process.plan_restart(died)
        found.append(process.due - died)
        process.started = process.due
    return found


@pytest.mark.parametrize(
    ("lives", "expected"),
    [
        ([0, 0, 0], [1, 2, 3]),
        ([0, 0, STEADY_SECONDS + 1, 0], [1, 2, 1, 2]),  # whoever lived long begins anew
        ([0] * (MOST_PAUSES + 2), [*range(1, MOST_PAUSES + 1), MOST_PAUSES, MOST_PAUSES]),
    ],
)
def test_pauses_grow_up_to_a_limit_and_begin_anew_after_a_long_life(lives, expected):
    assert pauses(lives) == [pause * RESTART_PAUSE_SECONDS for pause in expected]


def test_a_python_of_ours_finds_our_code_and_nothing_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "libraries")
    env = python_environment()
    assert env["PYTHONPATH"].split(os.pathsep) == [str(Path(__file__).parents[3]), str(tmp_path / "libraries")]
    assert python("pictograph")[0] == sys.executable
    assert subprocess.run(python("pipeline.errors"), env=env, cwd=tmp_path, check=False).returncode == 0
    child = [sys.executable, "-c", "import pipeline"]  # as a worker starts its own
    assert subprocess.run(child, env=env, cwd=tmp_path, check=False).returncode == 0
