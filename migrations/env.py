"""How Alembic runs: one migrator at a time, and never long in anybody's way."""

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.tables import metadata

MIGRATOR = 7_420_015  # the advisory lock's number: any, as long as nobody else uses it


def migrate(connection: Connection) -> None:
    """Run the chosen revisions on `connection`, in one transaction, alone."""
    context.configure(connection=connection, target_metadata=metadata, include_schemas=True)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL statement_timeout = '15min'"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))  # another migrator may take its time
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATOR})
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()


def migrate_configured() -> None:
    """For the `alembic` command: the database is the one in the environment."""
    url = Settings().database_url
    if url is None:
        raise ConfigurationError("Set PICTOGRAPH_DATABASE_URL, or run `pictograph migrate`.")
    engine = create_engine(make_url(url.get_secret_value()).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        migrate(connection)


shared = context.config.attributes.get("connection")
if shared is not None:
    migrate(shared)
else:
    migrate_configured()
