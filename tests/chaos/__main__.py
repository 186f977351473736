"""``python -m tests.chaos``: one storm, its report, and exit status 1 if anything was lost, doubled or wrong."""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.mounts import in_own_mounts
from tests.chaos.report import add_up, show
from tests.chaos.storm import Wish
from tests.chaos.weather import weather


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a storm; 0 if every invariant holds."""
    asked = _parser().parse_args(arguments)
    if asked.total:
        print(add_up())
        return 0
    out = Path(asked.out or tempfile.mkdtemp(prefix="pictograph-chaos-")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", filename=out / "storm.log")
    wish = Wish(seed=asked.seed, minutes=asked.minutes, photos=asked.photos, users=asked.users)
    with weather(wish, out, may_mount=in_own_mounts(sys.argv[1:])) as passed:
        report = passed.report()
    report.write(out)
    show(report)
    if asked.keep:
        report.keep()
    print(f"The whole report, its events and the logs of all processes are in {out}.")
    return 1 if report.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--out", help="a folder for the report; default: a new one in the temporary folder")
    parser.add_argument("--keep", action="store_true", help="add a line to docs/reliability/runs.jsonl")
    parser.add_argument("--total", action="store_true", help="add up the runs that were kept, and run nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
