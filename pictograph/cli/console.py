"""What the commands share: the looks, the two consoles, and the forms that answers take. Light, for a quick --help.

Answers go to standard output, everything else (progress, waiting, errors) to standard error.
"""

import json
import logging
import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from pipeline import logs
from pipeline.plain import visible

#: How every group of commands looks.
STYLE: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": "markdown", "pretty_exceptions_enable": False}

PIPE_COLUMNS = 1000  # a table that goes into a file or a pipe is not squeezed into a terminal's width


def _console(*, stderr: bool = False) -> Console:
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else PIPE_COLUMNS
    # Keys and messages come from anywhere: brackets in them are no markup.
    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)


out = _console()
err = _console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line, for machines.")]


def plain(text: str) -> str:
    """Text that is safe to show, in one line: what would move a terminal's cursor or end a line is an escape."""
    return visible(text)


def say(text: str) -> None:
    """A line of the answer, for people."""
    out.print(plain(text))


def note(text: str) -> None:
    """A line about what is going on."""
    err.print(plain(text), style="dim")


def warn(text: str) -> None:
    """A line about what may not be meant."""
    err.print(Text.assemble(("Warning: ", "bold yellow"), plain(text)))


def emit(value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """A line of the answer, for machines; what is not printable is an escape of JSON's."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    sys.stdout.write("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    """Say what went wrong."""
    err.print(Text.assemble(("Error: ", "bold red"), plain(message)))


def fail(message: str, status: int) -> NoReturn:
    """Say what went wrong, and end."""
    complain(message)
    sys.exit(status)


def log_to_stderr(level: int = logging.INFO) -> None:
    """For long-running processes: one line per event."""
    logs.set_up(level)
