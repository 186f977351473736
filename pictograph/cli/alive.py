"""``pictograph alive``: is the worker of this machine well? For whoever starts it anew if not, such as Kubernetes."""

import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from pictograph.cli.console import STYLE, Json, complain, emit, say
from pictograph.watchdog import lives, messages_lie
from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger import roster
from pipeline.ledger.roster import Seen
from pipeline.settings import Settings
from pipeline.store.roles import Role
from pipeline.store.session import Database

group = typer.Typer(**STYLE)


class Kind(StrEnum):
    """Which worker."""

    INGEST = "ingest"
    ANNOTATE = "annotate"
    REDRIVER = "redriver"


@group.command(epilog="Example: `pictograph alive annotate`")
def alive(
    kind: Annotated[Kind, typer.Argument(help="Which worker of this machine (or container).")],
    *,
    as_json: Json = False,
) -> None:
    """Say whether a worker of this machine does what it should.

    The exit status is 0 if so, else 1. Servers that are away are not the worker's fault: they are no reason to start it
    anew.
    """
    settings = Settings.read()
    well, why = _look(settings, kind)
    if as_json:
        emit({"kind": kind.value, "alive": well, "why": why})
    elif well:
        say(why)
    else:
        complain(why)
    raise typer.Exit(0 if well else 1)


def _look(settings: Settings, kind: Kind) -> tuple[bool, str]:
    if settings.database_url is None:
        raise ConfigurationError("Set PICTOGRAPH_DATABASE_URL; `pictograph up` watches its workers itself.")
    url = settings.database_url.get_secret_value()
    role = Role.INGEST if kind is Kind.INGEST else Role.WORKER  # it is asked with the worker's own login
    try:
        with Database(url, "pictograph alive", connections=1, statement_seconds=2, role=role) as database:
            seen = database.run(lambda connection: roster.look(connection, socket.gethostname()))
    except ServiceDown as exc:
        return True, f"Nothing can be said against it: {exc}"
    mine = [one for one in seen if one.queue.partition(".")[0] == kind]
    lying = {one.queue for one in mine if roster.may_be_deaf(one) and messages_lie(settings, one.queue)}
    return verdict(kind, [(one, _complaint(one, settings.watchdog_seconds, one.queue in lying)) for one in mine])


def _complaint(one: Seen, bound_seconds: float, lying: bool) -> str | None:
    waited = one.waiting_seconds or 0.0 if lying else 0.0
    return roster.stuck(one, lives=lives(one.own_process_id), waited_seconds=waited, bound_seconds=bound_seconds)


def verdict(kind: str, judged: Sequence[tuple[Seen, str | None]]) -> tuple[bool, str]:
    """Whether one of this machine's workers is well, and a sentence; each comes with what is said against it."""
    if not judged:
        return False, f"No {kind} worker of this machine is on the list; is it still starting?"
    well = [one for one, why in judged if why is None]
    if not well:
        newest, why = min(judged, key=lambda pair: pair[0].silent_seconds)
        return False, f"The {kind} worker {newest.worker_id} is stuck: {why}."
    one = min(well, key=lambda seen: seen.silent_seconds)
    if one.breaker is not None:
        return True, f"The {kind} worker waits until its model may be tried again: {one.breaker}"
    if one.trouble is not None:
        return True, f"The {kind} worker lives and waits: {one.trouble}"
    does = "starts" if one.starting else "is well"
    return True, f"The {kind} worker {does}; it was heard of {one.silent_seconds:.0f} s ago."
