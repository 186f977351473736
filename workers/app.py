"""The Celery application: a doorbell and nothing more. Each setting has its reason beside it."""

from typing import cast

from celery import Celery, bootsteps
from celery.concurrency.prefork import TaskPool
from celery.worker import WorkController

from pipeline.settings import Settings
from workers.drain import DRAIN_SIGNAL, ring_children

TASK_SECONDS = 900  # the hard limit; a stream stops claiming long before
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


def create_app(settings: Settings, tasks: str | None = None) -> Celery:
    """The application over the broker that `settings` names; a worker names the module of its tasks."""
    app = Celery("pictograph", include=[tasks] if tasks else [])
    app.conf.update(
        broker_url=settings.broker_url.get_secret_value() if settings.broker_url else None,
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
        worker_proc_alive_timeout=180,  # importing torch and loading weights takes longer than the default of 4 s
        worker_prefetch_multiplier=1,  # hoarding would defeat priorities
        # A blip of the broker must not throw away work that can still be committed.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
    )
    app.steps["worker"].add(DrainStep)
    return app
