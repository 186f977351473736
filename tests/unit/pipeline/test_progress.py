"""How far a job is, in numbers that can be checked by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.ledger.jobs import Job
from pipeline.ledger.progress import progress
from pipeline.records import Code, ItemState, JobState

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

JOB = Job(
    job_id=1,
    kind="s3",
    source="s3://photos/",
    user_rule="{user}/{photo}",
    fixed_user=None,
    model_id=1,
    model="small",
    priority=0,
    keep_missing=False,
    allow_mass_delete=False,
    state=JobState.RUNNING,
    error=None,
    notes=(),
    subtracted=0,
    listing=False,
    created_at=BEGAN,
    started_at=BEGAN,
    finished_at=None,
    total=100,
    seen_at=BEGAN + timedelta(seconds=10),
    counts={
        (ItemState.SUCCEEDED, Code.TAGGED): 30,
        (ItemState.DUPLICATE, Code.SAME_CONTENT): 5,
        (ItemState.FAILED, Code.CORRUPT): 5,
        (ItemState.SKIPPED_UNCHANGED, Code.NONE): 20,
        (ItemState.PENDING, Code.NONE): 38,
        (ItemState.RETRY, Code.NONE): 2,
    },
)


def test_what_is_done_how_fast_and_how_long_that_leaves() -> None:
    found = progress(JOB)
    assert (found.done, found.total, found.share) == (60, 100, 0.6)
    assert (found.worked, found.seconds, found.photos_per_s) == (40, 10.0, 4.0)  # 30 + 5 + 5 in 10 s
    assert found.seconds_left == 10.0  # 40 at 4 a second


@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, listing=True),
        replace(JOB, state=JobState.PAUSED, paused_at=BEGAN),
        replace(JOB, state=JobState.CREATED, started_at=None, counts={}),
        replace(JOB, counts={(ItemState.PENDING, Code.NONE): 3}),
    ],
)
def test_nobody_knows_how_long_it_takes(job: Job) -> None:
    assert progress(job).seconds_left is None


def test_pauses_are_no_work() -> None:
    paused = replace(JOB, state=JobState.PAUSED, paused_at=BEGAN + timedelta(seconds=8), rested_seconds=3.0)
    assert (progress(paused).seconds, progress(paused).photos_per_s) == (5.0, 8.0)
    ended = replace(JOB, state=JobState.SUCCEEDED, finished_at=BEGAN + timedelta(seconds=23), rested_seconds=3.0)
    assert progress(ended).seconds == 20.0


def test_before_anything_was_met() -> None:
    found = progress(replace(JOB, state=JobState.CREATED, started_at=None, counts={}))
    assert (found.done, found.share, found.seconds, found.photos_per_s) == (0, None, 0.0, 0.0)
