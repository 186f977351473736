"""The Celery tasks, one module per kind of worker: a worker imports only its own.

A message is one positive integer. Each task may run any number of times for the same id.
"""

from celery.signals import setup_logging

from pipeline import logs

MOST_ID = 2**63 - 1  # a bigint of Postgres


def checked_id(value: object) -> int:
    """A message's only argument; ValueError for anything but a positive integer that can be an id of the ledger."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"a message must carry one positive id, not {type(value).__name__}")
    if not 0 < value <= MOST_ID:
        raise ValueError("a message must carry one positive id, and this number can be none")
    return value


@setup_logging.connect
def log_as_we_do(**_: object) -> None:
    """Asked by Celery, in a worker and in each of its children: from then on they log as all our processes do."""
    logs.set_up()
