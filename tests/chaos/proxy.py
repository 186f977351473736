"""A proxy with faults before one server: `FaultProxy`. It has a thread of its own and may be told at any time.

    with FaultProxy(("127.0.0.1", 5432), Speaks.POSTGRES) as proxy:
        proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, times=1))
        ...  # a client of 127.0.0.1:proxy.port commits, and never learns
        proxy.heal()

What has bitten is counted in `bites`, and nothing else is: a fault that met no request has not happened.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from tests.chaos.proxy_postgres import PostgresWire
from tests.chaos.proxy_s3 import S3Wire
from tests.chaos.proxy_wire import End, Fault, Faults, Kind, Speaks, Wire

__all__ = ["Fault", "FaultProxy", "Kind", "Speaks"]

HOST = "127.0.0.1"
WIRES: dict[Speaks, type[Wire]] = {Speaks.TCP: Wire, Speaks.POSTGRES: PostgresWire, Speaks.S3: S3Wire}
ANSWER_SECONDS = 30.0  # within which the proxy's thread does what it is told, on a busy machine

T = TypeVar("T")


class FaultProxy:
    """Passes on what clients and a server say to each other, but for the faults that are injected."""

    def __init__(self, upstream: tuple[str, int], speaks: Speaks = Speaks.TCP, *, seed: int = 0) -> None:
        self.upstream = upstream
        self._speaks = speaks
        self._faults = Faults(seed)
        self._wires: set[Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server((HOST, 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"fault proxy {speaks}", daemon=True)
        self._ready = threading.Event()

    @property
    def bites(self) -> Counter[str]:
        """What has happened, by kind."""
        return Counter(self._faults.bites)

    @property
    def served(self) -> int:
        """Objects of S3 that a client got whole and undamaged."""
        return self._faults.served

    def start(self) -> None:
        """Begin to pass on."""
        self._thread.start()
        if not self._ready.wait(ANSWER_SECONDS):
            raise TimeoutError("The proxy's thread does not start.")

    def close(self) -> None:
        """End every connection, and the thread. Idempotent."""
        if self._loop.is_closed():
            return
        self._told(self._reset_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def inject(self, fault: Fault) -> None:
        """From now on `fault` may bite, until it has bitten `fault.times` times or is healed."""

        def arm() -> None:
            self._faults.arm(fault)
            for wire in tuple(self._wires):
                wire.take_hold()

        self._told(arm)

    def heal(self) -> None:
        """Take every fault away. Connections that hang are reset: their bytes are lost."""

        def heal() -> None:
            self._faults.clear()
            for wire in tuple(self._wires):
                wire.let_go()

        self._told(heal)

    def cut(self) -> int:
        """Reset every open connection; how many there were."""
        return self._told(self._reset_all)

    def _reset_all(self) -> int:
        wires = tuple(self._wires)
        for wire in wires:
            wire.reset()
        return len(wires)

    def _told(self, act: Callable[[], T]) -> T:
        """Do this in the proxy's thread, now."""

        async def once() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(once(), self._loop).result(ANSWER_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accepted, sock=self._listener, limit=1 << 20, backlog=512)
        )
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        wire = WIRES[self._speaks](self._faults, End(reader, writer), self.upstream)
        self._wires.add(wire)
        if task is not None:
            self._tasks.add(task)
        try:
            await wire.run()
        except asyncio.CancelledError:
            wire.reset()  # the proxy is being closed
        finally:
            self._wires.discard(wire)
            if task is not None:
                self._tasks.discard(task)
