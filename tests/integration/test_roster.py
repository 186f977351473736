"""What the ledger knows of the processes of a machine."""

import pytest

from pipeline.ledger import roster
from pipeline.ledger.roster import Sign

SIGN = Sign(worker_id="here:42:1", queue="annotate.small", host="here", process_id=40)


@pytest.mark.parametrize(
    ("last_seen", "silent_since"),
    [
        ("pg_postmaster_start_time() - interval '1 h'", "pg_postmaster_start_time()"),  # nothing took its beats
        ("now() - interval '1 ms'", "now() - interval '1 ms'"),
    ],
)
def test_nobody_is_silent_for_longer_than_the_database_is_there(ledger, last_seen, silent_since):
    with ledger.database.transaction() as connection:
        roster.note(connection, SIGN, 90)
    ledger.execute(f"UPDATE core.worker SET last_seen = {last_seen}")
    since = ledger.one(f"SELECT extract(epoch FROM {silent_since})::float")
    before = ledger.one("SELECT extract(epoch FROM now())::float")
    with ledger.database.transaction() as connection:
        (seen,) = roster.look(connection, "here")
    after = ledger.one("SELECT extract(epoch FROM now())::float")
    assert before - since - 0.1 <= seen.silent_seconds <= after - since + 0.1
