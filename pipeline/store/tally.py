"""Counts of a job's photos by state and reason: changed by signed tallies, in key order, like the totals."""

from sqlalchemy import Connection, text

from pipeline.records import Code, ItemState

TALLY = "job_id bigint, state smallint, code smallint, photos bigint"

_APPLY = (
    """INSERT INTO core.job_count (job_id, state, code, photos)
       SELECT DISTINCT job_id, state, code, 0 FROM tally ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING""",
    """SELECT FROM core.job_count c JOIN (SELECT DISTINCT job_id, state, code FROM tally) t USING (job_id, state, code)
       ORDER BY c.job_id, c.state, c.code FOR NO KEY UPDATE OF c""",
    """UPDATE core.job_count c SET photos = c.photos + t.photos
       FROM (SELECT job_id, state, code, sum(photos) AS photos FROM tally GROUP BY 1, 2, 3) t
       WHERE (c.job_id, c.state, c.code) = (t.job_id, t.state, t.code)""",
)


def ensure_tally(connection: Connection) -> None:
    """Create the temporary table `tally`, once per connection; transactions and `apply_tally` leave it empty."""
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS tally ({TALLY}) ON COMMIT DELETE ROWS"))


def apply_tally(connection: Connection) -> dict[tuple[ItemState, Code], int]:
    """Add the rows of `tally` to the jobs' counts, and empty it; return what reached a terminal state."""
    for statement in _APPLY:
        connection.execute(text(statement))
    ended = text("SELECT state, code, sum(photos)::bigint FROM tally WHERE state >= :first GROUP BY 1, 2")
    rows = connection.execute(ended, {"first": int(ItemState.SUCCEEDED)}).all()
    connection.execute(text("DELETE FROM tally"))  # or a second call in the same transaction would count it twice
    return {(ItemState(state), Code(code)): photos for state, code, photos in rows}
