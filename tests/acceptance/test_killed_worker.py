"""Workers that are killed in the middle: every photo still ends in one state, counted once."""

import subprocess
from pathlib import Path

import psutil

from tests.acceptance.conftest import COMMAND, PATIENCE_SECONDS, Site, family, wait_for

IN_THE_MIDDLE = 40  # photos of 320


def begin(site: Site, folder: Path, user: str) -> "subprocess.Popen[str]":
    """`pictograph tag` on its way, some photos done and many not."""
    command = [*COMMAND, "tag", str(folder), "--user", user, "--json"]
    tagging = subprocess.Popen(command, env=site.env, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: done(site, user) >= IN_THE_MIDDLE or tagging.poll() is not None)
    assert tagging.poll() is None, "the job was over too soon to be disturbed"
    return tagging


def done(site: Site, user: str) -> int:
    query = "SELECT count(*) FROM core.photo_result JOIN core.app_user USING (user_id) WHERE name = :user"
    return site.rows(query, user=user)[0][0]


def finish(site: Site, tagging: "subprocess.Popen[str]", user: str) -> None:
    printed, _ = tagging.communicate(timeout=PATIENCE_SECONDS)
    assert tagging.returncode == 0
    assert '"succeeded": 320' in printed.splitlines()[-1]
    assert done(site, user) == 320
    assert site.differences() == 0


def test_the_child_that_does_the_work(site, many):
    tagging = begin(site, many, "kim")
    children = [child for child in family(site.workers["annotate"]) if "spawn_main" in " ".join(child.cmdline())]
    worker = max(children, key=lambda child: child.memory_info().rss)  # the one that has loaded the model
    worker.kill()
    finish(site, tagging, "kim")


def test_the_whole_worker_and_nothing_of_it_stays(site, many):
    tagging = begin(site, many, "lea")
    parent = site.workers["annotate"]
    left = family(parent)
    parent.kill()
    parent.wait()
    site.start("worker", "annotate")
    finish(site, tagging, "lea")
    assert psutil.wait_procs(left, timeout=PATIENCE_SECONDS)[1] == []


def test_a_job_outlives_the_one_who_waits_for_it(site, many):
    tagging = begin(site, many, "ben")
    tagging.kill()
    tagging.wait()
    tagging.stdout.close()
    job = site.report("jobs", "list", "--limit", "1")["job"]
    wait_for(lambda: site.report("jobs", "show", job)["state"] == "succeeded")
    assert done(site, "ben") == 320
    assert site.differences() == 0
