"""The roles that processes take in Postgres: each may do its own work and no more.

Theory of operation
    A *role* here is a group that cannot log in; migration 0005 makes the five of them and says what each may do. A
    *login* is a member of one or more. Every process names its role when it connects, and acts as nothing else. The
    login that migrates owns the tables and is a member of all roles, so one login is enough for everything; an operator
    who wants walls between containers gives each of them a login of its own, `IN ROLE` what it does.

Laws
1. Nobody is a superuser, may bypass row-level security, or, but for the owner, may create anything.
2. What an API reads of users goes through row-level security: a transaction that has not said whose rows it is for
   finds none. It says so by a setting that ends with the transaction.
3. Analysts have rights on nothing but schema `tags`. Its views read with their owner's rights, and so need none here.
"""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError


class Role(StrEnum):
    """What a process is to Postgres. Without a role it is its login: the owner, who migrates and registers models."""

    INGEST = "pictograph_ingest"  # submits jobs, lists sources, tidies old jobs: writes the ledger, photos, owners
    WORKER = "pictograph_worker"  # annotates, merges, redrives; redrivers quarantine by the same merge
    API = "pictograph_api"  # reads, as row-level security lets it; writes thumbnails
    ANALYST = "pictograph_analyst"  # reads the views of schema `tags`
    ERASER = "pictograph_eraser"  # deletes what belongs to a user


#: What holds for every session of a role, beside its rights: a session can set it otherwise, so no right hangs on it.
_SESSIONS = {Role.ANALYST: " -c default_transaction_read_only=on -c statement_timeout=60s -c search_path=tags"}


def session_options(role: Role) -> str:
    """The options by which a connection takes its role."""
    return f"-c role={role}{_SESSIONS.get(role, '')}"


def act_as(connection: Connection, role: Role) -> None:
    """Be another role of the same login until this transaction ends; ConfigurationError if the login has none such."""
    may = text("SELECT session_user, pg_has_role(session_user, :role, 'SET')")
    login, allowed = connection.execute(may, {"role": role.value}).one()
    if not allowed:
        raise ConfigurationError(
            f'The login {login} may not act as {role}; let an administrator run `GRANT {role} TO "{login}"`.'
        )
    connection.execute(text(f"SET LOCAL ROLE {role}"))


# Each of the following is one statement, and may be the first of its transaction. `of_one_moment`: all that is read
# from then on is of that moment, and nothing is written; only for the first one.


def see_everybody(connection: Connection, *, of_one_moment: bool = False) -> None:
    """Let the rest of this transaction see the rows of all users."""
    _set(connection, {"tenant": "on"}, of_one_moment)


def see_user(connection: Connection, user: str, *, of_one_moment: bool = False) -> None:
    """Let the rest of this transaction see the rows of the user of that name, and no others."""
    _set(connection, {"tenant": "off", "user": user}, of_one_moment)


def see_shared(connection: Connection, user: str | None = None, *, of_one_moment: bool = False) -> None:
    """Let the rest of this transaction see the rows of users who consent to it, and those of one more user."""
    _set(connection, {"tenant": "off", "shared": "on", "user": user or ""}, of_one_moment)


def _set(connection: Connection, settings: Mapping[str, str], of_one_moment: bool) -> None:
    said = ", ".join(f"set_config('pictograph.{name}', :{name}, true)" for name in settings)
    first = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; " if of_one_moment else ""
    connection.execute(text(f"{first}SELECT {said}"), settings)
