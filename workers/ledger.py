"""How a worker process reaches the ledger, and who it is there."""

import os
import socket
import time

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.catalogue import Registered, register_model, registered_model
from pipeline.store.roles import Role
from pipeline.store.session import Database
from taxonomy.graph import load as load_taxonomy
from workers.models.spec import ModelSpec


def open_database(settings: Settings, application: str, role: Role | None = None) -> Database:
    """The database of the settings, to act in as `role` or, without one, as its owner.

    Raises:
        ConfigurationError: none is set.
    """
    if settings.database_url is None:
        raise ConfigurationError("Set PICTOGRAPH_DATABASE_URL, or start everything with `pictograph up`.")
    return Database(settings.database_url.get_secret_value(), application, connections=6, role=role)


def register(database: Database, spec: ModelSpec) -> Registered:
    """Make a model, its taxonomy and the shipped decision known to the ledger; only its owner can. Loads no weights.

    What comes back has the model's newest decision: the shipped one, or one that a calibration stored since.
    """
    taxonomy = load_taxonomy(spec.taxonomy)
    fingerprint = bytes.fromhex(spec.fingerprint())
    return database.run(lambda connection: register_model(connection, spec.name, fingerprint, taxonomy, spec.decision))


def registered(database: Database, spec: ModelSpec) -> Registered:
    """A model that `register` has made known, for those who only use it.

    Raises:
        ConfigurationError: nobody has; the sentence says who does.
    """
    fingerprint = bytes.fromhex(spec.fingerprint())
    return database.run(lambda connection: registered_model(connection, spec.name, fingerprint))


def worker_id() -> str:
    """A name that no other process has, ever."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.time_ns():x}"
