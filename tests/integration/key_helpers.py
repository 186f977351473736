"""Keys for tests of the API, and clients of applications that want them."""

from collections.abc import Iterator
from contextlib import contextmanager

from api_helpers import app_of, opened
from fastapi.testclient import TestClient

from api.auth import BUNDLES
from pipeline.settings import Settings
from pipeline.store import keys
from pipeline.store.session import Database
from workers.decode.pool import DecodePool


def new_key(
    database: Database, *named: str, user: str | None = None, name: str = "a key", seconds: float | None = None
) -> str:
    """The secret of a new key with the scopes of these bundles, and these scopes; for so many seconds."""
    scopes = frozenset[str]().union(*(BUNDLES.get(each, {each}) for each in named))
    made = database.run(lambda c: keys.add(c, name, user, sorted(scopes), by="test", seconds=seconds))
    return made[1]


def bearer(secret: str) -> dict[str, str]:
    """The header that sends a key."""
    return {"Authorization": f"Bearer {secret}"}


@contextmanager
def closed_app(settings: Settings, database: Database, decoder: DecodePool, **limits: int) -> Iterator[TestClient]:
    """A client of an application that wants keys; whoever follows a redirect does so by themselves."""
    with opened(app_of(settings.model_copy(update={"api_open": False, **limits}), database, decoder)) as client:
        client.follow_redirects = False
        yield client
