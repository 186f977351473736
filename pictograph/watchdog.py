"""Looks at workers from outside: who lives and does nothing is named, for the supervisor to start it anew.

It looks in a thread of its own, because a database that swallows everything would hold up whoever asks it; and what it
knows is in doubt for as long as the database has not answered: then nobody is named.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import redis
from redis.exceptions import RedisError

from pipeline.errors import PictographError
from pipeline.ledger import roster
from pipeline.ledger.roster import Seen
from pipeline.settings import Settings
from pipeline.store.roles import Role
from pipeline.store.session import Database

log = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
LOOKS_PER_BOUND = 4  # at least; a short bound is looked at more often


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """A process that must be ended and started anew."""

    process_id: int
    why: str


@dataclass
class Memory:
    """What several looks in a row have shown. Times are those of the monotonic clock."""

    bound_seconds: float
    answering_since: float | None = None  # the database has answered every look from then on
    waiting_since: dict[str, float] = field(default_factory=dict)  # by worker: messages lay there, and it took none

    def forget(self) -> None:
        """The database has not answered: nothing can be said of anybody."""
        self.answering_since = None
        self.waiting_since.clear()

    def judge(
        self,
        now: float,
        seen: Sequence[Seen],
        ages: Mapping[int, float],
        lying: Callable[[str], bool],
        lives: Callable[[int], bool],
    ) -> list[Stuck]:
        """Who of the processes in `ages` (process id to age in seconds) is stuck.

        Args:
            now: the moment of this look.
            seen: what the ledger knows of this machine.
            ages: the processes that are ours to start anew; what a row says from before its process is of another one.
            lying: whether messages of a queue lie at the broker.
            lives: whether a process exists.
        """
        self.answering_since = now if self.answering_since is None else self.answering_since
        ours = [one for one in seen if one.silent_seconds < ages.get(one.process_id, 0)]
        waiting = {one.worker_id for one in ours if roster.may_be_deaf(one) and lying(one.queue)}
        self.waiting_since = {name: self.waiting_since.get(name, now) for name in waiting}
        if now - self.answering_since < self.bound_seconds:
            return []
        found = [Stuck(process_id=one.process_id, why=why) for one in ours if (why := self._why(now, one, lives))]
        known = {one.process_id for one in ours}
        longest = self.bound_seconds + roster.RESPAWN_SECONDS
        absent = [number for number, age in ages.items() if number not in known and age > longest]
        why = f"it is not on the list after {longest:.0f} s"
        return found + [Stuck(process_id=number, why=why) for number in absent]

    def _why(self, now: float, one: Seen, lives: Callable[[int], bool]) -> str | None:
        waited = now - self.waiting_since.get(one.worker_id, now)
        alive = lives(one.own_process_id)
        return roster.stuck(one, lives=alive, waited_seconds=waited, bound_seconds=self.bound_seconds)


@dataclass
class Watchdog:
    """A thread that looks every few seconds and puts whom it finds stuck into `found`."""

    settings: Settings
    ages: Callable[[], Mapping[int, float]]
    found: SimpleQueue[Stuck] = field(default_factory=SimpleQueue, init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more; a look that is under way is not waited for."""
        self._over.set()

    def _run(self) -> None:
        url = self.settings.database_url
        if url is None:
            return
        memory = Memory(bound_seconds=self.settings.watchdog_seconds)
        pause = min(LOOK_SECONDS, memory.bound_seconds / LOOKS_PER_BOUND)
        with Database(url.get_secret_value(), "pictograph watchdog", connections=1, role=Role.WORKER) as database:
            while not self._over.wait(pause):
                try:
                    self._look(database, memory)
                except PictographError as exc:
                    log.debug("cannot look: %s", exc)
                    memory.forget()
                except Exception:  # who lives and does nothing would never be noticed again: no bug may stop it
                    log.exception("cannot look, for a reason that nobody thought of")
                    memory.forget()

    def _look(self, database: Database, memory: Memory) -> None:
        began = time.monotonic()
        seen = database.run(lambda connection: roster.look(connection, socket.gethostname()))
        if time.monotonic() - began > memory.bound_seconds / 2:
            memory.forget()  # the database stood still, and took nobody's beats meanwhile
            return
        for stuck in memory.judge(time.monotonic(), seen, self.ages(), self._lying, lives):
            self.found.put(stuck)

    def _lying(self, queue: str) -> bool:
        return messages_lie(self.settings, queue)


def messages_lie(settings: Settings, queue: str) -> bool:
    """Whether the broker holds messages that nobody has taken; False if it does not answer."""
    if settings.broker_url is None:
        return False
    url = settings.broker_url.get_secret_value()
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as broker:
            return bool(broker.llen(queue))
    except RedisError as exc:
        log.debug("the broker cannot be asked: %s", exc)
        return False


def lives(process_id: int) -> bool:
    """Whether this machine has such a process."""
    return Path(f"/proc/{process_id}").exists()
