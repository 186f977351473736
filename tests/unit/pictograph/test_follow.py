"""How a job is told: counts that add up, reasons, and photos per second."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.progress import Progress

from pictograph.follow import Rate, rate, report, seconds
from pipeline.ledger.jobs import Job
from pipeline.records import Code, ItemState, JobState

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


def a_job(**changes: object) -> Job:
    facts = {
        "job_id": 7,
        "kind": "s3",
        "source": "s3://b/p/",
        "user_rule": "{user}/{photo}",
        "fixed_user": None,
        "model_id": 1,
        "model": "m",
        "priority": 0,
        "keep_missing": False,
        "allow_mass_delete": False,
        "state": JobState.SUCCEEDED_WITH_ERRORS,
        "error": None,
        "notes": (),
        "subtracted": 0,
        "listing": False,
        "created_at": BEGAN,
        "started_at": BEGAN,
        "finished_at": BEGAN + timedelta(seconds=4),
        "total": 20,
        "counts": {
            (ItemState.SUCCEEDED, Code.TAGGED): 9,
            (ItemState.SUCCEEDED, Code.ABSTAINED): 2,
            (ItemState.FAILED, Code.CORRUPT): 1,
            (ItemState.SKIPPED_UNCHANGED, Code.NONE): 5,
            (ItemState.EXCLUDED, Code.NO_USER): 3,
        },
    }
    return Job(**{**facts, **changes})


def test_a_report_counts_every_state_and_adds_up():
    counts = report(a_job()).counts
    assert counts == {
        "total": 20,
        "succeeded": 11,
        "failed": 1,
        "skipped_unchanged": 5,
        "duplicate": 0,
        "excluded": 3,
        "cancelled": 0,
        "erased": 0,
    }
    assert sum(counts.values()) == 2 * counts["total"]


def test_a_report_names_the_reasons_most_first():
    assert list(report(a_job()).reasons.items()) == [("tagged", 9), ("no_user", 3), ("abstained", 2), ("corrupt", 1)]


def test_what_is_unfinished_is_counted_as_waiting():
    job = a_job(counts={(ItemState.PENDING, Code.NONE): 4, (ItemState.RETRY, Code.NONE): 1}, total=5)
    assert report(job).counts["waiting"] == 5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 3.0),  # 11 tagged and 1 failed, in 4 s
        ({"counts": {(ItemState.DUPLICATE, Code.SAME_CONTENT): 8, (ItemState.DUPLICATE, Code.LISTED_TWICE): 4}}, 2.0),
        ({"finished_at": BEGAN}, 12_000.0),  # no division by zero: at least a thousandth of a second
        ({"counts": {(ItemState.SKIPPED_UNCHANGED, Code.NONE): 20}}, 0.0),
        ({"started_at": None, "finished_at": None, "counts": {}}, 0.0),
    ],
)
def test_photos_per_second_are_those_that_were_looked_at(changes, expected):
    assert rate(a_job(**changes)) == expected


def test_a_running_job_has_taken_the_time_until_now():
    assert seconds(a_job(started_at=datetime.now(UTC) - timedelta(seconds=9), finished_at=None)) == pytest.approx(
        9, abs=1
    )


def test_the_bar_tells_speed_and_remaining_time():
    now = 0.0
    bar = Progress(Rate(), get_time=lambda: now)
    task = bar.add_task("", total=100)
    for now in (1.0, 2.0, 3.0):  # noqa: B007 - the clock that the bar reads
        bar.advance(task, 10)
    assert str(Rate().render(bar.tasks[0])) == "10 photos/s, 7 s left"
