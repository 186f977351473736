"""A store that says "slow down": one pause for all threads, longer with each refusal after it, gone with success."""

import threading
import time

from workers.pace import Pace


def test_who_is_not_refused_does_not_wait():
    start = time.monotonic()
    Pace(first_seconds=60, longest_seconds=60).wait()
    assert time.monotonic() - start < 10


def test_refusals_of_one_moment_make_one_pause():
    pace = Pace(first_seconds=0.4, longest_seconds=10)
    start = time.monotonic()
    for _ in range(50):
        pace.slow_down()
    assert pace._pause == 0.4
    threads = [threading.Thread(target=pace.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= time.monotonic() - start < 5


def test_pauses_grow_up_to_a_limit_and_shrink_with_success():
    pace = Pace(first_seconds=0.01, longest_seconds=0.05)
    seen = []
    for _ in range(5):
        pace.wait()
        pace.slow_down()
        seen.append(pace._pause)
    assert seen == [0.01, 0.02, 0.04, 0.05, 0.05]
    for _ in range(4):
        pace.went_well()
    assert pace._pause == 0
