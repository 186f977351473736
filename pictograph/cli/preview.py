"""What `pictograph tag --dry-run` says: what a job would do, for people and for machines."""

from dataclasses import asdict
from datetime import timedelta

from rich.table import Table

from pictograph.cli.console import emit, out, say
from pipeline.ledger.forecast import Forecast


def tell(found: Forecast, *, as_json: bool) -> None:
    """Print a forecast."""
    if as_json:
        rate = round(found.pace.photos_per_s, 1) if found.pace else None
        emit({**asdict(found), "photos_per_s": rate, "seconds": found.seconds})
        return
    say(f"A job would meet {found.listed:,} entries and work on {found.due:,} of them:")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    for n, what, meaning in _rows(found):
        if n:
            table.add_row(f"{n:,}", what, meaning)
    out.print(table)
    say(duration(found))


def _rows(found: Forecast) -> list[tuple[int, str, str]]:
    reasons = ", ".join(f"{n:,} {code.replace('_', ' ')}" for code, n in found.excluded.items())
    same = f"{found.same_version:,} with the etag and size of a known photo, most likely the same bytes"
    return [
        (found.new, "new", same if found.same_version else ""),
        (found.changed, "changed", ""),
        (found.unchanged, "unchanged", ""),
        (found.listed_twice, "listed twice", ""),
        (found.not_there, "not there", "named by the source"),
        (sum(found.excluded.values()), "excluded", reasons),
        (found.erased, "erased", "their users are erased and stay away"),
        (found.gone, "gone", found.gone_kept or "no longer in the source; would be subtracted"),
    ]


def duration(found: Forecast) -> str:
    """How long it would take, and how that is known."""
    if found.seconds is None or found.pace is None:
        return "How long it takes is unknown: no job of this model has ended here."
    jobs = f"job {found.pace.jobs[0]}" if len(found.pace.jobs) == 1 else f"the last {len(found.pace.jobs)} jobs"
    rate = f"{found.pace.photos_per_s:,.1f} photos/s of {jobs} of this model ({found.pace.photos:,} photos)"
    return f"At the {rate} it takes {timedelta(seconds=round(found.seconds))} (h:mm:ss)."
