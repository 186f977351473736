"""How a worker process reaches the ledger, and who it is there."""

import os
import socket
import time

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.catalogue import Registered, register_model
from pipeline.store.session import Database
from taxonomy.graph import load as load_taxonomy
from workers.models.spec import ModelSpec


def open_database(settings: Settings, application: str) -> Database:
    """The database of the settings; ConfigurationError if none is set."""
    if settings.database_url is None:
        raise ConfigurationError("Set PICTOGRAPH_DATABASE_URL, or start everything with `pictograph up`.")
    return Database(settings.database_url.get_secret_value(), application, connections=6)


def register(database: Database, spec: ModelSpec) -> Registered:
    """Make a model, its taxonomy and the shipped decision known to the ledger. Loads no weights.

    What comes back has the model's newest decision: the shipped one, or one that a calibration stored since.
    """
    taxonomy = load_taxonomy(spec.taxonomy)
    fingerprint = bytes.fromhex(spec.fingerprint())
    return database.run(lambda connection: register_model(connection, spec.name, fingerprint, taxonomy, spec.decision))


def worker_id() -> str:
    """A name that no other process has, ever."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.time_ns():x}"
