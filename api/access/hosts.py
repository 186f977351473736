"""By which names a browser may call: against DNS rebinding, where a stranger's page comes in by a name of its own."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import ip_address

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Problem, respond

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
EVERY_NAME = "*"
THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/?#@\s]+))(?::[0-9]*)?")  # RFC 9110, 7.2; IPv6 stands in brackets


def trusted_hosts(host: str) -> frozenset[str]:
    """The names that are answered by a server that listens on `host`: this machine's, and that one.

    Whoever listens on every address (as in a container) is reached by names that only the operator knows, so all are
    let in: there, the proxy in front must check the name, or let only those in who may see everything anyway.
    """
    return frozenset({EVERY_NAME}) if host in EVERY_ADDRESS else THIS_MACHINE | {_normal(host)}


def name_of(header: str) -> str | None:
    """The name in a Host header, without port and brackets; None if it is none."""
    found = _HOST.fullmatch(header)
    return _normal(found[1] or found[2]) if found else None


def _normal(name: str) -> str:
    """One spelling per address: lower case, and IPv6 in its shortest form."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower().removesuffix(".")


class TrustedHosts:
    """ASGI middleware: answers 400 to whoever calls by another name. Stands inside of the envelope."""

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self.app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and EVERY_NAME not in self._allowed:
            request = Request(scope, receive)
            if name_of(request.headers.get("host", "")) not in self._allowed:
                detail = "This server does not go by that name; call it as it was configured."
                await respond(request, Problem(HTTPStatus.BAD_REQUEST, "unknown_host", detail))(scope, receive, send)
                return
        await self.app(scope, receive, send)
