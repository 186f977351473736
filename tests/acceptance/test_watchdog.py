"""A worker that lives and takes nothing is noticed from outside and started anew; a good stop leaves nothing behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from pictograph.supervisor import Supervisor
from pipeline.settings import Settings
from tests.acceptance.conftest import COMMAND, PATIENCE_SECONDS, Site, wait_for

CLAIM_SECONDS = 2.0  # from a signal to another worker's claim of what was released


def settings_of(site: Site, home: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Settings:
    for name, value in site.env.items():
        monkeypatch.setenv(name, value)
    return Settings(home=home, **changes)


def workers_of(site: Site, queue: str) -> list[tuple[int, str]]:
    """Parents on the list that were heard of just now, with what they are called."""
    query = """SELECT process_id, worker_id FROM core.worker
               WHERE queue LIKE :queue AND last_seen > now() - interval '5 s'"""
    return [tuple(row) for row in site.rows(query, queue=queue)]


@pytest.fixture
def alone(site: Site) -> Site:
    """The site without its own workers; they are there again afterwards."""
    for process in site.workers.values():
        process.send_signal(signal.SIGTERM)
    for process in site.workers.values():
        process.wait(PATIENCE_SECONDS)
    names = list(site.workers)
    site.workers.clear()
    yield site
    for name in names:
        site.start(*(("redriver",) if name == "redriver" else ("worker", name)))


def test_a_consumer_that_is_deaf_is_started_anew_and_the_job_ends(alone, many, tmp_path, monkeypatch, caplog):
    """Its parent, which takes the messages, is stopped; its child lives and its heart beats."""
    settings = settings_of(alone, tmp_path / "home", monkeypatch, watchdog_seconds=4.0)
    with Supervisor(settings) as supervisor:
        assert supervisor.start_if_free()
        ((parent, first),) = wait_for(lambda: workers_of(alone, "annotate.%"))
        wait_for(lambda: workers_of(alone, "ingest"))
        psutil.Process(parent).suspend()
        report = alone.tag(many, "--user", "deaf")
        assert report["counts"]["succeeded"] == 320
        assert supervisor.watchdog_restarts >= 1
        assert not psutil.pid_exists(parent)
        assert first not in {name for _, name in workers_of(alone, "annotate.%")}
    (line,) = [record.getMessage() for record in caplog.records if "watchdog restart 1" in record.getMessage()]
    assert "worker annotate is stuck (messages for annotate." in line


def test_alive_says_who_is_there_quickly_and_without_torch(alone):
    nobody = alone.run("alive", "redriver")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    redriver = alone.start("redriver")
    wait_for(lambda: alone.run("alive", "redriver").returncode == 0)
    psutil.Process(redriver.pid).suspend()
    told = wait_for(lambda: said if (said := alone.run("alive", "redriver", watchdog_seconds=1)).returncode else None)
    psutil.Process(redriver.pid).resume()
    assert "has not ticked" in told.stderr
    away = alone.run("alive", "redriver", database_url="postgresql://nobody@127.0.0.1:1/nothing")
    assert away.returncode == 0
    imported = subprocess.run(
        [COMMAND[0], "-X", "importtime", *COMMAND[1:], "alive", "redriver", "--json"],
        env=alone.env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert json.loads(imported.stdout)["kind"] == "redriver"
    modules = {line.rsplit("|", 1)[-1].strip() for line in imported.stderr.splitlines()}
    assert "pipeline.ledger.roster" in modules
    assert not modules & {"torch", "celery", "numpy", "openvino"}
    spent = psutil.Popen([*COMMAND, "alive", "redriver"], env=alone.env, stdout=subprocess.DEVNULL)
    before = os.times().children_user
    spent.wait(PATIENCE_SECONDS)
    assert os.times().children_user - before < 3 * 2
    alone.workers.pop("redriver").terminate()
    assert redriver.wait(PATIENCE_SECONDS) == 0


def held(site: Site) -> dict[int, str]:
    return dict(map(tuple, site.rows("SELECT shard_id, lease_owner FROM core.shard WHERE state = 2")))


def test_who_is_told_to_stop_hands_over_at_once_and_storms_of_signals_do_no_harm(alone, many):
    """Two workers share a job; one is told to stop, and what it held is claimed by the other one within moments."""
    alone.start("worker", "ingest")
    alone.start("redriver")
    pair = []
    for _ in range(2):
        pair.append(alone.start("worker", "annotate"))
        wait_for(lambda: len(workers_of(alone, "annotate.%")) == len(pair))
    command = [*COMMAND, "tag", str(many), "--user", "relay", "--json"]
    tagging = subprocess.Popen(command, env=alone.env, stdout=subprocess.PIPE, text=True)
    owners = dict(wait_for(lambda: len(set(held(alone).values())) == 2 and workers_of(alone, "annotate.%")))
    leaver = next(process for process in pair if process.pid in owners)
    mine = {shard for shard, owner in held(alone).items() if owner == owners[leaver.pid]}
    leaver.send_signal(signal.SIGTERM)
    told = time.monotonic()
    assert mine, "the job was over too soon"

    def handed_over() -> bool:
        open_ones = alone.rows("SELECT shard_id, lease_owner FROM core.shard WHERE state IN (0, 1, 2)")
        return all(owner not in (None, owners[leaver.pid]) for shard, owner in open_ones if shard in mine)

    wait_for(handed_over)
    assert time.monotonic() - told < 3 * CLAIM_SECONDS
    for _ in range(20):
        leaver.send_signal(signal.SIGTERM)
    assert leaver.wait(PATIENCE_SECONDS) == 0
    printed, _ = tagging.communicate(timeout=PATIENCE_SECONDS)
    assert '"succeeded": 320' in printed.splitlines()[-1]
    assert alone.rows("SELECT sum(deaths) FROM core.shard")[0][0] == 0
    assert alone.differences() == 0

    stayer = next(process for process in pair if process is not leaver)
    for number in (signal.SIGQUIT, signal.SIGTERM) * 10:
        if stayer.poll() is None:
            stayer.send_signal(number)
    assert stayer.wait(PATIENCE_SECONDS) != 0  # it was not ended in good order, and says so
    for process in (alone.workers.pop("ingest"), alone.workers.pop("redriver")):
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    alone.workers.clear()


def test_a_worker_that_is_set_up_wrongly_says_so_by_its_status(alone):
    done = alone.run("worker", "annotate", model="resnet-0")
    assert done.returncode == 2
    assert "There is no model 'resnet-0'" in done.stderr
