"""Signing in and out: people give their key once, and their browser gets a session of it."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from api.access import sessions
from api.access.limits import address_of
from api.auth import WRONG_KEY
from api.names import encoded
from api.pages.render import page
from api.parameters import only
from api.services import services_of
from pipeline.store.keys import Key

router = APIRouter(include_in_schema=False)

HTML = "text/html; charset=utf-8"
LONGEST = 2000  # characters of an address


@router.get("/sign-in", dependencies=[only("next")])
async def sign_in_page(request: Request, next: str = "/") -> Response:
    """The form into which a key goes.

    A browser that comes by a link of another site shows no session, though it may have one: it is offered to go on.
    """
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    return _form(sessions.local(next), go_on=elsewhere)


@router.post("/sign-in", dependencies=[only()])
async def sign_in(
    request: Request,
    key: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=LONGEST)] = "/",
) -> Response:
    """Take the key, and go where the browser was going."""
    sessions.check_origin(request, by_cookie=True)
    services, going = services_of(request), sessions.local(next)
    found = await services.keyring.by_secret(key.strip())
    if found is None:
        services.failures.spend(address_of(request))
        return _form(going, HTTPStatus.UNAUTHORIZED, wrong=WRONG_KEY)
    answer = _to(_home(found) if going == "/" else going)
    await sessions.put(answer, request, found.key_id)
    return answer


@router.post("/sign-out", dependencies=[only()])
async def sign_out(request: Request) -> Response:
    """Take the session away from this browser."""
    sessions.check_origin(request, by_cookie=True)
    answer = _to("/sign-in")
    answer.headers["Clear-Site-Data"] = '"cache"'  # nor shall the way back show what was seen
    sessions.drop(answer, request)
    return answer


def _home(key: Key) -> str:
    """Where a key's owner begins: at what is their own, or at everybody's."""
    return "/" if key.user is None else f"/u/{encoded(key.user)}"


def _form(going: str, status: HTTPStatus = HTTPStatus.OK, *, wrong: str | None = None, go_on: bool = False) -> Response:
    body = page("signin.html", next=going, wrong=wrong, go_on=go_on)
    return Response(body, status, {"Cache-Control": "no-store"}, HTML)


def _to(address: str) -> Response:
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": address, "Cache-Control": "no-store"})
