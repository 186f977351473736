"""The keeper: ``python -m pictograph.stack.keeper HOME LOCK`` starts a home's servers, watches over them, stops them.

The laws:

1. The keeper lives exactly as long as it holds ``keeper.lock`` (descriptor LOCK, inherited from its starter), and only
   a holder of that lock touches the servers.
2. It leaves when nobody holds ``users.lock`` for GRACE_SECONDS, when its folder is deleted, at SIGTERM, or when a
   server cannot be started. It keeps ``users.lock`` while it leaves, so newcomers wait until everything has stopped.
3. It stops every server before it ends, and the kernel does where it cannot.
4. One thread: the death signal of a child is bound to the thread that started it.
"""

import fcntl
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from types import FrameType

from pictograph.stack import ports, processes
from pictograph.stack.home import Home, Status, try_lock
from pictograph.stack.servers import Place, Postgres, SeaweedFS, Server, Valkey
from pipeline import logs
from pipeline.errors import ConfigurationError, PictographError, ServiceDown

GRACE_SECONDS = 1.0  # one command often follows another; starting costs two seconds
POLL_SECONDS = 0.3  # how soon a user's end, or a server's, is noticed
START_POLL_SECONDS = 0.05
START_SECONDS = 120.0  # crash recovery of a large database may take most of it
RESTART_SECONDS = 1.0  # pause before a server that died is started again

KINDS: tuple[type[SeaweedFS] | type[Valkey] | type[Postgres], ...] = (SeaweedFS, Valkey, Postgres)  # slowest first

logger = logging.getLogger("pictograph.keeper")


