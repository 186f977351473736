"""Real decode children: sandbox, deaths, and the promise that the pool answers as the pure decoder does."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.errors import PhotoUnreadable, PictographError, SkipPhoto
from pipeline.records import Code
from workers.decode import pixels, pool
from workers.decode.pool import DecodePool
from workers.decode.records import Target
from workers.decode.sandbox import STRANGER

Outcome = tuple[object, ...]


def photo(width: int = 64, height: int = 48, kind: str = "JPEG") -> bytes:
    return encoded(Image.linear_gradient("L").resize((width, height)).convert("RGB"), kind)


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def slow_photo() -> bytes:
    """Takes about a second to decode: 49 megapixels with transparency."""
    buffer = io.BytesIO()
    Image.new("RGBA", (7000, 7000), (1, 2, 3, 100)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def outcome(decode: Callable[[], pixels.Decoded]) -> Outcome:
    try:
        decoded = decode()
    except SkipPhoto as skip:
        return skip.code, str(skip)
    return decoded.pixels.tobytes(), decoded.width, decoded.height, decoded.taken_at


@pytest.fixture(scope="module")
def children() -> Iterator[DecodePool]:
    with DecodePool(2) as decoders:
        yield decoders


def test_the_pool_answers_as_the_decoder_does(children: DecodePool) -> None:
    for data in (photo(), photo(kind="PNG"), photo(1, 1), b"%PDF-1.7", photo()[:400], photo(4100, 20)):
        alone = outcome(lambda data=data: pixels.decode(data, Target()))
        assert outcome(lambda data=data: children.decode(data)) == alone


def test_the_target_reaches_the_children() -> None:
    data = photo(500, 375)
    target = Target(size=64, resize=64, interpolation="bilinear")
    with DecodePool(1, target) as decoders:
        assert np.array_equal(decoders.decode(data).pixels, pixels.decode(data, target).pixels)


def test_heic_is_decoded_behind_the_walls(children: DecodePool) -> None:
    pytest.importorskip("pillow_heif")
    data = photo(600, 400, "HEIF")
    decoded = children.decode(data)
    assert (decoded.width, decoded.height) == (600, 400)
    assert np.array_equal(decoded.pixels, pixels.decode(data, Target()).pixels)


def test_decode_into_fills_the_row_it_is_given(children: DecodePool) -> None:
    batch = np.zeros((3, 224, 224, 3), np.uint8)
    decoded = children.decode_into(photo(), batch[1])
    assert np.shares_memory(decoded.pixels, batch)
    assert (batch[1] == pixels.decode(photo(), Target()).pixels).all()
    assert not batch[[0, 2]].any()


def test_memory_for_the_pixels_is_asked_for_once_they_are_there(children: DecodePool) -> None:
    asked = []
    assert children.decode_for(photo(), lambda decoded: asked.append(decoded.pixels.copy()) or len(asked)) == 1
    assert np.array_equal(asked[0], pixels.decode(photo(), Target()).pixels)
    with pytest.raises(PhotoUnreadable):
        children.decode_for(photo()[:400], asked.append)
    assert len(asked) == 1


def test_many_threads_get_their_own_photos(children: DecodePool) -> None:
    photos = [photo(200 + n, 100 + n) for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        sizes = [(decoded.width, decoded.height) for decoded in threads.map(children.decode, photos)]
    assert sizes == [(200 + n, 100 + n) for n in range(60)]


def test_thumbnails_come_from_children_too(children: DecodePool) -> None:
    assert children.thumbnail(photo(), 32) == pixels.thumbnail(photo(), 32)
    assert children.thumbnail(photo(), 32, cover=False) == pixels.thumbnail(photo(), 32, cover=False)
    with pytest.raises(ValueError, match="1024"):
        children.thumbnail(photo(), 5000)


def test_a_photo_of_too_many_bytes_reaches_no_child() -> None:
    with DecodePool(1, max_photo_bytes=1000) as decoders, pytest.raises(PhotoUnreadable) as caught:
        decoders.decode(b"x" * 1001)
    assert caught.value.code is Code.TOO_LARGE


def test_a_pool_needs_a_child() -> None:
    with pytest.raises(ValueError, match="at least one"):
        DecodePool(0)


def test_children_are_locked_in(children: DecodePool) -> None:
    children.decode(photo())
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{children.pids[0]}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert status["Threads"] == "1"
    limits = Path(f"/proc/{children.pids[0]}/limits").read_text()
    walls = ["open files", "file size", "core file size"]
    if not pixels.HEIF:  # HEIC's decoder starts threads; the filter tells them from processes
        walls.append("processes")
    for name in walls:
        assert re.search(rf"^Max {name} +0 +0 ", limits, re.MULTILINE), name
    assert status["Seccomp"] == "2"  # filtered
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) == {str(STRANGER)}
        assert int(status["CapEff"], 16) == 0


BEHIND_THE_WALLS = """
import ctypes, fcntl, os, resource, signal, socket, sys, threading
from workers.decode.sandbox import lock_down

libc = ctypes.CDLL(None)

def attach():
    if libc.ptrace(16, os.getppid(), 0, 0) < 0:
        raise OSError

