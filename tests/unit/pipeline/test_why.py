"""One sentence for each thing that can keep a job from moving; the most decisive one where several do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.ledger.delivery import Delivery
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import Window
from pipeline.ledger.situation import Breaker, Crew, Full, Listing, Lock, Retries, Shards, Situation, Trouble
from pipeline.ledger.why import explain, sentence
from pipeline.records import Code, ItemState, JobState, WorkState

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOON = NOW + MINUTE
AGO = NOW - 2 * MINUTE


def a_job(**changes):
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
        "state": JobState.RUNNING,
        "error": None,
        "notes": (),
        "subtracted": 0,
        "listing": False,
        "created_at": AGO,
        "started_at": AGO,
        "finished_at": None,
        "total": 2000,
        "counts": {(ItemState.SUCCEEDED, Code.TAGGED): 1200, (ItemState.PENDING, Code.NONE): 800},
    }
    return Job(**{**facts, **changes})


def crew(queue, alive=1, starting=0, **trouble):
    troubles = (Trouble(**{"host": "one", "since": AGO, **trouble}),) if trouble else ()
    return Crew(queue=queue, alive=alive, starting=starting, troubles=troubles)


def waits(queue, trouble, **more):
    return crew(queue, trouble=trouble, **more)


#: Everybody is there, two shards can be claimed, and nothing is being done.
STILL = Situation(
    now=NOW,
    job=a_job(),
    ingest=crew("ingest"),
    annotate=crew("annotate.m"),
    redriver=crew("redriver"),
    shards=Shards(ready=2),
)

LISTING = Listing(state=WorkState.LEASED, listed=3000, next_attempt_at=None, lease_until=SOON, holder_lives=True)
BREAKER = Breaker(host="gpu-1", reason="no CUDA device.", opened_at=AGO, next_attempt_at=SOON)
LOCK = Lock(
    waiter="pictograph annotate", waiter_pid=12, since=AGO, holder="psql", holder_pid=99, holder_since=NOW - MINUTE
)
NOBODY = {"ingest": crew("ingest", 0), "annotate": crew("annotate.m", 0), "redriver": crew("redriver", 0)}
LIMIT = Full(queue="annotate.m", most=2, set_by="bob@desk", set_at=AGO)
OUTSIDE = a_job(
    state=JobState.PAUSED,
    window=Window(begins="01:00", ends="06:00"),
    paused_by="window 01:00-06:00 UTC",
    paused_at=AGO,
    pause_until=NOW + timedelta(hours=13),
)
CANCELLING = a_job(state=JobState.CANCELLING, cancelled_by="ann@desk")
PAUSED = a_job(state=JobState.PAUSED, paused_by="ann@desk", paused_at=AGO)
NOTICE = Delivery(
    delivery_id=1,
    event_id="0199",
    job_id=7,
    kind="webhook",
    target="https://example.org/ended",
    format=None,
    state=WorkState.PENDING,
    attempts=1,
    next_attempt_at=SOON,
    delivered_at=None,
    error="The receiver answered 503.",
    facts=None,
)
UNTRIED = replace(NOTICE, kind="results", target="s3://out/{job}.csv", format="csv", attempts=0, error=None)
GIVEN_UP = replace(UNTRIED, state=WorkState.CANCELLED, error="Given up after 30 tries: There is no bucket out.")
DONE = {(ItemState.SUCCEEDED, Code.TAGGED): 1997, (ItemState.FAILED, Code.CORRUPT): 3}

CASES = {
    "ended": (
        {"job": a_job(state=JobState.SUCCEEDED_WITH_ERRORS, finished_at=SOON, counts=DONE)},
        "Job 7 ended at 12:01:00 UTC, succeeded with errors: 2,000 photos, 3 of them failed.",
    ),
    "ended, failed": (
        {"job": a_job(state=JobState.FAILED, finished_at=AGO - timedelta(days=2), error="There is no bucket b.")},
        "Job 7 failed at 2025-12-31 11:58:00 UTC: There is no bucket b.",
    ),
    "ended, and a notice waits": (
        {"job": a_job(state=JobState.SUCCEEDED, finished_at=AGO, counts={}), "undelivered": (NOTICE,)},
        "Job 7 ended at 11:58:00 UTC, succeeded: 2,000 photos; its notice to https://example.org/ended did not arrive "
        "yet (The receiver answered 503), and another try follows at 12:01:00 UTC.",
    ),
    "ended, nothing was tried, and nobody is there": (
        {"job": a_job(state=JobState.SUCCEEDED, finished_at=AGO, counts={}), "undelivered": (UNTRIED,), **NOBODY},
        "Job 7 ended at 11:58:00 UTC, succeeded: 2,000 photos; its results to s3://out/7.csv did not arrive yet, and "
        "no ingest worker is alive to bring anything.",
    ),
    "ended, failed, and its results were given up": (
        {"job": a_job(state=JobState.FAILED, finished_at=AGO, error="Too bad."), "undelivered": (NOTICE, GIVEN_UP)},
        "Job 7 failed at 11:58:00 UTC: Too bad; its results to s3://out/7.csv will not arrive (Given up after 30 "
        "tries: There is no bucket out), nor did 1 other.",
    ),
    "paused": (
        {"job": PAUSED},
        "Job 7 is paused: ann@desk paused it at 11:58:00 UTC; `pictograph jobs resume 7` lets it go on.",
    ),
    "paused, with a reason and an end": (
        {"job": replace(PAUSED, pause_reason="The store is being moved.", pause_until=SOON)},
        "Job 7 is paused: ann@desk paused it at 11:58:00 UTC until 12:01:00 UTC (The store is being moved); "
        "`pictograph jobs resume 7` lets it go on.",
    ),
    "window_closed": (
        {"job": OUTSIDE},
        "Job 7 is paused: its window 01:00-06:00 UTC is closed until 2026-01-03 01:00:00 UTC; "
        "`pictograph jobs resume 7 --ignore-window` lets it go on now.",
    ),
    "pausing, for its window": (
        {"job": replace(OUTSIDE, in_hand=True), "shards": Shards(leased=1, workers=1)},
        "Job 7 is pausing: its window 01:00-06:00 UTC is closed until 2026-01-03 01:00:00 UTC, and 1 shard in hand "
        "will be finished before it rests.",
    ),
    "cancelling": (
        {"job": CANCELLING},
        "Job 7 is cancelling: ann@desk cancelled it, and 800 photos are to be counted as cancelled.",
    ),
    "cancelling, and nobody does it": (
        {"job": replace(CANCELLING, error="There is no bucket b."), **NOBODY},
        "Job 7 is failing: There is no bucket b, and 800 photos are to be counted as cancelled, which a redriver does; "
        "none is alive.",
    ),
    "limited": (
        {"full": (LIMIT,)},
        "Job 7 does not move: queue annotate.m may have 2 shards in hand at once and has no room, as bob@desk set it "
        "at 11:58:00 UTC; `pictograph queues unlimit annotate.m` lifts that.",
    ),
    "limited, by all together": (
        {"full": (replace(LIMIT, queue="*", most=1),)},
        "Job 7 does not move: all queues together may have 1 shard in hand at once and has no room, as bob@desk set it "
        "at 11:58:00 UTC; `pictograph queues unlimit all` lifts that.",
    ),
    "tagging, and failing": (
        {
            "shards": Shards(leased=3, workers=1),
            "job": a_job(
                most_failed_share=0.05,
                counts={
                    (ItemState.SUCCEEDED, Code.TAGGED): 970,
                    (ItemState.FAILED, Code.CORRUPT): 30,
                    (ItemState.PENDING, Code.NONE): 1000,
                },
            ),
        },
        "Job 7 moves: 1 worker has 3 shards in hand, 1,000 of 2,000 photos are done, 8 photos/s since it began, "
        "3.0% failed (above 5.0% it is given up).",
    ),
    "pausing": (
        {"job": replace(PAUSED, in_hand=True), "shards": Shards(leased=2, workers=1)},
        "Job 7 is pausing: ann@desk paused it at 11:58:00 UTC, and 2 shards in hand will be finished before it rests.",
    ),
    "locked": (
        {"lock": LOCK},
        "Job 7 does not move: since 11:58:00 UTC pictograph annotate (pid 12) waits for a lock in the database that "
        "psql (pid 99) holds in a transaction that began at 11:59:00 UTC.",
    ),
    "locked, by somebody whom we may not watch": (
        {"lock": replace(LOCK, holder="", holder_since=None)},
        "Job 7 does not move: since 11:58:00 UTC pictograph annotate (pid 12) waits for a lock in the database that "
        "a session (pid 99) holds.",
    ),
    "tagging": (
        {"shards": Shards(ready=5, leased=3, workers=2)},  # 1,200 photos in 120 s
        "Job 7 moves: 2 workers have 3 shards in hand, 1,200 of 2,000 photos are done, 10 photos/s since it began.",
    ),
    "tagging, and more": (
        {
            "shards": Shards(leased=1, workers=2, troubled=1),
            "retries": Retries(photos=1, next_attempt_at=SOON),
            "listing": LISTING,
            "job": a_job(started_at=NOW - timedelta(days=1)),
        },
        "Job 7 moves: 2 workers have 1 shard in hand, 1,200 of 2,000 photos are done, 1 photo to be tried again, and "
        "its source is still being listed.",
    ),
    "nobody": (
        NOBODY,
        "Job 7 does not move: neither a worker nor a redriver is alive; start all on this machine with "
        "`pictograph up`.",
    ),
    "breaker_open": (
        {"breakers": (BREAKER,), **NOBODY},
        "Job 7 does not move: model m does not work on gpu-1 since 11:58:00 UTC (no CUDA device), and is tried again "
        "at 12:01:00 UTC.",
    ),
    "breaker_open, on several": (
        {"breakers": (BREAKER, replace(BREAKER, host="gpu-2"))},
        "Job 7 does not move: model m does not work on gpu-1 and on 1 more machine since 11:58:00 UTC (no CUDA "
        "device), and is tried again at 12:01:00 UTC.",
    ),
    "no_annotate_worker": (
        {"annotate": crew("annotate.m", 0)},
        "Job 7 does not move: 800 photos are to be tagged, and no annotate worker that serves m is alive (queue "
        "annotate.m); start one with `pictograph worker annotate --model m`.",
    ),
    "no_annotate_worker, its breaker's pause long over": (
        {"annotate": crew("annotate.m", 0), "breakers": (replace(BREAKER, next_attempt_at=AGO),)},
        "Job 7 does not move: 800 photos are to be tagged, and no annotate worker that serves m is alive (queue "
        "annotate.m); start one with `pictograph worker annotate --model m`.",
    ),
    "annotate_worker_waits": (
        {
            "annotate": waits("annotate.m", "S3 at s3:9000 does not answer."),
            "shards": Shards(leased=1, workers=1, troubled=1),
        },
        "Job 7 does not move: the annotate worker on one waits since 11:58:00 UTC (S3 at s3:9000 does not answer).",
    ),
    "annotate_worker_starts": (
        {"annotate": crew("annotate.m", 0, starting=1)},
        "Job 7 is about to move: 1 annotate worker that serves m is starting.",
    ),
    "listing": (
        {"listing": LISTING, "job": a_job(counts={}, total=3000), "shards": Shards()},
        "Job 7 moves: its source is being listed, 3,000 photos so far.",
    ),
    "no_ingest_worker": (
        {
            "listing": replace(LISTING, state=WorkState.PENDING),
            "job": a_job(counts={}, total=0),
            "ingest": crew("ingest", 0),
            "shards": Shards(),
        },
        "Job 7 does not move: its source is to be listed, and no ingest worker is alive (queue ingest); start one with "
        "`pictograph worker ingest`.",
    ),
    "no_redriver": (
        {"redriver": crew("redriver", 0)},
        "Job 7 does not move: no redriver is alive to hand out its work; start one with `pictograph redriver`.",
    ),
    "redriver_waits": (
        {"redriver": waits("redriver", "The broker does not answer.", host="")},
        "Job 7 does not move: the redriver waits since 11:58:00 UTC (The broker does not answer).",
    ),
    "ingest_worker_waits": (
        {"listing": replace(LISTING, state=WorkState.QUEUED), "ingest": waits("ingest", "S3 is away.")},
        "Job 7 does not move: the ingest worker on one waits since 11:58:00 UTC (S3 is away).",
    ),
    "listing_backs_off": (
        {"listing": replace(LISTING, state=WorkState.PENDING, next_attempt_at=SOON), "shards": Shards()},
        "Job 7 does not move: its source did not answer, and is asked again at 12:01:00 UTC.",
    ),
    "lease_abandoned": (
        {"shards": Shards(abandoned=2, abandoned_until=SOON)},
        "Job 7 does not move: the worker that holds 2 shards fell silent, and the lease ends at 12:01:00 UTC; then "
        "another takes it.",
    ),
    "lease_abandoned, of the listing": (
        {"listing": replace(LISTING, holder_lives=False), "shards": Shards()},
        "Job 7 does not move: the worker that holds its listing fell silent, and the lease ends at 12:01:00 UTC; then "
        "another takes it.",
    ),
    "others_first": (
        {"shards": Shards(ready=2, ahead=14)},
        "Job 7 does not move: 14 shards of other jobs, of a higher priority or older, go first; 1 worker serves m.",
    ),
    "shard_backs_off": (
        {"shards": Shards(backing_off=1, next_attempt_at=SOON, failures=3, error="KeyError: 'x'")},
        "Job 7 does not move: 1 shard backs off until 12:01:00 UTC after 3 failures in a row (KeyError: 'x').",
    ),
    "photos_back_off": (
        {
            "shards": Shards(),
            "retries": Retries(photos=12, next_attempt_at=SOON, message="S3 at s3:9000 failed with 503 SlowDown."),
        },
        "Job 7 does not move: 12 photos wait for another try (S3 at s3:9000 failed with 503 SlowDown), the first until "
        "12:01:00 UTC.",
    ),
    "published": (
        {"shards": Shards(queued=2), "annotate": crew("annotate.m", 3)},
        "Job 7 is about to move: 2 shards are published, to be taken by 3 workers.",
    ),
    "published, the listing": (
        {"listing": replace(LISTING, state=WorkState.QUEUED), "shards": Shards()},
        "Job 7 is about to move: its listing is published, to be taken by 1 ingest worker.",
    ),
    "over": (
        {"job": a_job(counts=DONE), "shards": Shards()},
        "Job 7 is over: all its photos have ended, and a redriver says so with its next look.",
    ),
    "unpublished": (
        {},
        "Job 7 is about to move: its work has not been published yet; a redriver does with its next look.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_reason_is_one_sentence(name):
    changes, expected = CASES[name]
    reason = explain(replace(STILL, **changes))
    assert (reason.code, reason.sentence) == (name.split(",")[0], expected)
    assert reason.moves == any(f" {how}:" in expected for how in ("moves", "is pausing", "is cancelling", "is failing"))
    assert sentence(replace(STILL, **changes)) == expected


#: Where several hold, the former is said.
STRONGER = [
    ("ended", "paused"),
    ("paused", "locked"),
    ("locked", "tagging"),
    ("tagging", "breaker_open"),
    ("breaker_open", "no_annotate_worker"),
    ("no_annotate_worker", "no_redriver"),
    ("no_redriver", "others_first"),
    ("redriver_waits", "shard_backs_off"),
    ("others_first", "published"),
    ("limited", "others_first"),
    ("no_redriver", "limited"),
    ("cancelling", "locked"),
]


@pytest.mark.parametrize(("stronger", "weaker"), STRONGER)
def test_the_more_decisive_reason_is_said(stronger, weaker):
    both = {**CASES[weaker][0], **CASES[stronger][0]}
    assert explain(replace(STILL, **both)).code == stronger
