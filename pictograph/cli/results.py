"""``pictograph jobs results``: what became of each line of a job's input, at once."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from pictograph.cli.connect import writing
from pictograph.cli.console import STYLE
from pictograph.cli.control import JobId
from pipeline.ledger import jobs, results
from pipeline.ledger.results import Written
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
