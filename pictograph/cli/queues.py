"""``pictograph queues``: how much is in hand of each queue, and how much may be."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pictograph.cli.connect import looking
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pictograph.cli.control import By, controlling, whoami
from pipeline.ledger import limits
from pipeline.ledger.limits import Queue

MOST = 100_000

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="ingest, annotate.MODEL, or all (of them together).")]

group = typer.Typer(**STYLE)
queues_group = typer.Typer(**{**STYLE, "no_args_is_help": False}, help="Queues of work, and limits on them.")
group.add_typer(queues_group, name="queues")


@queues_group.callback(invoke_without_command=True, epilog="Example: `pictograph queues`")
def list_queues(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Queues, who serves them, what waits and what is in hand, and limits; without a command, that is all."""
    if ctx.invoked_subcommand is None:
        show_queues(as_json=as_json)


@queues_group.command("list", epilog="Example: `pictograph queues list`")
def show_queues(*, as_json: Json = False) -> None:
    """Queues, who serves them, what waits and what is in hand, and limits; `pictograph queues` says the same."""
    with looking() as connection:
        found = limits.queues(connection)
    if as_json:
        for queue in found:
            emit({**asdict(queue), "queue": _name(queue.queue)})
    else:
        out.print(_table(list(found)))


@queues_group.command("limit", epilog="Example: `pictograph queues limit annotate.efficientnet-lite0 4`")
def limit(
    queue: QueueName,
    most: Annotated[int, typer.Argument(metavar="N", min=0, max=MOST, help="Shards in hand at once; 0 holds it.")],
    *,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Let no more than N shards (or listings) of a queue be in hand at once. What is in hand is not taken away."""
    with controlling() as database:
        database.run(lambda c: limits.put(c, _queue(queue), most, by or whoami()))
    if as_json:
        emit({"queue": queue, "most": most})
    else:
        say(f"At most {most:,} of {_of(queue)} may be in hand at once from now on.")


@queues_group.command("unlimit", epilog="Example: `pictograph queues unlimit all`")
def unlimit(queue: QueueName, *, as_json: Json = False) -> None:
    """Lift the limit of a queue."""
    with controlling() as database:
        changed = database.run(lambda c: limits.lift(c, _queue(queue)))
    if as_json:
        emit({"queue": queue, "changed": changed})
    else:
        say(f"The limit of {_of(queue)} is lifted." if changed else f"There was no limit of {_of(queue)}.")


def _table(found: list[Queue]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("queue", no_wrap=True)
    for name in ("workers", "pending", "published", "in hand", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for queue in found:
        counts = (queue.workers, queue.pending, queue.queued, queue.leased)
        most = "-" if queue.most is None else f"{queue.most:,}"
        table.add_row(plain(_name(queue.queue)), *(f"{n:,}" for n in counts), most, plain(_remarks(queue)))
    return table


def _remarks(queue: Queue) -> str:
    said = [f"set by {queue.set_by} at {queue.set_at:%Y-%m-%d %H:%M} UTC"] if queue.set_at else []
    if queue.breakers:
        said.append(f"does not work on {queue.breakers:,} {'machine' if queue.breakers == 1 else 'machines'}")
    return "; ".join(said)


def _queue(name: str) -> str:
    return limits.ALL if name == "all" else name


def _name(queue: str) -> str:
    return "all" if queue == limits.ALL else queue


def _of(queue: str) -> str:
    return "all queues together" if _queue(queue) == limits.ALL else f"queue {queue}"
