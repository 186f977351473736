"""Correcting totals by their difference from a recount, and telling whose they are.

The difference is read in one statement, hence of one snapshot, so that it stays right while merges go on
(`pipeline.ledger.repair`, law 3).
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, text

from pipeline.store import shared
from pipeline.store.netting import adding
from pipeline.store.revisions import APART, Changed, touch
from pipeline.store.totals import SLOT_OF, USER_OF, ensure_delta, unlike


class Touched:
    """Users and models of which a repair has changed something that is shown."""

    def __init__(self) -> None:
        self._users: set[int] = set()
        self._models: set[int] = set()

    def add(self, named: Iterable[Row[Any]]) -> int:
        """Take in rows of (model_id, user_id), either of which may be NULL; returns how many."""
        rows = 0
        for row in named:
            rows += 1
            self._models |= {row.model_id} - {None}
            self._users |= {row.user_id} - {None}
        return rows

    def tell(self, connection: Connection) -> None:
        """Raise their revisions; last of all, as `pipeline.store.revisions` wants it."""
        touch(connection, Changed(users=frozenset(self._users), slots=dict.fromkeys(sorted(self._models), APART)))


def correct_totals(connection: Connection, touched: Touched) -> int:
    """Correct all totals to what the results say; returns how many rows were wrong."""
    ensure_delta(connection)
    changed = 0
    for table, of in (USER_OF, SLOT_OF):
        connection.execute(text("DELETE FROM delta"))
        changed += connection.execute(
            text(f"INSERT INTO delta (model_id, {of}, node, photos, mass) {unlike(table, of)}")
        ).rowcount
        for statement in adding(table, shared.KEY if of == "slot" else _USER_KEY, _AMOUNTS, "delta"):
            connection.execute(text(statement))
        touched.add(connection.execute(text("SELECT DISTINCT model_id, user_id FROM delta")))
    return changed + correct_shared(connection, touched)


_USER_KEY = ("model_id", "user_id", "node")
_AMOUNTS = ("photos", "mass")


def correct_shared(connection: Connection, touched: Touched) -> int:
    """Correct the totals of users who consent to the sum of theirs; returns how many rows were wrong."""
    shared.ensure_collected(connection)
    columns = ", ".join((*shared.KEY, *shared.AMOUNTS))
    query = f"INSERT INTO collected ({columns}) SELECT {columns} FROM ({shared.UNLIKE}) AS unlike"
    changed = connection.execute(text(query)).rowcount
    shared.add_collected(connection)
    touched.add(connection.execute(text("SELECT DISTINCT model_id, NULL::bigint AS user_id FROM collected")))
    return changed
