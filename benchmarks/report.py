"""What the runs of a race come to: do the contenders say the same, how quick are they, by how much. Pure."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

from benchmarks.peers.harness import Answer
from benchmarks.race import ENTRIES, Run

AGREE = 0.99  # of the photos, by first label; where two agree less, their speeds are not compared
#: Kinds of photos that sound tools read differently: turned or not, by one formula or another, up to the cut or not.
OPEN_TO_TASTE = frozenset({"exif", "cmyk", "cut"})
OURS = "ours"


def running_order(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Who runs after whom: every other round backwards, so that a drift of the machine favours nobody."""
    return [list(names) if n % 2 == 0 else list(reversed(names)) for n in range(rounds)]


def kind_of(key: str) -> str:
    """How a photo was made: what its name begins with."""
    return key.rpartition("/")[2].partition("-")[0]


def agreement(keys: Sequence[str], one: Sequence[Answer], other: Sequence[Answer]) -> float:
    """The share of the photos with the same first label, of those that are not open to taste."""
    labels, others = ({answer.key: answer.wnid for answer in answers} for answers in (one, other))
    compared = [key for key in keys if kind_of(key) not in OPEN_TO_TASTE]
    same = sum(bool(labels.get(key)) and labels.get(key) == others.get(key) for key in compared)
    return same / len(compared) if compared else 0.0


def report(runs: Sequence[Run], keys: Sequence[str]) -> dict[str, Any]:
    """All that is known of a race over these photos, by contender and by pair, ready for JSON."""
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.contender, []).append(run)
    answers = {name: good[0].answers for name, of in by_name.items() if (good := [run for run in of if not run.error])}
    agreeing = {pair: agreement(keys, answers[pair[0]], answers[pair[1]]) for pair in permutations(answers, 2)}
    return {
        "contenders": {name: _contender(of, keys) for name, of in by_name.items()},
        "agreement": {f"{a} / {b}": round(agreeing[a, b], 4) for a, b in combinations(answers, 2)},
        "times_as_fast": {
            name: ratio
            for name in answers
            if name != OURS and agreeing.get((OURS, name), 0.0) >= AGREE
            if (ratio := _ratio(by_name[OURS], by_name[name])) is not None
        },
    }


def _contender(runs: Sequence[Run], keys: Sequence[str]) -> dict[str, Any]:
    entry = ENTRIES[runs[0].contender]
    good = [run for run in runs if not run.error]
    return {
        "what": entry.what,
        "precision": entry.precision,
        "errors": [run.error for run in runs if run.error],
        **(_figures(good, keys) if good else {}),
        "runs": [_run(run, len(keys)) for run in runs],
    }


def _figures(good: Sequence[Run], keys: Sequence[str]) -> dict[str, Any]:
    """Medians over the runs that went through."""
    photos = len(keys)

    def median(of: Callable[[Run], float]) -> float:
        return round(statistics.median(map(of, good)), 2)

    found: dict[str, Any] = {
        "photos_per_s": median(lambda run: photos / run.seconds),
        "cpu_s_per_1000_photos": median(lambda run: 1000 * run.cpu_seconds / photos),
        "server_cpu_s_per_1000_photos": {
            name: median(lambda run, name=name: 1000 * run.server_cpu_seconds[name] / photos)  # type: ignore[misc]
            for name in good[0].server_cpu_seconds
        },
        "peak_mb": median(lambda run: run.peak_mb),
        "largest_process_mb": median(lambda run: run.largest_mb),
        "answered": _answered(keys, good[0].answers),
    }
    if good[0].contender == OURS:
        listed = [photos / (run.seconds + float(str(run.more["list_seconds"]))) for run in good]
        found["photos_per_s_with_listing"] = round(statistics.median(listed), 2)
        found["cpu_shares"] = cpu_shares(good)
    return found


def _answered(keys: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
    """By kind of photo: how many got an answer, of how many."""
    given = Counter(kind_of(answer.key) for answer in answers if answer.wnid)
    return {kind: f"{given[kind]} of {count}" for kind, count in sorted(Counter(map(kind_of, keys)).items())}


def cpu_shares(runs: Sequence[Run]) -> dict[str, float]:
    """How our processor time divides between the steps and the servers, summed over the runs.

    A step's is that of its threads in the worker; "model and client" is that of the libraries' own threads, "decode
    children" that of the other processes.
    """
    parts: Counter[str] = Counter()
    for run in runs:
        steps, process = run.more["thread_cpu_seconds"], float(str(run.more["process_cpu_seconds"]))
        assert isinstance(steps, Mapping)
        parts.update(steps)
        parts.update({"model and client": process - sum(steps.values()), "decode children": run.cpu_seconds - process})
        parts.update(run.server_cpu_seconds)
    total = sum(parts.values())
    return {name: round(part / total, 4) for name, part in parts.items()}


def _run(run: Run, photos: int) -> dict[str, Any]:
    return {
        "error": run.error,
        "start_s": round(run.start_seconds, 2),
        "seconds": round(run.seconds, 3),
        "photos_per_s": round(photos / run.seconds, 2) if run.seconds and not run.error else None,
        "cpu_s": round(run.cpu_seconds, 2),
        "server_cpu_s": {name: round(spent, 2) for name, spent in run.server_cpu_seconds.items()},
        "peak_mb": round(run.peak_mb, 1),
        "largest_process_mb": round(run.largest_mb, 1),
        **run.more,
    }


def _ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, float] | None:
    """How many times our speed is theirs: round by round, as neighbours in time meet the same machine.

    None where no round went through for both.
    """
    pairs = zip(ours, theirs, strict=True)
    ratios = [their.seconds / our.seconds for our, their in pairs if not our.error and not their.error]
    if not ratios:
        return None
    return {
        "median": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "most": round(max(ratios), 2),
    }


def table(found: Mapping[str, Any]) -> str:
    """The report for people, in Markdown."""
    lines = [
        "| contender | photos/s | CPU-s per 1,000 photos | of the servers | peak MB | ours is faster by |",
        "|---|---|---|---|---|---|",
    ]
    for name, of in found["contenders"].items():
        if "photos_per_s" not in of:
            lines.append(f"| {name} | broke: {of['errors'][0][:120]} | | | | |")
            continue
        servers = sum(of["server_cpu_s_per_1000_photos"].values())
        lines.append(
            f"| {name} ({of['precision']}) | {of['photos_per_s']:.1f} | {of['cpu_s_per_1000_photos']:.1f} "
            f"| {servers:.1f} | {of['peak_mb']:.0f} | {_faster(found, name)} |"
        )
    least = min(found["agreement"].items(), key=lambda pair: pair[1], default=None)
    if least is not None:
        lines.append(f"\nLeast agreement by first label: {least[1]:.1%} ({least[0]}). Not compared: below {AGREE:.0%}.")
    return "\n".join(lines)


def _faster(found: Mapping[str, Any], name: str) -> str:
    ours = found["contenders"].get(OURS, {})
    if name == OURS or "photos_per_s" not in ours:
        return ""
    ratio = found["times_as_fast"].get(name)
    return "not compared" if ratio is None else f"{ratio['median']} ({ratio['least']}–{ratio['most']})"
