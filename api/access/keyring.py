"""Keys, and secrets to sign with, as this server has read them last: so that not every request asks for them.

A key that is revoked, or whose user is erased, opens nothing after `KEY_SECONDS` at the latest, one that expires from
that second on; and so do sessions, which hold the number of a key.
"""

import math
import time
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from pipeline.store import keys
from pipeline.store.keys import Key
from pipeline.store.session import Database

KEY_SECONDS = 5.0
SECRET_SECONDS = 60.0
MOST = 4096  # keys, and secrets that are none, of which this much is remembered


@dataclass(frozen=True, slots=True)
class _Answer:
    until: float  # by the monotonic clock
    key: Key | None


class Keyring:
    """Who asks, by the secret that they send or the number in their session."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes | int, _Answer] = {}

    async def by_secret(self, secret: str) -> Key | None:
        """The key that this is, if it opens anything."""
        which = keys.digest(secret)
        return None if which is None else await self._find(which)

    async def by_number(self, key_id: int) -> Key | None:
        """The key of that number, if it opens anything."""
        return await self._find(key_id)

    async def _find(self, which: bytes | int) -> Key | None:
        answer = self._known.get(which)
        if answer is None or answer.until <= time.monotonic():
            answer = await run_in_threadpool(self._looked_up, which)
        return answer.key

    def _looked_up(self, which: bytes | int) -> _Answer:
        asked_at = time.monotonic()
        key = self._database.run(lambda connection: keys.opening(connection, which))
        left = KEY_SECONDS if key is None or key.seconds_left is None else min(KEY_SECONDS, key.seconds_left)
        if len(self._known) >= MOST:
            self._known = {}  # whoever sends ever new secrets makes us forget, and not grow
        self._known[which] = answer = _Answer(asked_at + left, key)
        return answer


class Secrets:
    """What this server signs with, by purpose."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[float, bytes]] = {}

    def of(self, purpose: str) -> bytes:
        """The secret for this purpose; ServiceDown where it is not at hand and cannot be read."""
        known = self._fresh(purpose)
        if known is not None:
            return known
        read = self._database.run(lambda connection: keys.signing_secret(connection, purpose))
        self._known[purpose] = (time.monotonic(), read)
        return read

    async def at_hand(self, purpose: str) -> bytes:
        """The same, for those who must not wait for the database in their thread."""
        known = self._fresh(purpose)
        return await run_in_threadpool(self.of, purpose) if known is None else known

    def _fresh(self, purpose: str) -> bytes | None:
        read_at, secret = self._known.get(purpose, (-math.inf, b""))
        return secret if time.monotonic() - read_at <= SECRET_SECONDS else None
