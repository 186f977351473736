"""Rolling out: ``pictograph models shadow|diff|promote|rollback|drop`` and ``pictograph decide``."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Connection

from pictograph.cli.connect import looking, own_ledger, ready, set_up, writing
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pictograph.cli.control import By, whoami
from pictograph.cli.tag import run_job, submit
from pictograph.follow import report
from pictograph.places import DATABASE
from pictograph.supervisor import Supervisor
from pipeline.errors import ConfigurationError
from pipeline.ledger import decide as deciding
from pipeline.ledger import jobs
from pipeline.ledger.requests import JobRequest
from pipeline.records import JobState
from pipeline.settings import Settings
from pipeline.store import dropping, model_diff, model_reports, promotions
from pipeline.store.model_diff import ModelDiff
from pipeline.store.promotions import KnownModel, Promotion
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.ledger import open_database
from workers.models import registry

group = typer.Typer(**STYLE)
models_group = typer.Typer(**STYLE)  # its commands go with those of `pictograph.cli.models`

SHADOW_PRIORITY = -10  # behind what people wait for
LISTED = 15  # rows of a table for people, unless asked otherwise
KEPT = 100  # users and photos of a comparison that is kept, at least

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name; NAME@FINGERPRINT where several have it.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept with it.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Submit and return.")]


@models_group.command("shadow", epilog="Example: `pictograph models shadow efficientnet-lite1`")
def shadow(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model, as PICTOGRAPH_MODEL would name it.")],
    *,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = SHADOW_PRIORITY,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Tag the whole live corpus with a model beside the active one; people go on seeing the active one's results.

    Photos that it has seen as they are now are left out, so that it can be run again until nothing is missing.
    """
    spec = registry.get(name, registry.folder_of(Settings.read()))
    request = JobRequest(kind="ledger", source="photos", user_rule="{user}/{photo}", priority=priority)
    with ready(quiet=as_json) as found, open_database(found, "pictograph models", Role.INGEST) as database:
        settings = found.model_copy(update={"model": spec.name})
        job_id = submit(settings, database, request)
        _follow(Supervisor(settings), database, job_id, no_wait=no_wait, as_json=as_json)
    if not as_json and not no_wait:
        say(f"`pictograph models diff BASE {name}` says what would change; `pictograph models promote {name}` does it.")


def _follow(supervisor: Supervisor, database: Database, job_id: int, *, no_wait: bool, as_json: bool) -> None:
    """Wait for a job and say how it ended, or only that it is there; exit status 1 if it failed."""
    if no_wait:
        job = database.run(lambda connection: jobs.find(connection, job_id))
        sentence = f"Job {job_id} is submitted; `pictograph jobs show {job_id}` tells how it goes."
        emit(asdict(report(job))) if as_json else say(sentence)
        return
    with supervisor:
        job = run_job(database, job_id, supervisor, as_json=as_json)
    if job.state is JobState.FAILED:
        raise typer.Exit(1)


# ---- diff


@models_group.command("diff", epilog="Example: `pictograph models diff efficientnet-lite0 efficientnet-lite1 --json`")
def diff(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model to compare with, such as the active one.")],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="The model that might take its place.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many categories, users and photos.")] = LISTED,
    as_json: Json = False,
) -> None:
    """What would change for people: categories, users' top four, and the photos that move furthest.

    Photos count where both models have seen them as they are now. What is found is kept, for the API to show.
    """
    with looking() as connection:
        first, second = _find(connection, base), _find(connection, head)
        policy_version = model_reports.policy_version(connection)
        whole = model_diff.diff(connection, first, second, max(limit, KEPT))
    found = model_diff.shortened(whole, limit)
    if as_json:
        emit({**asdict(found), "coverage": {**asdict(found.coverage), "share": found.coverage.share}})
    else:
        _show_diff(found)
    with writing(Role.INGEST) as connection:
        model_reports.keep(connection, first, second, whole, policy_version)


