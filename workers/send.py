"""Ringing the doorbell: one message, one id, by queue name. Light: imports neither tasks nor torch.

Only the queue's name routes a message. A named exchange would drop it silently once the broker has lost its bindings.
Nothing is declared: Redis makes a list when something is put into it. And when a connection is reset in the midst of a
declaration, kombu 5.7 declares again on a new channel, then publishes on the closed one: "AttributeError: 'NoneType'
object has no attribute 'client'".
"""

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from pipeline.errors import ServiceDown

ANNOTATE = "pictograph.annotate"
INGEST = "pictograph.ingest"
DELIVER = "pictograph.deliver"

TASKS = {"annotate": ANNOTATE, "ingest": INGEST, "deliver": DELIVER}


def ring(app: Celery, kind: str, queue: str, work_id: int) -> None:
    """Send "start here" for a shard ("annotate"), a key range ("ingest") or a delivery. Safe to repeat, safe to lose.

    Raises:
        ServiceDown: the broker does not take it.
    """
    try:
        app.send_task(TASKS[kind], args=(work_id,), queue=queue, declare=[])
    except (OperationalError, RedisError, OSError) as exc:
        raise ServiceDown("The broker does not answer; work goes on with what is claimed already.") from exc
