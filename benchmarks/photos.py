"""Sets of photos for the benchmarks, made from photographs that are at hand; a seed makes each set the same again.

small       500 x 375 at about 100 KB: varied crops, re-encoded; with a folder of one's own, its files as they are
large-3mb   12 megapixels at about 3 MB: upscales, re-encoded, with grain
large-1.5mb the same at about 1.5 MB
dirty       small, with 5 % each of: progressive, turned by EXIF, grey, CMYK, cut off, PNG
tiny        256 x 192 at about 8 KB, for growth: the disk is no limit

None of them is a camera's photo: decoding costs what it costs for such sizes, but accuracy on them means nothing.
"""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pictograph.samples import bundled

#: Photographs of the sample packages whose crops leave the network in two minds (its two best labels within 0.2): what
#: a tool says of such a one is a toss of rounding errors, and no sign that it does something else than the others.
UNDECIDED = frozenset(
    {
        "bottle_cap.jpg", "cat.png", "cottages.jpg", "dahlia.jpg", "desert.jpg", "herons.jpg", "motorcycle.png",
        "motorcycle_again.png", "pagoda.jpg", "rocket.jpg", "shoe.jpg",
    }
)  # fmt: skip
SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
ORIENTATION = 0x0112  # the EXIF tag
LARGE_BASES = 200  # different large photos in a set; the rest are copies, as each takes a third of a second to make
MCU = 16  # pixels: the side of a JPEG's smallest unit
STRIPS = 16  # of that height, on which a large photo's quality is tried
TINY_BASES = 200
GRAIN = 3.0  # standard deviation, in grey levels: upscales are smoother than any sensor
QUALITIES = range(5, 99)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A file to be classified."""

    name: str  # unique in its set; what is before the first hyphen says how it was made
    data: bytes


def make(kind: str, count: int, folder: Path | None = None, seed: int = 1) -> Iterator[Photo]:
    """`count` photos of a set, from the photographs below `folder`, or else from those of the sample packages."""
    files = _files(folder)
    if kind == "small" and folder is not None:
        return _as_they_are(files, count)
    return MAKERS[kind](files, count, random.Random(seed))


def _files(folder: Path | None) -> list[Path]:
    if folder is None:
        return [picture.path for picture in bundled() if picture.name not in UNDECIDED]
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise SystemExit(f"There are no photos below {folder}.")
    return files


def _as_they_are(files: Sequence[Path], count: int) -> Iterator[Photo]:
    for n in range(count):
        path = files[n % len(files)]
        yield Photo(name=f"file-{n:06}{path.suffix.lower()}", data=unlike(path.read_bytes(), n))


def unlike(data: bytes, n: int) -> bytes:
    """The same photo in other bytes: decoders ignore what follows its end, caches and content hashes do not."""
    return data + n.to_bytes(8, "big")


def _small(files: Sequence[Path], count: int, chance: random.Random) -> Iterator[Photo]:
    for n in range(count):
        image = _crop(_open(files[n % len(files)]), 500, 375, chance)
        yield Photo(name=f"small-{n:06}.jpg", data=encode(image, 100_000))


def _large(bytes_wanted: int, files: Sequence[Path], count: int, chance: random.Random) -> Iterator[Photo]:
    noise = np.random.default_rng(chance.randrange(2**32))
    bases: list[bytes] = []
    for n in range(count):
        if n < LARGE_BASES:
            image = _grainy(_crop(_open(files[n % len(files)]), 4000, 3000, chance), noise)
            bases.append(_save(image, "JPEG", quality=_quality(image, bytes_wanted)))
        yield Photo(name=f"large-{n:06}.jpg", data=unlike(bases[n % LARGE_BASES], n))


def _quality(image: Image.Image, bytes_wanted: int) -> int:
    """The quality that gives about the wanted size, tried on strips from all over the image."""
    pixels = np.asarray(image)
    strips = [pixels[at : at + MCU] for at in range(0, image.height - MCU, image.height // STRIPS)]
    sample = Image.fromarray(np.concatenate(strips))
    return _best_quality(sample, bytes_wanted * sample.height // image.height)[0]


def _tiny(files: Sequence[Path], count: int, chance: random.Random) -> Iterator[Photo]:
    bases = []
    for n in range(count):
        if n < TINY_BASES:
            bases.append(encode(_crop(_open(files[n % len(files)]), 256, 192, chance), 8_000))
        yield Photo(name=f"tiny-{n:06}.jpg", data=unlike(bases[n % TINY_BASES], n))


def _dirty(files: Sequence[Path], count: int, chance: random.Random) -> Iterator[Photo]:
    """Of each twenty photos, six are of one dirty kind each."""
    for n in range(count):
        image = _crop(_open(files[n % len(files)]), 500, 375, chance)
        kind = DIRTY[n % 20] if n % 20 < len(DIRTY) else "small"
        suffix = "png" if kind == "png" else "jpg"
        yield Photo(name=f"{kind}-{n:06}.{suffix}", data=_soil(kind, image))


DIRTY = ("progressive", "exif", "grey", "cmyk", "cut", "png")


def _soil(kind: str, image: Image.Image) -> bytes:
    if kind == "png":
        return _save(image, "PNG")
    if kind == "cut":
        whole = encode(image, 100_000)
        return whole[: len(whole) // 2]
    if kind == "exif":
        exif = Image.Exif()
        exif[ORIENTATION] = 6  # to be turned by 90 degrees clockwise
        return _save(image.rotate(90, expand=True), "JPEG", quality=90, exif=exif)
    if kind in ("grey", "cmyk"):
        return _save(image.convert("L" if kind == "grey" else "CMYK"), "JPEG", quality=90)
    if kind == "progressive":
        return _save(image, "JPEG", quality=90, progressive=True)
    return encode(image, 100_000)


MAKERS: dict[str, Callable[[Sequence[Path], int, random.Random], Iterator[Photo]]] = {
    "small": _small,
    "large-3mb": partial(_large, 3_000_000),
    "large-1.5mb": partial(_large, 1_500_000),
    "dirty": _dirty,
    "tiny": _tiny,
}


def _open(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _crop(image: Image.Image, width: int, height: int, chance: random.Random) -> Image.Image:
    """The largest part of the wanted shape, or down to four fifths of it, from anywhere, and perhaps mirrored."""
    scale = min(image.width / width, image.height / height) * chance.uniform(0.8, 1.0)
    left = chance.uniform(0, image.width - width * scale)
    top = chance.uniform(0, image.height - height * scale)
    box = (left, top, left + width * scale, top + height * scale)
    part = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else part


def _grainy(image: Image.Image, noise: np.random.Generator) -> Image.Image:
    """With noise that is the same in the three colours."""
    pixels = np.asarray(image, np.float32) + noise.normal(0, GRAIN, (image.height, image.width, 1)).astype(np.float32)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, bytes_wanted: int) -> bytes:
    """As a baseline JPEG of the quality whose size comes nearest to what is wanted."""
    return _best_quality(image, bytes_wanted)[1]


def _best_quality(image: Image.Image, bytes_wanted: int) -> tuple[int, bytes]:
    """That quality, by bisection, and the photo in it."""
    low, high = QUALITIES.start, QUALITIES.stop
    best = (0, b"")
    while low < high:
        quality = (low + high) // 2
        data = _save(image, "JPEG", quality=quality)
        if not best[1] or abs(len(data) - bytes_wanted) < abs(len(best[1]) - bytes_wanted):
            best = (quality, data)
        low, high = (quality + 1, high) if len(data) < bytes_wanted else (low, quality)
    return best


def _save(image: Image.Image, form: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()
