"""Decoders that an attacker has taken over: each costs its own photo, and nothing else."""

import os
import threading
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
from workers.decode.protocol import JOB_BYTES
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


MUTE = """
import os, struct
while True:
    os.write(1, struct.pack("<BxxxIIId232s", 0, 9, 9, 9, 0.0, b""))
"""


def test_a_child_that_never_reads_its_jobs_does_not_make_the_parent_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mute.py").write_text(MUTE)
    environment = process._environment() | {"PYTHONPATH": str(tmp_path)}
    monkeypatch.setattr(process, "_MODULE", "mute")
    monkeypatch.setattr(process, "_environment", lambda: environment)
    with DecodePool(1) as decoders:
        decoders.decode(NEIGHBOUR)
        first = decoders.pids
        jobs = 65_536 // JOB_BYTES + 1  # more than a pipe holds
        asking = threading.Thread(target=lambda: [decoders.decode(NEIGHBOUR) for _ in range(jobs)], daemon=True)
        asking.start()
        asking.join(60)
        assert not asking.is_alive()
        assert decoders.pids != first  # it was taken for broken


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
