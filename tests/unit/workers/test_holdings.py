"""What a stream holds: when a shard is begun, complete, lost, and how long nothing came through."""

import threading
import time

import pytest

from pipeline.records import Lease, PhotoTask
from workers.holdings import Holdings


def lease(shard_id, epoch=1):
    return Lease(work_id=shard_id, job_id=1, epoch=epoch)


def task(shard_id, photo_id):
    return PhotoTask(
        job_id=1, shard_id=shard_id, photo_id=photo_id, content_rev=1, bucket="s3://b", key="k", etag="e", size=1,
        version_id=None,
    )  # fmt: skip


@pytest.fixture
def held():
    holdings = Holdings()
    holdings.add(lease(1), [10, 11])
    holdings.add(lease(2), [20])
    return holdings


def test_a_shard_begins_once(held):
    assert held.begin(1) == lease(1)
    assert held.begin(1) is None
    assert held.begin(9) is None


def test_a_shard_is_complete_with_its_last_photo_and_only_then(held):
    assert held.landed([task(1, 10)]) == []
    assert held.landed([task(2, 20)]) == [lease(2)]
    assert held.landed([task(1, 11)]) == [lease(1)]
    assert held.landed([task(1, 11)]) == []  # one too many completes nothing
    assert len(held) == 2  # until the merge has finished it


def test_results_of_one_shard_may_land_together(held):
    assert held.landed([task(1, 10), task(2, 20), task(1, 11)]) == [lease(2), lease(1)]


def test_a_photo_that_was_under_way_twice_counts_once(held):
    """Its shard was lost and claimed again, while the results of the first time were still to come."""
    held.drop([lease(1)])
    held.add(lease(1, epoch=2), [10, 11])
    assert held.landed([task(1, 10), task(1, 10)]) == []
    assert held.landed([task(1, 10), task(1, 11), task(1, 11)]) == [lease(1, epoch=2)]


def test_losing_a_lease_leaves_a_later_one_of_the_same_shard(held):
    held.add(lease(1, epoch=2), [10, 11])
    held.drop([lease(1)])
    assert held.holds(1)


def test_what_was_dropped_is_not_held_and_lands_nowhere(held):
    held.drop([lease(1), lease(7)])
    assert not held.holds(1)
    assert held.holds(2)
    assert held.leases() == [lease(2)]
    assert held.landed([task(1, 10)]) == []


def test_waiting_ends_when_something_is_dropped(held):
    waiting = threading.Thread(target=held.wait, args=(30,))
    waiting.start()
    while waiting.is_alive():
        held.drop([lease(1)])
        waiting.join(0.01)


def test_what_has_begun_is_known(held):
    assert held.begun() == []
    assert held.begin(2) == lease(2)
    assert held.begun() == [lease(2)]


@pytest.mark.parametrize("pulse", [lambda held: held.landed([task(1, 10)]), lambda held: held.moved()])
def test_idleness_is_measured_from_the_last_pulse(held, pulse):
    time.sleep(0.02)
    before = held.idle_seconds()
    assert before >= 0.02
    pulse(held)
    assert held.idle_seconds() < before


def test_the_lowest_priority_of_what_is_held():
    holdings = Holdings()
    assert holdings.least_priority() is None
    leases = [Lease(work_id=n, job_id=1, epoch=1, priority=priority) for n, priority in enumerate((50, -3, 0))]
    for held in leases:
        holdings.add(held)
    assert holdings.least_priority() == -3
    holdings.drop(leases[1:])
    assert holdings.least_priority() == 50
