"""``pictograph bench``: how fast it is, on this machine and on the user's own photos."""

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from pictograph.cli.connect import model_at_hand
from pictograph.cli.console import STYLE, Json, emit, note, out, say, warn
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings

group = typer.Typer(**STYLE)


@group.command(epilog="Example: `pictograph bench ~/Pictures --photos 300`")
def bench(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="A folder, s3://bucket/prefix or a .jsonl manifest; unless given, the demonstration's photographs.",
        ),
    ] = None,
    *,
    photos: Annotated[
        int, typer.Option(min=1, max=20_000, help="At most so many different photos, evenly spread.")
    ] = 500,
    copies: Annotated[
        int, typer.Option(min=0, max=10_000, help="Copies of each photo; 0: as many as make 2,000 in all.")
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often everything is measured.")] = 3,
    model: Annotated[str | None, typer.Option(help="The model; unless given, the configured one.")] = None,
    as_json: Json = False,
) -> None:
    """Measure how many photos a second this machine tags, and what limits it.

    Everything runs in a temporary folder, on servers of its own, which is gone afterwards; photos are only read. Exit
    status 1 if the totals differ from a recount.
    """
    if find_spec("torch") is None:
        raise ConfigurationError("torch is not installed here; pip install 'pictograph[worker]'.")
    for sentence in Settings.misspelt():
        warn(sentence)
    settings = Settings.read()
    spec = model_at_hand(model)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in a worker; torch reads it when it is imported
    from pictograph.benching import answer  # noqa: PLC0415 - torch only when it is asked for
    from pictograph.benching.study import Request, study  # noqa: PLC0415

    request = Request(source=source, photos=photos, copies=copies, rounds=rounds)
    made = study(request, settings.model_copy(update={"model": spec.name}), note)
    if as_json:
        emit(answer.as_json(made))
    else:
        for line in answer.heading(made):
            say(line)
        out.print(answer.table(made))
        for line in answer.closing(made):
            say(line)
    if made.found.differing_totals:
        raise typer.Exit(1)
