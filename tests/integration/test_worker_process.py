"""What becomes of a worker's child process, in a real Celery worker over real Valkey."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from workers.app import create_app
from workers.send import ring

QUEUE = "annotate.broken"
WORKER = Path(__file__).parent / "broken_worker.py"
PATIENCE_SECONDS = 120  # several interpreters start one after another, maybe on a busy machine


@pytest.fixture
def worker(ledger_settings, tmp_path):
    """A running worker whose children write down in `tmp_path` what they do."""
    environment = {
        **os.environ,
        **ledger_settings.environment(),
        "PYTHONPATH": str(WORKER.parents[2]),
        "BROKEN_WORKER_FOLDER": str(tmp_path),
        "BROKEN_WORKER_QUEUE": QUEUE,
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, str(WORKER)], env=environment, stdout=log, stderr=log)
        yield process
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()


def wait_for(seen, log):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := seen()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found


def test_a_process_that_cannot_start_or_whose_model_breaks_makes_room_for_another(
    worker, endpoints, ledger_settings, tmp_path
):
    log = tmp_path / "log"
    broker = redis.Redis.from_url(endpoints.broker_admin_url)  # who may look at everything
    before = set(broker.hkeys("unacked"))  # other tests kill workers with a message in hand
    app = create_app(ledger_settings)
    wait_for(lambda: list(tmp_path.glob("built-*")), log)  # the first could not start: the second is up, unasked
    for shard_id in (1, 2):
        ring(app, "annotate", QUEUE, shard_id)
    lines = wait_for(lambda: [s.split() for s in _read(tmp_path / "pids")][1:] and _read(tmp_path / "pids"), log)
    shards, pids = zip(*(line.split() for line in lines), strict=True)
    assert sorted(shards) == ["1", "2"]  # each message once: it is acknowledged although its process has ended
    assert len(set(pids)) == 2
    wait_for(lambda: len(list(tmp_path.glob("built-*"))) == 3, log)  # and a third is there for what comes next
    wait_for(lambda: not set(broker.hkeys("unacked")) - before and not broker.llen(QUEUE), log)
    assert worker.poll() is None
    broker.close()
    app.close()


def _read(path):
    return path.read_text().splitlines() if path.exists() else []
