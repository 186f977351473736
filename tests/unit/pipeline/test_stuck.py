"""Who is stuck, and who only waits: every condition matters, one by one."""

import time
from dataclasses import replace

import pytest

from pictograph.watchdog import Memory, Watchdog
from pipeline.ledger.roster import RESPAWN_SECONDS, Seen, may_be_deaf, stuck
from pipeline.settings import Settings

BOUND = 60.0
DEAF = Seen(
    worker_id="host:42:1",
    queue="annotate.small",
    starting=False,
    process_id=40,
    silent_seconds=1.0,
    rung_seconds=500.0,
    leases=0,
    waiting_seconds=400.0,
    trouble=None,
    breaker=None,
    redriver_well=True,
)


def why(seen, *, lives=True, waited=90.0):
    return stuck(seen, lives=lives, waited_seconds=waited, bound_seconds=BOUND)


def test_messages_wait_and_it_takes_none():
    assert why(DEAF) == "messages for annotate.small have waited for 90 s, and it takes none"
    assert DEAF.own_process_id == 42


@pytest.mark.parametrize(
    "change",
    [
        {"leases": 1},
        {"rung_seconds": 59.0},
        {"waiting_seconds": None},
        {"redriver_well": False},
        {"breaker": "The device is gone."},
        {"starting": True},
        {"queue": "redriver"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_who_has_a_reason_is_not_deaf(change):
    assert why(replace(DEAF, **change)) is None


def test_messages_that_wait_for_a_moment_only_are_no_reason():
    assert why(DEAF, waited=59) is None


@pytest.mark.parametrize("change", [{}, {"starting": True}, {"breaker": "x"}, {"leases": 3}])
def test_a_heart_that_stands_still_while_its_process_lives(change):
    assert why(replace(DEAF, silent_seconds=61.0, waiting_seconds=None, **change), waited=0) is not None


def test_a_parent_whose_child_is_gone_has_time_to_start_another():
    gone = replace(DEAF, silent_seconds=BOUND + RESPAWN_SECONDS - 1)
    assert why(gone, lives=False) is None
    assert why(replace(gone, silent_seconds=BOUND + RESPAWN_SECONDS + 1), lives=False) is not None


def test_a_redriver_that_does_not_tick():
    assert "not ticked" in why(replace(DEAF, queue="redriver", silent_seconds=61.0))
    assert not may_be_deaf(replace(DEAF, queue="redriver"))


# ---- what several looks show


def look(memory, now, seen=(DEAF,), age=1000.0, lying=True):
    found = memory.judge(now, seen, {40: age}, lambda _: lying, lambda _: True)
    return [one.process_id for one in found]


def test_a_worker_must_be_deaf_at_every_look_for_as_long_as_the_bound():
    memory = Memory(bound_seconds=BOUND)
    assert [look(memory, now) for now in (0, 30, 60, 61)] == [[], [], [], [40]]
    assert look(memory, 62, lying=False) == []
    assert look(memory, 63) == []  # it begins anew
    assert look(memory, 130) == [40]


def test_a_database_that_was_away_excuses_everybody():
    memory = Memory(bound_seconds=BOUND)
    silent = replace(DEAF, silent_seconds=300.0)
    assert [look(memory, now, [silent]) for now in (0, 61)] == [[], [40]]
    memory.forget()
    assert [look(memory, now, [silent]) for now in (100, 159, 161)] == [[], [], [40]]


def test_a_row_from_before_its_process_is_of_another_one():
    memory = Memory(bound_seconds=BOUND)
    silent = replace(DEAF, silent_seconds=300.0)
    look(memory, 0)
    assert look(memory, 100, [silent], age=200.0) == []
    assert look(memory, 100, [], age=BOUND + RESPAWN_SECONDS + 1) == [40]  # it never came on the list


# ---- a look


class Database:
    """It answers after so many seconds that nobody has been heard of for long."""

    def __init__(self, seconds):
        self.seconds = seconds

    def run(self, _):
        time.sleep(self.seconds)
        return [replace(DEAF, silent_seconds=300.0)]


@pytest.mark.parametrize(("seconds", "excused"), [(0.0, False), (0.6, True)])
def test_a_database_that_stood_still_excuses_everybody(seconds, excused):
    """Who was to beat meanwhile could not: what it says of them is old."""
    watchdog, memory = Watchdog(Settings(), lambda: {40: 1000.0}), Memory(bound_seconds=1.0, answering_since=0.0)
    watchdog._look(Database(seconds), memory)
    assert watchdog.found.empty() is excused
    assert (memory.answering_since is None) is excused
