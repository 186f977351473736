import subprocess
import sys
import time

import psutil
import pytest

from benchmarks.processes import Watch, cpu_seconds, end, memory, tree

#: Uses processor time in a child that ends, says so, and waits.
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"], check=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("waiting", flush=True)
child.wait()
"""


@pytest.fixture
def parent():
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    yield process
    end(process.pid)
    process.wait(10)


def test_a_tree_begins_with_its_root(parent: subprocess.Popen):
    assert next(iter(tree(parent.pid))).pid == parent.pid
    assert len(tree(parent.pid)) == 2


def test_time_of_children_that_have_ended_counts(parent: subprocess.Popen):
    assert cpu_seconds(tree(parent.pid)) >= 0.4  # half a second, in whole ticks of each process


def test_memory_that_is_shared_counts_once(parent: subprocess.Popen):
    found = memory(tree(parent.pid))
    resident = sum(process.memory_info().rss for process in tree(parent.pid)) / 1024 / 1024
    assert 0 < found.shared_out < resident
    assert 0 < found.largest < resident


def test_a_watch_keeps_the_peak(parent: subprocess.Popen):
    watch = Watch(parent.pid)
    assert watch.stop().peak.largest > 1


#: Ignores the end of a child that uses processor time, so that the kernel counts it nowhere; then says so, and waits.
CARELESS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sys.stdin.readline()
child = subprocess.Popen([sys.executable, "-c", "import time\\nwhile time.process_time() < 1.5: pass\\ntime.sleep(2)"])
child.wait()
print("over", flush=True)
time.sleep(60)
"""


def test_a_watch_keeps_the_time_of_processes_that_nobody_counts():
    with subprocess.Popen(
        [sys.executable, "-c", CARELESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        watch = Watch(process.pid)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "over\n"
        assert cpu_seconds(tree(process.pid)) < 1.0
        assert watch.stop().cpu_seconds >= 1.4  # the kernel counts in ticks
        end(process.pid)


def test_a_tree_ends_as_a_whole(parent: subprocess.Popen):
    _, child = tree(parent.pid)
    end(parent.pid)
    parent.wait(10)
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tree(parent.pid) == []
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
