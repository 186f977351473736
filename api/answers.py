"""Answers that can be cached: a strong ETag, and 304 to whoever has the answer already.

Where a stamp says all that an answer rests on (`pipeline.store.revisions`), the ETag comes of it, and nothing else is
read for a 304: `stamped`, then `unchanged`, then `answered`. Elsewhere it comes of the bytes: `cacheable`.
"""

import hashlib

from fastapi import Request, Response

PRIVATE = "private, no-cache"  # what users photograph is for no shared cache


def cacheable(
    request: Request, body: bytes | str, media_type: str, cache_control: str = PRIVATE, vary: str = ""
) -> Response:
    """The body, or 304 where `If-None-Match` names it."""
    data = body.encode() if isinstance(body, str) else body
    etag = _etag(data)
    if _matches(request, etag, "*"):
        return Response(status_code=304, headers=_headers(etag, cache_control, vary))
    return answered(data, media_type, etag, vary, cache_control)


def stamped(*parts: object) -> str:
    """A strong ETag for an answer that is the same whenever all of these are: revisions, versions, parameters.

    Each part must say by its repr what it is: numbers, text, enumerations, and tuples and dataclasses of them.
    """
    return _etag("\n".join(map(repr, parts)).encode())


def unchanged(request: Request, etag: str, vary: str = "", cache_control: str = PRIVATE) -> Response | None:
    """304 where whoever asks has the answer of this ETag already: before anything is read. None: make the answer.

    Whether there is one at all is not known yet, so `If-None-Match: *` does not count here.
    """
    if not _matches(request, etag):
        return None
    return Response(status_code=304, headers=_headers(etag, cache_control, vary))


def answered(body: bytes | str, media_type: str, etag: str, vary: str = "", cache_control: str = PRIVATE) -> Response:
    """The answer under an ETag that `stamped` made."""
    return Response(body, headers=_headers(etag, cache_control, vary), media_type=media_type)


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _headers(etag: str, cache_control: str, vary: str) -> dict[str, str]:
    varying = ", ".join(filter(None, (vary, "Authorization, Cookie")))
    return {"ETag": etag, "Cache-Control": cache_control, "Vary": varying}


def _matches(request: Request, *etags: str) -> bool:
    """Whether `If-None-Match` names one of these. RFC 9110, 13.1.2: the comparison is weak."""
    known = request.headers.get("if-none-match", "").split(",")
    return any(each.strip().removeprefix("W/") in etags for each in known)


def preferred(accept: str, offered: tuple[str, ...]) -> str:
    """The offered media type that an Accept header likes best; the first one on a tie or where it likes none."""
    wishes = dict(_wish(each) for each in accept.split(",") if each.strip())
    return max(offered, key=lambda kind: _quality(wishes, kind))


def _wish(entry: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in entry.split(";"))
    quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 0.0


def _quality(wishes: dict[str, float], kind: str) -> float:
    ranges = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    return next((wishes[each] for each in ranges if each in wishes), 0.0)
