"""The annotate task's module with a model that breaks, for a worker process of its own. A folder says what happens."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from pipeline.errors import ModelError, ServiceDown

FOLDER = Path(os.environ["BROKEN_TASKS_FOLDER"])


class Broken:
    """A stream whose model is found to be wrong."""

    def __init__(self, *_):
        pass

    def run(self, shard_id):
        with (FOLDER / "pids").open("a") as log:
            log.write(f"{shard_id} {os.getpid()}\n")
        raise ModelError("the canaries are dead")


def build(_):
    """The first process finds the database away."""
    tried = FOLDER / "tried"
    if not tried.exists():
        tried.touch()
        raise ServiceDown("Postgres does not answer")
    (FOLDER / f"built-{os.getpid()}").touch()
    nothing = SimpleNamespace(stop=lambda: None, close=lambda: None)
    return SimpleNamespace(heart=nothing, decoders=nothing)


bench = sys.modules["workers.bench"] = ModuleType("workers.bench")  # loading torch in each process takes too long
bench.build_bench = build

from workers.tasks import annotate  # noqa: E402

annotate.Stream = Broken
annotate.RESTART_PAUSE_SECONDS = 0.1
