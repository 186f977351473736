"""The Celery application: a doorbell and nothing more. Each setting has its reason beside it."""

import logging
import signal
import socket
import ssl
from typing import cast

from celery import Celery, bootsteps
from celery.concurrency.prefork import TaskPool
from celery.platforms import EX_FAILURE
from celery.worker import WorkController
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection

from pipeline.ledger.breaker import LONGEST_PAUSE_SECONDS
from pipeline.settings import Settings
from workers import door
from workers.drain import DRAIN_SIGNAL, ring_children

log = logging.getLogger(__name__)

TASK_SECONDS = 900  # the hard limit; a stream stops claiming long before
RECONNECT_SECONDS = 1  # between tries to reach a broker that is away
LOADING_SECONDS = 180.0  # for importing torch and loading weights
VISIBILITY_SECONDS = 3600  # above the hard limit: the broker must not hand out again what is still being done

TRANSPORT = {
    "visibility_timeout": VISIBILITY_SECONDS,
    "socket_timeout": 15,  # without it a half-open connection hangs a publisher for ever
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "retry_on_timeout": True,
    "client_name": "pictograph",
}


class PatientPool(TaskPool):
    """Celery's processes, except that the worker goes on when its first ones have ended before the broker was reached.

    When everything starts at once, a process that waits for the database may well end before the broker answers.
    Celery would give the whole worker up; its event loop replaces these processes as it does all later ones.
    """

    def did_start_ok(self) -> bool:
        """Asked once, before the event loop begins."""
        return True


class DrainStep(bootsteps.StartStopStep):
    """On a warm shutdown, tell the children at once, so that a stream stops at its next photo."""

    requires = ("celery.worker.components:Pool",)

    def close(self, parent: WorkController) -> None:
        """Called when the worker begins to shut down, before it waits for its tasks."""
        if parent.pool is not None:
            about = cast("dict[str, list[int]]", parent.pool.info)
            ring_children(about.get("processes", ()), DRAIN_SIGNAL)


class PatientConsumer(Consumer):
    """Celery's consumer, except that it asks for a broker that is away every second, and says so once.

    Celery asks after 2, 4, 6, ... up to 30 s, and logs each time: work would resume half a minute after the broker.
    """

    def ensure_connected(self, conn: Connection) -> Connection:
        """The same connection, once the broker answers."""
        told = False

        def away(exc: Exception, _interval: float) -> None:
            nonlocal told
            if not told:
                log.warning("the broker does not answer (%s); it is asked every %d s", exc, RECONNECT_SECONDS)
            told = True

        pause = RECONNECT_SECONDS
        found = conn.ensure_connection(
            away, interval_start=pause, interval_step=0, interval_max=pause, callback=maybe_shutdown
        )
        self.first_connection_attempt = False
        if told:
            log.info("the broker answers again")
        return found


def create_app(settings: Settings, tasks: str | None = None) -> Celery:
    """The application over the broker that `settings` names; a worker names the module of its tasks."""
    app = Celery("pictograph", include=[tasks] if tasks else [])
    url = settings.broker_url.get_secret_value() if settings.broker_url else ""
    app.conf.update(
        broker_url=url or None,
        broker_transport=f"{door.__name__}:{door.Transport.__name__}",  # refuses what is none of our messages
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss://") else None,
        broker_transport_options=TRANSPORT,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # an outage may last; the supervisor, not Celery, gives up
        # A message is one integer: whoever reaches the broker must not be able to run code.
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        # Work, attempts and results live in Postgres: no backend, no Celery retries, no events.
        task_ignore_result=True,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # whoever reaches the broker must not command workers either
        task_send_sent_event=False,
        # Acknowledged after the merge; a lost child's message is acknowledged too, because its lease will expire.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_time_limit=TASK_SECONDS,  # works in prefork only
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1},
        # CUDA does not survive a fork, and nothing opened in the parent may be shared with the child.
        worker_pool=f"{__name__}:{PatientPool.__name__}",
        worker_pool_start_method="spawn",
        worker_concurrency=1,  # one stream per model instance; overlap happens inside it
        # A process may wait for its turn to try a model again, and then load it; the default of 4 s is for neither.
        worker_proc_alive_timeout=LONGEST_PAUSE_SECONDS + LOADING_SECONDS,
        worker_consumer=f"{__name__}:{PatientConsumer.__name__}",
        worker_prefetch_multiplier=1,  # hoarding would defeat priorities
        # A blip of the broker must not throw away work that can still be committed.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
    )
    app.steps["worker"].add(DrainStep)
    return app


def work(app: Celery, role: str, queue: str) -> int:
    """Be a worker until told to stop; the exit status: 0 after a stop in good order, 1 after any other end."""
    worker = app.Worker(
        hostname=f"{role}@{socket.gethostname()}",
        queues=[queue],
        loglevel=logging.INFO,
        quiet=True,
        optimization="fair",
        # Workers have nothing to tell each other: the ledger knows.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # it has ended: who asks again must not change how
    return EX_FAILURE if worker.exitcode is None else int(worker.exitcode)  # None: ended in the middle, by SIGQUIT
