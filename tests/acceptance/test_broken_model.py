"""A model that does not work on a machine: work waits, nobody is blamed, and once it is mended all goes on."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.settings import PREFIX
from tests.acceptance.conftest import PATIENCE_SECONDS, Site, fresh, wait_for

torch = pytest.importorskip("torch", reason="torch is not installed")

from workers.models import networks  # noqa: E402  (after the skip)

TINY = "timm:test_efficientnet"
QUEUE = "annotate.tiny"
NOWHERE = "127.0.0.1:1"  # nobody listens there
PHOTOS = 20
FAILURES = 3  # processes in a row that find the model broken


@pytest.fixture(scope="module")
def own(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site with a models' folder of its own, in which the model tiny is; the ledger does not know it yet."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.save(networks.seeded(TINY, "random:1").state_dict(), folder / "tiny.pth")
    changes = {"models": folder / "models", "model": "tiny", "runtime": "torch", "breaker_seconds": 1}
    found = replace(site, env=site.env | {PREFIX + k.upper(): str(v) for k, v in changes.items()}, workers={})
    added = found.run("models", "add", "tiny", "--weights", folder / "tiny.pth", "--network", TINY)
    assert added.returncode == 0, added.stderr
    yield found
    found.close()


@pytest.fixture
def weights(own: Site) -> Iterator[Path]:
    """The model's file, sound; it is sound again afterwards."""
    path = Path(own.env["PICTOGRAPH_MODELS"]).with_name("tiny.pth")
    sound = path.read_bytes()
    yield path
    path.write_bytes(sound)


def test_a_worker_whose_model_cannot_be_served_says_so_and_ends(own, weights):
    def refused() -> str:
        done = own.run("worker", "annotate")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "is not registered; run `pictograph migrate`" in refused()
    own.run("migrate")
    weights.unlink()
    assert "There is no weights file" in refused()


def test_a_database_that_is_away_is_waited_for(own, weights, tmp_path):
    away = replace(own, env=own.env | {"PICTOGRAPH_DATABASE_URL": f"postgresql://me@{NOWHERE}/x"}, logs=tmp_path)
    worker, log = away.start("worker", "annotate"), tmp_path / "annotate.log"
    wait_for(lambda: " ready." in log.read_text() and "this worker cannot start yet" in log.read_text())
    assert "whether tiny is registered is found out later" in log.read_text()
    assert stopped(worker) == 0


@pytest.mark.slow
def test_a_model_that_does_not_work_opens_the_breaker_until_it_is_mended(own, weights, photos, tmp_path):
    assert own.run("migrate").returncode == 0
    sound = weights.read_bytes()
    weights.write_bytes(sound[: len(sound) // 2])
    for n in range(PHOTOS):
        (tmp_path / f"{n}.jpg").write_bytes(fresh(photos[n % len(photos)]))
    job_id = own.report("tag", tmp_path, "--user", "ann", "--no-wait")["job"]
    worker = own.start("worker", "annotate")
    wait_for(lambda: own.rows("SELECT FROM core.breaker WHERE failures >= :n", n=FAILURES))

    job = own.report("jobs", "show", job_id)
    assert (job["state"], job["counts"]["total"]) == ("running", job["counts"]["waiting"])
    work = own.rows("SELECT DISTINCT state, lease_epoch, failures, deaths FROM core.shard WHERE job_id = :j", j=job_id)
    assert [tuple(row) for row in work] == [(0, 0, 0, 0)]  # as they were when they were listed
    sentence = wait_for(lambda: why(own, job_id))
    assert "not the weights file that was pinned" in sentence
    assert told(own) == ["does not work on"]

    weights.write_bytes(sound)
    wait_for(lambda: own.report("jobs", "show", job_id)["state"] == "succeeded")
    assert own.report("jobs", "show", job_id)["counts"]["succeeded"] == PHOTOS
    assert own.differences() == 0
    assert own.rows("SELECT FROM core.breaker") == []
    assert told(own) == ["does not work on", "works again on"]
    assert stopped(worker) == 0


def why(site: Site, job_id: int) -> str:
    """The answer of `jobs why`, if it names the breaker's present moment of the next attempt; else nothing."""
    ((moment,),) = site.rows("SELECT next_attempt_at FROM core.breaker WHERE queue = :queue", queue=QUEUE)
    told = site.report("jobs", "why", job_id)
    return told["sentence"] if told["reason"] == "breaker_open" and f"{moment:%H:%M:%S}" in told["sentence"] else ""


def told(site: Site) -> list[str]:
    """What the worker has said of its model, in order."""
    lines = (site.logs / "annotate.log").read_text().splitlines()
    said = ("does not work on", "works again on")
    return [words for line in lines for words in said if QUEUE in line and words in line]


def stopped(worker: "subprocess.Popen[bytes]") -> int:
    worker.terminate()
    return worker.wait(PATIENCE_SECONDS)
