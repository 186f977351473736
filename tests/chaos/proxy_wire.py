"""What a fault is, and one connection that passes through the proxy, whatever it speaks.

A *request* is what the client sends in one piece; protocols that are understood say it more exactly. Faults of whole
connections (hang, slice, limit) take hold of those that are open when they are injected and of those that come later;
all others are asked for at each request.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

CHUNK_BYTES = 64 * 1024
SLICE_BYTES = 1  # of a slice whose fault names no size
RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing sends RST instead of FIN


class Speaks(StrEnum):
    """The protocol on a proxy's connections."""

    TCP = "tcp"  # any
    POSTGRES = "postgres"
    S3 = "s3"


class Kind(StrEnum):
    """What can be done to a connection or a request."""

    LATENCY = "latency"  # a request arrives `seconds` later
    HANG = "hang"  # everything is swallowed, both ways; the connection stays open
    RESET = "reset"  # a request resets its connection instead of arriving
    SLICE = "slice"  # everything arrives in pieces of `bytes` bytes, `seconds` apart
    LIMIT = "limit"  # the connection is closed after `bytes` bytes, both ways together
    DROP_COMMIT_REPLY = "drop_commit_reply"  # Postgres commits; the client never learns, and its connection is reset
    S3_503 = "s3_503"  # SlowDown
    S3_500 = "s3_500"  # InternalError
    S3_SHORT_BODY = "s3_short_body"  # half a body, then a close; Content-Length says how much it should have been
    S3_SHORT_LENGTH = "s3_short_length"  # half a body, and Content-Length agrees with it
    S3_WRONG_ETAG = "s3_wrong_etag"
    S3_STALL = "s3_stall"  # half a body, then silence: for `seconds`, or until the fault is healed
    S3_TRICKLE = "s3_trickle"  # a byte every `seconds`, or every second
    S3_BIT_FLIP = "s3_bit_flip"  # one bit of the body is not what was stored
    S3_RESET_MID_BODY = "s3_reset_mid_body"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault as it is injected."""

    kind: Kind
    times: int | None = None  # how often it bites; None: until it is healed
    share: float = 1.0  # the probability that it bites a request or connection that it suits
    seconds: float = 0
    bytes: int = 0
    only: str = ""  # Postgres: commits of transactions with a statement that contains this; S3: paths that contain it
    everything: bool = False  # S3, 503 and 500: listings and HEADs too, instead of GETs of objects alone


def always(_: Fault) -> bool:
    """Suits every fault."""
    return True


@dataclass
class _Armed:
    fault: Fault
    left: int | None


class Faults:
    """The faults that are armed, and how often each kind has bitten. For the proxy's own thread."""

    def __init__(self, seed: int) -> None:
        self.bites: Counter[str] = Counter()
        self.served = 0  # objects that went out whole
        self.chance = random.Random(seed)
        self._armed: list[_Armed] = []

    def arm(self, fault: Fault) -> None:
        """From now on it may bite."""
        self._armed.append(_Armed(fault, fault.times))

    def clear(self) -> None:
        """Nothing bites any more."""
        self._armed.clear()

    def bite(self, kinds: Collection[Kind], suits: Callable[[Fault], bool] = always) -> Fault | None:
        """The first armed fault of these kinds that bites now; it is counted."""
        for armed in self._armed:
            fault = armed.fault
            if fault.kind in kinds and armed.left != 0 and suits(fault) and self.chance.random() < fault.share:
                if armed.left is not None:
                    armed.left -= 1
                self.bites[fault.kind.value] += 1
                return fault
        return None


@dataclass(frozen=True)
class End:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """Close it with RST: what is under way is lost."""
        found = self.writer.get_extra_info("socket")
        if found is not None and found.fileno() >= 0:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


class Cut(Exception):
    """The proxy has ended this connection itself."""


