"""``pictograph ingest-events``: what queues tell of new and deleted objects becomes a job."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer

from pictograph.cli.connect import own_ledger, ready, set_up
from pictograph.cli.console import STYLE, Json, emit, say, warn
from pictograph.cli.request import USER_FROM, Filters, Priority, User, UserFrom, parse_filters
from pictograph.cli.tag import run_job
from pictograph.supervisor import Supervisor
from pipeline.errors import SourceError
from pipeline.ledger import events
from pipeline.ledger.events import Intake
from pipeline.ledger.requests import JobRequest
from pipeline.records import ItemState, JobState
from pipeline.sources.notification import ObjectEvent, Unreadable, read_messages
from pipeline.sources.user_rule import UserRule
from pipeline.store.roles import Role
from workers.ledger import open_database, registered
from workers.models import registry

NAMED = 20  # messages that could not be read, by name; of the others it is said how many they are

group = typer.Typer(**STYLE)


@dataclass
class Hearing:
    """What is heard while messages are read."""

    messages: int = 0
    events: int = 0
    others: int = 0  # tests, and what happens to objects beside coming and going
    unreadable: int = 0
    named: list[str] = field(default_factory=list)  # the first few that could not be read

    def listen(self, file: BinaryIO) -> Iterator[ObjectEvent]:
        """The events of a text; all else is counted."""
        for number, telling in read_messages(file):
            self.messages += 1
            for told in telling:
                if isinstance(told, ObjectEvent):
                    self.events += 1
                    yield told
                elif isinstance(told, Unreadable):
                    self._name(number, told)
                else:
                    self.others += 1

    def _name(self, number: int, told: Unreadable) -> None:
        self.unreadable += 1
        if len(self.named) < NAMED:
            self.named.append(f"Message {number} {told.reason}")


@group.command("ingest-events", epilog="Example: `aws sqs receive-message ... | pictograph ingest-events -`")
def ingest_events(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Messages as JSON; - reads standard input.")],
    *,
    user_from: UserFrom = USER_FROM,
    user: User = None,
    model: Annotated[str | None, typer.Option(help="The model; unless given, PICTOGRAPH_MODEL.")] = None,
    priority: Priority = 0,
    filters: Filters = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit and return.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if any message could not be read, or any photo failed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tag the objects that S3's event messages tell of, and subtract those that are gone.

    Messages may come twice, late and in any order. What says nothing new is counted; what is new becomes one job.

    Exit status: 0 if every photo has ended in some state, 1 if the job failed, 2 for wrong use or configuration.
    """
    rule = UserRule.parse(user_from, user)
    request = JobRequest(
        kind=events.KIND,
        source=events.KIND,
        user_rule=rule.template,
        fixed_user=user,
        priority=priority,
        rules=parse_filters(filters or ()),
    )
    hearing = Hearing()
    with ready(quiet=as_json) as found, open_database(found, "pictograph ingest-events", Role.INGEST) as database:
        settings = found if model is None else found.model_copy(update={"model": model})
        if own_ledger():
            set_up(settings)
        model_id = registered(database, registry.chosen(settings)).model_id
        with _opened(file) as text, database.transaction() as connection:
            intake = events.take_in(connection, hearing.listen(text), request, model_id)
        _tell(hearing, intake, as_json=as_json)
        failed = strict and hearing.unreadable > 0
        if intake.job_id is not None and not no_wait:
            with Supervisor(settings) as supervisor:
                job = run_job(database, intake.job_id, supervisor, as_json=as_json)
            failed |= job.state is JobState.FAILED or (strict and job.count(ItemState.FAILED) > 0)
    if failed:
        raise typer.Exit(1)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The text, whole: a transaction must not wait for whoever still writes it."""
    if file != "-":
        try:
            with Path(file).open("rb") as opened:
                yield opened
        except OSError as exc:
            raise SourceError(f"{file} cannot be read: {exc.strerror}.") from exc
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield cast(BinaryIO, kept)


def _some(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _tell(hearing: Hearing, intake: Intake, *, as_json: bool) -> None:
    if as_json:
        emit({**asdict(hearing), **asdict(intake)})
        return
    for sentence in hearing.named:
        warn(sentence)
    if hearing.unreadable > len(hearing.named):
        warn(f"{hearing.unreadable - len(hearing.named):,} more messages could not be read.")
    say(
        f"{_some(hearing.messages, 'message')}, {_some(hearing.events, 'event')}: {_some(intake.created, 'object')} "
        f"came, {intake.removed:,} went, {_some(intake.known, 'event')} said nothing new."
    )
    if intake.erased:
        say(f"{_some(intake.erased, 'event')} told of erased users' objects, and nothing is kept of that.")
    say("There is nothing to do." if intake.job_id is None else f"Job {intake.job_id} does it.")
