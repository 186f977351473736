"""``pictograph profile``: what a user photographs."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Connection

from pictograph.cli.connect import reading
from pictograph.cli.console import STYLE, Json, emit, out, plain
from pipeline import treemap
from pipeline.errors import ConfigurationError
from pipeline.png import png
from pipeline.profile import CELLS, MOST_CELLS, Profile, profile
from pipeline.store import queries
from pipeline.store.policies import active_policy, coarsen_totals
from taxonomy.graph import load

group = typer.Typer(**STYLE)


class Format(StrEnum):
    """How a profile is printed."""

    TABLE = "table"
    JSON = "json"
    SVG = "svg"
    PNG = "png"
    CSV = "csv"


@group.command("profile", epilog="Example: `pictograph profile ann --format svg -k 4 > ann.svg`")
def show_profile(
    user: Annotated[str, typer.Argument(help="The user's name.")],
    *,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    k: Annotated[int, typer.Option("-k", min=1, max=MOST_CELLS, help="How many categories.")] = CELLS,
    as_json: Json = False,
) -> None:
    """What USER photographs: top categories that add up to everything.

    No category lies within another; *other* and *unsure* are what they leave.
    """
    with reading() as connection:
        found = read_profile(connection, user, k)
    if as_json or form is Format.JSON:
        emit({"user": user, **asdict(found)})
    elif form is Format.SVG:
        typer.echo(treemap.svg(found, f"What {user} photographs"), nl=False)
    elif form is Format.PNG:
        typer.echo(png(treemap.svg(found, f"What {user} photographs")), nl=False)
    elif form is Format.CSV:
        typer.echo(treemap.csv(found), nl=False)
    else:
        out.print(profile_table(found))


def read_profile(connection: Connection, user: str, k: int) -> Profile:
    """A user's profile under the active model; ConfigurationError if there is no such user."""
    model = queries.active_model(connection)
    totals = None if model is None else queries.user_profile_totals(connection, model.model_id, user)
    if model is None or totals is None:
        raise ConfigurationError(f"There is no user {user!r}; `pictograph tag` stores users as it meets their photos.")
    taxonomy = load(model.taxonomy)
    shown = coarsen_totals(totals.totals, active_policy(connection, taxonomy))
    return profile(shown, taxonomy, k)


def profile_table(found: Profile) -> Table:
    """A profile as a table: shares add up to 100 %."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("category")
    table.add_column("share", justify="right")
    table.add_column("photos tagged", justify="right")
    for cell, mille in zip(found.cells, found.per_mille(), strict=True):
        tagged = "" if cell.photos is None else f"{cell.photos:,}"
        style = None if cell.kind == "category" else "dim"
        table.add_row(plain(cell.name), treemap.percent(mille), tagged, style=style)
    table.caption = f"{treemap.photos(found.photos)} analysed" if found.photos else "no photo analysed yet"
    table.caption_justify = "left"
    return table
