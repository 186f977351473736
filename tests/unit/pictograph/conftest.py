"""Fixtures of these tests."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def run_python() -> Callable[[str], str]:
    """Run a line of Python in a fresh interpreter, and return what it printed."""

    def run(line: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run([sys.executable, "-c", line], env=env, capture_output=True, text=True, check=True).stdout

    return run
