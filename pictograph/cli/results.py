"""``pictograph jobs results``, and what `jobs show` says of deliveries."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from pictograph.cli.connect import writing
from pictograph.cli.console import STYLE
from pictograph.cli.control import JobId
from pipeline.ledger import jobs, results
from pipeline.ledger.delivery import Delivery
from pipeline.ledger.results import Written
from pipeline.ledger.targets import target_of
from pipeline.records import WorkState
from pipeline.store.roles import Role

group = typer.Typer(**STYLE)  # a part of `pictograph jobs`


class Format(StrEnum):
    """How results are spelt."""

    JSONL = "jsonl"
    CSV = "csv"


@group.command("results", epilog="Example: `pictograph jobs results 3 > results.jsonl`")
def show_results(
    job_id: JobId,
    *,
    form: Annotated[
        Format,
        typer.Option("--format", help="JSON lines, or the columns of S3 Batch Operations' completion report."),
    ] = Format.JSONL,
) -> None:
    """What became of each line of a job's input, one line for each, in order; of a job that was given --output.

    It may be asked while the job still runs: lines that are not done yet say so.
    """
    with writing(Role.INGEST) as connection:
        results.one_snapshot(connection)
        job = jobs.find(connection, job_id)
        results.check_kept(job)
        for data in results.spell(results.lines(connection, job), form.value, Written()):
            sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def delivery_facts(found: Delivery) -> dict[str, Any]:
    """A delivery for machines."""
    facts = asdict(found)
    return {**facts, "state": found.condition.replace(" ", "_")}


def sentences(found: list[Delivery]) -> Iterator[str]:
    """Deliveries for people."""
    for each in found:
        yield f"{_what(each)}: {each.condition}{_more(each)}"


def _what(found: Delivery) -> str:
    if found.kind == "webhook":
        return f"notice to {found.target}"
    return f"results to {target_of(found.target, found.format or Format.JSONL.value, found.job_id).results_uri}"


def _more(found: Delivery) -> str:
    if found.state is WorkState.DONE:
        lines = (found.facts or {}).get("lines")
        return f" at {found.delivered_at:%Y-%m-%d %H:%M:%S} UTC" + (f", {lines:,} lines" if lines is not None else "")
    if found.error and found.next_attempt_at and found.state is not WorkState.CANCELLED:
        return f" at {found.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC; tried {found.attempts} times: {found.error}"
    return f"; {found.error}" if found.error else ""
