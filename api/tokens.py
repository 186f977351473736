"""Page tokens: where a list goes on, signed, and good for the list alone that gave them.

A token is bound to the address and to all query parameters but `page_token` and `page_size`: whoever changes the
question begins anew. It can be read by whoever holds it and says nothing that the page before did not.
"""

import hashlib
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from itsdangerous import BadData, URLSafeSerializer

from api.errors import Problem
from api.services import services_of

PURPOSE = "page_token"
UNBOUND = frozenset({"page_token", "page_size"})
LONGEST = 2048  # characters; a position is a few numbers and names


def seal(request: Request, position: Sequence[Any]) -> str:
    """A token for the rest of this request's list, from `position` on: numbers, texts and None, as JSON has them."""
    token = _signer(request).dumps(list(position))
    return token if isinstance(token, str) else token.decode()


def signature(request: Request) -> str:
    """What changes with the secret behind this list's tokens: answers that hold one are cached by it, too."""
    return seal(request, ())


def opened(request: Request, token: str) -> list[Any]:
    """The position that `seal` was given; a Problem where it was not given it for this list."""
    if len(token) > LONGEST:
        raise invalid()
    try:
        position = _signer(request).loads(token)
    except (BadData, ValueError) as wrong:  # ValueError: characters that no token has
        raise invalid() from wrong
    if not isinstance(position, list):
        raise invalid()
    return position


def invalid() -> Problem:
    """The problem of a token that is not one of this list; also for a position of a form that is not understood."""
    detail = "This page_token is not one that this list gave for the same query; leave it out to begin anew."
    error = {"pointer": "query.page_token", "code": "invalid_page_token", "detail": detail}
    return Problem(HTTPStatus.BAD_REQUEST, "invalid_page_token", detail, [error])


def following(request: Request, token: str) -> str:
    """The address of the next page, without the host."""
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "page_token"]
    return f"{quote(request.scope['path'], safe='/:@')}?{urlencode([*others, ('page_token', token)])}"


def next_link(request: Request, token: str | None) -> dict[str, str]:
    """The header that leads to the next page; none on the last one."""
    return {} if token is None else {"Link": f'<{following(request, token)}>; rel="next"'}


def _signer(request: Request) -> URLSafeSerializer:
    secret = services_of(request).secrets.of(PURPOSE)
    return URLSafeSerializer(
        secret, salt=_binding(request), signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    )


def _binding(request: Request) -> bytes:
    """What the token is bound to, as a digest: the address and the question."""
    asked = sorted((n, v) for n, v in request.query_params.multi_items() if n not in UNBOUND)
    return hashlib.sha256(json.dumps([PURPOSE, request.scope["path"], asked]).encode()).digest()
