"""Rows from Python into a temporary table, by COPY."""

import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from types import NoneType
from typing import Any

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


def copy_packed(connection: Connection, table: str, packed: bytes) -> None:
    """Fill a table with rows in COPY's binary format, which must be of just its columns and types."""
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} FROM STDIN (FORMAT binary)", io.BytesIO(packed))


def _plain(value: Field) -> str:
    return _FORMS.get(type(value), _derived)(value)


def _array(value: tuple[int, ...]) -> str:
    # C writes a tuple's repr: "(1, 2)", or "(1,)", or "()".
    return "{" + repr(value)[1:-1].replace(" ", "").rstrip(",") + "}"


#: Looked up by the exact type, because most of a merge's time in Python goes by here.
_FORMS: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: r"\N",
    str: lambda value: value.translate(ESCAPES),
    int: str,
    float: str,
    bytes: lambda value: r"\\x" + value.hex(),
    datetime: datetime.isoformat,
    tuple: _array,
}


def _derived(value: Field) -> str:
    """An object of a class derived from one of these, such as an enumeration; any other sequence of integers."""
    forms = (form for kind, form in _FORMS.items() if isinstance(value, kind))
    return next(forms, lambda sequence: _array(tuple(map(int, sequence))))(value)
