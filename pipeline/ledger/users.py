"""What is known of users beside their photos: whether they consent, and whether they are erased."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.sources.rules import Standing
from pipeline.sources.source import storable


@dataclass(frozen=True, kw_only=True)
class User:
    """An owner of photos."""

    user: str
    consent: bool | None  # None: never asked, which counts as no
    created_at: datetime
    erased: bool


_FIND = """
SELECT name AS user, consent, created_at, deleted_at IS NOT NULL AS erased FROM core.app_user"""


def standings(connection: Connection, names: Sequence[str]) -> dict[str, Standing]:
    """What a job's rules ask of these users; who is new to the ledger is left out."""
    rows = connection.execute(
        text("""SELECT name, consent, deleted_at IS NOT NULL AS erased FROM core.app_user
                WHERE name = ANY (CAST(:names AS text[]) COLLATE "C")"""),
        {"names": list(names)},
    )
    return {row.name: Standing(consent=row.consent, erased=row.erased) for row in rows}


def listed(connection: Connection, limit: int, after: str = "") -> list[User]:
    """Users by name, those after one name."""
    query = text(f'{_FIND} WHERE name > CAST(:after AS text) COLLATE "C" ORDER BY name LIMIT :limit')
    return [User(**row) for row in connection.execute(query, {"after": after, "limit": limit}).mappings()]


def set_consent(connection: Connection, user: str, consent: bool | None) -> User:
    """Write down what the user answered; one that has no photos yet is made known by it.

    Raises:
        ConfigurationError: that is no name, or the user is erased.
    """
    if not (user.strip() and user.isprintable() and storable(user)):
        raise ConfigurationError(f"{user!r} is no user's name; give one that can be read.")
    connection.execute(text("INSERT INTO core.app_user (name) VALUES (:user) ON CONFLICT DO NOTHING"), {"user": user})
    query = """UPDATE core.app_user SET consent = :consent WHERE name = :user AND deleted_at IS NULL
               RETURNING name AS user, consent, created_at, false AS erased"""
    row = connection.execute(text(query), {"user": user, "consent": consent}).mappings().first()
    if row is None:
        raise ConfigurationError(f"{user!r} is erased; nothing is stored of them, be it an answer.")
    return User(**row)
