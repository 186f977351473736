"""Counts of a job's photos by state and reason: changed by signed tallies, in key order, like the totals."""

from sqlalchemy import Connection, text

from pipeline.records import Code, ItemState
from pipeline.store.netting import adding

TALLY = "job_id bigint, state smallint, code smallint, photos bigint"

_APPLY = tuple(map(text, adding("core.job_count", ("job_id", "state", "code"), ("photos",), "tally")))
_ENDED = text(f"SELECT state, code, sum(photos)::bigint FROM tally WHERE state >= {ItemState.SUCCEEDED} GROUP BY 1, 2")


def ensure_tally(connection: Connection) -> None:
    """Make sure that the temporary table `tally` is there, and empty. It is created once per connection."""
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS tally ({TALLY}) ON COMMIT DELETE ROWS"))
    connection.execute(text("DELETE FROM tally"))  # what an earlier call in this transaction has applied


def apply_tally(connection: Connection) -> dict[tuple[ItemState, Code], int]:
    """Add the rows of `tally` to the jobs' counts, once per `ensure_tally`; return what reached a terminal state."""
    for statement in _APPLY:
        connection.execute(statement)
    return {(ItemState(state), Code(code)): photos for state, code, photos in connection.execute(_ENDED)}
