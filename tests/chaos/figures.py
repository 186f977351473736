"""What a storm is measured by: how soon work went on, what was done twice, who grew, what the logs tell."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from tests.chaos.history import History, process_of
from tests.chaos.nemesis import Injury
from tests.chaos.victims import Role
from tests.chaos.watch import Census, Reader

SETTLED_SECONDS = 30.0  # of a process's life that are not looked at: it is still filling its buffers
LEAST_IMAGES = 1_500  # over fewer a slope says nothing
MEGABYTE = 1024 * 1024

#: What is counted in the logs: its name in the report, and how it reads.
LINES: Mapping[str, re.Pattern[str]] = {
    "zombie merges fenced (a lost lease, results stored all the same)": re.compile(r"lost the lease of shards"),
    "zombie listings fenced": re.compile(r"is listed by another worker now|is held by another worker now"),
    "deadlocks (repeated)": re.compile(r"transaction repeated after 40P01"),
    "serialization failures (repeated)": re.compile(r"transaction repeated after 40001"),
    "watchdog restarts": re.compile(r"; watchdog restart \d+$"),
    "broker found wiped": re.compile(r"the broker is new or was wiped"),
    "shards split": re.compile(r"splits: \d+"),
    "quarantined by the redriver": re.compile(r"quarantined: \d+"),
}
_RECEIVED = re.compile(r"Task pictograph\.(?:annotate|ingest)\[[0-9a-f-]{36}\] received")
_DONE = re.compile(r"Task pictograph\.annotate\[[0-9a-f-]{36}\] succeeded")
_WORKED = re.compile(r"\d+ photos? in [\d.]+ s, ")  # what a stream says that has claimed something


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How long something took, over all times that it happened."""

    times: int
    p50: float
    p95: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread | None":
        """None where it never happened."""
        if not seconds:
            return None
        p50, p95 = np.percentile(seconds, [50, 95])
        return cls(
            times=len(seconds), p50=round(float(p50), 2), p95=round(float(p95), 2), longest=round(max(seconds), 2)
        )


def recovery(injuries: Sequence[Injury], history: History, reader: Reader, until: float) -> dict[str, Spread | None]:
    """By kind: from a fault's end to the next merge that committed, other faults notwithstanding.

    Left out are faults that met nothing to do, or after which the work ran out.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for injury in injuries:
        seconds[injury.kind] += []
        end = injury.ended or injury.at
        merged = history.next_merge(end)
        if merged is not None and merged <= until and not reader.was_idle(end, merged):
            seconds[injury.kind].append(merged - end)
    return {kind: Spread.of(found) for kind, found in seconds.items()}


def taken_up(injuries: Sequence[Injury], history: History) -> dict[str, Spread | None]:
    """By kind of kill: until somebody took up each shard or key range that the victim, or anybody below it, held."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for injury in injuries:
        for victim in (*injury.victims, *injury.bereft):
            for claim in history.held_by(victim, injury.at):
                moment = history.taken_up(claim)
                if moment is not None:
                    seconds[injury.kind].append(max(0.0, moment - injury.at))
    return {kind: Spread.of(found) for kind, found in seconds.items()}


def growth(census: Census, history: History, decoders: int) -> dict[str, dict[str, float]]:
    """By role: MB per 1,000 photos of their own, of those processes that lived through enough of them."""
    done = _done(history)
    children: dict[int, list[int]] = defaultdict(list)
    for (pid, _), parent in census.parents.items():
        children[parent].append(pid)
    slopes: dict[Role, list[float]] = defaultdict(list)
    for name, series in census.sizes.items():
        role = census.met[name][1]
        if role is Role.ANNOTATE_CHILD:
            workers, share = [name[0]], 1
        elif role is Role.DECODE_CHILD:
            workers, share = [census.parents[name]], decoders
        elif role is Role.ANNOTATE_PARENT:
            workers, share = children[name[0]], 1
        else:
            continue
        moments = sorted(moment for worker in workers for moment in done.get(worker, ()))
        slope = _slope([(at, size) for at, size in series if at > series[0][0] + SETTLED_SECONDS], moments, share)
        if slope is not None:
            slopes[role].append(slope)
    return {
        role.value: {"processes": len(found), "median": round(median(found), 3), "largest": round(max(found), 3)}
        for role, found in slopes.items()
    }


def _done(history: History) -> dict[int, list[float]]:
    """By process id of a worker: a moment for each photo of the shards that it has done."""
    found: dict[int, list[float]] = defaultdict(list)
    for event in history.events:
        worker = process_of(event.owner)
        if event.what == "done" and event.photos and worker is not None:
            found[worker] += [event.at] * event.photos
    return found


def _slope(series: Sequence[tuple[float, int]], moments: Sequence[float], share: int) -> float | None:
    """MB per 1,000 photos; None over too few of them."""
    counts = np.searchsorted(np.array(moments), [at for at, _ in series], side="right") / share
    if len(counts) < 2 or counts[-1] - counts[0] < LEAST_IMAGES:
        return None
    slope, _ = np.polyfit(counts / 1000, np.array([size for _, size in series]) / MEGABYTE, 1)
    return float(slope)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the logs of all workers tell."""

    lines: Mapping[str, int]
    received: int  # messages
    refused: int  # of them, those that found nothing to claim
    tracebacks: Mapping[str, int]  # last lines of them


def read_logs(paths: Iterable[Path], postgres: Path) -> Said:
    """Count what is to be counted."""
    lines: Counter[str] = Counter(dict.fromkeys(LINES, 0))
    received = refused = 0
    ends: Counter[str] = Counter()
    for path in paths:
        said = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in said:
            for name, pattern in LINES.items():
                lines[name] += bool(pattern.search(line))
            received += bool(_RECEIVED.search(line))
            refused += bool(_DONE.search(line)) - bool(_WORKED.search(line))
        ends.update(_last_lines(said))
    deadlocks = postgres.read_text(encoding="utf-8", errors="replace").count("deadlock detected")
    lines["deadlocks (Postgres)"] = deadlocks
    return Said(lines=dict(lines), received=received, refused=refused, tracebacks=dict(ends.most_common(20)))


def _last_lines(said: Sequence[str]) -> list[str]:
    """The line that ends each traceback: the first one that is not indented."""
    ends, inside = [], False
    for line, _ in pairwise([*said, ""]):
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and line and not line.startswith((" ", "\t")):
            ends.append(line[:160])
            inside = False
    return ends
