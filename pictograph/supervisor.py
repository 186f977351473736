"""The worker processes of one machine: started together, restarted when they die, ended together.

One supervisor per data folder, by a lock that the kernel drops with its holder: whoever needs workers and finds the
lock free runs them, everybody else relies on whoever holds it.
"""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Self

from pictograph.stack.home import Home
from pictograph.stack.processes import last_line
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

WORKERS = (("worker", "ingest"), ("worker", "annotate"), ("redriver",))
WATCH_SECONDS = 0.5
RESTART_PAUSE_SECONDS = 1.0
MISCONFIGURED = 2  # the exit status of a command that somebody must set up differently: no use to start it again
STOP_SECONDS = 60.0  # a worker stops at its next photo and merges what is done; after this it is killed


@dataclass
class _Process:
    arguments: tuple[str, ...]
    running: subprocess.Popen[bytes]
    restarts: int = 0


@dataclass
class Supervisor:
    """Runs `pictograph ...` commands as child processes, with their output in the data folder's logs."""

    settings: Settings
    _lock: int | None = field(default=None, init=False)
    _setpriv: str = field(default="", init=False)
    _failure: str = field(default="", init=False)  # why the workers cannot run; for the user to mend
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
        try:
            self._processes += [_Process(arguments, self._spawn(arguments)) for arguments in WORKERS]
            while not self._stop.wait(WATCH_SECONDS):
                for process in self._processes:
                    if process.running.poll() is not None and not self._failure:
                        self._restart(process)
        except OSError as exc:
            self._failure = f"Workers cannot be started ({exc}); make room, or check {self.settings.home}."
        finally:
            self._end_all()
            self._ended.set()

    def _spawn(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = [self._setpriv, "--pdeathsig=TERM", "--", sys.executable, "-m", "pictograph", *arguments]
        with self.log_of(arguments[-1]).open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.settings.environment()},
                start_new_session=True,  # Ctrl-C reaches us alone, and we end them in good order
            )

    def _restart(self, process: _Process) -> None:
        name, path = " ".join(process.arguments), self.log_of(process.arguments[-1])
        if process.running.returncode == MISCONFIGURED:
            self._failure = f"{name} ended: {last_line(path).removeprefix('Error: ')}"
            return
        log.warning("%s ended with status %d and is started again; see %s", name, process.running.returncode, path)
        self._stop.wait(RESTART_PAUSE_SECONDS * min(process.restarts + 1, 30))
        process.restarts += 1
        process.running = self._spawn(process.arguments)

    def _end_all(self) -> None:
        for process in self._processes:
            process.running.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            try:
                process.running.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.running.kill()
                process.running.wait()
