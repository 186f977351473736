"""The leases that one stream holds, and how much of each is still to be done. Threads share it."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.records import Lease


@dataclass
class _Held:
    lease: Lease
    waiting: int  # photos whose result has not been handed to the merge
    begun: bool = False


class Holdings:
    """Claimed shards, from the claim until they are finished, lost or handed back."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._changed = threading.Condition()
        self._moved_at = time.monotonic()

    def add(self, lease: Lease, photos: int) -> None:
        """A shard was claimed, with this many photos to do."""
        with self._changed:
            self._held[lease.work_id] = _Held(lease, photos)

    def begin(self, shard_id: int) -> Lease | None:
        """The first photo of a shard is taken in hand: its lease, once; None ever after."""
        with self._changed:
            held = self._held.get(shard_id)
            if held is None or held.begun:
                return None
            held.begun = True
            return held.lease

    def holds(self, shard_id: int) -> bool:
        """Whether the shard is still ours, as far as we know."""
        with self._changed:
            return shard_id in self._held

    def landed(self, shard_ids: Iterable[int]) -> list[Lease]:
        """One result came in per given shard id; returns the leases that have now all of theirs."""
        done = []
        with self._changed:
            self._moved_at = time.monotonic()
            for shard_id, photos in Counter(shard_ids).items():
                held = self._held.get(shard_id)
                if held is not None:
                    held.waiting -= photos
                    if held.waiting == 0:
                        done.append(held.lease)
        return done

    def moved(self) -> None:
        """Something got done that is no photo."""
        with self._changed:
            self._moved_at = time.monotonic()

    def drop(self, shard_ids: Iterable[int]) -> None:
        """These shards are no longer ours: finished, or lost to another worker."""
        with self._changed:
            for shard_id in shard_ids:
                self._held.pop(shard_id, None)
            self._changed.notify_all()

    def leases(self) -> list[Lease]:
        """All that is held."""
        with self._changed:
            return [held.lease for held in self._held.values()]

    def begun(self) -> list[Lease]:
        """What of it has a photo in hand."""
        with self._changed:
            return [held.lease for held in self._held.values() if held.begun]

    def wait(self, seconds: float) -> None:
        """Until something is dropped, or the time is over."""
        with self._changed:
            self._changed.wait(seconds)

    def idle_seconds(self) -> float:
        """Since something last came through."""
        with self._changed:
            return time.monotonic() - self._moved_at

    def __len__(self) -> int:
        with self._changed:
            return len(self._held)