def _show_diff(found: ModelDiff) -> None:
    seen, users = found.coverage, found.users
    say(f"{found.base} (base) and {found.head} (head):")
    say(
        f"  {seen.photos:,} photos are there; the base has seen {seen.base:,}, the head {seen.head:,}, both "
        f"{seen.both:,} ({100 * seen.share:.1f} % of the base's); {found.photos:,} are compared."
    )
    if not found.same_taxonomy:
        say(
            f"  Their taxonomies differ: compared are the {found.categories_compared:,} synsets that both have; "
            f"{found.only_base:,} of the base and {found.only_head:,} of the head are left out."
        )
    if found.hidden:
        say(f"  {found.hidden:,} categories are hidden by the policy.")
    crossed = (
        f"{photos:,} {'stay' if before == after else f'{before} become'} {after}"
        for before, row in found.outcomes.items()
        for after, photos in row.items()
        if photos
    )
    say(f"  Outcomes: {', '.join(crossed) or 'none'}. {found.retagged:,} photos have another headline.")
    say(f"  Users: {users.changed:,} of {users.users:,} ({100 * users.share:.1f} %) are shown other categories.")
    for table in (_categories(found), _users(found), _photos(found)):
        if table.row_count:
            out.print(table)


def _categories(found: ModelDiff) -> Table:
    table = _table("category", "depth", "photos before", "after", "gained", "lost", "mass before", "after")
    for each in found.categories:
        numbers = (each.depth, each.base_photos, each.head_photos, each.gained, each.lost)
        masses = (f"{each.base_mass:,.1f}", f"{each.head_mass:,.1f}")
        table.add_row(plain(each.name), *(f"{number:,}" for number in numbers), *masses)
    return table


def _users(found: ModelDiff) -> Table:
    table = _table("user", "replaced", "moved", "before", "after")
    for each in found.users.most:
        lists = (plain(", ".join(names) or "-") for names in (each.base, each.head))
        table.add_row(plain(each.user), str(each.replaced), f"{100 * each.moved:.0f} %", *lists)
    return table


