"""The ``pictograph`` command: one module per group, and what all of them share in `console`."""

import signal
import sys

from pictograph.cli import annotate, inspect, serve, setup, try_out
from pictograph.cli.console import app, fail
from pipeline.errors import ConfigurationError, PictographError
from taxonomy.errors import TaxonomyError

__all__ = ["main"]

for module in (try_out, annotate, inspect, serve, setup):
    app.add_typer(module.group)


def main() -> None:
    """Run the command line; every error that we know becomes one sentence and an exit status."""
    # A polite end must run what is to be run at the end: stop the workers, let go of the servers.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        app()
    except (ConfigurationError, TaxonomyError) as exc:
        fail(str(exc), 2)
    except PictographError as exc:
        fail(str(exc), 1)
    except KeyboardInterrupt:
        sys.exit(130)
