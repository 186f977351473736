"""The ring of batch buffers: rows are filled in any order, by many; batches go when they are full, late or last."""

import signal
import threading
import time

import numpy as np
import pytest

from pipeline.records import PhotoTask
from workers.engine import slots as module
from workers.engine.flow import Aborted
from workers.engine.slots import Photo, Slots

ROWS, SIDE = 4, 2
SOON = 10.0  # seconds, until a thread is taken to hang


def ring(buffers=3, size=lambda: ROWS):
    return Slots([np.zeros((ROWS, SIDE, SIDE, 3), np.uint8) for _ in range(buffers)], size)


def photo(n):
    task = PhotoTask(
        job_id=1, shard_id=1, photo_id=n, content_rev=1, bucket="s3://b", key="k", etag="e", size=1, version_id=None
    )
    return Photo(task=task, sha256=b"", taken_at=None)


def fill(slots, row, n):
    row.pixels[...] = n
    slots.fill(row, photo(n))


def content(batch):
    """The photos' numbers, after each was found beside its own pixels."""
    numbers = [photo.task.photo_id for photo in batch.photos]
    assert batch.pixels.shape == (len(numbers), SIDE, SIDE, 3)
    assert [set(pixels.ravel().tolist()) for pixels in batch.pixels] == [{n} for n in numbers]
    return numbers


def test_a_batch_goes_once_its_last_row_is_filled_whatever_the_order():
    slots = ring()
    rows = [slots.take() for _ in range(ROWS)]
    for n in (2, 0, 3):
        fill(slots, rows[n], n)
    assert slots.next(wait=False) is None
    fill(slots, rows[1], 1)
    batch = slots.next(wait=False)
    assert content(batch) == [0, 1, 2, 3]
    assert np.shares_memory(batch.pixels, batch.buffer)


def test_the_last_batch_has_as_many_photos_as_came():
    slots = ring()
    rows = [slots.take() for _ in range(ROWS + 1)]
    for n in (4, 1, 0, 3, 2):
        fill(slots, rows[n], n)
    slots.end()
    assert [content(slots.next(wait=True)) for _ in range(2)] == [[0, 1, 2, 3], [4]]
    assert slots.next(wait=True) is None


def test_when_nothing_was_decoded_there_is_no_batch():
    slots = ring()
    slots.end()
    assert slots.next(wait=True) is None


def test_there_are_no_more_pixels_than_the_ring_holds():
    slots = ring(buffers=2)
    for n in range(2 * ROWS):
        fill(slots, slots.take(), n)
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(slots.take()))
    waiting.start()
    waiting.join(0.05)
    assert taken == []
    first = slots.next(wait=False)
    assert content(first) == [0, 1, 2, 3]
    waiting.join(0.05)
    assert taken == []  # the model still reads it
    slots.recycle(first)
    waiting.join(SOON)
    assert len(taken) == 1


def test_a_batch_that_nothing_comes_to_goes_when_the_model_has_nothing_to_do(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    slots = ring()
    fill(slots, slots.take(), 5)
    assert slots.next(wait=False) is None
    assert content(slots.next(wait=True)) == [5]


def test_a_batch_waits_for_the_photo_that_is_being_copied_into_it(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    slots, batches = ring(), []
    slow = slots.take()
    fill(slots, slots.take(), 1)
    waiting = threading.Thread(target=lambda: batches.append(slots.next(wait=True)))
    waiting.start()
    waiting.join(0.1)
    assert batches == []
    other = slots.take()  # the late batch takes no more photos
    assert other.batch is not slow.batch
    fill(slots, slow, 0)
    waiting.join(SOON)
    assert content(batches[0]) == [0, 1]


def test_the_model_may_want_fewer_from_some_time_on():
    size = [4]
    slots = ring(size=lambda: size[0])
    for n in range(4):
        fill(slots, slots.take(), n)
    size[0] = 2
    for n in range(4):
        fill(slots, slots.take(), n)
    assert [content(slots.next(wait=False)) for _ in range(3)] == [[0, 1, 2, 3], [0, 1], [2, 3]]


def test_who_waits_for_a_row_or_a_batch_ends_when_the_stream_does():
    slots, ends = ring(buffers=1), []
    rows = [slots.take() for _ in range(ROWS)]

    def decoder():
        with pytest.raises(Aborted):
            slots.take()
        ends.append("decoder")

    def model():
        assert slots.next(wait=True) is None
        ends.append("model")

    threads = [threading.Thread(target=step) for step in (decoder, model)]
    for thread in threads:
        thread.start()
    slots.abort()
    for thread in threads:
        thread.join(SOON)
    assert sorted(ends) == ["decoder", "model"]
    fill(slots, rows[0], 1)  # who has a row may still give it back


def test_ctrl_c_while_the_model_waits_for_the_lock_does_not_keep_it():
    """Else no thread of the stream could ever go on, nor be told to end."""
    inside = threading.Event()

    def size():  # called with the lock held
        inside.set()
        time.sleep(0.2)  # meanwhile the model has come to wait for the lock
        signal.raise_signal(signal.SIGINT)
        return ROWS

    slots = ring(size=size)
    decoder = threading.Thread(target=slots.take)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - on a slow machine it may come before the model waits
            decoder.start()
            inside.wait()
            slots.next(wait=True)
    finally:
        signal.signal(signal.SIGINT, usual)
    ending = threading.Thread(target=slots.abort, daemon=True)
    for thread in (decoder, ending):
        if thread is ending:
            thread.start()
        thread.join(SOON)
        assert not thread.is_alive()


def test_many_threads_lose_and_mix_up_nothing(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.001)
    slots, numbers, seen = ring(), iter(range(1, 251)), []
    guard = threading.Lock()

    def decoder():
        while True:
            with guard:
                n = next(numbers, None)
            if n is None:
                return
            fill(slots, slots.take(), n)
            if n % 50 == 0:
                time.sleep(0.005)  # so that some batches go before they are full

    def model():
        while (batch := slots.next(wait=True)) is not None:
            seen.extend(content(batch))
            slots.recycle(batch)

    decoders = [threading.Thread(target=decoder) for _ in range(5)]
    consumer = threading.Thread(target=model)
    for thread in (*decoders, consumer):
        thread.start()
    for thread in decoders:
        thread.join(SOON)
    slots.end()
    consumer.join(SOON)
    assert sorted(seen) == list(range(1, 251))
