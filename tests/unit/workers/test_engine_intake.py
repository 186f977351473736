"""Fetching and decoding threads over a store and a decoder that are replaced: bounds, stops, and who ends how."""

import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from pipeline.errors import PhotoChanged, PhotoGone, PhotoUnreadable, ServiceDown
from pipeline.records import Code, ItemState, Lease, PhotoTask, Version
from workers.decode.records import Decoded
from workers.engine.flow import Budget, Channel
from workers.engine.intake import Intake
from workers.engine.outages import Patience
from workers.engine.slots import Slots
from workers.holdings import Holdings

SIZE = 10  # bytes of a photo
SOON = 10.0  # seconds, until a thread is taken to hang


@dataclass
class Store:
    """Photos whose bytes are their number; `answers` are raised instead."""

    answers: dict = field(default_factory=dict)
    in_hand: int = 0
    most_in_hand: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, task):
        with self.guard:
            self.in_hand += task.size
            self.most_in_hand = max(self.most_in_hand, self.in_hand)
        if task.photo_id in self.answers:
            self.done(task.size)
            raise self.answers[task.photo_id]
        return task.photo_id.to_bytes(task.size, "big")

    def look(self, _task):
        return Version(etag="new", size=99)

    def done(self, size):
        with self.guard:
            self.in_hand -= size


@dataclass
class Decoder:
    """Turns a number into its colour; `hook` is called before each photo."""

    store: Store
    hook: object = lambda _: None
    errors: dict = field(default_factory=dict)

    def decode_for(self, data, take):
        number = int.from_bytes(data, "big")
        self.hook(number)
        try:
            if number in self.errors:
                raise self.errors[number]
            pixels = np.full((1, 1, 3), number, np.uint8)
            return take(Decoded(pixels=pixels, width=1, height=1, taken_at=None))
        finally:
            self.store.done(len(data))


class Ledger:
    """Counts what it is asked."""

    asked = 0

    def run(self, _work):
        self.asked += 1


class Bed:
    """An intake with its threads, and what comes out of it."""

    def __init__(self, *, hook=lambda _: None, answers=None, errors=None, limit=10**6, most=10**6, photos=0, sizes=()):
        self.store = Store(answers or {})
        self.stop = threading.Event()
        self.holdings = Holdings()
        self.holdings.add(Lease(work_id=1, job_id=1, epoch=1), range(10**4))
        self.ledger = Ledger()
        self.slots = Slots([np.zeros((1000, 1, 1, 3), np.uint8)], lambda: 1000)
        between: Channel = Channel()  # the step between the two is left out
        self.intake = Intake(
            database=self.ledger,
            patience=Patience(seconds=1),
            fetcher=self.store,
            decoders=Decoder(self.store, hook, errors or {}),
            holdings=self.holdings,
            bytes_in_hand=Budget(limit),
            photos_in_hand=Budget(most),
            slots=self.slots,
            results=Channel(),
            stopping=self.stop.is_set,
            fetched=between,
            fresh=between,
        )
        self.tasks = Channel()
        for n, size in enumerate(sizes or [SIZE] * photos):
            self.tasks.put(task(n, size))
        self.tasks.close()

    def run(self, fetching=6, decoding=2):
        fetchers = [
            threading.Thread(target=self.intake.fetch, args=(self.tasks,), daemon=True) for _ in range(fetching)
        ]
        decoders = [threading.Thread(target=self.intake.decode, daemon=True) for _ in range(decoding)]
        for thread in (*fetchers, *decoders):
            thread.start()
        join(fetchers)
        self.intake.fetched.close()
        join(decoders)
        self.slots.end()
        self.intake.results.close()
        batch = self.slots.next(wait=True)
        self.ended = {result.task.photo_id: result for results in self.intake.results for result in results}
        self.decoded = [] if batch is None else [photo.task.photo_id for photo in batch.photos]
        if batch is not None:
            assert batch.pixels[:, 0, 0, 0].tolist() == self.decoded


def join(threads):
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


def task(n, size=SIZE):
    return PhotoTask(
        job_id=1, shard_id=1, photo_id=n, content_rev=1, bucket="s3://b", key=str(n), etag="e", size=size,
        version_id=None,
    )  # fmt: skip


