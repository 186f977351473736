"""What the routes stand on: thumbnails, secrets and settings, made from ports that the composition root fills."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from fastapi import Request
from sqlalchemy import Connection

from api.access.keyring import Keyring, Secrets
from api.access.limits import Throttle
from api.drawing import Drawing
from api.errors import Problem, not_found
from api.jobs.watching import Watching
from pipeline.errors import ConfigurationError, PhotoUnreadable
from pipeline.records import Code
from pipeline.settings import Settings
from pipeline.store import queries
from pipeline.store.queries import ActiveModel, PhotoPlace
from pipeline.store.roles import see_everybody
from pipeline.store.session import Database
from taxonomy import graph
from taxonomy.graph import Taxonomy

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


#: Opens a transaction of whoever asks: a desk's `transaction` or `gallery`.
Opens = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Thumbnail:
    """A small picture of a photo's bytes."""

    content_rev: int  # of which bytes
    jpeg: bytes | None  # None: whoever asked has it


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

    def of(self, opens: Opens, photo_id: int, side: int, known: Callable[[int], bool] | None = None) -> Thumbnail:
        """The photo as a JPEG of side x side pixels, if it can be seen in a transaction of that kind.

        Whoever has the thumbnail of its bytes already, says so of their `content_rev` by `known`, and gets none.

        Raises:
            Problem: there is no such photo, or too many are being made.
            PhotoGone, PhotoChanged, PhotoUnreadable, ServiceDown: it cannot be had.
        """
        with opens() as connection:
            place = queries.photo_place(connection, photo_id)
            if place is None:
                raise not_found(f"There is no photo {photo_id}.")
            if known is not None and known(place.content_rev):
                return Thumbnail(content_rev=place.content_rev, jpeg=None)
            cached = queries.cached_thumbnail(connection, photo_id, side, place.content_rev)
        jpeg = cached if cached is not None else self._make(photo_id, side, place)
        return Thumbnail(content_rev=place.content_rev, jpeg=jpeg)

    def _make(self, photo_id: int, side: int, place: PhotoPlace) -> bytes:
        if place.size > self._max_photo_bytes:
            raise PhotoUnreadable(f"Photo {photo_id} has {place.size:,} bytes, too many to be shown.", Code.TOO_LARGE)
        with self._my_turn():
            data = self._objects.read(place.bucket, place.key, place.etag, place.size, place.version_id)
            jpeg = self._decoder.thumbnail(data, side)
        self._keep(lambda c: queries.cache_thumbnail(c, photo_id, side, place.content_rev, jpeg))
        with self._lock:
            self._made += 1
            crowded = self._made % EVICT_EVERY == 1
        if crowded:
            self._keep(lambda c: queries.evict_thumbnails(c, self._cap_bytes))
        return jpeg

    def _keep(self, work: Callable[[Connection], object]) -> None:
        """Work on the cache, which is the server's own: whoever asked may see one photo of it, and all count."""

        def as_the_server(connection: Connection) -> None:
            see_everybody(connection)
            work(connection)

        self._database.run(as_the_server)

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
    drawing: Drawing
    secrets: Secrets
    keyring: Keyring
    throttle: Throttle  # of all that is asked for
    failures: Throttle  # of wrong keys
    settings: Settings
    watching: Watching


def active_model(connection: Connection) -> ActiveModel:
    """The model whose results are shown; ConfigurationError before one is registered."""
    model = queries.active_model(connection)
    if model is None:
        raise ConfigurationError("No model is registered yet; run `pictograph migrate`.")
    return model


def taxonomy_of(model: ActiveModel) -> Taxonomy:
    """The model's taxonomy; ConfigurationError where this server comes with another version of it."""
    taxonomy = graph.load(model.taxonomy)
    if taxonomy.sha256 != model.taxonomy_sha256:
        raise ConfigurationError(
            f"Taxonomy {model.taxonomy} here is not the one of model {model.name}; update this server."
        )
    return taxonomy


def services_of(request: Request) -> Services:
    """What the application of this request stands on. Routes get at the database by their desk instead."""
    services: Services = request.app.state.services
    return services
