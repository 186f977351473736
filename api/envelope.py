"""What every answer carries, whoever made it: a request id, and headers that keep pages to themselves."""

import re
import uuid

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import respond

#: Pages need one style sheet and pictures of our own, and nothing else: no script, no inline style, no other host.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
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
                MutableHeaders(scope=message).update({**HEADERS, "X-Request-ID": request.state.request_id})
            await send(message)

        try:
            await self.app(scope, receive, send_enveloped)
        except Exception as error:
            if started:
                raise
            await respond(request, error)(scope, receive, send_enveloped)
