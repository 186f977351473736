"""The decoder: photo bytes to the square of pixels that a model wants, and to thumbnails. Pure, and torch-free.

Laws:
1. The format is sniffed from the bytes and must be on the list; a file name never counts.
2. Sizes are checked on the header, before a pixel is decoded; only the first frame is ever touched.
3. A photo that ends early is corrupt, never a half-grey picture.
4. A JPEG is decoded at 1/2, 1/4 or 1/8 where the result stays at or above the scaled size, never below.
5. Orientation is applied after scaling, on the small picture. The crop is cut at the exact centre, to a fraction of a
   pixel, so that this gives the same square as turning first.

Importing this module sets Pillow's limits for the whole process. It is meant for the decode child.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageCms, features

from pipeline.errors import PhotoUnreadable
from pipeline.records import Code
from workers.decode.exif import orientation, taken_at
from workers.decode.records import Decoded, Target

__all__ = ["MAX_ASPECT", "MAX_PIXELS", "MAX_PIXELS_A_SIDE", "Decoded", "Target", "decode", "sniff", "thumbnail"]

MAX_PIXELS = 64_000_000  # 256 MB as RGBA, which fits the child's memory limit several times
MAX_PIXELS_A_SIDE = 20_000
MAX_ASPECT = 200  # a longer strip has no centre that stands for it
REDUCING_GAP = 3.0  # box-shrink first where over 3x is left to do; indistinguishable, and quick on huge PNGs
THUMBNAIL_QUALITY = 82  # JPEG

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the child may not start threads
Image.init()  # every plugin now, since the child cannot open a file later

_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[float, float, float, float]


def decode(data: bytes, target: Target) -> Decoded:
    """The centre square of a photo, upright, as uint8 RGB [size, size, 3].

    Raises PhotoUnreadable (UNSUPPORTED, TOO_LARGE or CORRUPT), and nothing else short of the process dying.
    """
    with _translated():
        image, width, height = _load(data, target.resize)
        turn = orientation(image)
        box = _centre(image, target.size / target.resize)
        square = _upright(_scaled(image, (target.size, target.size), box), turn)
        if turn > 4:
            width, height = height, width
        return Decoded(pixels=np.asarray(square), width=width, height=height, taken_at=taken_at(image))


def thumbnail(data: bytes, side: int, *, cover: bool = True) -> bytes:
    """A small upright JPEG without any metadata.

    With `cover` the centre square, exactly `side` x `side` pixels; else the whole photo, its long side at most `side`
    and never enlarged. Raises PhotoUnreadable.
    """
    with _translated():
        image, _, _ = _load(data, side)
        if cover:
            small = _scaled(image, (side, side), _centre(image, 1.0))
        else:
            scale = min(1.0, side / max(image.size))
            small = _scaled(image, (max(1, round(image.width * scale)), max(1, round(image.height * scale))), None)
        return _jpeg(_upright(small, orientation(image)))


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes announce; None if we do not read it."""
    for name, starts in (("PNG", b"\x89PNG\r\n\x1a\n"), ("JPEG", b"\xff\xd8\xff")):
        if data.startswith(starts):
            return name
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(_TIFF_STARTS):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    return "AVIF" if _is_avif(data) and features.check("avif") else None


def _is_avif(data: bytes) -> bool:
    """Whether the ISO box header names AVIF, as its major brand or among the compatible ones."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 256)
    return any(data[at : at + 4] in (b"avif", b"avis") for at in range(8, end, 4))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn whatever Pillow raises into a reason for this one photo."""
    try:
        yield
    except (PhotoUnreadable, ImportError):  # a module that is missing behind the sandbox's walls is our defect
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoUnreadable(
            "Decoding this image takes more memory than allowed; store it smaller.", Code.TOO_LARGE
        ) from error
    except Exception as error:  # its parsers let OSError, SyntaxError, struct.error, KeyError and a dozen more through
        raise PhotoUnreadable("The image data is broken or ends early; upload it again.", Code.CORRUPT) from error


def _load(data: bytes, at_least: int) -> tuple[Image.Image, int, int]:
    """The first frame, a JPEG's short side scaled to no less than `at_least`; and the photo's true width and height."""
    name = sniff(data)
    if name is None:
        raise PhotoUnreadable(
            "This is no image format that we read; use JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.", Code.UNSUPPORTED
        )
    image = Image.open(io.BytesIO(data), formats=("JPEG", "MPO") if name == "JPEG" else (name,))
    _check_size(*image.size)
    width, height = image.size
    image.draft(None, (at_least, at_least))  # scales JPEG only, and never below
    image.load()
    if name != "JPEG":
        width, height = image.size  # Pillow turns a TIFF upright while loading
    return image, width, height


def _check_size(width: int, height: int) -> None:
    """Refuse, on the header alone, what would take too much to decode."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_PIXELS_A_SIDE:
        raise PhotoUnreadable(
            f"The image has {width} x {height} pixels; at most {MAX_PIXELS_A_SIDE:,} a side "
            f"and {MAX_PIXELS:,} in all are read.",
            Code.TOO_LARGE,
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PhotoUnreadable(
            f"The image has {width} x {height} pixels; strips longer than {MAX_ASPECT}:1 are not read.",
            Code.UNSUPPORTED,
        )


def _centre(image: Image.Image, fraction: float) -> Box:
    """The centre square whose side is `fraction` of the short side, in (fractions of) pixels."""
    half = min(image.size) * fraction / 2
    x, y = image.width / 2, image.height / 2
    return x - half, y - half, x + half, y + half


def _scaled(image: Image.Image, size: tuple[int, int], box: Box | None) -> Image.Image:
    """The part of the image in `box`, bicubically scaled to `size`, as RGB with transparency laid on white.

    One pass with a box equals scaling the whole image and cropping then: the filter sees the pixels around the box.
    """
    small = _resizable(image).resize(size, Image.Resampling.BICUBIC, box, REDUCING_GAP)
    if small.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", size, "white"), small).convert("RGB")
    if small.mode in ("I", "F"):
        small = Image.fromarray(_stretched(np.asarray(small, dtype=np.float32)))
    return _lab_to_rgb(small) if small.mode == "LAB" else small.convert("RGB")


def _resizable(image: Image.Image) -> Image.Image:
    """The image in a mode that can be interpolated: L, RGB, RGBA, CMYK, YCbCr, LAB, HSV, I or F."""
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        return image.convert("RGB")
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def _stretched(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Darkest to lightest as 0 to 255: 32-bit images carry no agreed range. What is not finite becomes black."""
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.where(finite, (values - low) * scale, 0.0).astype(np.uint8)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* to sRGB, which Pillow leaves to its colour management."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    if converted is None:  # never: only transforms in place return nothing
        raise ValueError("the colour transform returned no image")
    return converted


def _upright(image: Image.Image, turn: int) -> Image.Image:
    """The image turned as EXIF orientation `turn` (1 to 8) asks."""
    return image.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else image


def _jpeg(image: Image.Image) -> bytes:
    """The pixels as a JPEG, and nothing but the pixels: Pillow would copy the original's comment from `info`."""
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
