"""The photos of a storm: thousands of small JPEGs, each unlike all others, of many users; the same ones for a seed.

They are cut from a few hundred photographs: another part, size, side and tint each, so that what a model says of them
differs too, and a swapped photo shows. Some are no photos: those must be refused, each for its own reason, and nothing
else ever may be.
"""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from pictograph import samples

REPOSITORY = Path(__file__).parents[2]
SIDES = range(64, 256 + 1)  # pixels, of the longer side
MALFORMED_SHARE = 0.02
SOURCES = 500  # photographs that photos are cut from, at most
SOURCE_SIDE = 384  # pixels: what a photo is cut from is no larger
MAKERS = 2  # processes
CHUNK = 250  # photos that a maker makes at a time
LEAST_JPEG = 600  # bytes; what is damaged must have that much to be damaged


@dataclass(frozen=True, kw_only=True)
class Item:
    """A photo of the corpus."""

    number: int
    user: str
    key: str  # below the corpus's prefix
    malformed: str | None  # how; None: a photo like any other

    @property
    def sound(self) -> bool:
        """Whether it is a photo."""
        return self.malformed is None


@dataclass(frozen=True)
class Corpus:
    """What is uploaded, by a seed."""

    seed: int
    items: tuple[Item, ...]
    sources: tuple[Path, ...] = field(repr=False)

    @classmethod
    def of(cls, seed: int, photos: int, users: int) -> "Corpus":
        """So many photos; a few users have most of them."""
        chance = random.Random(f"corpus {seed}")
        names = [f"user-{n:03}" for n in range(users)]
        weights = [1 / (n + 3) for n in range(users)]
        owners = chance.choices(names, weights, k=photos)
        kinds = list(DAMAGES)
        items = []
        for number, user in enumerate(owners):
            malformed = chance.choice(kinds) if chance.random() < MALFORMED_SHARE else None
            items.append(Item(number=number, user=user, key=f"{user}/{number:05}.jpg", malformed=malformed))
        return cls(seed, tuple(items), tuple(photographs()))

    def body(self, item: Item, revision: int = 1) -> bytes:
        """The bytes of a photo; of another revision, of another picture."""
        chance = random.Random(f"photo {self.seed} {item.number} {revision}")
        photo = _cut_out(chance, self.sources)
        return DAMAGES[item.malformed](photo, chance) if item.malformed else photo

    def make(self) -> dict[int, bytes]:
        """The first revision of every photo, by number; made by a few processes at once."""
        starts = range(0, len(self.items), CHUNK)
        jobs = [(self, self.items[start : start + CHUNK]) for start in starts]
        with ProcessPoolExecutor(MAKERS, mp_context=get_context("spawn")) as makers:
            made = list(makers.map(_make, jobs))
        return {
            item.number: body
            for (_, items), bodies in zip(jobs, made, strict=True)
            for item, body in zip(items, bodies, strict=True)
        }


def photographs() -> list[Path]:
    """The photographs that photos are cut from: the shared ones where they are, else those of the samples."""
    folder = Path(os.environ.get("PICTOGRAPH_TEST_PHOTOS", REPOSITORY.parent / "shared" / "photos")) / "imagenet"
    if folder.is_dir():
        return sorted(folder.iterdir())[:SOURCES]
    return [picture.path for picture in samples.bundled()]


def _make(job: tuple[Corpus, tuple[Item, ...]]) -> list[bytes]:
    corpus, items = job
    return [corpus.body(item) for item in items]


@lru_cache(maxsize=SOURCES)
def _source(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (SOURCE_SIDE, SOURCE_SIDE))
        small = image.convert("RGB")
    small.thumbnail((SOURCE_SIDE, SOURCE_SIDE))
    return small


def _cut_out(chance: random.Random, sources: tuple[Path, ...]) -> bytes:
    """A part of a photograph, in a size and a tint of its own, as a JPEG."""
    whole = _source(chance.choice(sources))
    width, height = (round(side * chance.uniform(0.45, 1.0)) for side in whole.size)
    left, upper = chance.randint(0, whole.width - width), chance.randint(0, whole.height - height)
    scale = chance.randint(SIDES.start, SIDES.stop - 1) / max(width, height)
    size = max(16, round(width * scale)), max(16, round(height * scale))
    part = whole.resize(size, Image.Resampling.BILINEAR, (left, upper, left + width, upper + height))
    if chance.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    part = part.point(_tint(chance))
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=chance.randint(60, 92))
    return buffer.getvalue()


def _tint(chance: random.Random) -> list[int]:
    """A table for `Image.point`: each channel a little brighter or darker."""
    gains = [chance.uniform(0.8, 1.15) for _ in range(3)]
    return [min(255, round(value * gain)) for gain in gains for value in range(256)]


def _empty(_photo: bytes, _chance: random.Random) -> bytes:
    return b""


def _cut_off(photo: bytes, chance: random.Random) -> bytes:
    return photo[: max(LEAST_JPEG, round(len(photo) * chance.uniform(0.3, 0.8)))][: len(photo) - 64]


def _text(_photo: bytes, chance: random.Random) -> bytes:
    return f"This is no photo, but a note with the number {chance.random()}.\n".encode()


def _noise(_photo: bytes, chance: random.Random) -> bytes:
    return b"\xff\xd8\xff\xe0" + chance.randbytes(chance.randint(100, 4000))


def _giant(_photo: bytes, chance: random.Random) -> bytes:
    return _png(chance.randint(21_000, 60_000), chance.randint(21_000, 60_000))


def _strip(_photo: bytes, chance: random.Random) -> bytes:
    return _png(chance.randint(1, 8), chance.randint(4_000, 9_000))


def _broken_png(_photo: bytes, chance: random.Random) -> bytes:
    return _png(chance.randint(64, 256), chance.randint(64, 256))


def _png(width: int, height: int) -> bytes:
    """The head of a PNG, with pixels that end at once."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(b"\0")) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


#: Ways in which an upload is no photo. What each must end as is not written here: the oracle asks the decoder.
DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": _empty,
    "cut off": _cut_off,
    "text": _text,
    "noise": _noise,
    "giant": _giant,
    "strip": _strip,
    "broken PNG": _broken_png,
}


def in_waves(items: tuple[Item, ...], waves: int) -> Iterator[tuple[Item, ...]]:
    """The items in so many parts, one after the other."""
    ends = [len(items) * wave // waves for wave in range(waves + 1)]
    for start, end in pairwise(ends):
        yield items[start:end]
