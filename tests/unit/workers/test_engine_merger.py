"""How results are gathered into transactions, and what an outage does to them; the transaction itself is replaced."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.records import Code, ItemState, Lease, PhotoResult, PhotoTask
from pipeline.store.merge import Merged
from workers.engine import merger, outages
from workers.engine.flow import Channel
from workers.engine.merger import Merger
from workers.engine.outages import Patience
from workers.engine.twins import Twins
from workers.holdings import Holdings


@dataclass(kw_only=True)
class Recording(Merger):
    """Writes down each transaction, after as many failures as asked for."""

    failures: list[Exception] = field(default_factory=list)
    made: list[tuple[int, list[int]]] = field(default_factory=list)
    lost: frozenset[int] = frozenset()

    def _in_one_transaction(self, batch, leases):
        if self.failures:
            raise self.failures.pop(0)
        ids = [lease.work_id for lease in leases]
        self.made.append((len(batch), ids))
        return Merged(stored=len(batch), closed={}, finished=frozenset(ids) - self.lost)


def result(shard_id, photo_id=0):
    task = PhotoTask(
        job_id=1,
        shard_id=shard_id,
        photo_id=photo_id,
        content_rev=1,
        bucket="s3://b",
        key="k",
        etag="e",
        size=1,
        version_id=None,
    )
    return PhotoResult(task=task, state=ItemState.FAILED, code=Code.CORRUPT)


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(outages, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(merger, "LONGEST_WAIT_SECONDS", 0.1)
    holdings = Holdings()
    for shard_id, photos in ((1, 3), (2, 2), (3, 1000)):
        holdings.add(Lease(work_id=shard_id, job_id=1, epoch=1), range(photos))
    return Recording(
        database=None,
        registered=None,
        holdings=holdings,
        twins=Twins(Channel()),
        patience_seconds=1,
        patience=Patience(seconds=0.2),
    )


def drain(made, *shards):
    results = Channel()
    for n, shard_id in enumerate(shards):
        results.put([result(shard_id, photo_id=shards[:n].count(shard_id))])
    results.close()
    made.drain(results)


def test_a_shard_is_finished_with_its_last_result_in_one_transaction(made):
    drain(made, 1, 2, 1, 2, 1, 3)
    assert made.made == [(4, [2]), (1, [1]), (1, [])]
    assert (made.photos, [lease.work_id for lease in made.holdings.leases()]) == (6, [3])


def test_a_transaction_has_a_largest_size(made, monkeypatch):
    monkeypatch.setattr(merger, "MOST_PHOTOS", 4)
    drain(made, *[3] * 10)
    assert made.made == [(4, []), (4, []), (2, [])]


def test_a_result_does_not_wait_long_for_company(made):
    results = Channel()
    thread = threading.Thread(target=made.drain, args=(results,))
    thread.start()
    results.put([result(3)])
    deadline = time.monotonic() + 5
    while not made.made and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made.made == [(1, [])]
    results.close()
    thread.join()


def test_a_lost_shard_is_dropped_like_a_finished_one(made):
    made.lost = frozenset({2})
    drain(made, 2, 2)
    assert not made.holdings.holds(2)


def test_results_wait_through_an_outage(made):
    made.failures = [ServiceDown("away")] * 3
    drain(made, 2, 2)
    assert made.made == [(2, [2])]


@pytest.mark.parametrize("error", [ServiceDown("away"), ConfigurationError("the password was changed")])
def test_what_does_not_pass_is_raised(made, error):
    made.failures = [error] * 1000
    with pytest.raises(type(error)):
        drain(made, 2, 2)
    assert made.made == []
    assert made.holdings.holds(2)  # handed back by the stream


def test_an_empty_shard_is_let_go_whether_finished_or_lost(made):
    made.lost = frozenset({2})
    for shard_id in (1, 2):
        made.finish(Lease(work_id=shard_id, job_id=1, epoch=1))
        assert not made.holdings.holds(shard_id)
