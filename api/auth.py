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
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPBearer
from sqlalchemy import Connection

from api.access import sessions
from api.access.limits import address_of
from api.addresses import leaves
from api.errors import Problem, SignInNeeded
from api.services import Services, services_of
from pipeline.store.keys import Key
from pipeline.store.roles import Role, act_as, see_everybody, see_shared, see_user


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


#: What nobody may who is bound to a user.
TENANT_WIDE = frozenset({Scope.JOB_READ, Scope.JOB_WRITE, Scope.MODEL_READ})


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Whoever asks."""

    name: str  # of the key; "open" on a server that runs open
    user: str | None  # whose photos alone; None: everybody's
    scopes: frozenset[Scope]

    key_id: int | None = None  # None: it came without a key

    @classmethod
    def of(cls, key: Key) -> "Principal":
        """The principal of a key. Scopes that this release does not know are none, nor what is not for users."""
        scopes = frozenset(scope for scope in Scope if scope in key.scopes)
        return cls(
            name=key.name,
            user=key.user,
            scopes=scopes if key.user is None else scopes - TENANT_WIDE,
            key_id=key.key_id,
        )

    def may(self, scope: Scope) -> bool:
        """Whether it has this scope."""
        return scope in self.scopes


#: What several scopes are called together, by whom they are for.
BUNDLES: dict[str, frozenset[Scope]] = {
    "reader": frozenset({Scope.PROFILE_READ, Scope.PHOTO_READ, Scope.CATEGORY_READ}),
    "user": frozenset(Scope) - TENANT_WIDE,
    "operator": frozenset(Scope),
}

#: What anybody may ask for, each with the reason.
PUBLIC: dict[str, str] = {
    "/livez": "probes have no keys; it tells that a process lives",
    "/readyz": "probes have no keys; it tells a revision of tables",
    "/v1/openapi.json": "what can be asked is no secret",
    "/static": "style sheets and scripts, the same for everybody",
    "/mosaic.css": "places of tiles, computed from the numbers in the address and from nothing else",
    "/sign-in": "there, keys are given",
    "/sign-out": "it takes a cookie away from the browser that asks",
}

CHALLENGE, REALM, WRONG = "WWW-Authenticate", 'Bearer realm="pictograph"', 'error="invalid_token"'
NO_KEY = "This server wants a key: send it as `Authorization: Bearer pk_...`; `pictograph keys add` makes one."
WRONG_KEY = "This key opens nothing: it is unknown, revoked or expired; `pictograph keys add` makes another one."
_BEARER = HTTPBearer(auto_error=False, scheme_name="key", description="A key that `pictograph keys add` made.")

#: Everybody, on a server of this machine alone that runs without keys.
OPEN = Principal(name="open", user=None, scopes=frozenset(Scope))


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """Where a request gets at the database, as its principal and as nobody else."""

    principal: Principal
    services: Services

    @contextmanager
    def transaction(self, *, of_one_moment: bool = False) -> Iterator[Connection]:
        """What is the principal's own; for one who is bound to nobody, everything.

        `of_one_moment`: all that is read is of the moment of the first statement, and nothing is written.
        """
        with self.services.database.transaction() as connection:
            if self.principal.user is None:
                see_everybody(connection, of_one_moment=of_one_moment)
            else:
                see_user(connection, self.principal.user, of_one_moment=of_one_moment)
            yield connection

    @contextmanager
    def gallery(self, *, of_one_moment: bool = False) -> Iterator[Connection]:
        """For pages across users: what is the principal's own and what others consent to; tenant-wide, everything."""
        with self.services.database.transaction() as connection:
            if self.principal.user is None:
                see_everybody(connection, of_one_moment=of_one_moment)
            else:
                see_shared(connection, self.principal.user, of_one_moment=of_one_moment)
            yield connection

    @contextmanager
    def commanding(self) -> Iterator[Connection]:
        """For commands to jobs: as the role that submits and controls them, which sees everybody's photos.

        The desk of a principal who is bound to a user has none. Commands are signed with `principal.name`.

        Raises:
            ConfigurationError: the server's login may not act as that role.
        """
        if self.principal.user is not None:
            raise AssertionError("a desk for commands was given to a principal who is bound to a user")
        with self.services.database.transaction() as connection:
            act_as(connection, Role.INGEST)
            yield connection

    @contextmanager
    def refreshing(self, user: str) -> Iterator[Connection]:
        """To have the new photos of this user tagged, or see how far that is, as the role that submits jobs.

        See first that the user may be seen.

        Raises:
            ConfigurationError: the server's login may not act as that role.
        """
        if self.principal.user not in (None, user):
            raise AssertionError("somebody else's photos were to be refreshed by a principal who is bound to a user")
        with self.services.database.transaction() as connection:
            act_as(connection, Role.INGEST)
            yield connection


