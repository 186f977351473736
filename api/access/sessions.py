"""Sessions of people who look at pages: a signed cookie that names a key, and from where their forms may come.

The cookie holds the key's number and the moment until which the session lasts, and nothing else. The key is looked up
at every use, so a session ends with its key. Signing out takes the cookie away; `pictograph keys renew session` ends
all sessions at once.
"""

import hashlib
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import Request, Response
from itsdangerous import BadData, URLSafeSerializer

from api.errors import Problem
from api.services import services_of

PURPOSE = "session"
SESSION_SECONDS = 12 * 3600  # a day's work
COOKIE, SECURE_COOKIE = "pictograph_session", "__Host-pictograph_session"
LONGEST = 1024  # characters
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


async def put(response: Response, request: Request, key_id: int) -> None:
    """Give the browser a session of that key."""
    until = int(time.time()) + SESSION_SECONDS
    value = (await _signer(request)).dumps([key_id, until])
    _set(response, request, value if isinstance(value, str) else value.decode(), SESSION_SECONDS)


def drop(response: Response, request: Request) -> None:
    """Take the session away from the browser."""
    _set(response, request, "", 0)


async def key_of(request: Request) -> int | None:
    """The number of the key whose session this is; None where it is none, or over."""
    cookie = request.cookies.get(SECURE_COOKIE if _secure(request) else COOKIE)
    if not cookie or len(cookie) > LONGEST:
        return None
    signer = await _signer(request)
    try:
        key_id, until = signer.loads(cookie)
    except (BadData, ValueError):  # anybody may send anything
        return None
    return int(key_id) if until > time.time() else None


def check_origin(request: Request, *, by_cookie: bool) -> None:
    """A Problem where another site's page makes a browser change something here, which it would do with its cookies.

    Browsers say whence a request comes, in one of two headers; programs say nothing, and have no cookies.
    """
    if request.method in SAFE:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        fine = site in ("same-origin", "none")
    elif origin is not None:
        fine = _host_of(origin) == request.headers.get("host", "").lower() != ""
    else:
        fine = not by_cookie
    if not fine:
        detail = "This came from a page of another site, which may not change anything here."
        raise Problem(HTTPStatus.FORBIDDEN, "cross_site", detail)


def _host_of(origin: str) -> str:
    """The host and port that an origin names; empty where it names none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that are no address; anybody may send anything
        return ""


def local(address: str) -> str:
    """The address if it is a path of this server, else the front page: nobody is sent elsewhere from here."""
    plain = address.isprintable() and "\\" not in address and address.isascii()
    if not plain or not address.startswith("/") or address.startswith("//"):
        return "/"
    return address


async def _signer(request: Request) -> URLSafeSerializer:
    secret = await services_of(request).secrets.at_hand(PURPOSE)
    return URLSafeSerializer(
        secret, salt=PURPOSE, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    )


def _secure(request: Request) -> bool:
    """Whether the browser came by https, be it to a proxy in front, whose word is taken: it only makes us stricter."""
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in (request.url.scheme, forwarded)


def _set(response: Response, request: Request, value: str, seconds: int) -> None:
    secure = _secure(request)
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE, value, seconds, secure=secure, httponly=True, samesite="strict"
    )
