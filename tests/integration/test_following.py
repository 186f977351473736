"""Following a job that is paused and resumed: it is said, once each, and the watch goes on."""

import io
import threading
from functools import partial

import pytest
from ledger_helpers import ref, wait_for
from rich.console import Console

from pictograph import follow as following
from pictograph.follow import follow
from pictograph.supervisor import Supervisor
from pipeline.ledger import control, ending, roster
from pipeline.records import JobState


def test_a_job_that_is_paused_and_goes_on(ledger, monkeypatch):
    monkeypatch.setattr(following, "RESTING_LOOK_SECONDS", 0.1)
    ledger.database.run(lambda c: roster.note_worker(c, "tagger", "annotate.small", progressed=False))
    job_id = ledger.list([ref("k1"), ref("k2")])
    said, ended = io.StringIO(), []
    console = Console(file=said, width=200)
    watching = threading.Thread(target=lambda: ended.append(follow(ledger.database, job_id, console, show=True)))
    watching.start()
    for _ in range(2):
        before = said.getvalue()
        ledger.database.run(lambda c: control.pause(c, job_id, "ann@desk"))
        wait_for(lambda before=before: "was paused by ann@desk at" in said.getvalue().removeprefix(before))
        ledger.database.run(lambda c: control.resume(c, job_id))
        wait_for(lambda before=before: f"Job {job_id} goes on." in said.getvalue().removeprefix(before))
    ledger.tag_all(job_id, "dog")
    ledger.database.run(ending.finish_jobs)
    watching.join()
    assert ended[0].state is JobState.SUCCEEDED
    assert said.getvalue().count(f"`pictograph jobs resume {job_id}` lets it go on") == 2
    assert said.getvalue().count("goes on.") == 2


@pytest.mark.parametrize("ours", [True, False])
def test_a_job_that_waits_says_who_is_missing_whoever_runs_the_workers(ledger, ledger_settings, monkeypatch, ours):
    monkeypatch.setattr(following, "LONELY_SECONDS", 0.0)
    monkeypatch.setattr(Supervisor, "start_if_free", lambda _self: ours)  # False: another process has the lock
    job_id, said, ended = ledger.list([ref("k1")]), io.StringIO(), []
    console, supervisor = Console(file=said, width=300), Supervisor(ledger_settings)
    watch = partial(follow, ledger.database, job_id, console, show=True, supervisor=supervisor)
    watching = threading.Thread(target=lambda: ended.append(watch()))
    watching.start()
    wait_for(lambda: f"Job {job_id} waits: " in said.getvalue())
    ledger.tag_all(job_id, "dog")
    ledger.database.run(ending.finish_jobs)
    watching.join()
    assert ("no annotate worker has come up; see " in said.getvalue()) is ours
    assert ("`pictograph worker annotate --model small`" in said.getvalue()) is not ours