class Watched:
    """A server and its process."""

    def __init__(self, server: Server, home: Home, account: processes.Account) -> None:
        self.server = server
        self.ready = False
        self._home = home
        self._account = account
        self._child: Popen[bytes] | None = None
        self._start_at = 0.0  # monotonic; not before
        self._deadline = time.monotonic() + START_SECONDS

    def start(self) -> None:
        """Prepare its folder and start its process."""
        self.server.prepare()
        self._child = processes.start(
            self._account.command(self.server.command(), self.server.death_signal),
            folder=self.server.folder,
            log=self._home.log(self.server.name),
        )
        logger.info("%s: started as process %d", self.server.name, self._child.pid)

    def look(self) -> bool:
        """See how it is and do what is due; whether `ready` changed. Raises ServiceDown where it does not start."""
        before = self.ready
        if self._child is None:
            if time.monotonic() >= self._start_at:
                self.start()
        elif self._child.poll() is not None:
            self._died(self._child.returncode)
        elif not self.ready:
            self.ready = self._answers()
        return self.ready != before

    def _answers(self) -> bool:
        if not self.server.answers():
            if time.monotonic() > self._deadline:
                raise ServiceDown(f"{self.server.name} does not answer after {START_SECONDS:.0f} s; {self._log_says()}")
            return False
        logger.info("%s: ready", self.server.name)
        return True

    def _died(self, status: int) -> None:
        """Start it again if it was running well, or was killed (status < 0); if it gave up by itself, so do we."""
        if not self.ready and (status >= 0 or time.monotonic() > self._deadline):
            raise ServiceDown(f"{self.server.name} ended with status {status} as it started; {self._log_says()}")
        logger.warning("%s: ended with status %d; it is started again", self.server.name, status)
        processes.sweep(self._home.mark, {self.server.executable: self.server.death_signal}, self.server.stop_seconds)
        if self.ready:
            self._deadline = time.monotonic() + START_SECONDS
        self.ready = False
        self._child = None
        self._start_at = time.monotonic() + RESTART_SECONDS

    def _log_says(self) -> str:
        log = self._home.log(self.server.name)
        return f"{log} says: {processes.last_line(log)}"

    def ask_to_stop(self) -> None:
        """Ask politely; `end` makes sure."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(self.server.stop_signal)

    def end(self) -> None:
        """Wait for its end, and kill it when its patience is over."""
        if self._child is None:
            return
        deadline = time.monotonic() + self.server.stop_seconds
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._child.poll() is None:
            self._child.kill()
        try:
            status = self._child.wait(processes.KILL_SECONDS)
        except TimeoutExpired:
            logger.error("%s: process %d survives its kill; its disk may hang", self.server.name, self._child.pid)  # noqa: TRY400
        else:
            logger.info("%s: stopped with status %d", self.server.name, status)


class Keeper:
    """The servers of one home, for as long as somebody uses them."""

    def __init__(self, home: Home, lock: int) -> None:
        self._home = home
        self._lock = lock
        self._watched: list[Watched] = []
        self._status = Status(pid=os.getpid())
        self._unused_since: float | None = None
        self._claim: ports.Claim | None = None  # held to the end: it reserves the ports
        self._asked_to_leave = False

    def run(self) -> None:
        """Serve until it is time to leave. Every failure is published; nothing is raised."""
        signal.signal(signal.SIGTERM, self._ask_to_leave)
        try:
            self._start()
            while self._wanted():
                self._look()
                time.sleep(POLL_SECONDS if all(watched.ready for watched in self._watched) else START_POLL_SECONDS)
        except PictographError as error:
            self._fail(str(error), misconfigured=isinstance(error, ConfigurationError))
        except OSError as error:
            self._fail(f"The data folder {self._home.folder} cannot be used ({error}).", misconfigured=True)
        except Exception as error:
            logger.exception("unexpected")
            self._fail(f"The keeper failed ({error!r}); see {self._home.logs}/keeper.log.", misconfigured=False)
        finally:
            self._stop()

    def _ask_to_leave(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_leave = True

    def _start(self) -> None:
        signals = {kind.executable: kind.death_signal for kind in KINDS}
        processes.sweep(self._home.mark, signals, max(kind.stop_seconds for kind in KINDS))
        account = processes.account()
        credentials = self._home.credentials()
        self._claim = ports.claim(self._home.first_port())
        self._home.keep_first_port(self._claim.ports.postgres)
        self._home.publish(self._status)
        place = Place(home=self._home, ports=self._claim.ports, credentials=credentials, account=account)
        for kind in KINDS:
            watched = Watched(kind(place), self._home, account)
            self._watched.append(watched)
            watched.start()

    def _look(self) -> None:
        changes = [watched.look() for watched in self._watched]
        if any(changes):
            ready = frozenset(watched.server.service for watched in self._watched if watched.ready)
            self._status = replace(self._status, ready=ready)
            self._home.publish(self._status)

    def _wanted(self) -> bool:
        return not self._asked_to_leave and self._home_is_ours() and self._somebody_is_there()

    def _home_is_ours(self) -> bool:
        """Whether the folder is still the one we were started for: it may be deleted, even made anew, under us."""
        try:
            return os.stat(self._home.keeper_lock).st_ino == os.fstat(self._lock).st_ino
        except FileNotFoundError:
            return False

    def _somebody_is_there(self) -> bool:
        """Whether the users' lock is held, or was a moment ago. At False we hold it ourselves, until we end."""
        users_lock = try_lock(self._home.users_lock, fcntl.LOCK_EX)
        if users_lock is None:
            self._unused_since = None
            return True
        if self._unused_since is None:
            self._unused_since = time.monotonic()
        if time.monotonic() - self._unused_since < GRACE_SECONDS:
            os.close(users_lock)
            return True
        return False

    def _fail(self, failure: str, *, misconfigured: bool) -> None:
        logger.error("%s", failure)
        self._status = replace(self._status, ready=frozenset(), failure=failure, misconfigured=misconfigured)
        try:
            self._home.publish(self._status)
        except OSError:
            logger.exception("nobody can be told")

    def _stop(self) -> None:
        if self._status.failure is None:
            with suppress(OSError):  # whoever reads it will find the keeper gone, and the next keeper replaces it
                self._home.forget_status()
        for watched in self._watched:
            watched.ask_to_stop()
        for watched in self._watched:
            watched.end()
        if self._claim is not None:
            remove_sockets(self._claim.ports)


def remove_sockets(claimed: ports.Ports) -> None:
    """SeaweedFS's parts talk over sockets at fixed places in /tmp, which stay when it is killed."""
    for part in ("master", "volume", "filer", "s3"):
        number = getattr(claimed, f"{part}_grpc")
        Path(f"/tmp/seaweedfs-{part}-grpc-{number}.sock").unlink(missing_ok=True)  # noqa: S108 - its choice, not ours


def main() -> None:
    """Detach, then serve. The starter waits only for the detaching."""
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(lock, False)  # the servers must not hold it
    if os.fork() != 0:
        os._exit(0)
    os.umask(0o077)
    logs.set_up()
    Keeper(Home(folder), lock).run()


if __name__ == "__main__":
    main()
