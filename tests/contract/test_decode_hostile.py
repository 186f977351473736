"""Files made by fuzzers and odd cameras: each ends in an outcome, and hurts nobody else."""

import io
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.errors import SkipPhoto
from pipeline.records import Code
from workers.decode import pool
from workers.decode.pool import DecodePool
from workers.decode.records import Decoded


@pytest.fixture(scope="session")
def hostile(shared_photos: Path) -> Path:
    folder = shared_photos.parent / "hostile"
    if not folder.is_dir():
        pytest.skip("the hostile images are not here")
    return folder


def neighbour() -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def outcome(decoders: DecodePool, data: bytes) -> Decoded | Code:
    try:
        return decoders.decode(data)
    except SkipPhoto as skip:
        return skip.code


def test_every_fuzzed_file_has_an_outcome_and_its_neighbours_are_unharmed(hostile: Path) -> None:
    counts: Counter[str] = Counter()
    with DecodePool(2) as decoders:
        good = decoders.decode(neighbour()).pixels
        for number, path in enumerate(sorted((hostile / "fuzz").iterdir())):
            result = outcome(decoders, path.read_bytes())
            counts["decoded" if isinstance(result, Decoded) else result.name] += 1
            if number % 10 == 0:
                assert (decoders.decode(neighbour()).pixels == good).all()
        pids = decoders.pids
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert counts.keys() <= {"decoded", "CORRUPT", "UNSUPPORTED", "TOO_LARGE"}  # nothing crashed or hung
    assert counts["decoded"] > 100  # odd, but whole: Pillow reads these
    assert counts["CORRUPT"] > 300


@pytest.mark.slow
def test_memory_stays_flat_over_twenty_rounds_of_them(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident memory of the third round against the twentieth, of a child that nobody replaces, and of its parent."""
    monkeypatch.setattr(pool, "RECYCLE_PHOTOS", 1_000_000)
    files = [path.read_bytes() for path in sorted((hostile / "fuzz").iterdir())]
    results, memory = [], []
    with DecodePool(1) as decoders:
        decoders.decode(neighbour())
        (child,) = decoders.pids
        for _ in range(20):
            outcomes = (outcome(decoders, data) for data in files)
            results.append(["decoded" if isinstance(one, Decoded) else one.name for one in outcomes])
            memory.append([resident_kb(child), resident_kb(os.getpid())])
        assert decoders.pids == [child]
    assert all(result == results[0] for result in results)
    growth = np.array(memory[-1]) - memory[2]
    assert (growth < 1024).all(), memory  # a leak of 70 bytes a photo would show


def resident_kb(pid: int) -> int:
    """Private memory of a process that lies in RAM."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_photos_with_odd_metadata_are_read(hostile: Path) -> None:
    with DecodePool(1) as decoders:
        results = {path.name: outcome(decoders, path.read_bytes()) for path in sorted((hostile / "exif").iterdir())}
    assert {name: result for name, result in results.items() if not isinstance(result, Decoded)} == {}
    dated = [result for result in results.values() if isinstance(result, Decoded) and result.taken_at]
    assert len(dated) > len(results) / 2


@pytest.mark.parametrize("scene", ["landscape", "portrait"])
def test_each_orientation_gives_the_same_upright_picture(hostile: Path, scene: str) -> None:
    with DecodePool(1) as decoders:
        photos = [
            decoders.decode(path.read_bytes()) for path in sorted((hostile / "exif").glob(f"jpg_orientation_{scene}*"))
        ]
    assert len(photos) == 4
    for photo in photos[1:]:
        assert (photo.width > photo.height) == (scene == "landscape")
        assert np.abs(photo.pixels.astype(int) - photos[0].pixels.astype(int)).mean() < 8
