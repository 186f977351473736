"""Using the stack: hold the users' lock, see to it that a keeper lives, wait until it says "ready"."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from pictograph.stack import servers, wheels
from pictograph.stack.home import ALL, POLL_SECONDS, Endpoints, Home, Service, Status, try_lock, wait_lock
from pictograph.stack.ports import Ports
from pictograph.stack.processes import last_line, python, python_environment
from pipeline.errors import ConfigurationError, ServiceDown

LEAVE_SECONDS = 40.0  # a keeper that is leaving stops its servers, or kills them, well within this
START_SECONDS = 180.0  # longer than the keeper's own patience; only a keeper that hangs uses it up
KEEPERS = 3  # keepers that may die under our eyes before we stop starting new ones

OnWait = Callable[[frozenset[Service]], None]


class Stack:
    """A hold on the running servers. They stay until the last hold is closed, or its process has ended.

    Programs that the process starts do not share the hold; children that it forks without exec do.
    """

    def __init__(self, endpoints: Endpoints, users_lock: int) -> None:
        self.endpoints = endpoints
        self._users_lock: int | None = users_lock

    def close(self) -> None:
        """Let go. Returns at once; where this was the last hold the servers stop a second later. Idempotent."""
        if self._users_lock is not None:
            os.close(self._users_lock)
            self._users_lock = None

    def __enter__(self) -> Endpoints:
        return self.endpoints

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open(home: Path, need: Collection[Service] = ALL, on_wait: OnWait | None = None) -> Stack:
    """Start the stack under `home`, or join the one that runs, and wait until the services in `need` answer.

    All servers are started whatever `need` says, and all endpoints are set; it names only those worth waiting for.
    `on_wait` is called with the services still waited for, at first and whenever one fewer is missing. Should the
    keeper be killed while the hold lasts, the next `open` brings the servers back at the same addresses.

    Raises ConfigurationError (not installed, folder not usable) or ServiceDown (a server does not start).
    """
    wheels.require_installed()
    place = Home(home)
    place.create()
    with place.usable():
        users_lock = wait_lock(place.users_lock, fcntl.LOCK_SH, LEAVE_SECONDS)
    if users_lock is None:
        raise ServiceDown(f"The servers under {place.folder} have not stopped in time; see {place.logs}/keeper.log.")
    try:
        with place.usable():
            endpoints = _wait_ready(place, frozenset(need), on_wait)
    except BaseException:
        os.close(users_lock)
        raise
    return Stack(endpoints, users_lock)


def wait_until_stopped(home: Path, patience: float = LEAVE_SECONDS) -> bool:
    """Wait until no keeper serves `home` any more and the folder may be copied or deleted; False: one still does."""
    place = Home(home)
    if not place.keeper_lock.exists():
        return True
    lock = wait_lock(place.keeper_lock, fcntl.LOCK_SH, patience)
    if lock is not None:
        os.close(lock)
    return lock is not None


def _wait_ready(place: Home, need: frozenset[Service], on_wait: OnWait | None) -> Endpoints:
    """Wait for the keeper's word, with a new keeper should this one die without any."""
    deadline = time.monotonic() + START_SECONDS
    started, told = 0, None
    while time.monotonic() < deadline:
        started += _ensure_keeper(place, started)
        status = place.status() or Status(pid=0)
        if status.failure is not None:
            raise _failure(status)
        missing = need - status.ready
        if status.pid and not missing:
            return _endpoints(place)
        if on_wait is not None and missing != told:
            on_wait(missing)
            told = missing
        time.sleep(POLL_SECONDS)
    raise ServiceDown(f"The servers under {place.folder} do not start; see {place.logs}/keeper.log.")


def _failure(status: Status) -> ConfigurationError | ServiceDown:
    return (ConfigurationError if status.misconfigured else ServiceDown)(status.failure)


def _endpoints(place: Home) -> Endpoints:
    first = place.first_port()
    if first is None:
        raise ServiceDown(f"{place.folder}/ports.json vanished while the servers run; close every user and try again.")
    return servers.endpoints(Ports.block(first), place.known_credentials())


def _ensure_keeper(place: Home, started: int) -> bool:
    """Start a keeper unless one lives; whether it did. `started` counts those this caller has started before."""
    start_lock = wait_lock(place.start_lock, fcntl.LOCK_EX, START_SECONDS)
    if start_lock is None:
        raise ServiceDown(f"Another process hangs while it starts the servers under {place.folder}; end it.")
    try:
        keeper_lock = try_lock(place.keeper_lock, fcntl.LOCK_EX)
        if keeper_lock is None:
            return False
        try:
            _start_keeper(place, keeper_lock, started)
        finally:
            os.close(keeper_lock)
    finally:
        os.close(start_lock)
    return True


def _start_keeper(place: Home, keeper_lock: int, started: int) -> None:
    """Start a keeper and leave it the lock: the lock is held without a gap, and dies with the keeper alone."""
    status = place.status()
    if started and status is not None and status.failure is not None:
        raise _failure(status)
    log = place.log("keeper")
    if started >= KEEPERS:
        raise ServiceDown(f"The keeper of the embedded servers ended {KEEPERS} times; {log} says: {last_line(log)}")
    place.forget_status()
    with log.open("ab") as output:
        done = subprocess.run(
            python("pictograph.stack.keeper", str(place.folder), str(keeper_lock)),
            cwd="/",
            env=python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(keeper_lock,),
            start_new_session=True,
            check=False,
        )
    if done.returncode != 0:
        raise ServiceDown(f"The keeper of the embedded servers did not start; {log} says: {last_line(log)}")
