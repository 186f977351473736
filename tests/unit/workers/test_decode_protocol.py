"""The pipe between a decode child and its parent; the child may be hijacked."""

import math
import struct
from datetime import UTC, datetime

import pytest

from pipeline.records import Code
from workers.decode.protocol import ANSWER_BYTES, JOB_BYTES, OUTPUT_BYTES, Answer, Job, Kind, Slot


def raw(code: int = 0, width: int = 9, height: int = 9, length: int = 9, when: float = math.nan) -> bytes:
    return struct.pack("<BxxxIIId232s", code, width, height, length, when, b"fine")


def test_jobs_and_answers_travel_unchanged() -> None:
    job = Job(kind=Kind.PIXELS, size=224, resize=256, interpolation="bilinear", length=64 * 1024 * 1024)
    answer = Answer(width=3, height=4, length=5, taken_at=datetime(1890, 1, 2, 3, 4, 5, tzinfo=UTC))
    refusal = Answer(code=Code.TOO_LARGE, message="It is too large.")
    assert Job.unpack(job.pack()) == job
    assert Answer.unpack(answer.pack()) == answer
    assert Answer.unpack(refusal.pack()) == refusal
    assert (len(job.pack()), len(answer.pack())) == (JOB_BYTES, ANSWER_BYTES)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        raw()[:-1],
        raw(code=Code.QUARANTINED),  # only the parent says this
        raw(code=255),
        raw(width=2**32 - 1),
        raw(height=20_001),
        raw(length=OUTPUT_BYTES + 1),
    ],
)
def test_answers_out_of_bounds_are_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match="decode child"):
        Answer.unpack(answer)


@pytest.mark.parametrize("when", [math.nan, math.inf, -math.inf, 1e300, -1e18])
def test_impossible_times_are_no_times(when: float) -> None:
    assert Answer.unpack(raw(when=when)).taken_at is None


def test_messages_are_cut_and_cleaned() -> None:
    long = Answer(code=Code.CORRUPT, message="é" * 500)
    assert len(Answer.unpack(long.pack()).message) <= 232
    assert Answer.unpack(Answer(code=Code.CORRUPT, message="a\n\x1b[31mb").pack()).message == "a[31mb"


def test_a_slot_cannot_be_shrunk_under_its_owner() -> None:
    slot = Slot.create(1000)
    try:
        with pytest.raises(OSError, match="not permitted"):
            slot.memory.resize(10)
        slot.put_photo(b"x" * 1000)
        slot.put_output(b"result")
        assert slot.photo(1000) == b"x" * 1000
        assert bytes(slot.output(6)) == b"result"
    finally:
        slot.close()
