"""Signals that tell a process to stop: none is lost, none deadlocks, however many come at once."""

import signal
import subprocess
import sys
import time

SECONDS = 60.0

# The main thread is inside the event's own `wait` as often as can be, and the signals come as fast as can be.
STORMED = """
import os, signal, sys, threading
from workers.drain import set_on

rounds = 0
def storm(parent):
    while os.getppid() == parent:
        os.kill(parent, signal.SIGTERM)

for rounds in range(300):
    event = threading.Event()
    set_on(event, signal.SIGTERM, signal.SIGINT)
    if rounds == 0 and os.fork() == 0:
        try:
            storm(os.getppid())
        finally:
            os._exit(0)
    while not event.is_set():
        event.wait(0.0001)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("all", rounds + 1)
"""


def test_a_storm_of_signals_ends_every_wait():
    done = subprocess.run(
        [sys.executable, "-c", STORMED], capture_output=True, text=True, timeout=SECONDS, check=False
    )  # the child that storms ends with its parent
    assert (done.returncode, done.stdout) == (0, "all 300\n"), done.stderr


WAITING = """
import signal, threading
from workers.drain import set_on

event = threading.Event()
set_on(event, signal.SIGUSR2)
print("ready", flush=True)
event.wait()
print("told", flush=True)
"""


def test_one_signal_ends_a_wait_that_has_no_end():
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGUSR2)
        assert process.stdout.readline() == "told\n"
        assert process.wait(SECONDS) == 0