attempts = dict(
    open=lambda: open("/etc/hostname"),
    connect=socket.socket,
    pipe=os.pipe,
    fork=os.fork,
    execute=lambda: os.execv(sys.executable, [sys.executable, "-V"]),
    signal=lambda: os.kill(os.getppid(), 0),
    queue_signal=lambda: signal.pidfd_send_signal(0, 0),
    delete=lambda: os.unlink(sys.argv[2]),
    rename=lambda: os.rename(sys.argv[2], sys.argv[2] + "2"),
    empty=lambda: os.truncate(sys.argv[2], 0),
    permit=lambda: os.chmod(sys.argv[2], 0o777),
    limit=lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
    signal_by_a_pipe=lambda: fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid()),
    slow_down=lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
    pin=lambda: os.sched_setaffinity(os.getppid(), {0}),
    schedule=lambda: os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0)),
    attach=attach,
    thread=lambda: threading.Thread(target=int).start(),
)
lock_down(os.getppid(), threads=sys.argv[1] == "threads")
for name, attempt in attempts.items():
    try:
        attempt()
        os.write(1, name.encode() + b" ")
    except (OSError, RuntimeError):
        pass
"""


@pytest.mark.parametrize("threads", ["threads", "none"])
def test_behind_the_walls_nothing_opens_forks_signals_or_deletes(tmp_path: Path, threads: str) -> None:
    tmp_path.chmod(0o777)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    victim.chmod(0o666)
    arguments = [sys.executable, "-c", BEHIND_THE_WALLS, threads, str(victim)]
    answer = subprocess.run(arguments, capture_output=True, check=True, text=True)
    assert answer.stdout.split() == (["thread"] if threads == "threads" else [])
    assert victim.read_bytes() == b"mine"


def test_photos_of_one_size_reuse_their_memory(children: DecodePool) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (375, 500, 3), np.uint8)
    data = encoded(Image.fromarray(noise))

    def faults() -> int:  # pages that the kernel had to hand out
        return sum(int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[7]) for pid in children.pids)

    for _ in range(10):
        children.decode(data)
    before = faults()
    for _ in range(20):
        children.decode(data)
    assert faults() - before < 20 * 50  # given back and taken again, it were 800 a photo


def test_children_know_no_secrets(children: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGRAPH_DATABASE_URL", "postgresql://secret")
    with DecodePool(1) as decoders:
        decoders.decode(photo())
        assert b"secret" not in Path(f"/proc/{decoders.pids[0]}/environ").read_bytes()


def test_a_child_killed_while_idle_is_no_photo_s_fault() -> None:
    with DecodePool(1) as decoders:
        for _ in range(3):
            decoders.decode(photo())
            os.kill(decoders.pids[0], signal.SIGKILL)
        assert decoders.decode(photo()).width == 64


def test_one_death_costs_nothing_but_time() -> None:
    slow = slow_photo()
    with DecodePool(1) as decoders, ThreadPoolExecutor(1) as thread:
        decoders.decode(photo())
        result = thread.submit(decoders.decode, slow)
        time.sleep(0.15)
        assert not result.done()
        os.kill(decoders.pids[0], signal.SIGKILL)
        assert result.result().width == 7000


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_children_leave_stopping_to_their_parent(sent: signal.Signals) -> None:
    with DecodePool(1) as decoders:
        decoders.decode(photo())
        before = decoders.pids
        os.kill(before[0], sent)
        assert decoders.decode(photo()).width == 64
        assert decoders.pids == before


def test_the_second_death_quarantines_the_photo_and_no_other() -> None:
    with DecodePool(1, timeout_seconds=0.05) as decoders:
        decoders.decode(photo())
        code, message = outcome(lambda: decoders.decode(slow_photo()))
        assert code is Code.QUARANTINED
        assert "timeout, timeout" in str(message)
        assert decoders.decode(photo()).width == 64


def test_a_child_that_sleeps_is_ended_by_the_clock() -> None:
    with DecodePool(1, timeout_seconds=0.1) as decoders:
        decoders.decode(photo())
        os.kill(decoders.pids[0], signal.SIGSTOP)
        assert decoders.decode(photo()).width == 64  # in the second child


def test_children_are_replaced_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RECYCLE_PHOTOS", 3)
    with DecodePool(1) as decoders:
        seen = []
        for _ in range(7):
            decoders.decode(photo())
            seen += decoders.pids
    assert [seen.count(pid) for pid in dict.fromkeys(seen)] == [3, 3, 1]


def test_closing_ends_children_and_work_under_way() -> None:
    decoders = DecodePool(1)
    decoders.decode(photo())
    pids = decoders.pids
    failures: list[BaseException] = []

    def work() -> None:
        try:
            decoders.decode(slow_photo())
        except PictographError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.6)
    decoders.close()
    decoders.close()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert len(failures) >= 1
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(PictographError, match="closed"):
        decoders.decode(photo())


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from workers.decode.pool import DecodePool
pool = DecodePool(1)
pool.decode(Path(sys.argv[1]).read_bytes())
print(*pool.pids, flush=True)
time.sleep(60)
"""
    (tmp_path / "photo.jpg").write_bytes(photo())
    arguments = [sys.executable, "-c", program, str(tmp_path / "photo.jpg")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(child.pid, signal.SIGSTOP)  # so that it cannot notice the end of its stdin
        parent.kill()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()


def test_children_give_way_as_far_as_they_are_told():
    with DecodePool(1, niceness=7) as decoders:
        decoders.decode(photo())
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in decoders.pids] == [7]
