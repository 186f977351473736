"""What is known of users beside their photos: whether they consent, and whether they are erased."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.sources.rules import Standing
from pipeline.sources.source import storable
from pipeline.store import shared
from pipeline.store.revisions import touch_standing, touch_users


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

    From the commit on, the user's totals are counted among those of users who consent, or no longer.

    Raises:
        ConfigurationError: that is no name, or the user is erased.
    """
    if not (user.strip() and user.isprintable() and storable(user)):
        raise ConfigurationError(f"{user!r} is no user's name; give one that can be read.")
    connection.execute(text("INSERT INTO core.app_user (name) VALUES (:user) ON CONFLICT DO NOTHING"), {"user": user})
    before = connection.execute(_LOCK, {"user": user}).one()
    if before.erased:
        raise ConfigurationError(f"{user!r} is erased; nothing is stored of them, be it an answer.")
    row = connection.execute(_ANSWER, {"user": before.user_id, "consent": consent}).mappings().one()
    if before.shared != bool(consent):
        shared.move(connection, [before.user_id])
        touch_standing(connection, [before.user_id])
    elif before.consent is not consent:
        touch_users(connection, [before.user_id])
    return User(**row)


# Merges wait for a lock FOR UPDATE, or we for them: see `pipeline.store.shared`.
_LOCK = text("""
SELECT user_id, consent, shared, deleted_at IS NOT NULL AS erased FROM core.app_user
WHERE name = CAST(:user AS text) COLLATE "C" FOR UPDATE""")
_ANSWER = text("""
UPDATE core.app_user SET consent = :consent WHERE user_id = :user
RETURNING name AS user, consent, created_at, false AS erased""")
