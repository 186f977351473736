"""The leases that one stream holds, and how much of each is still to be done. Threads share it."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.records import Lease, PhotoTask


@dataclass
class _Held:
    lease: Lease
    waiting: set[int]  # photos whose result has not been handed to the merge
    begun: bool = False


class Holdings:
    """Claimed shards, from the claim until they are finished, lost or handed back."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._changed = threading.Condition()
        self._moved_at = time.monotonic()

    def add(self, lease: Lease, photo_ids: Iterable[int] = ()) -> None:
        """A shard was claimed, with these photos to do."""
        with self._changed:
            self._held[lease.work_id] = _Held(lease, set(photo_ids))

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

    def landed(self, tasks: Iterable[PhotoTask]) -> list[Lease]:
        """These photos have a result; returns the leases that have now all of theirs.

        A shard that was lost and claimed again may have photos under way twice: the first result counts.
        """
        done = []
        with self._changed:
            self._moved_at = time.monotonic()
            for task in tasks:
                held = self._held.get(task.shard_id)
                if held is not None and task.photo_id in held.waiting:
                    held.waiting.remove(task.photo_id)
                    if not held.waiting:
                        done.append(held.lease)
        return done

    def moved(self) -> None:
        """Something got done that is no photo."""
        with self._changed:
            self._moved_at = time.monotonic()

    def drop(self, leases: Iterable[Lease]) -> None:
        """These are no longer ours: finished, or lost. A later lease of the same shard stays."""
        with self._changed:
            for lease in leases:
                held = self._held.get(lease.work_id)
                if held is not None and held.lease == lease:
                    del self._held[lease.work_id]
            self._changed.notify_all()

    def leases(self) -> list[Lease]:
        """All that is held."""
        with self._changed:
            return [held.lease for held in self._held.values()]

    def begun(self) -> list[Lease]:
        """What of it has a photo in hand."""
        with self._changed:
            return [held.lease for held in self._held.values() if held.begun]

    def alone(self) -> bool:
        """Whether something is held beside which nothing else may be."""
        with self._changed:
            return any(held.lease.alone for held in self._held.values())

    def least_priority(self) -> int | None:
        """The lowest priority of what is held, as it was claimed; None: nothing is."""
        with self._changed:
            return min((held.lease.priority for held in self._held.values()), default=None)

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
