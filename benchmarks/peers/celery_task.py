"""One Celery task per photo: get, decode, transform, classify, insert a row. A process per core, a thread per process.

This file is both the application that the worker processes import and the contender that starts them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg2
import torch
from celery import Celery
from celery.signals import worker_process_init

from benchmarks.peers import network
from benchmarks.peers.harness import Answer, Job

JOB, BROKER = "BENCH_JOB", "CELERY_BROKER_URL"  # variables for the worker; Celery itself reads the latter
QUEUE = "photo"
POLL_SECONDS = 0.02
STUCK_SECONDS = 60.0  # without any new row; then tasks have been lost

app = Celery("photos")
app.conf.update(
    task_ignore_result=True,
    task_default_queue=QUEUE,
    worker_proc_alive_timeout=60,  # loading the model takes longer than the default
    broker_connection_retry_on_startup=True,
)

of_process: dict[str, Any] = {}  # what a worker process makes once


@worker_process_init.connect
def make_ready(**_: object) -> None:
    """Load what every task of this process uses, and say so."""
    torch.set_num_threads(1)
    job = Job.read(Path(os.environ[JOB]))
    connection = psycopg2.connect(job.database_url)
    connection.autocommit = True
    of_process.update(job=job, s3=job.client(), db=connection, network=network.load(), transform=network.transform())
    (Path(job.scratch) / f"ready-{os.getpid()}").touch()


@app.task
def classify(key: str) -> None:
    """One photo, from its object to its row."""
    job = of_process["job"]
    label, score = None, 0.0
    try:
        tensor = of_process["transform"](network.decode(job.get(of_process["s3"], key)))
        [(top, score)] = network.top1(of_process["network"], tensor.unsqueeze(0))
        label = job.labels[top]
    finally:  # a photo that cannot be read has a row too, so that the end can be told
        with of_process["db"].cursor() as cursor:
            cursor.execute("INSERT INTO photo_label VALUES (%s, %s, %s)", (key, label, score))


class CeleryTasks:
    """A table, and a worker that is ready."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.connection = psycopg2.connect(job.database_url)
        self.connection.autocommit = True
        self._sql("DROP TABLE IF EXISTS photo_label")
        self._sql("CREATE TABLE photo_label (key text PRIMARY KEY, wnid text, score real NOT NULL)")
        job.write(Path(job.scratch) / "task.json")
        os.environ.update({JOB: str(Path(job.scratch) / "task.json"), BROKER: job.broker_url})
        options = ["--pool", "prefork", "--concurrency", str(job.cores), "--loglevel", "WARNING", "--queues", QUEUE]
        self.worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", __name__, "worker", *options])
        while len(list(Path(job.scratch).glob("ready-*"))) < job.cores:
            if self.worker.poll() is not None:
                raise RuntimeError("the worker did not start")
            time.sleep(POLL_SECONDS)

    def run(self, began: Callable[[], None]) -> dict[str, object]:
        began()
        for key in self.job.keys:
            classify.delay(key)
        rows, moved = 0, time.monotonic()
        while rows < len(self.job.keys):
            time.sleep(POLL_SECONDS)
            [(now,)] = self._sql("SELECT count(*) FROM photo_label")
            if now > rows:
                rows, moved = now, time.monotonic()
            elif time.monotonic() - moved > STUCK_SECONDS:
                raise RuntimeError(f"nothing moves any more after {rows} of {len(self.job.keys)} photos")
        return {}

    def answers(self) -> Iterable[Answer]:
        for key, wnid, score in self._sql("SELECT * FROM photo_label"):
            yield Answer(key=key, wnid=wnid or "", score=score)

    def close(self) -> None:
        self.worker.send_signal(signal.SIGTERM)
        self.worker.wait(30)
        self.connection.close()

    def _sql(self, query: str) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall() if cursor.description else []


CONTENDER = CeleryTasks
