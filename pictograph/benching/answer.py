"""What was measured, as the command says it: for machines, and as a table for people."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from pictograph.benching.advice import advice
from pictograph.benching.figures import STAGES, Spread, Summary
from pictograph.benching.study import Study

PROCESSES = ("own", "decoders", "postgres", "s3")  # whose processor time is told; what others take is hardly any
NOBODY = "unknown processor"


def as_json(made: Study) -> dict[str, Any]:
    """All figures, with their units in their names."""
    found = made.found
    return {
        "photos_per_s": _two(found.rate.median),
        "photos_per_s_range": _range(found.rate),
        "stream_s": _two(found.seconds),
        "photos_per_s_with_listing": _two(found.rate_with_listing.median),
        "efficiency": round(found.efficiency.median, 4),
        "efficiency_range": [round(found.efficiency.low, 4), round(found.efficiency.high, 4)],
        "bound_photos_per_s": _two(found.bound.median),
        "bound_by": "cores" if found.shared else "stage",
        "binds": found.binds,
        "ceilings": {name: _two(found.ceilings[name].median) for name in STAGES},
        "ceilings_range": {name: _range(found.ceilings[name]) for name in STAGES},
        "cpu_s_per_1000_photos": {_key(name): _milli(cpu) for name, cpu in found.cpu_per_photo.items()},
        "cpu_s_per_1000_photos_by_process": {
            _key(what): {name: _milli(cpu) for name, cpu in by.items()} for what, by in found.cpu_by_process.items()
        },
        "cpu_s_per_1000_photos_by_thread": {name: _milli(cpu) for name, cpu in sorted(found.cpu_by_thread.items())},
        "database_share": round(found.database_share, 4),
        "stages_share": round(found.stages_share, 4),
        "busy_share": round(found.busy, 4),
        "elsewhere_share": None if found.elsewhere is None else round(found.elsewhere, 4),
        "model_starved_share": round(found.starved, 4),
        "peak_memory_bytes": found.peak_memory_bytes,
        "differing_totals": found.differing_totals,
        "photos": made.photos,
        "different_photos": made.originals,
        "mean_photo_bytes": round(made.mean_photo_bytes),
        "counts": {f"{state.name.lower()}:{code.name.lower()}": n for (state, code), n in made.counts.items()},
        "rounds": made.rounds,
        "tuning": asdict(made.tuning),  # model, runtime, precision and device among it
        "machine": {"processor": processor(), "cores": found.cores, "memory_bytes": psutil.virtual_memory().total},
        "versions": {"python": platform.python_version(), "pictograph": version("pictograph")},
        "advice": advice(found, readable=made.readable),
    }


def heading(made: Study) -> list[str]:
    """Lines about what was measured."""
    found = made.found
    memory = psutil.virtual_memory().total / 1e9
    different = "" if made.originals == made.photos else f" ({made.originals:,} different ones)"
    rounds = "1 round" if made.rounds == 1 else f"{made.rounds} rounds"
    return [
        f"machine   {processor()}, {found.cores:g} cores, {memory:.0f} GB; Postgres, Valkey and S3 on the same",
        f"model     {made.tuning}",
        f"photos    {made.photos:,}{different} of {made.mean_photo_bytes / 1000:,.0f} KB, {rounds}",
    ]


def table(made: Study) -> Table:
    """Rates and processor time, of the whole and of its parts."""
    found = made.found
    cpu, by_process = found.cpu_per_photo, found.cpu_by_process
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    shown.add_column("")
    for title in ("photos/s", "least - most", "CPU s per 1,000", *PROCESSES):
        shown.add_column(title, justify="right", no_wrap=True)

    def row(name: str, rate: Spread | None, seconds: float | None, parts: dict[str, float] | None = None) -> None:
        rates = ("", "") if rate is None else (f"{rate.median:,.1f}", f"{rate.low:,.1f} - {rate.high:,.1f}")
        shares = [f"{1000 * parts[process]:.2f}" for process in PROCESSES] if parts else []
        shown.add_row(name, *rates, "" if seconds is None else f"{1000 * seconds:.2f}", *shares)

    row("end to end", found.rate, cpu["end to end"], by_process["end to end"])
    row("with listing", found.rate_with_listing, cpu["end to end"] + cpu["listing"])
    for name in STAGES:
        row(
            f"{name} alone{', binds' if name == found.binds else ''}", found.ceilings[name], cpu[name], by_process[name]
        )
    row("what else the stream costs", None, cpu["rest"])
    row("bound", found.bound, None)
    return shown


def closing(made: Study) -> list[str]:
    """Lines that follow the table."""
    found = made.found
    right = "equal to a recount" if not found.differing_totals else f"{found.differing_totals} rows unlike a recount"
    return [
        f"efficiency {found.efficiency.median:.2f}, end to end over the bound: {_bound(found)}",
        f"queue, roll-up and database take {found.database_share:.1%} of the stream's processor time",
        f"most memory {found.peak_memory_bytes / 1e6:,.0f} MB, decode children included; totals {right}",
        advice(found, readable=made.readable),
    ]


def _bound(found: Summary) -> str:
    """What the bound is, and what keeps the stream from it."""
    if not found.shared:
        return f"the lowest stage's rate; the model had nothing to do {found.starved:.0%} of the time"
    return (
        f"{found.cores:g} cores / processor time of the stages, which take {found.stages_share:.0%} of the stream's; "
        f"it kept {found.busy:.0%} of the cores busy"
    )


def processor() -> str:
    """The processor's name, where the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or NOBODY)


def _two(figure: float) -> float:
    return round(figure, 2)


def _range(spread: Spread) -> list[float]:
    return [_two(spread.low), _two(spread.high)]


def _milli(seconds: float) -> float:
    """Seconds for a photo as seconds for a thousand."""
    return round(1000 * seconds, 4)


def _key(name: str) -> str:
    return name.replace(" ", "_")