def test_every_photo_is_decoded_once_and_its_shard_is_marked_once():
    bed = Bed(photos=100)
    bed.run()
    assert sorted(bed.decoded) == list(range(100))
    assert bed.ended == {}
    assert bed.ledger.asked == 1
    assert bed.store.in_hand == 0


@pytest.mark.parametrize(("limit", "most"), [(3 * SIZE, 3 * SIZE), (SIZE - 1, SIZE), (3 * SIZE + 5, 3 * SIZE)])
def test_bytes_from_the_request_to_the_decoder_are_bounded(limit, most):
    """A limit below one photo lets one pass at a time."""
    bed = Bed(photos=50, limit=limit)
    bed.run(fetching=8)
    assert bed.store.most_in_hand <= most
    assert sorted(bed.decoded) == list(range(50))


def test_photos_from_the_request_to_the_decoder_are_bounded_too():
    bed = Bed(photos=50, most=3)
    bed.run(fetching=8)
    assert bed.store.most_in_hand <= 3 * SIZE
    assert sorted(bed.decoded) == list(range(50))


def test_the_budget_is_free_again_whatever_became_of_the_photos():
    bed = Bed(
        photos=40, limit=SIZE, answers={3: PhotoGone("gone"), 4: ServiceDown("away")}, errors={5: ServiceDown("")}
    )
    bed.run()
    assert len(bed.decoded) == 37
    bed.intake.bytes_in_hand.acquire(SIZE)  # would wait for ever
    bed.intake.photos_in_hand.acquire(10**6)


def test_a_photo_that_gets_no_further_ends_with_its_reason():
    bed = Bed(
        photos=8,
        answers={0: PhotoGone("gone"), 1: PhotoChanged("changed"), 2: ServiceDown("away")},
        errors={
            3: PhotoUnreadable("broken"),
            4: PhotoUnreadable("too big", Code.TOO_LARGE),
            5: ServiceDown("no child"),
        },
    )
    bed.run()
    assert sorted(bed.decoded) == [6, 7]
    assert {n: (result.state, result.code, result.message) for n, result in bed.ended.items()} == {
        0: (ItemState.FAILED, Code.GONE, "gone"),
        1: (ItemState.RETRY, Code.NONE, "changed"),
        2: (ItemState.RETRY, Code.NONE, "away"),
        3: (ItemState.FAILED, Code.CORRUPT, "broken"),
        4: (ItemState.FAILED, Code.TOO_LARGE, "too big"),
        5: (ItemState.RETRY, Code.NONE, "no child"),
    }
    assert bed.ledger.asked == 2  # the start, and what is there now in place of photo 1


def test_photos_that_hang_keep_no_row_from_the_others():
    """Three photos hang while seven others pass through a ring of four rows."""
    others = threading.Event()
    bed = Bed(photos=10, hook=lambda n: n < 3 and others.wait(SOON))
    bed.slots = Slots([np.zeros((2, 1, 1, 3), np.uint8) for _ in range(2)], lambda: 2)
    bed.intake = replace(bed.intake, slots=bed.slots)
    seen = []

    def model():
        while (batch := bed.slots.next(wait=True)) is not None:
            seen.extend(photo.task.photo_id for photo in batch.photos)
            bed.slots.recycle(batch)
            if len(seen) == 7:
                assert sorted(seen) == list(range(3, 10))
                others.set()

    consumer = threading.Thread(target=model, daemon=True)
    consumer.start()
    bed.run(decoding=4)
    join([consumer])
    assert others.is_set()
    assert sorted(seen + bed.decoded) == list(range(10))  # `run` takes the last batch, if it is quicker


def test_a_stop_passes_over_what_is_not_decoded_yet():
    bed = Bed(photos=100, hook=lambda _: bed.stop.set())
    bed.run(decoding=1)
    assert len(bed.decoded) == 1  # it was in hand
    assert bed.ended == {}
    for budget in (bed.intake.bytes_in_hand, bed.intake.photos_in_hand):
        budget.acquire(budget.limit)  # nothing is left in it


def test_photos_of_a_lost_shard_are_passed_over():
    bed = Bed(photos=100, hook=lambda _: bed.holdings.drop(bed.holdings.leases()), limit=4 * SIZE)
    bed.run(fetching=2, decoding=1)
    assert 1 <= len(bed.decoded) <= 1 + 4 + 2  # in hand, fetched already, and about to be
    assert bed.ended == {}
