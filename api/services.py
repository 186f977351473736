"""What the routes stand on: profiles and thumbnails, made from ports that the composition root fills."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlalchemy import Connection

from api.errors import Problem, not_found
from pipeline.errors import ConfigurationError, PhotoUnreadable
from pipeline.profile import Profile, profile
from pipeline.records import Code
from pipeline.settings import Settings
from pipeline.store import queries
from pipeline.store.policies import active_policy, coarsen_totals
from pipeline.store.queries import ActiveModel, PhotoPlace
from pipeline.store.roles import see_everybody
from pipeline.store.session import Database
from taxonomy import graph
from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy

THUMBNAILS_AT_ONCE = 4  # bounds the memory that whole photos take here
TURN_SECONDS = 5.0  # to wait for one's turn: those who wait hold threads that others need
EVICT_EVERY = 64  # thumbnails, from the first on; the cache may pass its cap by so many small JPEGs per process


class Objects(Protocol):
    """Where photos lie (`pipeline.sources.objects`)."""

    def read(self, bucket: str, key: str, etag: str, size: int, version_id: str | None) -> bytes:
        """The bytes of a photo; PhotoGone, PhotoChanged or ServiceDown."""
        ...


class Decoder(Protocol):
    """What makes small pictures of large ones (`workers.decode`)."""

    def thumbnail(self, data: bytes, side: int) -> bytes:
        """A square JPEG without metadata; PhotoUnreadable."""
        ...


@dataclass(frozen=True, kw_only=True)
class UserProfile:
    """A user's profile, and the versions that it rests on."""

    user: str
    user_id: int
    profile: Profile
    model: ActiveModel
    policy: Policy


def bound(connection: Connection) -> Connection:
    """The connection, its transaction bound to what its caller may see, by row-level security.

    Callers have no names yet: everybody sees everything. Where they get some, this is the place that binds them.
    """
    see_everybody(connection)
    return connection


class Thumbnails:
    """Thumbnails, made on demand and kept in the database up to a cap."""

    def __init__(self, database: Database, objects: Objects, decoder: Decoder, settings: Settings) -> None:
        self._database = database
        self._objects = objects
        self._decoder = decoder
        self._max_photo_bytes = settings.max_photo_bytes
        self._cap_bytes = settings.thumbnail_cache_bytes
        self._turn = threading.BoundedSemaphore(THUMBNAILS_AT_ONCE)
        self._lock = threading.Lock()
        self._made = 0

    def of(self, photo_id: int, side: int) -> bytes:
        """The photo as a JPEG of side x side pixels.

        Raises:
            Problem: there is no such photo, or too many are being made.
            PhotoGone, PhotoChanged, PhotoUnreadable, ServiceDown: it cannot be had.
        """
        with self._database.transaction() as connection:
            place = queries.photo_place(bound(connection), photo_id)
            if place is None:
                raise not_found(f"There is no photo {photo_id}.")
            cached = queries.cached_thumbnail(connection, photo_id, side, place.content_rev)
        return cached if cached is not None else self._make(photo_id, side, place)

    def _make(self, photo_id: int, side: int, place: PhotoPlace) -> bytes:
        if place.size > self._max_photo_bytes:
            raise PhotoUnreadable(f"Photo {photo_id} has {place.size:,} bytes, too many to be shown.", Code.TOO_LARGE)
        with self._my_turn():
            data = self._objects.read(place.bucket, place.key, place.etag, place.size, place.version_id)
            jpeg = self._decoder.thumbnail(data, side)
        self._database.run(lambda c: queries.cache_thumbnail(bound(c), photo_id, side, place.content_rev, jpeg))
        with self._lock:
            self._made += 1
            crowded = self._made % EVICT_EVERY == 1
        if crowded:
            self._database.run(lambda c: queries.evict_thumbnails(bound(c), self._cap_bytes))
        return jpeg

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=TURN_SECONDS):
            detail = "Too many thumbnails are being made; ask again in a moment."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry=5)
        try:
            yield
        finally:
            self._turn.release()


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything that routes may use."""

    database: Database
    thumbnails: Thumbnails

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of whoever asks."""
        with self.database.transaction() as connection:
            yield bound(connection)


def active_model(connection: Connection) -> ActiveModel:
    """The model whose results are shown; ConfigurationError before one is registered."""
    model = queries.active_model(connection)
    if model is None:
        raise ConfigurationError("No model is registered yet; run `pictograph migrate`.")
    return model


def user_profile(connection: Connection, user: str, k: int) -> UserProfile:
    """The user's profile under the active model; a Problem where there is no such user."""
    model = active_model(connection)
    found = queries.user_profile_totals(connection, model.model_id, user)
    if found is None:
        raise not_found(f"There is no user {user!r}.")
    taxonomy = taxonomy_of(model)
    policy = active_policy(connection, taxonomy)
    made = profile(coarsen_totals(found.totals, policy), taxonomy, k)
    return UserProfile(user=user, user_id=found.user_id, profile=made, model=model, policy=policy)


def taxonomy_of(model: ActiveModel) -> Taxonomy:
    """The model's taxonomy; ConfigurationError where this server comes with another version of it."""
    taxonomy = graph.load(model.taxonomy)
    if taxonomy.sha256 != model.taxonomy_sha256:
        raise ConfigurationError(
            f"Taxonomy {model.taxonomy} here is not the one of model {model.name}; update this server."
        )
    return taxonomy


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Wired = Annotated[Services, Depends(_services)]
