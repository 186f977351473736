"""Who asks, and what they may: every route says what it needs, and gets a desk at which just that can be done.

Theory of operation
    Authorization: Bearer KEY, or the cookie of a session ──▶ Principal ──▶ needs(scope) ──▶ Desk ──▶ transactions

    A *principal* is bound to one user, or to nobody and then sees everybody ("tenant-wide"). A *scope* is what may be
    done. A route names the scopes it needs by the parameter through which it gets at the database at all, its *desk*,
    so none can be forgotten; the application refuses to start with a route that is neither public nor guarded.

Laws
1. Default deny. What is not in `PUBLIC` needs a principal with the scope.
2. The desk binds each of its transactions by row-level security, so a query that forgets its WHERE finds nothing.
3. What a principal may not see is not there: the answer is that for a thing that does not exist.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Connection

from api.services import Services, _services
from pipeline.store.roles import see_everybody, see_shared, see_user


class Scope(StrEnum):
    """What a key may be made for."""

    PROFILE_READ = "profile.read"  # profiles, comparisons, a user's photos
    PHOTO_READ = "photo.read"  # single photos, their tags, explanations and thumbnails
    CATEGORY_READ = "category.read"  # categories, and the photos of those who consent
    VERDICT_WRITE = "verdict.write"  # to confirm, reject and generalise
    PHOTO_REFRESH = "photo.refresh"  # to have a user's new photos tagged now
    JOB_READ = "job.read"  # jobs, tenant-wide only
    JOB_WRITE = "job.write"  # to start, pause, resume, cancel and retry them; tenant-wide only
    MODEL_READ = "model.read"  # models and their differences; tenant-wide only


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Whoever asks."""

    name: str  # of the key; "open" on a server that runs open
    user: str | None  # whose photos alone; None: everybody's
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether it has this scope."""
        return scope in self.scopes


#: Everybody, on a server of this machine alone that runs without keys.
OPEN = Principal(name="open", user=None, scopes=frozenset(Scope))


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """Where a request gets at the database, as its principal and as nobody else."""

    principal: Principal
    services: Services

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """What is the principal's own; for one who is bound to nobody, everything."""
        with self.services.database.transaction() as connection:
            if self.principal.user is None:
                see_everybody(connection)
            else:
                see_user(connection, self.principal.user)
            yield connection

    @contextmanager
    def gallery(self) -> Iterator[Connection]:
        """For pages across users: what is the principal's own and what others consent to; tenant-wide, everything."""
        with self.services.database.transaction() as connection:
            if self.principal.user is None:
                see_everybody(connection)
            else:
                see_shared(connection, self.principal.user)
            yield connection


def needs(*scopes: Scope) -> Any:  # noqa: ANN401 - FastAPI's own type for dependencies
    """A dependency: the desk of a principal who has all of these scopes."""

    async def desk(request: Request) -> Desk:
        return Desk(principal=OPEN, services=_services(request))

    desk.scopes = scopes  # type: ignore[attr-defined]
    return Depends(desk)


#: Desks by what they need; a route takes one as a parameter.
ProfileDesk = Annotated[Desk, needs(Scope.PROFILE_READ)]
PhotoDesk = Annotated[Desk, needs(Scope.PHOTO_READ)]
CategoryDesk = Annotated[Desk, needs(Scope.CATEGORY_READ)]
VerdictDesk = Annotated[Desk, needs(Scope.VERDICT_WRITE)]
RefreshDesk = Annotated[Desk, needs(Scope.PHOTO_REFRESH)]
JobDesk = Annotated[Desk, needs(Scope.JOB_READ)]
OperatorDesk = Annotated[Desk, needs(Scope.JOB_WRITE)]
ModelDesk = Annotated[Desk, needs(Scope.MODEL_READ)]
