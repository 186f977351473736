"""A pool of decode children for many threads. What a photo does to its child stays between the two of them.

Laws:
1. One photo is in flight per child, so a crash or a hang is blamed on exactly that photo.
2. A photo whose child died is tried once more, in a fresh child. A second death quarantines the photo.
3. A child that does not start, or that somebody killed while it was idle, is no photo's fault.
4. Children are replaced after RECYCLE_PHOTOS photos, against slow leaks and fragmentation in C libraries.

Children are started in one thread of the pool's own, because they die with the thread that started them.
"""

import math
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

import numpy as np

from pipeline.errors import PhotoUnreadable, PictographError, SkipPhoto
from pipeline.records import Code
from workers.decode.process import Child, DecodeDied, DecodeUnavailable
from workers.decode.protocol import Answer, Job, Kind, Slot
from workers.decode.records import MAX_SIDE, Decoded, Pixels, Target

RECYCLE_PHOTOS = 10_000  # starting a process costs as much as decoding a hundred; 16,000 broken photos leaked 0.1 MB
MAX_PHOTO_BYTES = 64 * 1024 * 1024
DEATHS_ALLOWED = 2  # the second one is proof enough
START_ATTEMPTS = 3  # somebody may kill a process that is still starting
_USUAL = Target()
_CLOSED = "The decode pool is closed; nothing more is decoded."

Result = TypeVar("Result")


class DecodePool:
    """Blocking, thread-safe decoding in child processes. Use as a context manager, or call `close`."""

    def __init__(
        self,
        processes: int,
        target: Target = _USUAL,
        timeout_seconds: float = 5.0,
        *,
        max_photo_bytes: int = MAX_PHOTO_BYTES,
        niceness: int = 0,
    ) -> None:
        """Start `processes` children; returns before they are ready.

        A photo gets `timeout_seconds` of processor time, and six times that on the clock. The children give way to
        other processes by `niceness`, 0 to 19.
        """
        if processes < 1:
            raise ValueError(f"a decode pool needs at least one process, not {processes}")
        self.target = target
        self.max_photo_bytes = max_photo_bytes
        self._closed = False
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decode-start")
        self._children = [
            Child(cpu_seconds=timeout_seconds, input_bytes=max_photo_bytes, niceness=niceness) for _ in range(processes)
        ]
        self._idle: queue.LifoQueue[Child] = queue.LifoQueue()
        for child in self._children:
            self._start(child)
            self._idle.put(child)

    def decode(self, data: bytes) -> Decoded:
        """The photo as the model wants it. Errors as `decode_for`."""
        return self.decode_into(data, np.empty((self.target.size, self.target.size, 3), np.uint8))

    def decode_into(self, data: bytes, out: Pixels) -> Decoded:
        """The same, written into `out`, uint8 [size, size, 3]. Errors likewise."""

        def copy(decoded: Decoded) -> Decoded:
            out[...] = decoded.pixels
            return replace(decoded, pixels=out)

        return self.decode_for(data, copy)

    def decode_for(self, data: bytes, take: Callable[[Decoded], Result]) -> Result:
        """What `take` returns for the photo, whose pixels lie in a child's memory and only until then.

        So memory for the pixels is needed no sooner than they are there, however long a photo takes or hangs.
        Raises PhotoUnreadable (unsupported, too large, corrupt), SkipPhoto with Code.QUARANTINED after two deaths,
        DecodeUnavailable where no child starts.
        """
        target = self.target
        shape = (target.size, target.size, 3)
        job = Job(
            kind=Kind.PIXELS,
            size=target.size,
            resize=target.resize,
            interpolation=target.interpolation,
            length=len(data),
        )

        def hand_over(answer: Answer, slot: Slot) -> Result:
            pixels = np.frombuffer(slot.output(math.prod(shape)), np.uint8).reshape(shape)
            decoded = Decoded(pixels=pixels, width=answer.width, height=answer.height, taken_at=answer.taken_at)
            return take(decoded)

        return self._run(job, data, hand_over)

    def thumbnail(self, data: bytes, side: int, *, cover: bool = True) -> bytes:
        """A small upright JPEG without metadata: the centre square, or with `cover` off the whole photo.

        `side` is at most 1,024 pixels. Errors as `decode_for`.
        """
        if not 1 <= side <= MAX_SIDE:
            raise ValueError(f"a thumbnail's side is 1 to {MAX_SIDE} pixels, not {side}")
        job = Job(kind=Kind.COVER if cover else Kind.FIT, size=side, length=len(data))
        return self._run(job, data, lambda answer, slot: bytes(slot.output(answer.length)))

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run now."""
        return [pid for child in self._children if (pid := child.pid) is not None]

    def close(self) -> None:
        """End all children. A decode under way in another thread fails with PictographError."""
        if self._closed:
            return
        self._closed = True
        self._starter.shutdown()
        for child in self._children:
            child.kill()
        for child in [self._idle.get() for _ in self._children]:
            child.close()
            self._idle.put(child)  # so that a thread that still waits for one wakes up, and fails

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, job: Job, data: bytes, take: Callable[[Answer, Slot], Result]) -> Result:
        """Have an idle child do the job, and take the result out of its slot before anyone else uses it."""
        if len(data) > self.max_photo_bytes:
            raise PhotoUnreadable(
                f"The photo has {len(data):,} bytes; at most {self.max_photo_bytes:,} are read.", Code.TOO_LARGE
            )
        child = self._idle.get()
        try:
            answer = self._ask(child, job, data)
            if answer.code is not Code.NONE:
                raise PhotoUnreadable(answer.message, answer.code)
            return take(answer, child.slot)
        finally:
            self._idle.put(child)

    def _ask(self, child: Child, job: Job, data: bytes) -> Answer:
        """The answer of the first process that lives to give one."""
        reasons: list[str] = []
        while len(reasons) < DEATHS_ALLOWED:
            self._make_ready(child)
            try:
                return child.ask(job, data)
            except DecodeDied as death:
                if self._closed:
                    raise PictographError(_CLOSED) from death
                reasons.append(death.reason)
        raise SkipPhoto(
            f"Decoding this photo ended two processes ({', '.join(reasons)}); it is set aside.", Code.QUARANTINED
        )

    def _make_ready(self, child: Child) -> None:
        """See that the child runs and waits for a job. DecodeUnavailable where it will not start."""
        for attempt in range(1, START_ATTEMPTS + 1):
            if child.pid is None or child.asked >= RECYCLE_PHOTOS:
                self._start(child)
            try:
                return child.await_ready()
            except DecodeUnavailable:
                if attempt == START_ATTEMPTS:
                    raise
        return None

    def _start(self, child: Child) -> None:
        """Start the child's process, in the one thread that lives as long as the pool."""
        try:
            started = self._starter.submit(child.start)
        except RuntimeError as error:  # after its shutdown
            raise PictographError(_CLOSED) from error
        started.result()
