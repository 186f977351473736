"""The three servers as processes of ours: started through their binaries, killed, frozen and brought back at will.

What a server needs on disk and how it is started is the product's own knowledge (`pictograph.stack.servers`); nobody
watches over these, so that they stay down for as long as a test wants. Every process gets a death signal of the kernel,
bound to the thread that starts it: hence the one thread that starts them all, which lives as long as the test run.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any, TypeVar

import psutil
import psycopg2
import redis

from pictograph.stack import processes
from pictograph.stack.servers import Place, Postgres, SeaweedFS, Server, Valkey

PATIENCE_SECONDS = 120.0  # for what takes a moment, on a machine that may be slow and busy
POLL_SECONDS = 0.02

T = TypeVar("T")

_starter = ThreadPoolExecutor(1, thread_name_prefix="chaos-start")


def started(start: Callable[[], T]) -> T:
    """What `start` returns, called in the thread that all processes may die with."""
    return _starter.submit(start).result()


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS, message: str = "") -> Any:
    """What `what` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise TimeoutError(message or f"{what} did not come true in {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return found


def lives(process: psutil.Process) -> bool:
    """Whether it runs or is stopped; in a container nobody may reap orphans, so a zombie has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it, itself first; nothing where it has ended."""
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(members: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal those that still live."""
    for member in members:
        try:
            member.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def end_all(members: Iterable[psutil.Process]) -> None:
    """kill -9, and wait until nothing of them runs."""
    found = list(members)
    send(found, signal.SIGKILL)
    wait_for(lambda: not any(map(lives, found)), message=f"they survive a kill: {found}")


class ServerProcess:
    """One server. Its address outlives its process."""

    def __init__(self, server: Server, place: Place) -> None:
        self.server = server
        self._place = place
        self._child: Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last, which may have ended."""
        assert self._child is not None, f"{self.server.name} has not been started"
        return self._child.pid

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._place.home.log(self.server.name)

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self._child is not None and self._child.poll() is None

    def launch(self) -> None:
        """Start its process, and do not wait."""
        self.server.prepare()
        command = self._place.account.command(self.server.command(), self.server.death_signal)
        self._child = started(lambda: processes.start(command, folder=self.server.folder, log=self.log))

    def start(self) -> None:
        """Start its process, and wait until it answers."""
        self.launch()
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Return when it serves; an error with its last words when it has ended instead."""

        def answers() -> bool:
            if not self.runs:
                raise RuntimeError(f"{self.server.name} ended; it says: {processes.last_line(self.log)}")
            return self.server.answers()

        wait_for(answers, message=f"{self.server.name} does not answer; it says: {processes.last_line(self.log)}")

    def kill(self) -> None:
        """kill -9, the whole tree, as when the machine loses its power; return when nothing of it is left."""
        end_all(family(self.pid))
        self._reap()

    def pause(self) -> None:
        """Freeze the whole tree: connections stay open, and nothing is answered."""
        send(family(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        send(family(self.pid), signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever state it is in. Idempotent."""
        if self._child is not None:
            end_all(family(self._child.pid))
            self._reap()

    def _reap(self) -> None:
        assert self._child is not None
        self._child.wait(PATIENCE_SECONDS)


class PostgresProcess(ServerProcess):
    """PostgreSQL, which is a family of processes."""

    def __init__(self, place: Place) -> None:
        super().__init__(Postgres(place), place)

    def stop_immediate(self) -> None:
        """Stop it as a crash would, but in an orderly way: no checkpoint, recovery at the next start."""
        self._end_with(signal.SIGQUIT)

    def stop_fast(self) -> None:
        """Stop it as an operator would: sessions are cut, a checkpoint is written."""
        self._end_with(signal.SIGINT)

    def kill_postmaster(self) -> None:
        """kill -9 of the postmaster alone. Its children notice and go; only then another one may be started."""
        self._end_with(signal.SIGKILL)

    def _end_with(self, number: signal.Signals) -> None:
        members = family(self.pid)
        os.kill(self.pid, number)
        self._reap()
        wait_for(lambda: not any(map(lives, members)), message="children of the postmaster stay")

    def backends(self) -> list[int]:
        """The processes of clients that write: not our own probe's, nor the server's own helpers."""
        found = []
        for member in family(self.pid)[1:]:
            try:
                title = " ".join(member.cmdline())
            except psutil.NoSuchProcess:
                continue
            if f"{self._place.ports.postgres}" not in title and "127.0.0.1(" in title:
                found.append(member.pid)
        return found

    def kill_backend(self, pid: int | None = None) -> int | None:
        """kill -9 of one client's backend: the server throws out all others and recovers. Its pid; None: no client."""
        victims = self.backends() if pid is None else [pid]
        for victim in victims:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return victim
        return None

    def recovered_since(self, moment: float) -> bool:
        """Whether all client backends that live now began after `moment` (seconds since the epoch)."""
        try:
            return all(psutil.Process(pid).create_time() >= moment for pid in self.backends())
        except psutil.NoSuchProcess:
            return False

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """One statement in a transaction of its own, as the owner of the database."""
        connection = psycopg2.connect(self._place.endpoints.database_url, connect_timeout=5)
        with closing(connection), connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


class ValkeyProcess(ServerProcess):
    """The broker, which has everything in memory."""

    def __init__(self, place: Place) -> None:
        super().__init__(Valkey(place), place)

    @property
    def admin_url(self) -> str:
        """For who may do everything there."""
        return self._place.endpoints.broker_admin_url

    def wipe(self) -> None:
        """Kill it with all that it knows, and start it again."""
        self.kill()
        self.start()

    def flush(self) -> None:
        """FLUSHALL: it forgets everything, and no connection ends."""
        client = redis.Redis.from_url(self._place.endpoints.broker_admin_url)
        client.flushall()
        client.close()


class S3Process(ServerProcess):
    """SeaweedFS."""

    def __init__(self, place: Place) -> None:
        super().__init__(SeaweedFS(place), place)
