"""Whether the tests can fail: each guarantee is sabotaged once, in a copy of the tree, and its tests must notice.

    python -m tests.chaos.mutants            all of them, and how many were noticed
    python -m tests.chaos.mutants zombie     those whose name holds the word

A sabotage counts as noticed only if a test *failed*: a tree that cannot be imported proves nothing. Before that, the
same tests must pass in the same copy without any sabotage.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = ("pictograph", "api", "workers", "pipeline", "taxonomy", "migrations")
ALONGSIDE = ("tests", "infra", "pyproject.toml", "README.md")
LONGEST_SECONDS = 600.0  # for the tests of one mutant; a test that hangs has noticed nothing
LANES = 2  # copies that are tested side by side

PASSED, FAILED = 0, 1  # pytest's exit statuses that mean what they say


@dataclass(frozen=True, kw_only=True)
class Change:
    """One place in the code, and what is written there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One sabotage and the tests that are there to notice it."""

    name: str
    breaks: str  # the guarantee, in words
    changes: tuple[Change, ...]
    tests: tuple[str, ...]  # what pytest is given


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    noticed: bool
    seconds: float
    words: str  # pytest's last line


def copied(folder: Path) -> Path:
    """The tree as it stands, in `folder`."""
    for name in (*SHIPPED, *ALONGSIDE):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def sabotage(folder: Path, change: Change) -> None:
    """Make the change; ValueError unless its place is found exactly once, so that no mutant outlives its code."""
    path = folder / change.file
    text = path.read_text(encoding="utf-8")
    if text.count(change.old) != 1:
        raise ValueError(f"{change.file} holds {text.count(change.old)} times, not once: {change.old!r}")
    path.write_text(text.replace(change.old, change.new), encoding="utf-8")


def tested(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run the tests on the tree in `folder`: pytest's exit status, and its last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("PICTOGRAPH_TEST_PHOTOS", str(REPOSITORY.parent / "shared" / "photos"))
    try:
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {LONGEST_SECONDS:.0f} s"
    lines = (ran.stdout.strip() or ran.stderr.strip()).splitlines()
    return ran.returncode, lines[-1] if lines else ""


def judged(mutant: Mutant) -> Verdict:
    """Sabotage a copy and see whether its tests fail."""
    begun = time.monotonic()
    with TemporaryDirectory(prefix="mutant-") as place:
        folder = copied(Path(place))
        for change in mutant.changes:
            sabotage(folder, change)
        status, words = tested(folder, mutant.tests)
    noticed = status == FAILED and " failed" in words  # the same status stands for a test that could not begin
    return Verdict(mutant=mutant, noticed=noticed, seconds=time.monotonic() - begun, words=words)


def sound(mutants: Sequence[Mutant]) -> tuple[bool, str]:
    """Whether the tests of all mutants pass where nothing is sabotaged."""
    with TemporaryDirectory(prefix="mutant-none-") as place:
        tests = sorted(set(chain.from_iterable(mutant.tests for mutant in mutants)))
        status, words = tested(copied(Path(place)), tests)
    return status == PASSED, words


def main(wanted: Sequence[str]) -> int:
    """Judge the mutants whose name holds one of `wanted` (none: all of them); 0 if every one was noticed."""
    from tests.chaos.sabotages import MUTANTS  # noqa: PLC0415 - the list is data, and imports this module

    chosen = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    fine, words = sound(chosen)
    print(f"without sabotage: {words}", flush=True)
    if not fine:
        print("The tests fail without any sabotage; mend that first.")
        return 1
    noticed = 0
    with ThreadPoolExecutor(LANES) as lanes:
        for verdict in lanes.map(judged, chosen):
            noticed += verdict.noticed
            mark = "noticed" if verdict.noticed else "SURVIVED"
            print(f"{mark:8}  {verdict.mutant.name:24} {verdict.seconds:5.0f} s  {verdict.words}", flush=True)
    print(f"{noticed}/{len(chosen)}")
    return 0 if noticed == len(chosen) and chosen else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
