"""A process that has imported everything and opened nothing, and forks a worker for each order that it reads.

    python -m tests.chaos.launch        one order (JSON) per line on stdin; a pid and then a wait status per line back

Starting Python costs a second, forking it some milliseconds. The server has one thread, so the copies are clean;
connections, threads and decode children come about after the fork. What a copy does is in `tests.chaos.shift`.
"""

import functools
import json
import os
import sys
import threading
import traceback
from pathlib import Path

from botocore.loaders import JSONFileLoader

from pipeline.sources.s3 import S3Access
from tests.chaos.shift import Orders, Shift

NOWHERE = "http://127.0.0.1:9"  # of a client that is never used


def serve() -> None:
    """Until the orders end."""
    _parse_once()
    tasks = os.listdir("/proc/self/task")
    if threading.active_count() != 1 or len(tasks) != 1:
        raise RuntimeError(f"{len(tasks)} threads run already; a copy of this process would hang.")
    while line := sys.stdin.readline():
        orders = Orders(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            _become(orders)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(status, flush=True)


def _parse_once() -> None:
    """Have the copies share what boto3 reads about S3 anew for each client: most of a client's start."""
    JSONFileLoader.load_file = staticmethod(functools.cache(JSONFileLoader().load_file))
    S3Access(endpoint_url=NOWHERE, access_key_id="none", secret_access_key="none", region="us-east-1").client()


def _become(orders: Orders) -> None:
    """The copy's life; it does not return."""
    output = os.open(Path(orders.folder) / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, place in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, place)
    status = 1
    try:
        os.environ.update(orders.environment)
        Shift(orders).work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what is registered for the end belongs to the server


if __name__ == "__main__":
    serve()
