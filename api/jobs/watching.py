"""Jobs as they change, told to whoever listens: server-sent events.

Theory of operation
    listener ─┐
    listener ─┼─ _Watched (one per job that is watched) ◀── one poller ──▶ the ledger, once a second at most
    listener ─┘

    A poller begins with its job's first listener and ends with its last one, or with the job. It keeps the newest
    state alone: a listener that is slow misses what came in between, and holds up nobody.

Laws
1. However many listen, the ledger is asked one small question per job and second, in a thread that is given back at
   once. A listener holds no thread and no connection to the database.
2. All of this lives in the event loop's one thread, so nothing here is locked.
3. A stream ends when its job has ended, after `LONGEST_SECONDS` (who still listens comes back, and is asked again who
   it is), or when the server stops: at once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import anyio.to_thread
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from api.errors import Problem
from pipeline.errors import PictographError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0  # proxies cut what is silent for half a minute or more
LONGEST_SECONDS = 900.0
RECONNECT_MILLISECONDS = 3_000
MOST_STREAMS = 256  # of this process


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A job at one look."""

    what: object  # equal as long as nothing has changed
    body: str = field(compare=False)  # JSON; how long it has run is told in it, and is no change
    ended: bool  # nothing more will change


Look = Callable[[], Seen]  # asks the ledger; runs in a thread


@dataclass(kw_only=True, eq=False)
class _Watched:
    """A job that somebody listens to."""

    version: int = 0  # rises with every change
    seen: Seen | None = None
    over: bool = False  # nothing more will be told
    listeners: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    poller: "asyncio.Task[None] | None" = None

    def tell(self, seen: Seen) -> None:
        if seen != self.seen:
            self.seen, self.version = seen, self.version + 1
            self.wake()

    def end(self) -> None:
        self.over = True
        self.wake()

    def wake(self) -> None:
        """Whoever waits for the next change has it; the one after that is another event."""
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()


class Watching:
    """The jobs that are watched, and their listeners."""

    def __init__(self, look_seconds: float = LOOK_SECONDS, most_streams: int = MOST_STREAMS) -> None:
        self._look_seconds = look_seconds
        self._most_streams = most_streams
        self._watched: dict[int, _Watched] = {}
        self._streams = 0
        self._closed = False

    @property
    def streams(self) -> int:
        """How many listen."""
        return self._streams

    def check_room(self) -> None:
        """A Problem where as many listen as may, or the server stops."""
        if self._closed or self._streams >= self._most_streams:
            detail = "Too many listen to jobs here; ask for the job itself, or come back in a moment."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry=10)

    async def check_there(self, job_id: int, look: Look) -> None:
        """One look before anything is answered, so that what is not there is a problem and no empty stream.

        Where others listen to the job already, it is there.
        """
        watched = self._watched.get(job_id)
        if watched is None or watched.seen is None:
            await anyio.to_thread.run_sync(look)

    async def events(self, job_id: int, look: Look) -> AsyncIterator[bytes]:
        """The job as it stands and then whenever it changes, spelt as server-sent events.

        Args:
            job_id: of the job.
            look: reads it; the first listener's is used as long as anybody listens.
        """
        watched = self._join(job_id, look)
        try:
            yield format_sse_event(retry=RECONNECT_MILLISECONDS)
            told, until = 0, asyncio.get_running_loop().time() + LONGEST_SECONDS
            while asyncio.get_running_loop().time() < until:
                changed = watched.changed  # taken before looking: what comes after that wakes us
                if watched.seen is not None and watched.version != told:
                    told = watched.version
                    yield format_sse_event(event="job", data_str=watched.seen.body, id=str(told))
                elif watched.over:
                    break
                else:
                    try:
                        await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                    except TimeoutError:
                        yield KEEPALIVE_COMMENT
            if watched.seen is not None and watched.seen.ended:
                yield format_sse_event(event="end", data_str="{}")
        finally:
            self._leave(job_id, watched)

    def _join(self, job_id: int, look: Look) -> _Watched:
        watched = self._watched.get(job_id)
        if watched is None or watched.over or watched.poller is None or watched.poller.done():
            watched = self._watched[job_id] = _Watched()
            watched.poller = asyncio.get_running_loop().create_task(self._poll(watched, look))
        watched.listeners += 1
        self._streams += 1
        return watched

    def _leave(self, job_id: int, watched: _Watched) -> None:
        watched.listeners -= 1
        self._streams -= 1
        if watched.listeners == 0:
            if watched.poller is not None:
                watched.poller.cancel()
            if self._watched.get(job_id) is watched:
                del self._watched[job_id]

    async def _poll(self, watched: _Watched, look: Look) -> None:
        try:
            while not watched.over:
                try:
                    watched.tell(await anyio.to_thread.run_sync(look))
                except PictographError as error:  # the database is away: what was told last still holds
                    log.warning("a job that is watched cannot be seen: %s", error)
                if watched.seen is not None and watched.seen.ended:
                    return
                await asyncio.sleep(self._look_seconds)
        finally:
            watched.end()

    def close(self) -> None:
        """End every stream now; new ones are refused. Called in the event loop's thread."""
        self._closed = True
        for watched in self._watched.values():
            watched.end()
