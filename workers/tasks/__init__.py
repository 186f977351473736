"""The Celery tasks, one module per kind of worker: a worker imports only its own.

A message is one positive integer. Each task may run any number of times for the same id.
"""


def checked_id(value: object) -> int:
    """A message's only argument; ValueError for anything but a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"a message must carry one positive id, not {type(value).__name__}")
    return value
