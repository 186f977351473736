"""The ``pictograph`` command: one module per group of commands, and what all of them share in `console`.

A command's module is imported when the command is run, so that `pictograph --help` need not wait for the libraries of
all of them. The price is the table below, which says each summary a second time.
"""

import signal
import sys
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from pictograph.cli.console import STYLE, fail
from pipeline.errors import ConfigurationError, PictographError
from taxonomy.errors import TaxonomyError

__all__ = ["main"]

INTERRUPTED = 128 + signal.SIGINT


class Entry(NamedTuple):
    """Where a command is, and what it does."""

    module: str
    summary: str


COMMANDS = {
    "demo": Entry("demo", "See it work: photographs of three users become tags, profiles and treemaps."),
    "up": Entry("up", "Start everything on this machine: servers, workers, redriver, API."),
    "tag": Entry("tag", "Tag the photos of SOURCE: those that are new or changed since the last time."),
    "ingest-events": Entry(
        "events", "Tag the objects that S3's event messages tell of, and subtract those that are gone."
    ),
    "jobs": Entry("jobs", "Running and past jobs."),
    "queues": Entry("queues", "Queues of work, and limits on them."),
    "schedule": Entry("schedule", "Jobs that start by the clock."),
    "profile": Entry("profile", "What USER photographs: top categories that add up to everything."),
    "users": Entry("users", "Who owns photos, and whether they consent to have them tagged and shown."),
    "keys": Entry("keys", "Keys of the API: who may ask, for whose photos, and what."),
    "taxonomy": Entry("taxonomy", "The hypernym graph behind the tags."),
    "models": Entry("models", "The models that can be named; adding one of your own, and rolling one out."),
    "decide": Entry("rollout", "Decide anew what photos show, by other constants, from what is stored."),
    "sql": Entry("sql", "Open psql on the tags, as an analyst who reads and changes nothing."),
    "compare": Entry("reason", "What both photograph, what only one of them does, and how similar they are."),
    "explain": Entry("reason", "Which labels make a category's number in one photo, and why it is a tag or not."),
    "policy": Entry("reason", "What is shown only as something broader."),
    "evaluate": Entry(
        "judge", "How right, and how telling, the tags of labelled photos are; beside the rules of the literature."
    ),
    "calibrate": Entry(
        "judge", "Choose the constants of the decision on labelled photos and store them as a new revision."
    ),
    "export": Entry("export", "Everything that is held about USER, as JSON lines."),
    "erase": Entry("erase", "Erase USER: photos, tags, totals, thumbnails and what jobs did with each, for good."),
    "bench": Entry("bench", "Measure how many photos a second this machine tags, and what limits it."),
    "doctor": Entry("setup", "Check every connection, the model and the versions."),
    "repair": Entry("repair", "Make right again what `pictograph doctor --deep` finds; workers may go on meanwhile."),
    "migrate": Entry("setup", "Bring the database to the newest revision."),
    "worker": Entry("work", "Run one worker process."),
    "redriver": Entry("work", "Run one redriver: it hands out work, notices the dead, ends jobs."),
    "alive": Entry("alive", "Say whether a worker of this machine does what it should."),
    "api": Entry("up", "Run the API and the pages."),
}


class OnDemand(TyperGroup):
    """The group of all commands; each is a name and a summary until it is run."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - whatever typer hands over
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=entry.summary, callback=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's own types are private
        """The command that `args` begin with, imported."""
        name, known, rest = super().resolve_command(ctx, args)
        return name, known if name is None else command(name), rest


def command(name: str) -> Any:  # noqa: ANN401 - typer's own type is private
    """A command of the table, ready to run."""
    module = import_module(f"{__name__}.{COMMANDS[name].module}")
    return typer.main.get_group(module.group).commands[name]


app = typer.Typer(cls=OnDemand, context_settings={"help_option_names": ["-h", "--help"]}, **STYLE)


@app.callback(epilog="Example: `pictograph demo`. Settings are read from PICTOGRAPH_... variables; see the README.")
def pictograph() -> None:
    """Photos in S3 become trustworthy category tags, per-user profiles and treemaps."""


def main() -> None:
    """Run the command line; every error becomes one sentence and an exit status, those that we do not know as well."""
    # A polite end must run what is to be run at the end: stop the workers, let go of the servers.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        app(prog_name="pictograph")
    except (ConfigurationError, TaxonomyError) as exc:
        fail(str(exc), 2)
    except PictographError as exc:
        fail(str(exc), 1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as exc:
        if _debugging():
            raise
        what = " ".join(f"{type(exc).__name__}: {exc}".split())
        fail(
            f"Something unexpected went wrong ({what}). Run again with PICTOGRAPH_DEBUG=1 to see where, and report it.",
            1,
        )


def _debugging() -> bool:
    from pipeline.settings import Settings  # noqa: PLC0415 - --help does without

    try:
        return Settings.read().debug
    except ConfigurationError:
        return False
