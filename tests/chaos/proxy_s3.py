"""S3 on the wire: HTTP/1.1 requests one after the other, answered by the server, by us, or by the server and damaged.

Damage is done to GETs of objects that the server answers with a whole body. Uploads and deletions are never touched:
what is in the store stays the truth.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from tests.chaos.proxy_wire import CHUNK_BYTES, Cut, Fault, Kind, Wire

REFUSALS = {
    Kind.S3_503: ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    Kind.S3_500: ("500 Internal Server Error", "InternalError", "We encountered an internal error. Please try again."),
}
DAMAGE = frozenset(kind for kind in Kind if kind.value.startswith("s3_")) - REFUSALS.keys()
TRICKLE_SECONDS = 1.0
BODILESS = frozenset({204, 304})


@dataclass(frozen=True)
class Head:
    """The first line and the headers of a message."""

    line: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> "Head | None":
        """The next one; None: the peer has closed the connection instead."""
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as exc:
            if exc.partial:
                raise
            return None
        line, *rest = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = (header.partition(":") for header in rest)
        return cls(line, tuple((name, value.strip()) for name, _, value in pairs))

    def get(self, name: str) -> str:
        """A header's value; "" if it is not there."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def put(self, name: str, value: str | None) -> "Head":
        """The same with another value of a header; None: without it."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return replace(self, headers=kept if value is None else (*kept, (name, value)))

    def pack(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def method(self) -> str:
        """Of a request."""
        return self.line.split(" ", 1)[0]

    @property
    def target(self) -> str:
        """Of a request: path and query, unquoted."""
        return unquote(self.line.split(" ")[1])

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.line.split(" ")[1])

    @property
    def lasting(self) -> bool:
        """Whether the connection stays open after it."""
        return self.get("connection").lower() != "close"

    @property
    def names_object(self) -> bool:
        """Of a request: whether its path is a bucket and a key."""
        return bool(urlsplit(self.line.split(" ")[1]).path.strip("/").partition("/")[2])


async def body_of(head: Head, reader: asyncio.StreamReader, *, none: bool) -> AsyncIterator[bytes]:
    """The body as it is on the wire, chunk marks included. `none`: there is none, whatever the headers say."""
    if none:
        return
    if head.get("transfer-encoding").lower() == "chunked":
        async for piece in _chunks(reader):
            yield piece
        return
    left = int(head.get("content-length") or 0)
    while left:
        piece = await reader.read(min(left, CHUNK_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    size = 1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        yield line + (await reader.readexactly(size + 2) if size else b"")
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        yield line
    yield line


class S3Wire(Wire):
    """A connection to S3 whose answers may be refusals, or damaged."""

    async def carry(self) -> None:
        """One request after the other. The server may have closed its side in between, as servers do when idle."""
        while (request := await Head.read(self.client.reader)) is not None:
            await self.disturb()
            if not await self._answered(request):
                return

    async def _answered(self, request: Head) -> bool:
        """Whether the connection is good for another request."""
        if request.get("expect"):  # nobody signs this header, and waiting for its answer would need both ways at once
            await self.to_client(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = request.put("Expect", None)
        refusal = self.faults.bite(REFUSALS, lambda fault: _refusable(fault, request))
        if refusal is not None:
            return await self._refuse(request, refusal.kind)
        await self._forward(request)
        answer = await self._answer()
        suits = request.method == "GET" and request.names_object and answer.status == 200
        if suits and int(answer.get("content-length") or 0) > 1:
            fault = self.faults.bite(DAMAGE, lambda fault: fault.only in request.target)
            if fault is not None:
                body = b"".join([piece async for piece in body_of(answer, self._server().reader, none=False)])
                return await self._damaged(answer, body, fault)
        await self.to_client(answer.pack())
        none = request.method == "HEAD" or answer.status in BODILESS
        async for piece in body_of(answer, self._server().reader, none=none):
            await self.to_client(piece)
        self.faults.served += suits
        return request.lasting and answer.lasting

    async def _forward(self, request: Head) -> None:
        if self._server().reader.at_eof():
            await self.open()
        await self.to_server(request.pack())
        async for piece in body_of(request, self.client.reader, none=False):
            await self.to_server(piece)

    async def _answer(self) -> Head:
        while True:
            head = await Head.read(self._server().reader)
            if head is None:
                raise Cut  # the server has died
            if head.status >= 200:
                return head

    async def _refuse(self, request: Head, kind: Kind) -> bool:
        async for _ in body_of(request, self.client.reader, none=False):
            pass
        line, code, message = REFUSALS[kind]
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
        headers = (("Content-Type", "application/xml"), ("Content-Length", str(len(body))))
        await self.to_client(Head(f"HTTP/1.1 {line}", headers).pack())
        if request.method != "HEAD":
            await self.to_client(body.encode())
        return request.lasting

    async def _damaged(self, answer: Head, body: bytes, fault: Fault) -> bool:
        """Send the answer in a way that it should not be; whether the connection is good for another request."""
        half = body[: len(body) // 2]
        match fault.kind:
            case Kind.S3_WRONG_ETAG:
                await self.to_client(answer.put("ETag", f'"{self.faults.chance.randbytes(16).hex()}"').pack() + body)
                return answer.lasting
            case Kind.S3_BIT_FLIP:
                await self.to_client(answer.pack() + self._flipped(body))
                return answer.lasting
            case Kind.S3_SHORT_LENGTH:
                await self.to_client(answer.put("Content-Length", str(len(half))).pack() + half)
                return answer.lasting
            case Kind.S3_TRICKLE:
                await self._trickle(answer, body, fault.seconds or TRICKLE_SECONDS)
                return answer.lasting
        await self.to_client(answer.pack() + half)
        if fault.kind is Kind.S3_RESET_MID_BODY:
            raise Cut
        if fault.kind is Kind.S3_STALL:
            await self._stall(fault.seconds)
            await self.to_client(body[len(half) :])
            return answer.lasting
        return False  # S3_SHORT_BODY

    async def _stall(self, seconds: float) -> None:
        if not seconds:
            await self.silence()
        self.hangs = True
        await asyncio.sleep(seconds)
        self.hangs = False

    async def _trickle(self, answer: Head, body: bytes, seconds: float) -> None:
        self.hangs = True
        await self.to_client(answer.pack())
        for at in range(len(body)):
            if self.client.reader.at_eof():
                raise Cut  # who asked has gone
            await self.to_client(body[at : at + 1])
            await asyncio.sleep(seconds)
        self.hangs = False

    def _flipped(self, body: bytes) -> bytes:
        damaged = bytearray(body)
        damaged[self.faults.chance.randrange(len(body))] ^= 1 << self.faults.chance.randrange(8)
        return bytes(damaged)


def _refusable(fault: Fault, request: Head) -> bool:
    """Whether a refusal suits this request: GETs of objects, or with `everything` all that only reads."""
    if fault.only not in request.target:
        return False
    return request.method in {"GET", "HEAD"} if fault.everything else request.method == "GET" and request.names_object