async def principal_of(request: Request) -> Principal:
    """Who asks.

    Raises:
        Problem: nobody is known to (401), who does so sends wrong keys again and again (429), or a page of another site
            makes a browser ask (403).
    """
    services, header = services_of(request), request.headers.get("authorization")
    if header is not None:
        kind, _, secret = header.partition(" ")
        key = await services.keyring.by_secret(secret.strip()) if kind.lower() == "bearer" else None
        if key is None:
            services.failures.spend(address_of(request))
            raise SignInNeeded(
                HTTPStatus.UNAUTHORIZED, "wrong_key", WRONG_KEY, headers={CHALLENGE: f"{REALM}, {WRONG}"}
            )
        return Principal.of(key)
    key_id = await sessions.key_of(request)
    key = None if key_id is None else await services.keyring.by_number(key_id)
    sessions.check_origin(request, by_cookie=key is not None)
    if key is not None:
        return Principal.of(key)
    if services.settings.api_open:
        return OPEN
    raise SignInNeeded(HTTPStatus.UNAUTHORIZED, "no_key", NO_KEY, headers={CHALLENGE: REALM})


def _check_scopes(principal: Principal, scopes: tuple[Scope, ...]) -> None:
    """A Problem for what the principal may not do, whatever it is about."""
    lacking = [scope.value for scope in scopes if not principal.may(scope)]
    if lacking:
        detail = f"The key {principal.name} lacks the scope {' and '.join(lacking)}."
        raise Problem(HTTPStatus.FORBIDDEN, "forbidden", detail)


def needs(*scopes: Scope) -> Any:  # noqa: ANN401 - FastAPI's own type for dependencies
    """A dependency: the desk of a principal who has all of these scopes."""

    async def desk(request: Request, _described: Annotated[object, Security(_BEARER)] = None) -> Desk:
        principal = request.state.principal = await principal_of(request)
        services = services_of(request)
        services.throttle.spend(address_of(request) if principal.key_id is None else f"key {principal.key_id}")
        _check_scopes(principal, scopes)
        return Desk(principal=principal, services=services)

    desk.scopes = scopes  # type: ignore[attr-defined]
    return Depends(desk)


def not_guarded(app: FastAPI) -> Iterator[str]:
    """The addresses of an application that are neither public nor need a scope. What is not understood is one."""
    for route in leaves(app.router.routes):
        address = getattr(route, "path", repr(route))
        if address not in PUBLIC and not any(_scopes(getattr(route, "dependant", None))):
            yield address


def _scopes(dependant: Dependant | None) -> Iterator[Scope]:
    for each in dependant.dependencies if dependant else ():
        yield from getattr(each.call, "scopes", ())
        yield from _scopes(each)


#: Desks by what they need; a route takes one as a parameter.
ProfileDesk = Annotated[Desk, needs(Scope.PROFILE_READ)]
PhotoDesk = Annotated[Desk, needs(Scope.PHOTO_READ)]
CategoryDesk = Annotated[Desk, needs(Scope.CATEGORY_READ)]
VerdictDesk = Annotated[Desk, needs(Scope.VERDICT_WRITE)]
RefreshDesk = Annotated[Desk, needs(Scope.PHOTO_REFRESH)]
JobDesk = Annotated[Desk, needs(Scope.JOB_READ)]
OperatorDesk = Annotated[Desk, needs(Scope.JOB_WRITE)]
ModelDesk = Annotated[Desk, needs(Scope.MODEL_READ)]
