"""Looking: jobs, profiles, categories."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Connection

from pictograph.cli.annotate import show as show_report
from pictograph.cli.console import Json, emit, out, ready, say
from pictograph.follow import report
from pictograph.places import DATABASE
from pipeline import treemap
from pipeline.errors import ConfigurationError
from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job
from pipeline.profile import MOST_CELLS, Profile, profile
from pipeline.store import queries
from taxonomy.graph import Taxonomy, load
from workers.ledger import open_database

group = typer.Typer()
jobs_group = typer.Typer(no_args_is_help=True, help="Running and past jobs.")
group.add_typer(jobs_group, name="jobs")


@contextmanager
def reading(*, quiet: bool) -> Iterator[Connection]:
    """A connection to the ledger, for looking only."""
    with (
        ready(DATABASE, quiet=quiet) as settings,
        open_database(settings, "pictograph") as database,
        database.transaction() as connection,
    ):
        yield connection


class Format(StrEnum):
    """How a profile is printed."""

    TABLE = "table"
    JSON = "json"
    SVG = "svg"
    CSV = "csv"


@jobs_group.command("list", epilog="Example: `pictograph jobs list --limit 5`")
def list_jobs(
    *, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20, as_json: Json = False
) -> None:
    """The newest jobs, newest first."""
    with reading(quiet=as_json) as connection:
        found = jobs.newest(connection, limit)
    if as_json:
        for job in found:
            emit(_job(job))
        return
    if not found:
        say("There are no jobs yet; `pictograph tag SOURCE` starts one.")
        return
    table = Table("job", "state", "source", "photos", "done", "failed", "started", box=None, padding=(0, 2, 0, 0))
    for job in found:
        counts = report(job).counts
        done = str(counts["succeeded"] + counts["skipped_unchanged"])
        began = f"{job.started_at:%Y-%m-%d %H:%M}" if job.started_at else "-"
        state = job.state.name.lower().replace("_", " ")
        table.add_row(str(job.job_id), state, job.source, str(job.total), done, str(counts["failed"]), began)
    out.print(table)


@jobs_group.command("show", epilog="Example: `pictograph jobs show 3`")
def show_job(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job's number.")], *, as_json: Json = False
) -> None:
    """One job: how far it is, what failed and why."""
    with reading(quiet=as_json) as connection:
        job = jobs.find(connection, job_id)
        failures = jobs.failures(connection, job_id, limit=20)
    if as_json:
        emit({**_job(job), "failures": [asdict(failure) for failure in failures]})
        return
    show_report(report(job))
    for failure in failures:
        say(f"  {failure.key}: {failure.code}. {failure.message or ''}")


def _job(job: Job) -> dict[str, Any]:
    times = {"created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at}
    return {**asdict(report(job)), "source": job.source, "model": job.model, **times}


@group.command("profile", epilog="Example: `pictograph profile ann --format svg -k 4 > ann.svg`")
def show_profile(
    user: Annotated[str, typer.Argument(help="The user's name.")],
    *,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    k: Annotated[int, typer.Option("-k", min=1, max=MOST_CELLS, help="How many categories.")] = 4,
    as_json: Json = False,
) -> None:
    """What USER photographs: the top categories, which overlap nowhere and add up to everything."""
    with reading(quiet=True) as connection:
        found = read_profile(connection, user, k)
    if as_json or form is Format.JSON:
        emit({"user": user, **asdict(found)})
    elif form is Format.SVG:
        typer.echo(treemap.svg(found, f"What {user} photographs"), nl=False)
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
    return profile(totals.totals, load(model.taxonomy), k)


def profile_table(found: Profile) -> Table:
    """A profile as a table: shares add up to 100 %."""
    table = Table("category", "share", "photos tagged", box=None, padding=(0, 2, 0, 0))
    for cell, mille in zip(found.cells, found.per_mille(), strict=True):
        tagged = "" if cell.photos is None else str(cell.photos)
        table.add_row(cell.name, treemap.percent(mille), tagged, style=None if cell.kind == "category" else "dim")
    table.caption = f"{treemap.photos(found.photos)} analysed" if found.photos else "no photo analysed yet"
    table.caption_justify = "left"
    return table


taxonomy_group = typer.Typer(no_args_is_help=True, help="The hypernym graph behind the tags.")
group.add_typer(taxonomy_group, name="taxonomy")


@taxonomy_group.command("show", epilog="Example: `pictograph taxonomy show dog`")
def show_category(
    name: Annotated[str, typer.Argument(help="A word, or a synset id such as n02084071.")], *, as_json: Json = False
) -> None:
    """Every sense of a word: what it means, what lies above it and below it."""
    taxonomy = load()
    nodes = (taxonomy.node(name),) if name[:1] == "n" and name[1:].isdigit() else taxonomy.find(name)
    if not nodes:
        raise ConfigurationError(f"The taxonomy {taxonomy.name} has no category {name!r}; try a more general word.")
    for node in nodes:
        facts = _facts(taxonomy, node)
        emit(facts) if as_json else _show_facts(facts)


def _facts(taxonomy: Taxonomy, node: int) -> dict[str, Any]:
    def names(of: Any) -> list[str]:  # noqa: ANN401 - any iterable of nodes
        return [f"{taxonomy.synsets[v].name} ({taxonomy.synsets[v].wnid})" for v in of]

    synset = taxonomy.synsets[node]
    below = [child for child, parents in enumerate(taxonomy.parents) if node in parents]
    return {
        "wnid": synset.wnid,
        "name": synset.name,
        "lemmas": list(synset.lemmas),
        "gloss": synset.gloss,
        "labels": int(taxonomy.leaf_count[node]),
        "bits": round(float(taxonomy.bits[node]), 2),
        "shown_as": taxonomy.synsets[taxonomy.shown_as[node]].name,
        "parents": names(taxonomy.parents[node]),
        "children": names(below),
    }


def _show_facts(facts: dict[str, Any]) -> None:
    say(f"{facts['name']} ({facts['wnid']}): {facts['gloss']}")
    say(f"  also {', '.join(facts['lemmas'])}; {facts['labels']} labels, {facts['bits']} bits")
    if facts["shown_as"] != facts["name"]:
        say(f"  shown as {facts['shown_as']}, which holds the same labels")
    say(f"  above: {', '.join(facts['parents']) or 'nothing'}")
    say(f"  below: {', '.join(facts['children']) or 'nothing'}")
