"""The few bytes between a decode child and its parent: fixed sizes, no pickle, nothing allocated by what is read.

    parent ── Job, over the child's stdin ──▶ child ── Answer, over its stdout ──▶ parent

Photo bytes and pixels lie in a `Slot`, memory that both map. It is sealed, so that a hijacked child can neither shrink
it under its parent nor grow it. The parent treats each answer as hostile: `Answer.unpack` checks every bound.
"""

import fcntl
import math
import mmap
import os
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from pipeline.records import Code
from workers.decode.records import MAX_SIDE, Interpolation

OUTPUT_BYTES = MAX_SIDE * MAX_SIDE * 3  # the largest picture, raw; a thumbnail's JPEG is smaller
RELEASE_BYTES = 4 * 1024 * 1024  # a slot that held a larger photo gives its memory back at once

_JOB = struct.Struct("<BBHHxxI")
_ANSWER = struct.Struct("<BxxxIIId232s")
_INTERPOLATIONS: tuple[Interpolation, ...] = ("bicubic", "bilinear")  # a Job carries the place in this list
_LONGEST_SIDE = 20_000  # of a photo that the decoder accepts
_CODES = frozenset({Code.NONE, Code.UNSUPPORTED, Code.TOO_LARGE, Code.CORRUPT})

JOB_BYTES = _JOB.size
ANSWER_BYTES = _ANSWER.size  # below PIPE_BUF, so it is written in one piece


class Kind(IntEnum):
    """What a child is asked to make of a photo."""

    PIXELS = 1  # `size`, `resize`, `interpolation` as in Target
    COVER = 2  # a square thumbnail of side `size`
    FIT = 3  # a whole thumbnail with sides of at most `size`


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One photo for a child; its bytes lie at the start of the slot."""

    kind: Kind
    size: int  # pixels
    resize: int = 0  # pixels
    interpolation: Interpolation = "bicubic"
    length: int = 0  # bytes of the photo

    def pack(self) -> bytes:
        """As it travels."""
        return _JOB.pack(self.kind, _INTERPOLATIONS.index(self.interpolation), self.size, self.resize, self.length)

    @classmethod
    def unpack(cls, raw: bytes) -> "Job":
        """From the wire."""
        kind, place, size, resize, length = _JOB.unpack(raw)
        interpolation = _INTERPOLATIONS[place]
        return cls(kind=Kind(kind), size=size, resize=resize, interpolation=interpolation, length=length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A child's word on one photo; the result itself lies in the slot's output."""

    code: Code = Code.NONE  # NONE: it worked
    width: int = 0  # pixels of the whole photo
    height: int = 0
    length: int = 0  # bytes in the slot's output
    taken_at: datetime | None = None
    message: str = ""  # one sentence, where it did not work

    def pack(self) -> bytes:
        """As it travels; a long message is cut."""
        when = self.taken_at.timestamp() if self.taken_at else math.nan
        return _ANSWER.pack(self.code, self.width, self.height, self.length, when, self.message.encode()[:232])

    @classmethod
    def unpack(cls, raw: bytes) -> "Answer":
        """From the wire; ValueError unless every field is within its bounds."""
        if len(raw) != ANSWER_BYTES:
            raise ValueError(f"a decode child answered {len(raw)} bytes")
        code, width, height, length, when, message = _ANSWER.unpack(raw)
        if code not in _CODES or max(width, height) > _LONGEST_SIDE or length > OUTPUT_BYTES:
            raise ValueError("a decode child answered out of bounds")
        return cls(
            code=Code(code),
            width=width,
            height=height,
            length=length,
            taken_at=_time(when),
            message=_printable(message),
        )


def _time(when: float) -> datetime | None:
    """Seconds since 1970 as a time; None for NaN and for what no calendar holds."""
    try:
        return datetime.fromtimestamp(when, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _printable(message: bytes) -> str:
    """The message without padding, broken characters and control codes."""
    text = message.rstrip(b"\0").decode("utf-8", "replace")
    return "".join(letter for letter in text if letter.isprintable())


class Slot:
    """Memory that a child shares with its parent: one photo's bytes, then the output. Touched pages only cost."""

    def __init__(self, fd: int, input_bytes: int) -> None:
        self.fd = fd
        self.input_bytes = input_bytes
        self.output_at = -(-input_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.memory = mmap.mmap(fd, self.output_at + OUTPUT_BYTES)

    @classmethod
    def create(cls, input_bytes: int) -> "Slot":
        """Fresh sealed memory, for the parent."""
        fd = os.memfd_create("photo", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, -(-input_bytes // mmap.PAGESIZE) * mmap.PAGESIZE + OUTPUT_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd, input_bytes)

    def put_photo(self, data: bytes) -> None:
        """Lay down a photo of at most `input_bytes`."""
        self.memory[: len(data)] = data

    def photo(self, length: int) -> bytes:
        """The photo's bytes, copied."""
        return self.memory[:length]

    def put_output(self, data: bytes | memoryview) -> None:
        """Lay down a result of at most OUTPUT_BYTES."""
        self.memory[self.output_at : self.output_at + len(data)] = data

    def output(self, length: int) -> memoryview:
        """The result's bytes, in place: copy them before the next job, and let the view go before `close`."""
        return memoryview(self.memory)[self.output_at : self.output_at + length]

    def release(self, length: int) -> None:
        """Give the memory of an unusually large photo back to the system."""
        if length > RELEASE_BYTES:
            self.memory.madvise(mmap.MADV_REMOVE, 0, self.output_at)

    def close(self) -> None:
        """Unmap, and close the descriptor."""
        self.memory.close()
        os.close(self.fd)
