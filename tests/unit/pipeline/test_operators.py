"""What is decided about jobs without asking a database: when one is hopeless, how much room limits leave."""

import pytest

from pipeline.ledger.control import signature
from pipeline.ledger.ending import FEWEST_TRIED, is_hopeless
from pipeline.ledger.limits import ALL, NO_BOUND, Use, room
from pipeline.ledger.requests import Window


@pytest.mark.parametrize(
    ("succeeded", "failed", "most", "hopeless"),
    [
        (95, 5, 0.05, False),  # 5 %: not more than the share
        (94, 6, 0.05, True),  # 6 %
        (0, FEWEST_TRIED - 1, 0.05, False),  # all of them, and too few to say
        (0, FEWEST_TRIED, 0.05, True),
        (99, 1, 0.0, True),  # not one may fail
        (100, 0, 0.0, False),
        (0, 1000, 1.0, False),  # all may
    ],
)
def test_a_job_is_hopeless_above_its_share_and_not_before_enough_was_tried(succeeded, failed, most, hopeless):
    assert is_hopeless(succeeded, failed, most) == hopeless


USE = {"annotate.a": Use(queued=1, leased=2), "annotate.b": Use(leased=4), "ingest": Use(queued=1)}


@pytest.mark.parametrize(
    ("most", "queue", "ahead", "left"),
    [
        ({}, "annotate.a", 0, NO_BOUND),
        ({"annotate.b": 1}, "annotate.a", 0, NO_BOUND),  # another queue's
        ({"annotate.a": 5}, "annotate.a", 3, 2),  # 5 - 1 - 2; those ahead are of other queues
        ({"annotate.b": 1}, "annotate.b", 0, -3),  # it was lowered
        ({"annotate.c": 3}, "annotate.c", 0, 3),  # nothing is under way
        ({ALL: 10}, "annotate.a", 0, 2),  # 10 - 8
        ({ALL: 10}, "annotate.a", 1, 1),
        ({ALL: 10, "annotate.a": 4}, "annotate.a", 0, 1),  # the stricter one
    ],
)
def test_the_room_that_limits_leave(most, queue, ahead, left):
    assert room(most, USE, queue, ahead=ahead) == left


def test_a_window_signs_with_its_hours():
    assert signature(Window(begins="01:00", ends="06:00")) == "window 01:00-06:00 UTC"
