"""The keys by which the API knows who asks, and the secrets with which it signs.

Laws
1. A secret is shown once and stored nowhere: the table has its SHA-256. It has 256 random bits, so no salt is needed.
2. Whether a key opens anything is said by the database's clock alone.
3. That a key is used is written down at most once an hour: reading should not write.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, text

from pipeline.errors import ConfigurationError

PREFIX = "pk_"  # so that people, and programs that look for lost secrets, know one when they see it
SECRET_BYTES = 32
_SECRET = re.compile(r"pk_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key that opens something."""

    key_id: int
    name: str
    user: str | None  # for whose photos alone; None: for everybody's
    scopes: frozenset[str]
    seconds_left: float | None  # until it expires; None: never


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A key as it is listed: without anything that opens."""

    key_id: int
    name: str
    user: str | None
    scopes: tuple[str, ...]
    state: str  # valid, expired or revoked
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None


_STATE = """
CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END AS state"""
_LISTED = f"key_id, name, user_name, scopes, {_STATE}, created_by, created_at, expires_at, revoked_at, used_at"
_VALID = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"

_USED = text("""
UPDATE core.api_key SET used_at = now()
WHERE key_id = :key AND (used_at IS NULL OR used_at < now() - interval '1 hour')""")


def digest(secret: str) -> bytes | None:
    """What is stored of a key; None where this cannot be one."""
    return hashlib.sha256(secret.encode()).digest() if _SECRET.fullmatch(secret) else None


def add(
    connection: Connection, name: str, user: str | None, scopes: Sequence[str], *, by: str, seconds: float | None
) -> tuple[Listed, str]:
    """A new key, which expires after so many seconds (None: never), and its secret, which nobody can tell again."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    statement = text(f"""
        INSERT INTO core.api_key (name, secret_sha256, user_name, scopes, created_by, expires_at)
        VALUES (:name, :digest, :user, :scopes, :by, now() + make_interval(secs => :seconds)) RETURNING {_LISTED}""")
    values = {"name": name, "digest": digest(secret), "user": user, "scopes": sorted(scopes), "by": by}
    row = connection.execute(statement, {**values, "seconds": seconds}).one()
    return _listed(row), secret


def listed(connection: Connection, limit: int, *, everything: bool = False) -> list[Listed]:
    """The newest keys, newest first: those that open something, or those of before too."""
    which = "true" if everything else _VALID
    statement = text(f"SELECT {_LISTED} FROM core.api_key WHERE {which} ORDER BY key_id DESC LIMIT :limit")
    return [_listed(row) for row in connection.execute(statement, {"limit": limit})]


def revoke(connection: Connection, key_id: int) -> tuple[Listed, bool]:
    """The key, which opens nothing from now on, and whether it did before this.

    Raises:
        ConfigurationError: there is no such key.
    """
    values = {"key": key_id}
    was = connection.execute(text(f"SELECT {_VALID} FROM core.api_key WHERE key_id = :key FOR UPDATE"), values).scalar()
    if was is None:
        raise ConfigurationError(f"There is no key {key_id}; `pictograph keys list --all` has all of them.")
    revoking = (
        f"UPDATE core.api_key SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = :key RETURNING {_LISTED}"
    )
    return _listed(connection.execute(text(revoking), values).one()), bool(was)


def opening(connection: Connection, which: bytes | int) -> Key | None:
    """The key of that digest or number, if it opens anything now; noted as used."""
    column = "secret_sha256" if isinstance(which, bytes) else "key_id"
    statement = text(f"""
        SELECT key_id, name, user_name, scopes, CAST(extract(epoch FROM expires_at - now()) AS float8) AS left_seconds
        FROM core.api_key WHERE {column} = :which AND {_VALID}""")
    row = connection.execute(statement, {"which": which}).one_or_none()
    if row is None:
        return None
    connection.execute(_USED, {"key": row.key_id})
    scopes = frozenset(row.scopes)
    return Key(key_id=row.key_id, name=row.name, user=row.user_name, scopes=scopes, seconds_left=row.left_seconds)


def signing_secret(connection: Connection, purpose: str) -> bytes:
    """The bytes with which every server of this ledger signs things of this purpose.

    Raises:
        ConfigurationError: somebody deleted them, so that nothing can be signed.
    """
    statement = text("SELECT secret FROM core.api_secret WHERE purpose = :purpose")
    found = connection.execute(statement, {"purpose": purpose}).scalar_one_or_none()
    if found is None:
        raise ConfigurationError(f"core.api_secret has no row {purpose}; run `pictograph keys renew {purpose}`.")
    return bytes(found)


def renew_secret(connection: Connection, purpose: str) -> None:
    """Sign by other bytes from now on: whatever was signed for this purpose is void."""
    statement = text("""
        INSERT INTO core.api_secret (purpose, secret) VALUES (:purpose, :secret)
        ON CONFLICT (purpose) DO UPDATE SET secret = excluded.secret, created_at = now()""")
    connection.execute(statement, {"purpose": purpose, "secret": secrets.token_bytes(SECRET_BYTES)})


def _listed(row: Row[tuple[object, ...]]) -> Listed:
    values = row._asdict()
    return Listed(user=values.pop("user_name"), scopes=tuple(values.pop("scopes")), **values)
