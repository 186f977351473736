"""Following a job that is paused and resumed: it is said, once each, and the watch goes on."""

import io
import threading

from ledger_helpers import ref, wait_for
from rich.console import Console

from pictograph import follow as following
from pictograph.follow import follow
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
