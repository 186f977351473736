"""What routes take: names that may hold anything, and query parameters that are refused by name where unknown."""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Depends, Request
from starlette.convertors import Convertor, register_url_convertor

from api.errors import Problem
from api.names import in_path, named


class AnythingConvertor(Convertor[str]):
    """A name in a path, which may hold slashes and line breaks: users are named by whoever wrote the bucket.

    What no name can hold is at no address: the database would not even take the question.
    """

    regex = r"[^\x00]+"

    def convert(self, value: str) -> str:
        """The name that is meant."""
        return named(value)

    def to_string(self, value: str) -> str:
        """The name as a path has it."""
        return in_path(value)


class WordConvertor(AnythingConvertor):
    """Part of a path that is no command: `/v1/jobs/4:pause` is no job of the name 4:pause."""

    regex = "[^/:]+"


register_url_convertor("anything", AnythingConvertor())
register_url_convertor("word", WordConvertor())


def only(*names: str, repeatable: Sequence[str] = ()) -> Any:  # noqa: ANN401 - FastAPI's own type for dependencies
    """A dependency that refuses query parameters other than these, and any of `names` that comes twice."""
    known_names = (*names, *repeatable)

    async def check(request: Request) -> None:  # async: a sync one would wait for a thread, even before /livez
        given = request.query_params
        for name in given:
            if name not in known_names:
                known = f"known are {', '.join(known_names)}" if known_names else "there are none here"
                raise _refused(name, "unknown_parameter", f"There is no query parameter {name!r}; {known}.")
            if name not in repeatable and len(given.getlist(name)) > 1:
                raise _refused(name, "repeated_parameter", f"The query parameter {name!r} is given more than once.")

    checker: Callable[[Request], Awaitable[None]] = check
    return Depends(checker)


def _refused(name: str, code: str, detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, code, detail, [{"pointer": f"query.{name}", "code": code, "detail": detail}])
