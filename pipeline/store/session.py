"""Connections and transactions: one engine per process, one owner per transaction, foreign errors translated."""

import itertools
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pipeline.errors import ConfigurationError, PictographError, ServiceDown
from pipeline.store.roles import Role, session_options

log = logging.getLogger(__name__)

T = TypeVar("T")

REPEATABLE = frozenset({"40001", "40P01"})  # serialization failure, deadlock: the transaction may simply run again
#: lock, idle-in-transaction and statement timeout, read-only (a standby): the server lives, but cannot serve us now
BUSY = frozenset({"55P03", "25P03", "57014", "25006"})
AWAY = ("08", "53", "57P", "58")  # connection lost, out of resources, shutting down, trouble with its disk
NO_TABLES = frozenset({"42P01", "3F000"})  # undefined table, undefined schema
FORBIDDEN = "42501"  # insufficient privilege
UNKNOWN = ("28", "3D000")  # a role that may not log in, a database that is not there
OLDEST_SERVER = 18  # RETURNING old.*, new.*
MISSPELT = re.compile(r"invalid (dsn|connection option|\w+ value)")
NO_ROLE = 'role "{role}" does not exist'
NO_MEMBER = 'permission denied to set role "{role}"'
REFUSALS = ("authentication failed", "does not exist", "no password supplied", "no pg_hba.conf entry")
MAX_ATTEMPTS = 8


class Database:
    """A PostgreSQL database. Threads share it; processes do not.

    `role` is whom every connection acts as; None: the login itself, who owns the tables where it migrated them.
    `statement_seconds` bounds each statement, for those whose callers do not wait long; a longer one is ServiceDown.
    """

    def __init__(
        self,
        url: str,
        application: str,
        connections: int = 4,
        *,
        role: Role | None = None,
        statement_seconds: float | None = None,
    ) -> None:
        try:
            parsed = make_url(url).set(drivername="postgresql+psycopg2")
        except (ArgumentError, ValueError) as exc:
            raise ConfigurationError("PICTOGRAPH_DATABASE_URL is no address like postgresql://user@host/name.") from exc
        self.place = f"{parsed.host}:{parsed.port or 5432}/{parsed.database}"
        self.role = role
        self._login = parsed.username
        options = "-c TimeZone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s"
        # Our statements touch a few hundred rows by key: compiling them costs more than it saves, and on disks of today
        # (or in memory) looking them up is cheaper than reading a table, which 4, the default, was not made for.
        options += " -c jit=off -c random_page_cost=1.1"
        if role is not None:
            options += f" {session_options(role)}"
        if statement_seconds is not None:
            options += f" -c statement_timeout={max(1, round(statement_seconds * 1000))}"
        self.engine = create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=connections,
            max_overflow=2,
            pool_recycle=1800,
            connect_args={
                "connect_timeout": 5,
                "tcp_user_timeout": 15_000,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "application_name": application,
                "options": options,
            },
        )
        event.listen(self.engine, "connect", self._check_version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection inside a transaction: committed at the end, rolled back on any error."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def outside_transactions(self) -> Iterator[Connection]:
        """Yield a connection whose statements are each committed by itself and wait for locks as long as it takes."""
        with self._translated(), self.engine.connect() as pooled:
            connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("SET lock_timeout = 0")
            try:
                yield connection
            finally:
                connection.invalidate()  # nobody else shall have its settings

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of its own, again after a deadlock or serialization failure.

        `work` must be safe to repeat: a COMMIT whose reply was lost may have happened.
        """
        for attempt in itertools.count(1):
            try:
                with self.transaction() as connection:
                    return work(connection)
            except (DBAPIError, psycopg2.Error) as exc:
                if _sqlstate(exc) not in REPEATABLE or attempt == MAX_ATTEMPTS:
                    raise
                log.info("transaction repeated after %s", _sqlstate(exc))
                time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter, no secret
        raise AssertionError("unreachable")

    def _check_version(self, driver: psycopg2.extensions.connection, _record: object) -> None:
        """Asks the server nothing: it says its version in its greeting."""
        version = driver.info.server_version // 10_000
        if version < OLDEST_SERVER:
            driver.close()
            raise ConfigurationError(
                f"Postgres at {self.place} is version {version}; {OLDEST_SERVER} or newer is needed."
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, psycopg2.Error, PoolTimeout) as exc:  # psycopg2's own come from COPY
            translated = self._translate(exc)
            if translated is None:
                raise
            raise translated from exc

    def _translate(self, exc: DBAPIError | psycopg2.Error | PoolTimeout) -> PictographError | None:
        state = _sqlstate(exc)
        detail = _detail(getattr(exc, "orig", exc))
        if state in NO_TABLES:
            return ConfigurationError(f"The database {self.place} has no tables yet; run `pictograph migrate`.")
        if state == FORBIDDEN:
            return self._forbidden(detail)
        # libpq gives no SQLSTATE for a refused connection: its words are all there is.
        if state is None and NO_ROLE.format(role=self.role) in detail:
            return ConfigurationError(f"Postgres at {self.place} has no role {self.role}; run `pictograph migrate`.")
        if state is None and NO_MEMBER.format(role=self.role) in detail:
            return ConfigurationError(
                f"The login in PICTOGRAPH_DATABASE_URL may not act as {self.role} at {self.place}; let an "
                f'administrator run `GRANT {self.role} TO "{self._login}"`.'
            )
        if state is None and MISSPELT.search(detail):
            return ConfigurationError(f"PICTOGRAPH_DATABASE_URL cannot be used: {detail}.")
        refused = state is None and any(words in detail for words in REFUSALS)
        if refused or (state is not None and state.startswith(UNKNOWN)):
            return ConfigurationError(f"Postgres at {self.place} refuses us ({detail}); check PICTOGRAPH_DATABASE_URL.")
        ended = state is not None and (state.startswith(AWAY) or state in BUSY)
        lost = state is None and isinstance(exc, _LOST)
        if ended or lost:
            return ServiceDown(f"Postgres at {self.place} does not answer ({detail}); is it running?")
        return None

    def _forbidden(self, detail: str) -> ConfigurationError:
        whom, cure = "us", "grant it to the user in PICTOGRAPH_DATABASE_URL, or name another"
        if self.role is not None:
            whom, cure = f"role {self.role}", "run `pictograph migrate`, which grants what it needs"
        return ConfigurationError(f"Postgres at {self.place} does not let {whom} do this ({detail}); {cure}.")


_LOST = (OperationalError, InterfaceError, PoolTimeout, psycopg2.OperationalError, psycopg2.InterfaceError)


def _detail(exc: BaseException) -> str:
    """What the server said, without its hints; or the last of what libpq said, who indents its advice."""
    said: str | None = exc.diag.message_primary if isinstance(exc, psycopg2.Error) else None
    return said or [line for line in str(exc).strip().splitlines() if not line.startswith("\t")][-1]


def _sqlstate(exc: BaseException) -> str | None:
    return getattr(getattr(exc, "orig", exc), "pgcode", None)
