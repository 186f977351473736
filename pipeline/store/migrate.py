"""Bringing a database to the newest revision."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pipeline.store.indexes import build_indexes
from pipeline.store.session import Database


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    return config


def newest() -> str:
    """The revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current(database: Database) -> str | None:
    """The revision that the database has; None: no tables yet."""
    with database.transaction() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(database: Database) -> tuple[str | None, str]:
    """Run all missing migrations and build what indexes they declare; returns the revision before and after."""
    before = current(database)
    config = _config()
    with database.transaction() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    build_indexes(database)
    return before, newest()