class Wire:
    """A client's connection and the server's behind it."""

    def __init__(self, faults: Faults, client: End, upstream: tuple[str, int]) -> None:
        self.faults = faults
        self.client = client
        self.server: End | None = None
        self.hangs = False  # healing resets it
        self._upstream = upstream
        self._swallows = False
        self._slice: Fault | None = None
        self._left: int | None = None  # bytes until a limit closes it
        self._over = asyncio.Event()
        self.take_hold()

    def take_hold(self) -> None:
        """Let the faults of whole connections bite; called at the start, and whenever one is injected."""
        if not self._swallows and self.faults.bite({Kind.HANG}):
            self._swallows = self.hangs = True
        self._slice = self._slice or self.faults.bite({Kind.SLICE})
        if self._left is None and (limit := self.faults.bite({Kind.LIMIT})):
            self._left = limit.bytes

    def let_go(self) -> None:
        """The faults are healed: a connection that hangs is reset, for its bytes are lost."""
        self._slice = self._left = None
        if self.hangs:
            self.reset()

    def reset(self) -> None:
        """End both sides with RST."""
        self._over.set()
        for end in (self.client, self.server):
            if end is not None:
                end.reset()

    async def run(self) -> None:
        """Carry bytes until either side is done. A server that cannot be reached is a reset."""
        try:
            if self._swallows:
                await self._swallow()
            await self.open()
            await self.carry()
        except (OSError, Cut, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.reset()
        finally:
            for end in (self.client, self.server):
                if end is not None:
                    end.writer.close()

    async def open(self) -> End:
        """Connect to the server, anew where there was a connection before."""
        if self.server is not None:
            self.server.writer.close()
        self.server = End(*await asyncio.open_connection(*self._upstream, limit=1 << 20))
        return self.server

    async def carry(self) -> None:
        """Both directions at once, until one ends."""
        both = [asyncio.create_task(self.from_client()), asyncio.create_task(self.from_server())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._swallows and not both[0].done():
                await both[0]  # a client on a dead line does not learn that the server has gone
            for task in both:
                if task.done():
                    task.result()
        finally:
            for task in both:
                task.cancel()

    async def from_client(self) -> None:
        """What the client sends, to its end."""
        while data := await self.client.reader.read(CHUNK_BYTES):
            self.heard_client(data)
            await self.disturb()
            await self.to_server(data)

    async def from_server(self) -> None:
        """What the server sends, to its end."""
        while data := await self._server().reader.read(CHUNK_BYTES):
            await self.to_client(self.heard_server(data))

    def heard_client(self, data: bytes) -> None:
        """Protocols that are understood listen here."""

    def heard_server(self, data: bytes) -> bytes:
        """Likewise; what of it the client gets. Cut: the connection is to be reset."""
        return data

    async def disturb(self) -> None:
        """What may happen to any request."""
        if late := self.faults.bite({Kind.LATENCY}):
            await asyncio.sleep(late.seconds)
        if not self._swallows and self.faults.bite({Kind.RESET}):
            raise Cut

    async def to_server(self, data: bytes) -> None:
        """Send towards the server, as far as the faults of the connection let it."""
        await self._send(self._server(), data)

    async def to_client(self, data: bytes) -> None:
        """Send towards the client, likewise."""
        await self._send(self.client, data)

    async def _send(self, end: End, data: bytes) -> None:
        if self._swallows:
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        for piece in self._pieces(data):
            end.writer.write(piece)
            await end.writer.drain()
            if self._slice is not None:
                await asyncio.sleep(self._slice.seconds)
        if self._left == 0:
            end.writer.close()
            await end.writer.wait_closed()
            raise Cut

    def _pieces(self, data: bytes) -> list[bytes]:
        if self._slice is None:
            return [data]
        size = self._slice.bytes or SLICE_BYTES
        return [data[at : at + size] for at in range(0, len(data), size)]

    async def _swallow(self) -> None:
        """A client that connects while the line is dead: it may send, and is never answered."""
        while await self.client.reader.read(CHUNK_BYTES):
            pass
        raise Cut

    async def silence(self) -> None:
        """Until the client goes, or the faults are healed."""
        self.hangs = True
        waits = [asyncio.create_task(self.client.reader.read(1)), asyncio.create_task(self._over.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        raise Cut

    def _server(self) -> End:
        if self.server is None:
            raise Cut
        return self.server
