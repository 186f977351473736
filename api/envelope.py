"""What every answer carries, whoever made it: a request id, and headers that keep pages to themselves."""

import re
import uuid

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import respond

#: Pages need style sheets, scripts and pictures of our own, and nothing else: nothing inline, and no other host.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: By what answers differ, whether they say so themselves or not: who asks, and how it is packed.
VARY = ("Authorization", "Cookie", "Accept-Encoding")
STATIC = "/static/"  # the same for everybody
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Envelope:
    """ASGI middleware, the outermost one: also answers errors that nobody foresaw, and HEAD as GET."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The server itself leaves out the body of an answer to HEAD.
        scope = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        request = Request(scope, receive)
        asked = request.headers.get("x-request-id", "")
        request.state.request_id = asked if _ACCEPTABLE_ID.fullmatch(asked) else uuid.uuid4().hex
        started = False

        async def send_enveloped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update({**HEADERS, "X-Request-ID": request.state.request_id})
                headers["Vary"] = _varying(headers.get("vary", ""), scope["path"])
            await send(message)

        try:
            await self.app(scope, receive, send_enveloped)
        except Exception as error:
            if started:
                raise
            await respond(request, error)(scope, receive, send_enveloped)


def _varying(said: str, path: str) -> str:
    """The Vary header: what the answer itself says, and by what all of its kind differ; each once."""
    names = [name.strip() for name in said.split(",") if name.strip()]
    names += VARY[-1:] if path.startswith(STATIC) else VARY
    return ", ".join({name.lower(): name for name in names}.values())
