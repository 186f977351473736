"""The worker processes of one machine: started together, restarted when they die, ended together.

One supervisor per data folder, by a lock that the kernel drops with its holder: whoever needs workers and finds the
lock free runs them, everybody else relies on whoever holds it.
"""

import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Self

from pictograph.stack.home import Home
from pictograph.stack.processes import last_line, python, python_environment
from pictograph.watchdog import Watchdog
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

WORKERS = (("worker", "ingest"), ("worker", "annotate"), ("redriver",))
WATCH_SECONDS = 0.5
RESTART_PAUSE_SECONDS = 1.0  # before the first restart; each further one waits as much longer
MOST_PAUSES = 30
STEADY_SECONDS = 180.0  # who has lived so long has come up; its next death is a first one again
MISCONFIGURED = 2  # the exit status of a command that somebody must set up differently: no use to start it again
STOP_SECONDS = 60.0  # a worker stops at its next photo and merges what is done; after this it is killed


@dataclass
class _Process:
    arguments: tuple[str, ...]
    running: subprocess.Popen[bytes]
    started: float  # on the monotonic clock, as the next
    due: float | None = None  # when it is to be started again; None while it runs, or has been given up
    restarts: int = 0
    stuck: bool = False  # it was ended because it did nothing

    def plan_restart(self, now: float) -> None:
        """Decide when to start it again: later from time to time, but soon after a long life."""
        self.restarts = 1 if now - self.started > STEADY_SECONDS else self.restarts + 1
        self.due = now + RESTART_PAUSE_SECONDS * min(self.restarts, MOST_PAUSES)


@dataclass
class Supervisor:
    """Runs `pictograph ...` commands as child processes, with their output in the data folder's logs."""

    settings: Settings
    commands: tuple[tuple[str, ...], ...] = WORKERS  # what it runs
    _lock: int | None = field(default=None, init=False)
    _setpriv: str = field(default="", init=False)
    _failure: str = field(default="", init=False)  # why the workers cannot run; for the user to mend
    watchdog_restarts: int = field(default=0, init=False)  # of workers that lived and did nothing
    _processes: list[_Process] = field(default_factory=list, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_if_free(self) -> bool:
        """Start the workers unless another process supervises this data folder; whether they are ours now.

        Raises:
            ConfigurationError: they cannot run here, or one has ended because of its configuration.
        """
        if self._failure:
            raise ConfigurationError(self._failure)
        if self._lock is not None:
            return True
        setpriv = which("setpriv")
        if setpriv is None:
            raise ConfigurationError("Running workers needs the command setpriv; install the package util-linux.")
        self._lock = self._try_lock()
        if self._lock is None:
            return False
        self._setpriv = setpriv
        # Children die with the thread that started them, so one thread starts, watches and ends them all.
        threading.Thread(target=self._run, name="supervisor", daemon=True).start()
        return True

    def _try_lock(self) -> int | None:
        home = Home(self.settings.home)
        home.create()
        with home.usable():
            lock = os.open(home.folder / "workers.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def close(self) -> None:
        """End all children, gently first, and let the lock go."""
        if self._lock is None:
            return
        self._stop.set()
        self._ended.wait()
        os.close(self._lock)
        self._lock = None

    def log_of(self, name: str) -> Path:
        """Where a child's output goes; its name is the last word of its command."""
        return Home(self.settings.home).log(name)

    def _run(self) -> None:
        watchdog = Watchdog(self.settings, self._ages)
        try:
            for arguments in self.commands:
                self._processes.append(_Process(arguments, self._spawn(arguments), time.monotonic()))
            watchdog.start()
            while not self._stop.wait(WATCH_SECONDS):
                while not watchdog.found.empty():
                    stuck = watchdog.found.get()
                    self._end_stuck(stuck.process_id, stuck.why)
                for process in self._processes:
                    self._look(process, time.monotonic())
        except OSError as exc:
            self._failure = f"Workers cannot be started ({exc}); make room, or check {self.settings.home}."
        finally:
            watchdog.stop()
            self._end_all()
            self._ended.set()

    def _spawn(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = [self._setpriv, "--pdeathsig=TERM", "--", *python("pictograph", *arguments)]
        with self.log_of(arguments[-1]).open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",  # spawned grandchildren have the current folder on their path whatever they are told
                env={**python_environment(), **self.settings.environment()},
                start_new_session=True,  # Ctrl-C reaches us alone, and we end them in good order
            )

    def _look(self, process: _Process, now: float) -> None:
        """Start a process whose time has come, or plan to, if it has just ended. Never waits: others are to be seen."""
        if self._failure:
            return
        if process.due is not None:
            if now >= process.due:
                process.running, process.started, process.due = self._spawn(process.arguments), now, None
        elif process.running.poll() is not None:
            self._bury(process, now)

    def _bury(self, process: _Process, now: float) -> None:
        name, path = " ".join(process.arguments), self.log_of(process.arguments[-1])
        if process.running.returncode == MISCONFIGURED:
            self._failure = f"{name} ended: {last_line(path).removeprefix('Error: ')}"
            return
        if not process.stuck:
            log.warning("%s ended with status %d and is started again; see %s", name, process.running.returncode, path)
        process.stuck = False
        process.plan_restart(now)

    def _ages(self) -> dict[int, float]:
        """The processes that run, and for how many seconds."""
        now = time.monotonic()
        return {process.running.pid: now - process.started for process in self._processes if process.due is None}

    def _end_stuck(self, process_id: int, why: str) -> None:
        """Kill a process that lives and does nothing; it will be found dead, and started again."""
        for process in self._processes:
            if process.running.pid == process_id and process.running.poll() is None and not process.stuck:
                process.stuck = True
                self.watchdog_restarts += 1
                count, name = self.watchdog_restarts, " ".join(process.arguments)
                log.warning("%s is stuck (%s) and is started anew; watchdog restart %d", name, why, count)
                _kill(process.running)

    def _end_all(self) -> None:
        for process in self._processes:
            process.running.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            try:
                process.running.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(process.running)
                process.running.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all its children: some may be stopped, or too stuck to notice that their parent is gone."""
    os.killpg(process.pid, signal.SIGKILL)  # it began a session, and is not waited for yet: the group is there
