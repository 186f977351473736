"""A Celery worker whose model breaks, as a program. A folder says what happens.

Each child of the worker runs this file before anything else. The children import the modules of the tasks in an order
that depends on the hash of their names, so a module of tasks would sometimes come too late to replace the bench.
"""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from celery import bootsteps

from pipeline.errors import BackendDown, ServiceDown
from pipeline.settings import Settings
from workers.app import create_app, work

FOLDER = Path(os.environ["BROKEN_WORKER_FOLDER"])
QUEUE = os.environ["BROKEN_WORKER_QUEUE"]


class Broken:
    """A stream whose model is found to be wrong."""

    def __init__(self, *_):
        pass

    def run(self, shard_id):
        with (FOLDER / "pids").open("a") as log:
            log.write(f"{shard_id} {os.getpid()}\n")
        raise BackendDown("the canaries are dead")


def build(_, **__):
    """The first process finds the database away."""
    tried = FOLDER / "tried"
    if not tried.exists():
        tried.touch()
        raise ServiceDown("Postgres does not answer")
    (FOLDER / f"built-{os.getpid()}").touch()
    nothing = SimpleNamespace(rung=lambda: None, broke=lambda _: None)
    return SimpleNamespace(heart=nothing, guard=nothing, close=lambda: None)


# Loading torch in each process takes too long.
bench = sys.modules["workers.workbench"] = ModuleType("workers.workbench")
bench.build_bench, bench.Bench = build, SimpleNamespace

from workers.tasks import annotate  # noqa: E402

annotate.Stream = Broken
annotate.RESTART_PAUSE_SECONDS = 0.1


class LateBroker(bootsteps.StartStopStep):
    """The broker is not reached before the first process has ended: the hardest order of events."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent):
        (first,) = parent.pool.info["processes"]
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)  # Celery is left to find it ended


if __name__ == "__main__":
    app = create_app(Settings(), "workers.tasks.annotate")
    app.steps["worker"].add(LateBroker)
    sys.exit(work(app, "annotate", QUEUE))
