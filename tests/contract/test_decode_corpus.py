"""The drawn corpus of `hostile_corpus`: each file ends as it should, within its limits, and hurts no other."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile_bytes import encoded, scan_bomb, scene
from hostile_corpus import UNHURT, Case, corpus

from pipeline.errors import SkipPhoto
from pipeline.records import Code
from workers.decode import pixels
from workers.decode.pool import DecodePool
from workers.decode.records import Decoded, Target
from workers.decode.sandbox import MEMORY_BYTES

SEEN = {
    "scene": pixels.decode(encoded(scene(), "PNG"), Target()).pixels.astype(int),
    "grey scene": pixels.decode(encoded(scene().convert("L"), "PNG"), Target()).pixels.astype(int),
}
NEIGHBOUR = encoded(scene(), "JPEG", quality=95)


@pytest.fixture(scope="module")
def children() -> Iterator[DecodePool]:
    with DecodePool(2) as decoders:
        decoders.decode(NEIGHBOUR)
        yield decoders


def complaint(case: Case, result: Decoded | Code) -> str | None:
    """What is wrong with an outcome; None where nothing is."""
    code = result if isinstance(result, Code) else Code.NONE
    if code not in case.expected:
        return f"{code.name} instead of {'/'.join(sorted(one.name for one in case.expected))}"
    if isinstance(result, Decoded) and case.shows:
        difference = np.abs(result.pixels.astype(int) - SEEN[case.shows]).mean()
        return f"differs by {difference:.1f} grey levels" if difference > case.tolerance else None
    return None


def outcome(decoders: DecodePool, data: bytes) -> Decoded | Code:
    try:
        return decoders.decode(data)
    except SkipPhoto as skip:
        return skip.code


def peak_bytes(pid: int) -> int:
    """The most address space that a process has had."""
    found = re.search(r"^VmPeak:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def test_every_case_ends_as_it_should_and_no_neighbour_is_hurt(children: DecodePool) -> None:
    pids = children.pids
    good = children.decode(NEIGHBOUR).pixels
    complaints, dated = {}, []
    for number, case in enumerate(corpus()):
        result = outcome(children, case.data)
        if problem := complaint(case, result):
            complaints[case.name] = problem
        if isinstance(result, Decoded) and result.taken_at:
            dated.append(case.name)
        if number % 10 == 0:
            assert np.array_equal(children.decode(NEIGHBOUR).pixels, good)
    assert complaints == {}
    assert dated == []  # no attack on the metadata became a date
    assert children.pids == pids  # none died
    assert max(map(peak_bytes, pids)) <= MEMORY_BYTES


def test_an_outcome_is_the_same_alone_and_among_neighbours(children: DecodePool) -> None:
    def same(one: Decoded | Code, other: Decoded | Code) -> bool:
        if isinstance(one, Decoded) and isinstance(other, Decoded):
            return np.array_equal(one.pixels, other.pixels)
        return one == other

    cases = [case for case in corpus() if len(case.data) < 100_000][::7]
    alone = [outcome(children, case.data) for case in cases]
    for case, first in zip(cases, alone, strict=True):
        outcome(children, NEIGHBOUR)
        assert same(outcome(children, case.data), first), case.name
    backwards = [outcome(children, case.data) for case in reversed(cases)]
    assert all(map(same, backwards[::-1], alone))


def test_a_photo_that_asks_for_hours_is_ended_by_the_kernel_s_clock() -> None:
    bomb = scan_bomb(8000, 10_000)  # 64 megapixels, walked over 10,000 times
    with DecodePool(1, timeout_seconds=0.5) as decoders:
        assert outcome(decoders, bomb) is Code.QUARANTINED
        assert isinstance(outcome(decoders, NEIGHBOUR), Decoded)


def test_the_corpus_is_the_same_in_every_run() -> None:
    first, second = list(corpus()), list(corpus())
    assert first == second
    assert len({case.name for case in first}) == len(first)
    assert len(first) > 450
    assert sum(case.expected == UNHURT for case in first) < len(first) / 2  # the others say exactly what must happen
