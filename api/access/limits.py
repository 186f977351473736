"""Bounds: requests a minute, bytes and kinds of bodies, and bytes of answers, which are compressed."""

import math
import time
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Problem, respond

COMPRESSED_BYTES = 1000  # smaller answers fit into a packet as they are
COMPRESSION = 5  # of 9: half of the time of the highest, for a few percent of the bytes
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MOST_DIGITS = 19  # of a length; more of them are not even counted
IPV6_NETWORK_BITS = 64  # what one customer is given at least
_ENCODED = '-gzip"'  # how the ETag of a compressed answer ends: other bytes need another one


class Throttle:
    """So many requests of each in any minute, counted by this process alone; 0: any number."""

    def __init__(self, per_minute: int, code: str, detail: str) -> None:
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._counts = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._code, self._detail = code, detail

    def spend(self, who: str) -> None:
        """Count a request; a Problem that says when to come back where it is one too many."""
        if self._limit is None or self._counts.hit(self._limit, who):
            return
        reset_at = self._counts.get_window_stats(self._limit, who).reset_time
        seconds = max(1, math.ceil(reset_at - time.time()))
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, self._code, self._detail, retry=seconds)


def address_of(request: Request) -> str:
    """Whence a request comes, as far as one customer goes: a proxy in front is one address."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ip_address(host)
    except ValueError:  # a socket of this machine
        return host
    return str(ip_network((address, IPV6_NETWORK_BITS), strict=False) if isinstance(address, IPv6Address) else address)


class Bodies:
    """ASGI middleware: takes bodies of one kind and of bounded size, whole, before anything looks at them."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self.app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] in BODILESS:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            self._check_declared(request)
            whole = await self._taken(receive)
        except Problem as problem:
            await respond(request, problem)(scope, receive, send)
            return
        await self.app(scope, _first(whole, receive), send)

    def _check_declared(self, request: Request) -> None:
        """A Problem for what the headers say already."""
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > MOST_DIGITS or int(length) > self._most_bytes):
            raise self._too_large()
        if length == "0" and "transfer-encoding" not in request.headers:
            return
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        taken = JSON if request.url.path.startswith("/v1/") else FORM
        if kind != taken or "content-encoding" in request.headers:
            detail = f"Send this as {taken}, not compressed."
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)

    async def _taken(self, receive: Receive) -> list[Message]:
        """The messages that make up the body; what they declare may be wrong, so they are counted."""
        messages, size = list[Message](), 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._most_bytes:
                raise self._too_large()
            if not message.get("more_body", False):  # also where whoever asks has gone
                return messages

    def _too_large(self) -> Problem:
        detail = f"A body may have {self._most_bytes:,} bytes; this one has more."
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail)


def _first(messages: list[Message], receive: Receive) -> Receive:
    """Receive these messages, and then what comes."""
    left = iter(messages)

    async def next_one() -> Message:
        for message in left:
            return message
        return await receive()

    return next_one


class Compressed:
    """ASGI middleware: answers in gzip where that is taken; an answer's ETag then is one of its own.

    Pictures and event streams are left as they are. No answer holds both a secret and words of whoever asks, so their
    lengths give nothing away (BREACH): keys are shown by the command line, and forms carry no tokens.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._compressing = GZipMiddleware(app, minimum_size=COMPRESSED_BYTES, compresslevel=COMPRESSION)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or "gzip" not in Headers(scope=scope).get("accept-encoding", ""):
            await self.app(scope, receive, send)
            return
        held = Headers(scope=scope).get("if-none-match", "")
        await self._compressing(_asking_for_plain(scope, held), receive, _with_etag(send, held))


def _asking_for_plain(scope: Scope, held: str) -> Scope:
    """The same request, naming the ETags that the answers have before they are compressed."""
    if _ENCODED not in held:
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name != b"if-none-match"]
    return {**scope, "headers": [*headers, (b"if-none-match", held.replace(_ENCODED, '"').encode("latin-1"))]}


def _with_etag(send: Send, held: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            own = headers.get("etag", "").removesuffix('"') + _ENCODED
            not_modified = message["status"] == HTTPStatus.NOT_MODIFIED and own in held
            if "etag" in headers and (not_modified or headers.get("content-encoding") == "gzip"):
                headers["ETag"] = own
        await send(message)

    return sending
