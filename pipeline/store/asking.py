"""A query of a person's own, for answers that machines read."""

from collections.abc import Iterator
from typing import Any

import psycopg2
from sqlalchemy.exc import DBAPIError

from pipeline.errors import ConfigurationError
from pipeline.store.session import Database


def ask(database: Database, query: str) -> Iterator[dict[str, Any]]:
    """The rows that `query` gives, each by the names of its columns.

    Raises:
        ConfigurationError: Postgres does not take the query; the sentence says why, in its words.
    """
    try:
        with database.transaction() as connection:
            # No parameters: a per cent sign is one.
            result = connection.exec_driver_sql(query.replace("%", "%%"))
            if result.returns_rows:
                yield from (dict(zip(result.keys(), row, strict=True)) for row in result)
    except DBAPIError as exc:
        raise ConfigurationError(_why(exc.orig)) from exc


def _why(exc: BaseException | None) -> str:
    if not isinstance(exc, psycopg2.Error) or not exc.diag.message_primary:
        return f"Postgres does not take this query: {exc}"
    said = [exc.diag.message_primary.rstrip("."), exc.diag.message_hint or ""]
    return f"Postgres does not take this query: {'. '.join(filter(None, said)).rstrip('.')}."
