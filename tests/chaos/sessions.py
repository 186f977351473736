"""Sessions of one database whose steps are taken one at a time, in a given order.

A small brother of PostgreSQL's isolation tester. Every session has a connection and a thread of its own and a list of
transactions; each of them is two steps: all its statements, and its COMMIT. A step that has to wait for another
session's lock is noticed (`pg_blocking_pids`) and left waiting; the order goes on with the sessions that are free.
Nothing is a matter of luck: the next step begins only when every session has either ended its step or waits for a lock.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError

PATIENCE_SECONDS = 60.0  # for a step that neither ends nor waits for anybody
LOOK_SECONDS = 0.001  # how long a step may run before one looks whether it waits
REPEATABLE = frozenset({"40001", "40P01"})  # as `Database.run`: the transaction may simply run again

Work = Callable[[Connection], object]
Running = dict[int, tuple[int, Future[None]]]  # by operation: which step, and its end


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one session does: transactions, one after the other."""

    name: str
    transactions: tuple[Work, ...]

    @property
    def steps(self) -> int:
        """Two for each transaction."""
        return 2 * len(self.transactions)


@dataclass(kw_only=True)
class Played:
    """What came of an order."""

    taken: list[tuple[str, int, str]] = field(default_factory=list)  # (operation, step, "begins", "waits" or "ends")
    repeated: int = 0  # transactions that a deadlock ended, and that were run again

    def at(self, name: str, step: int, what: str) -> int:
        """When a step began or ended."""
        return self.taken.index((name, step, what))

    def __str__(self) -> str:
        return ", ".join(f"{name}.{step} {what}" for name, step, what in self.taken)


def quick(engine: Engine) -> None:
    """Connections for thousands of small transactions: commits need not reach the disk, deadlocks are seen at once."""

    @event.listens_for(engine, "connect")
    def _set_up(driver: object, _record: object) -> None:
        with driver.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SET synchronous_commit = off")
            # Only a superuser may change it; others wait for the usual second.
            cursor.execute(
                "SELECT set_config('deadlock_timeout', '50ms', false) FROM pg_roles WHERE rolname = current_user "
                "AND rolsuper"
            )
        driver.commit()  # type: ignore[attr-defined]


def orders(operations: Sequence[Operation]) -> Iterator[tuple[int, ...]]:
    """Every order of the operations' steps, each operation's own in its order, as numbers of operations."""
    counts = [operation.steps for operation in operations]

    def go_on(left: list[int], so_far: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if not any(left):
            yield so_far
        for n, steps in enumerate(left):
            if steps:
                yield from go_on([*left[:n], steps - 1, *left[n + 1 :]], (*so_far, n))

    return go_on(counts, ())


class Session:
    """A connection, and a thread that takes one step after the other on it."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect()
        self.pid: int = self._connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self._connection.rollback()
        self._thread = ThreadPoolExecutor(1)
        self.repeated = 0

    def close(self) -> None:
        """End the thread and give the connection back."""
        self._thread.shutdown()
        self._connection.close()

    def start(self, operation: Operation, step: int) -> Future[None]:
        """Begin a step of the operation."""
        turn = self._commit if step % 2 else self._work
        return self._thread.submit(turn, operation.transactions[step // 2])

    def roll_back(self) -> None:
        """Drop what is under way; nothing, if all is committed."""
        self._thread.submit(self._connection.rollback).result()

    def _work(self, work: Work) -> None:
        try:
            work(self._connection)
        except DBAPIError as exc:
            self._connection.rollback()
            if getattr(exc.orig, "pgcode", None) not in REPEATABLE:
                raise
            self.repeated += 1
            self._work(work)
        except BaseException:
            self._connection.rollback()
            raise

    def _commit(self, _work: Work) -> None:
        self._connection.commit()


class Stage:
    """Sessions that are kept from order to order, and one more connection to look at them."""

    def __init__(self, engine: Engine, sessions: int) -> None:
        self._sessions = [Session(engine) for _ in range(sessions)]
        self._watch = engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Close all connections."""
        for session in self._sessions:
            session.close()
        self._watch.close()

    def play(self, operations: Sequence[Operation], order: Sequence[int]) -> Played:
        """Take the steps in `order`, as far as locks allow it; returns when all are done."""
        played = Played()
        running: Running = {}
        coming, next_step = list(order), Counter[int]()
        before = sum(session.repeated for session in self._sessions)
        try:
            while coming or running:
                free = next((n for n in coming if n not in running), None)
                if free is not None:
                    coming.remove(free)
                    step = next_step[free]
                    next_step[free] += 1
                    played.taken.append((operations[free].name, step, "begins"))
                    running[free] = (step, self._sessions[free].start(operations[free], step))
                self._settle(operations, running, played)
        finally:
            self._clear(running)
        played.repeated = sum(session.repeated for session in self._sessions) - before
        return played

    def _clear(self, running: Running) -> None:
        """After an error: end what still waits, so that the next order finds every session free."""
        for n, (_, future) in running.items():
            self._watch.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": self._sessions[n].pid})
            wait([future])
        for session in self._sessions:
            session.roll_back()

    def _settle(self, operations: Sequence[Operation], running: Running, played: Played) -> None:
        """Wait until every step that runs has ended, which takes it out of `running`, or waits for a lock."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        waiting: set[int] = set()
        while unsettled := [n for n in running if n not in waiting]:
            wait([running[n][1] for n in unsettled], timeout=LOOK_SECONDS)
            for n in list(running):
                step, future = running[n]
                if future.done():
                    del running[n]
                    future.result()
                    played.taken.append((operations[n].name, step, "ends"))
                    waiting.clear()  # whoever waited for it may go on
                elif self._waits(self._sessions[n].pid):
                    waiting.add(n)
                else:
                    waiting.discard(n)
            assert time.monotonic() < deadline, f"a step neither ends nor waits: {played}"

    def _waits(self, pid: int) -> bool:
        query = text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")
        return bool(self._watch.execute(query, {"pid": pid}).scalar_one())
