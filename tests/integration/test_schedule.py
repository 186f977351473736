"""Schedules on a real ledger: each time is fired once, by however many redrivers; what was missed follows the rule."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledger_helpers import ref
from sqlalchemy import text

from pipeline.errors import ConfigurationError
from pipeline.ledger import clock, jobs, schedule
from pipeline.ledger.requests import JobRequest, Output
from pipeline.ledger.schedule import Order
from pipeline.records import JobState
from workers.app import create_app
from workers.redriver import Redriver

REPOSITORY = Path(__file__).parents[2]
NIGHT = datetime(2026, 6, 1, tzinfo=UTC)
REQUEST = JobRequest(kind="s3", source="s3://photos/", user_rule="{user}/{photo}", priority=3)


def at(day, hour=0, minute=0):
    return NIGHT.replace(day=day, hour=hour, minute=minute)


def order(name="nightly", cron="0 2 * * *", span=None, **more):
    window = clock.parse_window(span, "UTC") if span else None
    facts = {"timezone": "UTC", "window": window, "request": REQUEST, "model": None, "by": "ann@host"} | more
    return Order(name=name, cron=cron, **facts)


def add(ledger, now=NIGHT, **facts):
    return ledger.database.run(lambda c: schedule.add(c, order(**facts), now))


def fire(ledger, now):
    return ledger.database.run(lambda c: schedule.fire_next(c, now))


def end(ledger, job_id):
    ledger.execute(
        f"UPDATE core.job SET state = {JobState.SUCCEEDED}, finished_at = now() WHERE job_id = :id", id=job_id
    )


def firings(ledger, name="nightly"):
    return ledger.database.run(lambda c: schedule.history(c, name, 100))


def test_what_is_due_becomes_one_job_and_is_due_again_the_next_day(ledger):
    added = add(ledger, span="01:00-06:00")
    assert added.next_at == at(1, 2)
    assert fire(ledger, at(1, 1, 59)) is None
    fired = fire(ledger, at(1, 2))
    job = ledger.job(fired.job_id)
    assert (job.source, job.priority, job.model, job.window) == ("s3://photos/", 3, "small", added.window)
    assert ledger.one("SELECT schedule_id FROM core.job WHERE job_id = :id", id=job.job_id) == added.schedule_id
    assert fire(ledger, at(1, 2)) is None
    assert schedule_of(ledger).next_at == at(2, 2)
    (kept,) = firings(ledger)
    assert (kept.due_at, kept.job_id, kept.missed, kept.note, kept.state) == (at(1, 2), job.job_id, 0, None, "created")


def schedule_of(ledger, name="nightly"):
    return ledger.database.run(lambda c: schedule.find(c, name))


def test_times_outside_of_the_window_are_none_of_it(ledger):
    add(ledger, cron="0 */5 * * *", span="04:00-12:00")
    for hour in (5, 10):
        end(ledger, fire(ledger, at(1, hour)).job_id)
    assert fire(ledger, at(2, 4, 59)) is None
    assert [kept.due_at for kept in firings(ledger)] == [at(1, 10), at(1, 5)]


def test_missed_times_are_made_up_for_once(ledger):
    add(ledger)
    fired = fire(ledger, at(4, 9))
    assert (fired.due_at, fired.missed) == (at(4, 2), 3)
    assert fire(ledger, at(4, 9)) is None
    assert schedule_of(ledger).next_at == at(5, 2)
    (kept,) = firings(ledger)
    assert (kept.missed, kept.job_id) == (3, fired.job_id)


def test_a_time_that_is_more_than_a_day_old_starts_nothing(ledger):
    add(ledger, cron="0 2 * * MON")  # the 1st is a Monday
    fired = fire(ledger, at(2, 2, 1))
    assert fired.job_id is None
    assert "24 hours late" in fired.note
    assert schedule_of(ledger).next_at == at(8, 2)
    assert ledger.one("SELECT count(*) FROM core.job") == 0


def test_while_a_job_of_it_is_under_way_no_second_is_started(ledger):
    add(ledger)
    first = fire(ledger, at(1, 2)).job_id
    second = fire(ledger, at(2, 2))
    assert (second.job_id, second.note) == (None, f"Job {first} of this schedule was still under way.")
    end(ledger, first)
    assert fire(ledger, at(3, 2)).job_id > first


def test_schedules_do_not_disturb_each_other(ledger):
    add(ledger, name="a", cron="0 2 * * *", span="01:00-06:00")
    add(ledger, name="b", cron="0 2 * * *", span="02:00-03:00")
    assert {fire(ledger, at(1, 2)).schedule, fire(ledger, at(1, 2)).schedule} == {"a", "b"}
    assert ledger.one("SELECT count(*) FROM core.job") == 2


def test_the_model_is_pinned_when_it_fires(ledger):
    add(ledger, name="active")
    add(ledger, name="named", model="small")
    other = ledger.register("other")
    promote = "INSERT INTO core.promotion (model_id, promoted_by) VALUES (:id, 'ann')"
    ledger.execute(promote, id=other.model_id)
    try:
        fired = {
            each.schedule: ledger.job(each.job_id).model for each in (fire(ledger, at(1, 2)), fire(ledger, at(1, 2)))
        }
        assert fired == {"active": "other", "named": "small"}
    finally:
        ledger.execute("DELETE FROM core.promotion WHERE model_id = :id", id=other.model_id)


def test_a_model_that_is_gone_stops_nobody_else(ledger):
    add(ledger, name="a", model="small")
    add(ledger, name="b")
    ledger.execute("UPDATE core.schedule SET request = jsonb_set(request, '{model}', '\"gone\"') WHERE name = 'a'")
    first, second = fire(ledger, at(1, 2)), fire(ledger, at(1, 2))
    assert first.job_id is None
    assert "no model 'gone'" in first.note
    assert second.job_id is not None


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"name": ""}, "no name"),
        ({"name": "a b"}, "no name"),
        ({"cron": "99 * * * *"}, "minute"),
        ({"cron": "0 2 31 2 *"}, "day of month"),
        ({"cron": "0 2 * * *", "span": "03:00-04:00"}, "would never run"),
        ({"timezone": "Europe/Atlantis"}, "time zone"),
        ({"model": "nobody"}, "no model 'nobody'"),
        ({"request": replace(REQUEST, outputs=(Output(target="/tmp/night.jsonl"),))}, "{job}"),
    ],
)
def test_what_could_not_work_is_refused(ledger, facts, says):
    with pytest.raises(ConfigurationError, match=says):
        add(ledger, **facts)
    assert ledger.one("SELECT count(*) FROM core.schedule") == 0


def test_who_gives_no_name_gets_one_after_the_source(ledger):
    sources = ["s3://photos/2026/", "s3://photos/2026", "s3://\u00e9/" + "x" * 80, "/", "ledger:photos"]
    names = [add(ledger, name=None, request=replace(REQUEST, source=source)).name for source in sources]
    assert names == ["photos-2026", "photos-2026-2", "x" * 40, "schedule", "ledger-photos"]


def test_a_name_is_taken_until_its_schedule_is_removed(ledger):
    add(ledger)
    with pytest.raises(ConfigurationError, match="already"):
        add(ledger)
    fired = fire(ledger, at(1, 2))
    ledger.database.run(lambda c: schedule.remove(c, "nightly"))
    assert fire(ledger, at(9, 2)) is None
    with pytest.raises(ConfigurationError, match="no schedule 'nightly'"):
        schedule_of(ledger)
    add(ledger, now=at(3))
    assert [kept.job_id for kept in firings(ledger)] == [fired.job_id]  # history outlives its schedule
    with pytest.raises(ConfigurationError, match="no schedule 'nope'"):
        firings(ledger, "nope")


def test_run_now_keeps_the_times_as_they_are(ledger):
    add(ledger)
    run = ledger.database.run(lambda c: schedule.run_now(c, "nightly", "ben@host"))
    assert run.note == "asked for by ben@host"
    assert ledger.job(run.job_id).state is JobState.CREATED
    assert schedule_of(ledger).next_at == at(1, 2)
    with pytest.raises(ConfigurationError, match=f"Job {run.job_id} of schedule 'nightly' is still under way"):
        ledger.database.run(lambda c: schedule.run_now(c, "nightly", "ben@host"))
    end(ledger, run.job_id)
    assert fire(ledger, at(1, 2)).job_id > run.job_id


def test_eight_redrivers_fire_each_time_once(ledger, ingest):
    """Forty schedules over five days, looked at by eight at once: as many jobs as times, each of one firing."""
    names = [f"s{n}" for n in range(8)]
    for name in names:
        add(ledger, name=name, cron="0 2 * * *")
    together = threading.Barrier(8)
    for day in range(1, 6):

        def look(_, day=day):
            together.wait()
            found = []
            while (fired := fire(ledger, at(day, 2))) is not None:
                found.append((fired.schedule, fired.due_at))
            return found

        with ThreadPoolExecutor(8) as pool:
            fired = [each for mine in pool.map(look, range(8)) for each in mine]
        # Who skipped a locked row may leave early; whoever held it has fired it.
        assert sorted(fired) == [(name, at(day, 2)) for name in names]
        ledger.execute(f"UPDATE core.job SET state = {JobState.SUCCEEDED}")
    rows = ledger.all("SELECT schedule_id, due_at, job_id FROM core.firing")
    assert len(rows) == len({row.job_id for row in rows}) == ledger.one("SELECT count(*) FROM core.job") == 40


KILLED = """
import os, signal, sys
from datetime import datetime
from pipeline import crashpoints
from pipeline.ledger import schedule
from pipeline.store.session import Database

