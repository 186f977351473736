"""Processor time and memory, read of real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from pictograph.benching.meter import Meter, peak_memory
from pipeline.errors import ServiceDown

BURN = "import time\nwhile time.process_time() < 0.6: pass\n"
THEN_WAIT = BURN + "print(flush=True)\nimport sys; sys.stdin.read()\n"
A_CHILD_DOES = (
    "import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}])\nprint(flush=True)\nsys.stdin.read()\n"
)


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is done, and waits."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process


@pytest.fixture
def idle() -> Iterator[int]:
    """A keeper without servers."""
    with running("print(flush=True); import sys; sys.stdin.read()") as process:
        yield process.pid


def test_a_child_counts_while_it_lives_and_once_it_has_ended(idle: int):
    meter = Meter(idle, 1)
    before = meter.read()
    with running(THEN_WAIT):
        alive = before.until(meter.read(), 1)
    ended = before.until(meter.read(), 1)
    assert 0.5 <= alive.cpu.decoders <= ended.cpu.decoders < alive.cpu.decoders + 0.5


def test_a_grandchild_that_has_ended_counts(idle: int):
    meter = Meter(idle, 1)
    before = meter.read()
    with running(A_CHILD_DOES.format(code=BURN)):
        assert before.until(meter.read(), 1).cpu.decoders >= 0.55


def test_own_time_is_own(idle: int):
    meter = Meter(idle, 1)
    before = meter.read()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    spent = before.until(meter.read(), 1).cpu
    assert spent.own >= 0.2
    assert spent.decoders < 0.1


def test_the_keepers_servers_are_no_decoders():
    with running(A_CHILD_DOES.format(code=BURN)) as keeper:
        spent = Meter(keeper.pid, 1).read().spent
    assert spent.others >= 0.55


def test_a_keeper_that_has_ended_is_said():
    with running("print(flush=True)") as keeper:
        meter = Meter(keeper.pid, 1)
    with pytest.raises(ServiceDown):
        meter.read()


def test_others_are_told_only_of_a_machine_that_is_all_ours(idle: int):
    assert Meter(idle, os.cpu_count() or 1).read().machine is not None
    assert Meter(idle, (os.cpu_count() or 1) / 2).read().machine is None


def test_the_peak_is_of_this_process_and_its_children():
    code = f"block = bytearray(b'x') * {200 << 20}\nprint(flush=True)\nimport sys; sys.stdin.read()"
    with running(code) as child, peak_memory(lambda: [child.pid]) as peak:
        pass
    assert peak.bytes >= psutil.Process().memory_info().rss // 2 + (200 << 20)


def test_a_child_that_has_ended_has_no_memory():
    with running("print(flush=True)") as child:
        pass
    with peak_memory(lambda: [child.pid]) as peak:
        pass
    assert peak.bytes > 0
