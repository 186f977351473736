"""Setting up and looking after: migrate, doctor, taxonomy build."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pictograph import checkup
from pictograph.cli.console import Json, emit, out, ready, say
from pictograph.cli.inspect import taxonomy_group
from pictograph.places import DATABASE
from pipeline.store import migrate as migrations
from workers.ledger import open_database, register

group = typer.Typer()


@group.command(epilog="Example: `PICTOGRAPH_DATABASE_URL=postgresql://... pictograph migrate`")
def migrate(*, as_json: Json = False) -> None:
    """Bring the database to the newest revision, and make the configured model known to it."""
    with ready(DATABASE, quiet=as_json) as settings, open_database(settings, "pictograph migrate") as database:
        before, after = migrations.migrate(database)
        register(database, settings.model)
    if as_json:
        emit({"before": before, "after": after})
    else:
        say(f"The database is at revision {after}" + (" already." if before == after else f" (before: {before})."))


@group.command(epilog="Example: `pictograph doctor --json`")
def doctor(*, as_json: Json = False) -> None:
    """Check every connection, the model and the versions; says what to do about each failure."""
    with ready(quiet=as_json) as settings:
        findings = checkup.examine(settings)
    if as_json:
        for finding in findings:
            emit(finding.as_dict())
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[bold red]failed[/]"
            table.add_row(mark, finding.what, finding.detail)
        out.print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@taxonomy_group.command("build", epilog="Example: `pictograph taxonomy build --wordnet /usr/share/wordnet`")
def build(
    *,
    labels: Annotated[
        Path | None, typer.Option(help="labels.tsv: class index, synset id or name; default ImageNet-1k's.")
    ] = None,
    name: Annotated[str, typer.Option(help="The taxonomy's name.")] = "imagenet-1k",
    wordnet: Annotated[Path, typer.Option(help="Folder with WordNet 3.0's data.noun (Debian: wordnet-base).")] = Path(
        "/usr/share/wordnet"
    ),
    out_dir: Annotated[Path, typer.Option("--out", help="Where the built files go.")] = Path("."),
    as_json: Json = False,
) -> None:
    """Build a hypernym graph from WordNet 3.0 for a list of labels; needs pictograph[wordnet]."""
    from taxonomy.wordnet import build_files  # noqa: PLC0415 - needs nltk, which only builders install

    with as_file(files("taxonomy") / "data" / "imagenet-1k.labels.tsv") as shipped:
        path = build_files(labels or shipped, wordnet, out_dir, name)
    emit({"file": str(path)}) if as_json else say(f"Built {path}.")
