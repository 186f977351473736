"""A batch of results as COPY's binary format, and what it adds to the totals, both worked out for the batch at once.

Text costs as much again, here and in the server, which would parse some seventy numbers per photo; and the server takes
twice as long to add up arrays as numpy does. What is added is worked out here for results that had no predecessor, and
by the server, who alone knows the predecessors, for all others.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.records import WHOLE, Annotation, PhotoResult

HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TAIL = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
SMALLINT = 21  # its oid, which an array names
EMPTY_ARRAY = struct.pack(">iiii", 12, 0, 0, SMALLINT)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # Postgres counts microseconds from here
MICROSECOND = timedelta(microseconds=1)

#: Length and value of each field, in the order of COLUMNS; the first number is that of the fields.
_FIRST = struct.Struct(">h iq iq ii ih ih ih")
_ARRAY = struct.Struct(">iiiiii")
_SHORT = struct.Struct(">ih")
_LONG = struct.Struct(">iq")
_LENGTH = struct.Struct(">i")
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">i2")])

#: What a packed batch fills: names and types, in order.
COLUMNS = """job_id bigint, photo_id bigint, content_rev int, state smallint, code smallint, outcome smallint,
             headline smallint, nodes smallint[], masses smallint[], tags smallint[], sha256 bytea,
             taken_at timestamptz, message text"""
_FIELDS = COLUMNS.count(",") + 1

_NOTHING = Annotation(nodes=(), masses=(), tags=(), headline=None)


class Batch:
    """Results of one model, with their arrays laid end to end."""

    def __init__(self, results: Sequence[PhotoResult]) -> None:
        self.results = results
        self.notes = [_checked(result) for result in results]
        sizes = [(len(note.nodes), len(note.masses), len(note.tags)) for note in self.notes]
        packed = b"".join(
            _shorts(len(note.nodes) + len(note.masses) + len(note.tags))(*note.nodes, *note.masses, *note.tags)
            for note in self.notes
        )
        self._values = np.frombuffer(packed, dtype=">i2")
        self._ends = np.concatenate([[0], np.cumsum(np.array(sizes, dtype=np.int64).reshape(-1))])

    @property
    def photos_differ(self) -> bool:
        """Whether no photo is in it twice."""
        return len({result.task.photo_id for result in self.results}) == len(self.results)

    def packed(self) -> bytes:
        """All of it, as COPY FROM ... (FORMAT binary) reads it into COLUMNS."""
        elements = np.empty(len(self._values), dtype=_ELEMENT)
        elements["length"], elements["value"] = 2, self._values
        buffer, ends = elements.tobytes(), (self._ends * _ELEMENT.itemsize).tolist()
        pieces = [HEAD]
        for at, (result, note) in enumerate(zip(self.results, self.notes, strict=True)):
            task, outcome = result.task, result.outcome or result.code
            pieces.append(
                _FIRST.pack(
                    _FIELDS, 8, task.job_id, 8, task.photo_id, 4, task.content_rev, 2, result.state, 2, result.code,
                    2, outcome,
                )
            )  # fmt: skip
            pieces.append(NULL if note.headline is None else _SHORT.pack(2, note.headline))
            for first, last in zip(ends[3 * at : 3 * at + 3], ends[3 * at + 1 : 3 * at + 4], strict=True):
                pieces += _array(buffer[first:last])
            pieces += _rest(result)
        return b"".join([*pieces, TAIL])

    def added(self, model_id: int, stored: Mapping[int, tuple[int, int]]) -> bytes:
        """What results that are new add to the totals, as COPY reads it into the table `delta`.

        `stored`: by photo id, for those of the batch that are new, the owner and the slot. One row per user, slot and
        node, and one of node 0 where a photo has no nodes.
        """
        places = [stored.get(result.task.photo_id) for result in self.results]
        new = [at for at, place in enumerate(places) if place is not None]
        if not new:
            return HEAD + TAIL
        users, slots = np.array([places[at] for at in new], dtype=np.int64).T
        names, users = np.unique(users, return_inverse=True)
        keys, photos, masses = self._net(np.array(new), (users << 6) | slots)
        rows = np.empty(len(keys), dtype=_DELTA)
        rows["fields"] = len(_DELTA_FIELDS)
        owner, node = keys >> 15, keys & 0x7FFF
        values = (model_id, names[owner >> 6], owner & 63, node, photos, masses)
        for (name, kind), value in zip(_DELTA_FIELDS, values, strict=True):
            rows[f"{name}_length"], rows[name] = np.dtype(kind).itemsize, value
        return HEAD + rows.tobytes() + TAIL

    def _net(
        self, new: NDArray[np.int64], owners: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Owner * 32768 + node, photos and mass, of the photos at `new`, whose `owners` are numbers below 2^33."""
        first, middle, after, end = (self._ends[3 * new + step] for step in range(4))
        nodes, rows = self._slices(first, middle)
        masses, _ = self._slices(middle, after)
        tags, tag_rows = self._slices(after, end)
        tagged = np.zeros((len(new), int(nodes.max(initial=0)) + 1), dtype=bool)
        tagged[tag_rows, tags] = True
        # One sort of integers that hold it all: owner, node, whether tagged, and mass (at most 10,000, below 2^14).
        held = (((owners[rows] << 15) | nodes) << 15) | (tagged[rows, nodes].astype(np.int64) << 14) | masses
        packed = np.sort(np.concatenate([held, owners[first == middle] << 30]))
        keys = packed >> 15
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        photos, mass = (np.add.reduceat(part, starts) for part in ((packed >> 14) & 1, packed & 0x3FFF))
        return keys[starts], photos, mass

    def _slices(
        self, firsts: NDArray[np.int64], lasts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values from each first to before its last, end to end, and the number of the slice of each."""
        sizes = lasts - firsts
        rows = np.repeat(np.arange(len(firsts)), sizes)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self._values[firsts[rows] + within].astype(np.int64), rows


_DELTA_FIELDS = (
    ("model", ">i2"), ("user", ">i8"), ("slot", ">i2"), ("node", ">i2"), ("photos", ">i8"), ("mass", ">i8"),
)  # fmt: skip
_DELTA = np.dtype(
    [("fields", ">i2"), *(field for name, kind in _DELTA_FIELDS for field in ((f"{name}_length", ">i4"), (name, kind)))]
)


@cache
def _shorts(many: int) -> Callable[..., bytes]:
    return struct.Struct(f">{many}h").pack


def _checked(result: PhotoResult) -> Annotation:
    note = result.annotation
    if note is None:
        return _NOTHING
    if not note.masses or note.masses[0] != WHOLE:
        raise ValueError(f"photo {result.task.photo_id}: the root's mass must be {WHOLE}")
    return note


def _array(elements: bytes) -> tuple[bytes, ...]:
    if not elements:
        return (EMPTY_ARRAY,)
    return _ARRAY.pack(20 + len(elements), 1, 0, SMALLINT, len(elements) // _ELEMENT.itemsize, 1), elements


def _rest(result: PhotoResult) -> list[bytes]:
    message = result.message.replace("\0", "").encode(errors="replace")
    taken_at = NULL if result.taken_at is None else _LONG.pack(8, (result.taken_at - EPOCH) // MICROSECOND)
    digest = (NULL,) if result.sha256 is None else (_LENGTH.pack(len(result.sha256)), result.sha256)
    return [*digest, taken_at, _LENGTH.pack(len(message)), message]