def kill(point):
    if point is crashpoints.Point.SCHEDULE_BEFORE_COMMIT:
        os.kill(os.getpid(), signal.SIGKILL)

crashpoints.arm(kill)
database = Database(sys.argv[1], "killed redriver", connections=1)
database.run(lambda c: schedule.fire_next(c, datetime.fromisoformat(sys.argv[2])))
"""


def test_a_redriver_that_is_killed_before_it_commits_has_fired_nothing(ledger):
    add(ledger)
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", KILLED, url, at(1, 2).isoformat()], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert ledger.one("SELECT count(*) FROM core.job") == 0
    fired = fire(ledger, at(1, 2))
    assert (fired.due_at, fired.missed) == (at(1, 2), 0)
    assert fire(ledger, at(1, 2)) is None
    assert ledger.one("SELECT count(*) FROM core.job") == 1


def test_a_redriver_fires_as_who_may_submit_jobs(ledger, worker, ledger_settings):
    """Its own role may not: it takes the other one for this, and only then."""
    add(ledger, now=datetime.now(UTC) - timedelta(days=3), cron="* * * * *")
    app = create_app(ledger_settings)
    redriver = Redriver.over(ledger_settings, worker.database, app)
    try:
        redriver.tick()
    finally:
        redriver.broker.close()
        app.close()
    (fired,) = firings(ledger)
    assert fired.job_id is not None
    assert fired.missed > 2 * 24 * 60
    with pytest.raises(ConfigurationError, match="permission denied"):
        worker.database.run(lambda c: jobs.submit(c, REQUEST, ledger.registered.model_id))
    assert worker.database.run(lambda c: c.execute(text("SELECT current_user")).scalar()) == "pictograph_worker"


def test_ann_is_not_disturbed_by_a_schedule(ledger, ingest):
    """A job of a schedule is a job like any other: it is listed, tagged, and adds up."""
    add(ledger)
    fired = ingest.database.run(lambda c: schedule.fire_next(c, at(1, 2)))
    lease = ledger.claim_range(fired.job_id)
    assert lease is not None
    assert ledger.list([ref("ann/1.jpg")]) > fired.job_id
    ledger.check()
