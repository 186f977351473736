"""Problems, as RFC 9457 spells them, and the one table from errors to HTTP.

Whatever goes wrong, the answer has the same shape: type, title, status, detail, `code` (stable, for programs) and
`request_id`. Where a browser asked for a page, it gets the same in HTML.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from api.addresses import methods_at
from api.pages.render import page
from pipeline.errors import (
    ConfigurationError,
    Conflict,
    PhotoChanged,
    PhotoGone,
    PictographError,
    ServiceDown,
    SkipPhoto,
    Throttled,
)
from pipeline.plain import visible

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(PictographError):
    """The request cannot be answered as it was asked."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        retry: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(visible(detail))
        self.status = status
        self.code = code
        self.errors = [{name: visible(text) for name, text in each.items()} for each in errors]
        self.retry_after_seconds = retry
        self.headers = dict(headers or {})


class WrongPartOut(BaseModel):
    """A part of the request that is wrong."""

    pointer: str = Field(description="query.NAME, path.NAME, header.NAME or body.FIELD")
    code: str = Field(description="stable, for programs")
    detail: str = Field(description="one sentence for people")


class ProblemOut(BaseModel):
    """What went wrong, in the form of RFC 9457."""

    type: str = Field(description="about:blank: `code` tells problems apart")
    title: str = Field(description="of the status")
    status: int
    detail: str = Field(description="one sentence for people")
    instance: str = Field(description="the address that was asked for")
    code: str = Field(description="stable, for programs")
    request_id: str = Field(description="leads to it in the server's log")
    errors: list[WrongPartOut] | None = Field(default=None, description="each wrong part, where it can be told")


#: How routes say that any of their answers may be a problem.
_REFERENCE = {"schema": {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem", "content": {MEDIA_TYPE: _REFERENCE}}
}


class SignInNeeded(Problem):
    """Nobody is known to ask: programs are told so, browsers are sent where people sign in."""


def not_found(what: str) -> Problem:
    """The problem of a thing that is not there."""
    return Problem(HTTPStatus.NOT_FOUND, "not_found", what)


@dataclass(frozen=True, slots=True)
class Answer:
    """How an error is answered."""

    status: HTTPStatus
    code: str
    retry_after_seconds: int | None = None
    tell: bool = True  # whether the error's sentence is meant for whoever asked, or only for the log


#: The first line whose class fits counts; so a class stands before those it derives from.
ANSWERS: tuple[tuple[type[PictographError], Answer], ...] = (
    (Throttled, Answer(HTTPStatus.SERVICE_UNAVAILABLE, "throttled", 30, tell=False)),
    (ServiceDown, Answer(HTTPStatus.SERVICE_UNAVAILABLE, "service_down", 5, tell=False)),
    (PhotoGone, Answer(HTTPStatus.NOT_FOUND, "photo_gone")),
    (SkipPhoto, Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "photo_unreadable")),
    (PhotoChanged, Answer(HTTPStatus.CONFLICT, "photo_changed")),
    (Conflict, Answer(HTTPStatus.CONFLICT, "conflict")),
    (ConfigurationError, Answer(HTTPStatus.SERVICE_UNAVAILABLE, "not_set_up", 60)),
    (PictographError, Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", tell=False)),
)

UNTOLD = {
    HTTPStatus.SERVICE_UNAVAILABLE: "A service behind this one does not answer; try again in a moment.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong here; the request id leads to it in the log.",
}


#: What is wrong with a value, by the kind of error that pydantic finds; other kinds are told in its own words.
WORDS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "value_error": "{error}",
    "json_invalid": "this is no JSON: {error}",
    "model_attributes_type": "this is no JSON object",
    "int_parsing": "this is no whole number",
    "int_type": "this is no whole number",
    "float_parsing": "this is no number",
    "float_type": "this is no number",
    "string_type": "this is no text",
    "bool_type": "this is neither true nor false",
    "literal_error": "choose {expected}",
    "enum": "choose {expected}",
    "greater_than_equal": "it must be {ge} or more",
    "greater_than": "it must be more than {gt}",
    "less_than_equal": "it must be {le} or less",
    "less_than": "it must be less than {lt}",
    "string_too_short": "it must have {min_length} characters or more",
    "string_too_long": "it must have {max_length} characters or fewer",
    "string_pattern_mismatch": "it must match {pattern}",
    "too_short": "it must have {min_length} or more",
    "too_long": "it may have {max_length} or fewer",
}
#: What there is to say of addresses and methods that no route knows.
UNROUTED = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "That cannot be done at this address; the header Allow names what can.",
}


def as_problem(error: Exception) -> Problem:
    """Any error as the problem that the caller is told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        detail = UNROUTED.get(status, f"{status.description or status.phrase}.".replace("..", "."))
        return Problem(status, status.name.lower(), detail, headers=error.headers)
    if isinstance(error, PictographError):
        answer = next(answer for kind, answer in ANSWERS if isinstance(error, kind))
        detail = str(error) if answer.tell else UNTOLD[answer.status]
        return Problem(answer.status, answer.code, detail, retry=answer.retry_after_seconds)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", UNTOLD[HTTPStatus.INTERNAL_SERVER_ERROR])


def _invalid(error: RequestValidationError) -> Problem:
    errors = [_wrong_part(found) for found in error.errors()]
    detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors)
    return Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", f"{detail}.", errors)


def _wrong_part(found: Mapping[str, Any]) -> dict[str, str]:
    """A part of a request that cannot be understood, in our words where there are some for it."""
    where, kind, context = found["loc"], found["type"], found.get("ctx", {})
    if kind == "json_invalid":  # its place is a number of characters
        where = where[:1]
    words = WORDS.get(kind)
    told = found["msg"] if words is None else words.format(**context)
    return {"pointer": ".".join(str(part) for part in where), "code": kind, "detail": told}


def respond(request: Request, error: Exception) -> Response:
    """The answer to an error; logs those that are ours."""
    problem = as_problem(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        unforeseen = problem.status == HTTPStatus.INTERNAL_SERVER_ERROR
        log.error(
            "%s %s: %s", request.state.request_id, request.url.path, error, exc_info=error if unforeseen else None
        )
    headers = {"Cache-Control": "no-store", **problem.headers}
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(methods_at(request))
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(problem.retry_after_seconds)
    if not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", ""):
        if isinstance(problem, SignInNeeded):
            return Response(status_code=HTTPStatus.SEE_OTHER, headers={**headers, "Location": _sign_in(request)})
        principal = getattr(request.state, "principal", None)  # None: nobody is known to ask
        html = page("error.html", problem=problem, request_id=request.state.request_id, principal=principal)
        return Response(html, problem.status, headers, "text/html; charset=utf-8")
    body = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": str(problem),
        "instance": visible(request.url.path),
        "code": problem.code,
        "request_id": request.state.request_id,
        **({"errors": problem.errors} if problem.errors else {}),
    }
    return Response(json.dumps(body), problem.status, headers, MEDIA_TYPE)


def _sign_in(request: Request) -> str:
    """Where a browser signs in, and from where it comes back to the page that it asked for."""
    if request.method != "GET":
        return "/sign-in"
    path, query = quote(request.scope["path"], safe="/:@"), request.scope["query_string"].decode("latin-1")
    return f"/sign-in?next={quote(f'{path}?{query}' if query else path)}"


def install(app: FastAPI) -> None:
    """Answer every foreseen error of the application here (`api.envelope` catches the rest)."""
    for kind in (PictographError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond)
