"""What commands that choose or use constants of a decision share: the ledger that holds them, and how they are told."""

from collections.abc import Iterator
from contextlib import contextmanager

from pictograph.cli.console import say
from pictograph.places import DATABASE, embedded, servers
from pictograph.stack import Service
from pipeline.settings import Settings
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from taxonomy.decide import Decision
from workers.ledger import open_database


@contextmanager
def opened_ledger(application: str) -> Iterator[Database]:
    """The ledger's database; an embedded one is started for as long, and made ready."""
    settings = Settings.read()
    with servers(settings, DATABASE) as found, open_database(found, application) as database:
        if Service.POSTGRES in embedded(settings):
            migrate(database)
        yield database


def constants_of(decision: Decision) -> str:
    """In words."""
    threshold = f"tags from a mass of {decision.threshold / 10_000:g}"
    first = f"expected utility, lam {decision.lam / 10_000:g}, " if decision.rule == "expected" else ""
    return f"{first}{threshold}"


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.1f} %"


def say_stored(stored: Decision | None) -> None:
    """What became of constants; None: nothing was to be stored."""
    if stored is None:
        say("Nothing was stored (--dry-run).")
    else:
        say(f"Stored as revision {stored.revision}; workers that start from now on decide by it.")
        say("Photos that are already tagged keep the decision that they were tagged by, until `pictograph decide`.")
