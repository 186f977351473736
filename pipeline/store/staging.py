"""Rows from Python into a temporary table, by COPY."""

import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, text

#: What COPY's text format gives a meaning of its own.
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

Field = str | int | float | bool | bytes | datetime | Sequence[int] | None


def copy_rows(connection: Connection, table: str, columns: str, rows: Iterable[Sequence[Field]]) -> None:
    """Fill the temporary table `table` (created once per connection, emptied at commit) with `rows`.

    `columns` is the SQL column list with types, e.g. ``"photo_id bigint, key text"``. Text must hold no NUL.
    """
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {table} ({columns}) ON COMMIT DELETE ROWS"))
    lines = ("\t".join(map(_plain, row)) + "\n" for row in rows)
    buffer = io.StringIO("".join(lines))
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} FROM STDIN", buffer)


def _plain(value: Field) -> str:
    match value:
        case None:
            return r"\N"
        case str():
            return value.translate(ESCAPES)
        case int() | float():
            return str(value)
        case bytes():
            return r"\\x" + value.hex()
        case datetime():
            return value.isoformat()
        case _:
            return "{" + ",".join(map(str, value)) + "}"
