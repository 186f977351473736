"""Decoders that an attacker has taken over: each costs its own photo, and nothing else."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from hostile_bytes import encoded, scene
from killer_child import DEEDS, SPELL

from pipeline.errors import SkipPhoto
from pipeline.records import Code
from workers.decode import pixels, process
from workers.decode.pool import DecodePool
from workers.decode.records import Target

NEIGHBOUR = encoded(scene(), "JPEG", quality=95)


@pytest.fixture
def takeover(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecodePool]:
    """A pool whose children obey photos that begin with KILL."""
    environment = process._environment()
    path = os.pathsep.join([environment["PYTHONPATH"], str(Path(__file__).parent)])
    monkeypatch.setattr(process, "_MODULE", "killer_child")
    monkeypatch.setattr(process, "_environment", lambda: environment | {"PYTHONPATH": path})
    with DecodePool(4, timeout_seconds=0.25) as decoders:
        yield decoders


@pytest.mark.slow
def test_whatever_a_photo_does_to_its_child_costs_that_photo_only(takeover: DecodePool) -> None:
    good = pixels.decode(NEIGHBOUR, Target()).pixels
    before = set(psutil.Process().children(recursive=True))

    def outcome(data: bytes) -> Code:
        try:
            decoded = takeover.decode(data)
        except SkipPhoto as skip:
            return skip.code
        assert np.array_equal(decoded.pixels, good)
        return Code.NONE

    photos = [photo for deed in DEEDS for photo in (SPELL + deed, NEIGHBOUR, NEIGHBOUR)]
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(outcome, photos))
    assert dict(zip(DEEDS, outcomes[::3], strict=True)) == dict.fromkeys(DEEDS, Code.QUARANTINED)
    assert {*outcomes[1::3], *outcomes[2::3]} == {Code.NONE}
    children = {psutil.Process(pid) for pid in takeover.pids}
    assert set(psutil.Process().children(recursive=True)) - before <= children  # nobody forked, nobody was left
    takeover.close()
    assert not any(child.is_running() for child in children)