def _photos(found: ModelDiff) -> Table:
    table = _table("photo", "moved", "before", "after", "key")
    table.caption, table.caption_justify = f"moved: {found.measure}", "left"
    for each in found.moved:
        table.add_row(
            str(each.photo_id),
            f"{each.moved:.2f}",
            *(plain(name or "-") for name in (each.base, each.head)),
            plain(each.key),
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        words = title in ("category", "user", "key") or (titles[0] != "category" and title in ("before", "after"))
        table.add_column(title, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return table


# ---- promote, rollback, drop


@models_group.command(
    "promote", epilog="Example: `pictograph models promote efficientnet-lite1 --reason 'fewer boats'`"
)
def promote(
    name: Name,
    *,
    by: By = None,
    reason: Reason = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Even if it has seen less than 99 % of what the active one has.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let people see a model's results instead of the active one's, all at once."""
    with writing(Role.INGEST) as connection:
        done = promotions.promote(connection, _find(connection, name), by or whoami(), reason, partial=partial)
    if not done.changed and not as_json:
        say(f"Model {done.model.label} is the active one already.")
        return
    _tell(done, as_json=as_json)


@models_group.command("rollback", epilog="Example: `pictograph models rollback --reason 'cats became boats'`")
def rollback(*, by: By = None, reason: Reason = None, as_json: Json = False) -> None:
    """Return to the model that was active before; again, to the one before that."""
    with writing(Role.INGEST) as connection:
        done = promotions.rollback(connection, by or whoami(), reason)
    _tell(done, as_json=as_json)


def _tell(done: Promotion, *, as_json: bool) -> None:
    share = None if done.coverage is None else done.coverage.share
    before = None if done.before is None else done.before.label
    if as_json:
        emit({"active": done.model.label, "before": before, "changed": done.changed, "coverage": share})
        return
    say(f"Model {done.model.label} is active" + (f", in the place of {before}." if before else "."))
    if share is not None and share < 1:
        say(
            f"It has seen {100 * share:.1f} % of the photos that {before} has; `pictograph models shadow "
            f"{done.model.name}` tags the rest."
        )


@models_group.command("drop", epilog="Example: `pictograph models drop efficientnet-lite1 --yes`")
def drop(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: its results are gone for good.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a model's results and totals; its name may be used again."""
    with ready(DATABASE, quiet=as_json) as settings, open_database(settings, "pictograph models") as database:
        model = database.run(lambda connection: _find(connection, name))
        if not yes:
            seen = database.run(promotions.photos_seen).get(model.model_id, 0)
            raise ConfigurationError(
                f"This deletes what {model.label} says of {seen:,} photos; add --yes if that is what you want."
            )
        rows = dropping.drop(database, model)
    if as_json:
        emit({"dropped": model.label, "totals": rows})
    else:
        say(f"Dropped {model.label}: its results and {rows:,} rows of totals are gone.")


def _find(connection: Connection, name: str) -> KnownModel:
    """A model of the ledger by name; of several, the one that this machine has."""
    word = name.partition("@")[0]
    folder = registry.folder_of(Settings.read())
    here = registry.get(word, folder).fingerprint() if word in registry.names(folder) else None
    return promotions.find_model(connection, name, here)


# ---- decide


@group.command(epilog="Example: `pictograph decide --revision 3`")
def decide(
    *,
    model: Annotated[str | None, typer.Option(help="The model; unless given, the active one.")] = None,
    revision: Annotated[
        int | None, typer.Option(min=1, help="The decision's revision; unless given, the newest.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = 0,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Decide anew what photos show, by other constants, from what is stored.

    No photo is read, and no model is run. Workers decide by the newest revision from their start on: start them anew
    before.
    """
    with ready(quiet=as_json) as settings, open_database(settings, "pictograph decide", Role.INGEST) as database:
        if own_ledger():
            set_up(settings)
        job_id = database.run(lambda connection: _submit_decision(connection, model, revision, priority))
        supervisor = Supervisor(settings, commands=(("worker", "ingest"), ("redriver",)))
        _follow(supervisor, database, job_id, no_wait=no_wait, as_json=as_json)


def _submit_decision(connection: Connection, name: str | None, revision: int | None, priority: int) -> int:
    model = promotions.active(connection) if name is None else _find(connection, name)
    if model is None:
        raise ConfigurationError("No model is registered yet; run `pictograph migrate`.")
    if model.dropped_at is not None:
        raise ConfigurationError(f"Model {model.label} was dropped; there is nothing to decide anew.")
    return jobs.submit(connection, deciding.request(connection, model.model_id, revision, priority), model.model_id)


# ---- the list


def facts(model: KnownModel, seen: int, share: float | None) -> dict[str, Any]:
    """What the ledger knows of a model, for `models list`."""
    return {
        "label": model.label,
        "active": model.active,
        "registered_at": model.registered_at,
        "dropped_at": model.dropped_at,
        "photos_seen": seen,
        "coverage": share,  # of the photos that the active one has seen; None: no photos, or it is the active one
    }


def standing(stored: dict[str, Any] | None) -> str:
    """The same for people, in a few words."""
    if stored is None:
        return "-"
    if stored["dropped_at"]:
        return f"dropped {stored['dropped_at']:%Y-%m-%d}"
    photos = f"{stored['photos_seen']:,} photos"
    if stored["active"]:
        return f"active, {photos}"
    return photos if stored["coverage"] is None else f"shadow, {photos} ({100 * stored['coverage']:.1f} %)"


def known(connection: Connection) -> dict[str, dict[str, Any]]:
    """The ledger's models by fingerprint, each with how much it has seen."""
    seen, active = promotions.photos_seen(connection), promotions.active(connection)
    found = {}
    for model in promotions.known_models(connection):
        share = None
        if active is not None and not model.active and seen.get(model.model_id):
            share = round(promotions.coverage(connection, active.model_id, model.model_id).share, 6)
        found[model.fingerprint] = {"name": model.name, **facts(model, seen.get(model.model_id, 0), share)}
    return found
