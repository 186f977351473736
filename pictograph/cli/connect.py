"""From a command to servers that answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from pictograph.cli.console import note, warn
from pictograph.places import DATABASE, EVERYTHING, own, servers
from pictograph.stack import Service
from pipeline.settings import Settings
from pipeline.store import promotions
from pipeline.store.migrate import migrate
from pipeline.store.roles import Role, see_everybody
from pipeline.store.session import Database
from workers.ledger import open_database, register
from workers.models import registry, weights
from workers.models.spec import ModelSpec


@contextmanager
def ready(need: frozenset[Service] = EVERYTHING, *, quiet: bool = False) -> Iterator[Settings]:
    """The settings, with every needed server answering."""
    for sentence in Settings.misspelt():
        warn(sentence)
    settings = Settings.read()
    told = False

    def waiting(missing: frozenset[Service]) -> None:
        nonlocal told
        if missing and not quiet and not told:
            note(f"Starting PostgreSQL, Valkey and S3 under {settings.home} ...")
            told = True

    with servers(settings, need, waiting) as found:
        yield found


@contextmanager
def reading() -> Iterator[Connection]:
    """A transaction on the ledger, for looking only: the server refuses every write."""
    with (
        ready(DATABASE, quiet=True) as settings,
        open_database(settings, "pictograph", Role.API) as database,
        seeing(database) as connection,
    ):
        yield connection


@contextmanager
def seeing(database: Database) -> Iterator[Connection]:
    """A transaction for looking only, at what belongs to anybody."""
    with database.transaction() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        see_everybody(connection)
        yield connection


@contextmanager
def looking() -> Iterator[Connection]:
    """Like `reading`, and all that is read is of one moment.

    It takes no role: Postgres tells what a session does to that session's own login, and to no role of it.
    """
    with writing() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        see_everybody(connection)
        yield connection


@contextmanager
def writing(role: Role | None = None) -> Iterator[Connection]:
    """A transaction on the ledger, as `role` or its owner: committed at the end, rolled back on any error."""
    with (
        ready(DATABASE, quiet=True) as settings,
        open_database(settings, "pictograph", role) as database,
        database.transaction() as connection,
    ):
        yield connection


def set_up(settings: Settings) -> str:
    """Bring the ledger up to date and make the configured model known to it, as its owner; returns where it is."""
    with open_database(settings, "pictograph set-up") as database:
        migrate(database)
        register(database, registry.chosen(settings))
        return database.place


def note_shadow(database: Database, model_id: int) -> None:
    """Say so where a job's model is not the one whose results people see."""
    active = database.run(promotions.active)
    if active is not None and active.model_id != model_id:
        note(f"People see the results of {active.label}, which is active; this job tags beside it.")


def model_at_hand(name: str | None = None) -> ModelSpec:
    """The model of that name, or the configured one, its weights on this machine; S3 is asked only for what it holds.

    Raises:
        ConfigurationError, ServiceDown, ModelError: there is no such model, or its weights cannot be had.
    """
    settings = Settings.read()
    spec = registry.get(name or settings.model, registry.folder_of(settings))
    if not spec.weights.uri.startswith(weights.S3):
        return weights.at_hand(spec, settings)
    with ready(frozenset({Service.S3}), quiet=True) as found:
        return weights.at_hand(spec, found)


def own_ledger() -> bool:
    """Whether the ledger is the embedded one, and so its schema and its workers are ours to look after."""
    return own(Service.POSTGRES)
