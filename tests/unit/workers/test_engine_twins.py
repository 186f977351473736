"""Photos with the same bytes in one stream: one is looked at, whatever the order of events and of threads."""

import threading
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import Annotation, Code, ItemState, PhotoResult, PhotoTask
from workers.engine.flow import Channel
from workers.engine.twins import Twins, Way

DOG, CAT = b"dog" * 11, b"cat" * 11  # SHA-256s; only their difference counts
NOTE = Annotation(nodes=(1, 2), masses=(10_000, 9_000), tags=(2,), headline=2)
SOON = 10.0  # seconds, until a thread is taken to hang


def task(photo_id, shard_id=1):
    return PhotoTask(
        job_id=1, shard_id=shard_id, photo_id=photo_id, content_rev=1, bucket="s3://b", key=str(photo_id), etag="e",
        size=1, version_id=None,
    )  # fmt: skip


def seen(task, sha256):
    return PhotoResult(
        task=task, state=ItemState.SUCCEEDED, code=Code.TAGGED, annotation=NOTE, sha256=sha256, taken_at=None
    )


def failed(task, sha256, code=Code.CORRUPT, state=ItemState.FAILED):
    return PhotoResult(task=task, state=state, code=code, sha256=sha256, message="broken")


class Bed:
    """A register, and the tasks that it hands out once more."""

    def __init__(self):
        self.tasks = Channel()
        self.twins = Twins(self.tasks)

    def again(self):
        self.tasks.close()
        return [task.photo_id for task in self.tasks]


@pytest.fixture
def bed():
    return Bed()


def test_the_first_of_a_content_leads_and_the_others_become_what_it_is(bed):
    first, second, other, third = (task(n) for n in range(4))
    assert bed.twins.admit(first, DOG) is Way.LEADS
    assert bed.twins.admit(second, DOG) is Way.FOLLOWS
    assert bed.twins.admit(other, CAT) is Way.LEADS
    found = bed.twins.settled([seen(first, DOG)])
    assert [(r.task, r.state, r.code, r.outcome, r.annotation, r.sha256) for r in found] == [
        (first, ItemState.SUCCEEDED, Code.TAGGED, None, NOTE, DOG),
        (second, ItemState.DUPLICATE, Code.SAME_CONTENT, Code.TAGGED, NOTE, DOG),
    ]
    late = bed.twins.admit(third, DOG)  # the result is not committed yet, so that the ledger does not have it
    assert isinstance(late, PhotoResult)
    assert (late.task, late.state, late.outcome) == (third, ItemState.DUPLICATE, Code.TAGGED)
    assert bed.twins.settled([late]) == [late]
    bed.twins.committed(found)
    assert len(bed.twins) == 1  # the cat
    assert bed.twins.admit(task(5), DOG) is Way.LEADS  # and finds it in the ledger
    assert bed.again() == []


def test_a_copy_of_a_failure_that_comes_of_the_bytes_fails_alike(bed):
    first, second = task(0), task(1)
    bed.twins.admit(first, DOG)
    bed.twins.admit(second, DOG)
    _, copy = bed.twins.settled([failed(first, DOG)])
    assert (copy.task, copy.state, copy.code, copy.annotation) == (second, ItemState.FAILED, Code.CORRUPT, None)
    assert copy.message == "The same bytes were met before, and are corrupt."


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (Code.NONE, ItemState.RETRY),
        (Code.MODEL_ERROR, ItemState.FAILED),
        (Code.QUARANTINED, ItemState.FAILED),
    ],
)
def test_what_says_nothing_of_the_bytes_sends_the_others_their_own_ways(bed, code, state):
    first, *others = (task(n) for n in range(4))
    assert bed.twins.admit(first, DOG) is Way.LEADS
    for copy in others:
        bed.twins.admit(copy, DOG)
    mine = failed(first, DOG, code, state)
    assert bed.twins.settled([mine]) == [mine]
    assert bed.again() == [1, 2, 3]
    assert [bed.twins.admit(copy, DOG) for copy in others] == [Way.ALONE] * 3
    assert bed.twins.admit(task(9), DOG) is Way.LEADS
    result = seen(others[0], DOG)
    assert bed.twins.settled([result]) == [result]  # who goes alone has no followers
    assert len(bed.twins) == 1


