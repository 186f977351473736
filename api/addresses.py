"""Addresses: which routes an application has, and what may be done where."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import Request
from starlette.routing import Match


def leaves(routes: Iterable[Any]) -> Iterator[Any]:
    """Every route, those of included routers too, with its whole address."""
    for route in routes:
        if hasattr(route, "effective_candidates"):  # a router that was included
            yield from leaves(route.effective_candidates())
        else:
            yield route


def methods_at(request: Request) -> list[str]:
    """What may be done at a request's address. (Starlette tells of the first route there alone.)"""
    found = set[str]()
    for route in leaves(request.app.router.routes):
        if route.matches(dict(request.scope))[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)
