"""The door of a worker: what the broker hands over is taken in only if it is one of our messages.

Whoever reaches the broker may have put anything there. Laws:

1. A message is judged before kombu and Celery see it. They would run what it asks for (another queue to go to, tasks to
   call afterwards, a time to wait for, a time limit, a compressed body), print its payload into the log, or break.
2. Taken in is the task's name and the id. All else that the workers' libraries find in the message is written here.
3. What is refused is gone: it was taken off the queue and is not written down among the unacknowledged, so it cannot
   come back. One line says why, without a word of what was in it.
"""

import base64
import binascii
import json
import logging
import uuid
from typing import Any

from kombu.transport import redis, virtual

from pipeline.ledger.publish import INGEST_QUEUE
from workers.send import TASKS
from workers.tasks import checked_id

log = logging.getLogger(__name__)

MOST_BODY_CHARACTERS = 1024  # ours have about 150
NOTHING_ELSE = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}  # to be done with the result

_Raw = dict[str, Any]


def taken_in(raw: object, queue: str) -> _Raw:
    """The message as the libraries shall see it.

    Raises:
        ValueError: it is none of ours; the sentence quotes nothing of it.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"it is {type(raw).__name__}, not an object")
    headers, properties = raw.get("headers"), raw.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise ValueError("it has no headers or no properties")
    if raw.get("content-type") != "application/json" or raw.get("content-encoding") != "utf-8":
        raise ValueError("it is not JSON in UTF-8")
    tasks = [TASKS[kind] for kind in (("ingest", "deliver") if queue == INGEST_QUEUE else ("annotate",))]
    task = headers.get("task")
    if task not in tasks:
        raise ValueError(f"its task is not {' or '.join(tasks)}")
    if "compression" in headers or properties.get("body_encoding") != "base64":
        raise ValueError("its body is not plain base64")
    return _message(task, _id_in(raw.get("body")), queue)


def _id_in(body: object) -> int:
    if not isinstance(body, str) or len(body) > MOST_BODY_CHARACTERS:
        size = f"{len(body):,} characters" if isinstance(body, str) else type(body).__name__
        raise ValueError(f"its body is {size}, not at most {MOST_BODY_CHARACTERS:,}")
    try:
        content = json.loads(base64.b64decode(body, validate=True))
    except (binascii.Error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise ValueError("its body is no JSON in base64") from exc
    if not isinstance(content, list) or len(content) != 3:
        raise ValueError("its body is no list of three")
    arguments, named, following = content
    if not isinstance(arguments, list) or len(arguments) != 1 or named != {}:
        raise ValueError("it has other arguments than one id")
    if not isinstance(following, dict) or any(following.values()):
        raise ValueError("it asks for something else to be done afterwards")
    return checked_id(arguments[0])


def _message(task: str, work_id: int, queue: str) -> _Raw:
    name = str(uuid.uuid4())
    body = json.dumps([[work_id], {}, NOTHING_ELSE]).encode()
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": name, "root_id": name, "ignore_result": True},
        "properties": {
            "correlation_id": name,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},  # where it goes back to, should it have to
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


class QoS(redis.QoS):
    """Redis's account of the messages in hand: an acknowledgement that fails gives its place back all the same.

    kombu keeps the place taken, and Celery only logs "Couldn't ack". We take one message at a time, and kombu asks for
    none, nor looks at the connection, while that place is taken: such a worker would be idle for ever once its task
    had ended without a broker (as in packit/packit-service#2697; what celery#10302 and kombu#2492 tell of is other
    ways to the same end). With its place free it asks at once, and meets the outage where Celery mends it.

    The message stays in the broker's list of the unacknowledged, if that has survived: it comes again when its time
    is up, and finds nothing to be done.
    """

    def ack(self, delivery_tag: str) -> None:
        """Done with this message."""
        try:
            super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Will not do this message."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        finally:
            virtual.QoS.ack(self, delivery_tag)


class Channel(redis.Channel):
    """Redis's channel, which survives an item that is no message at all."""

    QoS = QoS
    connection: "Transport"

    def _brpop_read(self, **options: object) -> object:
        transport = self.connection
        transport.item_is_json = False
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs do not know it
        except (ValueError, RecursionError):
            if transport.item_is_json:
                raise  # it comes from further inside
            log.warning("a message was refused: it is no JSON")
            return True


class Transport(redis.Transport):
    """Redis's transport, with our door."""

    Channel = Channel
    item_is_json = False

    def _deliver(self, message: Any, queue: Any) -> None:  # noqa: ANN401 - whatever was in the queue
        self.item_is_json = True
        try:
            ours = taken_in(message, queue)
        except ValueError as exc:
            log.warning("a message in queue %s was refused: %s", queue, exc)
            return
        super()._deliver(ours, queue)