def test_a_photo_that_is_under_way_twice_is_no_duplicate_of_itself(bed):
    """Of two jobs, or of a shard that was lost and claimed again."""
    once, twice = task(7), task(7, shard_id=2)
    bed.twins.admit(once, DOG)
    assert bed.twins.admit(twice, DOG) is Way.FOLLOWS
    first, second = bed.twins.settled([seen(once, DOG)])
    assert (second.task, second.state, second.code) == (twice, first.state, first.code)


def test_results_without_a_hash_are_none_of_its_business(bed):
    gone = PhotoResult(task=task(1), state=ItemState.FAILED, code=Code.GONE)
    assert bed.twins.settled([gone]) == [gone]
    bed.twins.committed([gone])
    assert len(bed.twins) == 0


ENDS = st.sampled_from(["seen", "corrupt", "retry", "model"])


@settings(max_examples=200)
@given(contents=st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=12), data=st.data())
def test_every_photo_has_one_result_and_a_content_one_leader_at_a_time(contents, data):
    """Photos are fetched, looked at, merged and fetched again in any order."""
    bed = Bed()
    fetched = [task(n) for n in range(len(contents))]
    looking, settled, results = [], [], []
    leading = defaultdict(int)  # by content: leaders whose result is not committed
    while fetched or looking or settled:
        step = data.draw(st.sampled_from([name for name, queue in (("admit", fetched), ("look", looking),
                                                                   ("commit", settled)) if queue]))  # fmt: skip
        if step == "admit":
            one = fetched.pop(data.draw(st.integers(0, len(fetched) - 1)))
            way = bed.twins.admit(one, contents[one.photo_id])
            if isinstance(way, PhotoResult):
                settled.append(bed.twins.settled([way]))
            elif way is not Way.FOLLOWS:
                looking.append((one, way))
                leading[contents[one.photo_id]] += way is Way.LEADS
                assert leading[contents[one.photo_id]] <= 1
        elif step == "look":
            one, way = looking.pop(data.draw(st.integers(0, len(looking) - 1)))
            end, sha256 = data.draw(ENDS), contents[one.photo_id]
            result = {
                "seen": seen(one, sha256),
                "corrupt": failed(one, sha256),
                "retry": failed(one, sha256, Code.NONE, ItemState.RETRY),
                "model": failed(one, sha256, Code.MODEL_ERROR),
            }[end]
            settled.append(bed.twins.settled([result]))
            leading[sha256] -= way is Way.LEADS and end in ("retry", "model")
        else:
            batch = settled.pop(0)
            bed.twins.committed(batch)
            results += batch
            for result in batch:
                if result.outcome is None and result.code in (Code.TAGGED, Code.CORRUPT):
                    leading[result.sha256] = 0
        fetched += _handed_out(bed)
    assert Counter(result.task.photo_id for result in results) == Counter(range(len(contents)))
    assert len(bed.twins) == 0


def _handed_out(bed):
    tasks = []
    while not bed.tasks._items.empty():
        tasks.append(bed.tasks.take())
    return tasks


def test_many_threads_bring_the_same_bytes(bed):
    """Each content is looked at once: whoever leads settles and commits while others come."""
    looked_at, ends, guard = Counter(), Counter(), threading.Lock()
    start = threading.Barrier(8)

    def bring(worker):
        start.wait()
        for n in range(200):
            content = bytes([n % 10])
            one = task(1000 * worker + n)
            way = bed.twins.admit(one, content)
            if way is Way.FOLLOWS:
                continue
            results = [way]
            if way is Way.LEADS:
                with guard:
                    looked_at[content] += 1
                results = bed.twins.settled([seen(one, content)])
            with guard:
                ends.update(result.task.photo_id for result in results)

    threads = [threading.Thread(target=bring, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    assert looked_at == Counter(bytes([n]) for n in range(10))  # none was committed
    assert ends == Counter(1000 * worker + n for worker in range(8) for n in range(200))
