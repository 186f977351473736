"""Ray Data as its guide to batch inference has it: from_items, map, map_batches with actors, write_csv.

As many actors as cores, each of one thread, for the model needs most of the time. They and the other tasks claim parts
of a core, so that all of them run at once: with the default of a whole core for each, the actors leave none to the
tasks that feed them, and on two cores the guide's `download` expression never gets to its first photo.

Actors are made when the pipeline is executed, and no sooner. So that nobody's start counts, the photos wait for them,
and the clock starts when all have their model. The processes for the other tasks are there before, with all imports.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.peers import network
from benchmarks.peers.harness import Answer, Job, read_answers

ACTOR_CPUS, TASK_CPUS = 0.75, 0.25
POLL_SECONDS = 0.01
WAIT_SECONDS = 120.0  # for the models


class Classifier:
    """An actor that holds the model."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(1)
        self.labels = np.array(job.labels)
        self.network = network.load()
        (Path(job.scratch) / f"ready-{ray.get_runtime_context().get_actor_id()}").touch()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = network.top1(self.network, torch.from_numpy(np.stack(batch["tensor"])))
        labels, scores = zip(*found, strict=True)
        return {"key": batch["key"], "wnid": self.labels[list(labels)], "score": np.array(scores)}


def prepare(row: dict[str, Any], job: Job) -> dict[str, Any]:
    """Fetch, decode and transform a photo."""
    wait_for_models(job)
    client, transform = _of_process(job)
    return {"key": row["key"], "tensor": transform(network.decode(job.get(client, row["key"]))).numpy()}


@functools.lru_cache(maxsize=1)
def _of_process(job: Job) -> tuple[Any, Any]:
    return job.client(), network.transform()


@functools.lru_cache(maxsize=1)
def wait_for_models(job: Job) -> None:
    """Let no photo pass before all models are there."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(list(Path(job.scratch).glob("ready-*"))) < job.cores:
        if time.monotonic() > deadline:
            raise TimeoutError("the actors have no models yet")
        time.sleep(POLL_SECONDS)


@ray.remote(num_cpus=0)
def import_everything() -> None:
    """Be in a process that has imported this module, and all that it needs, while others do the same."""
    time.sleep(1)


class RayData:
    """A Ray of our own on this machine, with a processor slot per core."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.folder = Path(job.scratch) / "predictions"
        ray.init(
            num_cpus=job.cores,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(Path(job.scratch) / "r"),  # short: sockets lie in it
            log_to_driver=False,
            _system_config={"idle_worker_killing_time_threshold_ms": 600_000},  # what is warm stays
        )
        ray.get([import_everything.remote() for _ in range(3 * job.cores)])  # for actors, reading and writing
        ray.data.DataContext.get_current().enable_progress_bars = False

    def run(self, began: Callable[[], None]) -> dict[str, object]:
        job = self.job

        def tell() -> None:
            wait_for_models(job)
            began()

        threading.Thread(target=tell, daemon=True).start()
        rows = [{"key": key} for key in job.keys]
        found = (
            ray.data.from_items(rows, override_num_blocks=-(-len(rows) // job.batch))
            .map(prepare, fn_args=(job,), num_cpus=TASK_CPUS)
            .map_batches(
                Classifier,
                fn_constructor_args=(job,),
                batch_size=job.batch,
                compute=ray.data.ActorPoolStrategy(size=job.cores),
                num_cpus=ACTOR_CPUS,
            )
        )
        found.write_csv(str(self.folder), ray_remote_args={"num_cpus": TASK_CPUS})
        return {}

    def answers(self) -> Iterable[Answer]:
        return read_answers(sorted(self.folder.glob("*.csv")))

    def close(self) -> None:
        ray.shutdown()


CONTENDER = RayData
