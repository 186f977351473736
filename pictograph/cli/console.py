"""What the commands share: the application, the two consoles, and the forms that answers take.

Answers go to standard output, everything else (progress, waiting, errors) to standard error.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from pictograph.places import EVERYTHING, servers
from pictograph.stack import Service
from pipeline.settings import Settings

app = typer.Typer(
    name="pictograph",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Photos in S3 become trustworthy category tags, per-user profiles and treemaps.",
)

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line, for machines.")]


def say(text: str) -> None:
    """A line of the answer, for people; no markup."""
    out.print(text, markup=False)


def note(text: str) -> None:
    """A line about what is going on."""
    err.print(text, markup=False, style="dim")


def emit(value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """A line of the answer, for machines."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def fail(message: str, status: int) -> NoReturn:
    """Say what went wrong, and end."""
    err.print("[bold red]Error:[/] ", end="")
    err.print(message, markup=False)
    sys.exit(status)


def log_to_stderr(level: int = logging.INFO) -> None:
    """For long-running processes: one line per event."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("botocore").setLevel(logging.WARNING)


@contextmanager
def ready(need: frozenset[Service] = EVERYTHING, *, quiet: bool = False) -> Iterator[Settings]:
    """The settings, with every needed server answering."""

    def waiting(missing: frozenset[Service]) -> None:
        if missing and not quiet:
            note(f"Starting {', '.join(sorted(service.value for service in missing))} ...")

    with servers(Settings.read(), need, waiting) as settings:
        yield settings
