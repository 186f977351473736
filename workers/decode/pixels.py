"""The decoder: photo bytes to the square of pixels that a model wants, and to thumbnails. Pure, and torch-free.

Laws:
1. The format is sniffed from the bytes and must be on the list; a file name never counts.
2. Sizes are checked on the header, before a pixel is decoded; only the first frame is ever touched.
3. A photo that ends early is corrupt, never a half-grey picture.
4. A JPEG is decoded at 1/2, 1/4 or 1/8 where the result stays at or above the scaled size, never below.
5. Orientation is applied after scaling, on the small picture; `crop` says where the square lies so that this gives the
   same one as turning first.
6. The quick way (`jpeg`, `resample`) takes flawless JPEGs only. Whatever it declines, Pillow decides.

Importing this module sets Pillow's limits for the whole process. It is meant for the decode child.
"""

import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import AvifImagePlugin, Image

from pipeline.errors import PhotoUnreadable
from pipeline.records import Code
from workers.decode import jpeg
from workers.decode.crop import spans
from workers.decode.exif import orientation, taken_at
from workers.decode.formats import NO_HEIF, RARE_JPEG, UNREAD, is_rare_jpeg, sniff
from workers.decode.modes import interpolable, to_rgb
from workers.decode.records import Decoded, Interpolation, Pixels, Target
from workers.decode.resample import Box, resample

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

HEIF = importlib.util.find_spec("pillow_heif") is not None  # the extra `heif`
if HEIF:
    import pillow_heif

    # No threads of libheif's own; its HEVC decoder starts one in any case (`sandbox`). Nor what is embedded:
    # a thumbnail need not show the photo.
    pillow_heif.register_heif_opener(decode_threads=0, thumbnails=False, depth_images=False, aux_images=False)

_JPEG = ("JPEG", "MPO")  # several JPEGs in a row are MPO; the first one counts
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW_FILTER: dict[Interpolation, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def decode(data: bytes, target: Target) -> Decoded:
    """The centre square of a photo, upright, as uint8 RGB [size, size, 3].

    Raises PhotoUnreadable (UNSUPPORTED, TOO_LARGE or CORRUPT), and nothing else short of the process dying.
    """
    with _translated(data):
        image = _open(data)
        size = image.size
        square = _square(data, image, target)
        if image.format not in _JPEG:
            size = image.size  # Pillow turns a TIFF upright while loading; a JPEG it may have shrunk
        turn = orientation(image)
        if turn > 1:
            square = np.asarray(_upright(Image.fromarray(square), turn))
        width, height = size if turn <= 4 else size[::-1]
        return Decoded(pixels=square, width=width, height=height, taken_at=taken_at(image))


def thumbnail(data: bytes, side: int, *, cover: bool = True) -> bytes:
    """A small upright JPEG without any metadata.

    With `cover` the centre square, exactly `side` x `side` pixels; else the whole photo, its long side at most `side`
    and never enlarged. Raises PhotoUnreadable.
    """
    with _translated(data):
        image = _open(data)
        _load(image, side)
        if cover:
            small = _scaled(image, (side, side), _centre(image.size, 1.0))
        else:
            scale = min(1.0, side / max(image.size))
            small = _scaled(image, (max(1, round(image.width * scale)), max(1, round(image.height * scale))), None)
        return _jpeg(_upright(small, orientation(image)))


@contextmanager
def _translated(data: bytes) -> Iterator[None]:
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
        if is_rare_jpeg(data):
            raise PhotoUnreadable(RARE_JPEG, Code.UNSUPPORTED) from error
        raise PhotoUnreadable("The image data is broken or ends early; upload it again.", Code.CORRUPT) from error


def _open(data: bytes) -> Image.Image:
    """The photo, its header read and its size accepted, no pixel decoded yet."""
    name = sniff(data)
    if name is None or (name == "HEIF" and not HEIF):
        raise PhotoUnreadable(NO_HEIF if name else UNREAD, Code.UNSUPPORTED)
    image = Image.open(io.BytesIO(data), formats=_JPEG if name == "JPEG" else (name,))
    _check_size(*image.size)
    return image


def _load(image: Image.Image, at_least: int) -> None:
    """Decode the first frame; a JPEG's short side scaled to no less than `at_least` pixels."""
    if image.format in _JPEG:  # nowhere else: for HEIC this would pick an embedded thumbnail
        image.draft(None, (at_least, at_least))
    image.load()


def _square(data: bytes, header: Image.Image, target: Target) -> Pixels:
    """The model's square of an opened photo, not yet turned upright; the quick way where that will do."""
    size = header.size
    whole = jpeg.decode(data, header, target.resize)
    if whole is not None:
        box = _box(size, (whole.shape[1], whole.shape[0]), target, orientation(header))
        return resample(whole, box, target.size, target.interpolation)
    _load(header, target.resize)
    if header.format not in _JPEG:
        size = header.size  # Pillow turns a TIFF upright while loading; a JPEG it may have shrunk
    box = _box(size, header.size, target, orientation(header))
    return np.asarray(_scaled(header, (target.size, target.size), box, target.interpolation))


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


def _box(whole: tuple[int, int], size: tuple[int, int], target: Target, turn: int) -> Box:
    """The model's square in a photo of `whole` pixels that was decoded to `size`, in (fractions of) pixels of that."""
    (left, right), (upper, lower) = spans(whole, target, turn)
    return left * size[0], upper * size[1], right * size[0], lower * size[1]


def _centre(size: tuple[int, int], fraction: float) -> Box:
    """The centre square whose side is `fraction` of the short side, in (fractions of) pixels."""
    half = min(size) * fraction / 2
    x, y = size[0] / 2, size[1] / 2
    return x - half, y - half, x + half, y + half


def _scaled(
    image: Image.Image, size: tuple[int, int], box: Box | None, interpolation: Interpolation = "bicubic"
) -> Image.Image:
    """The part of the image in `box`, scaled to `size`, as RGB with transparency laid on white.

    One pass with a box equals scaling the whole image and cropping then: the filter sees the pixels around the box.
    """
    return to_rgb(interpolable(image).resize(size, _PILLOW_FILTER[interpolation], box, REDUCING_GAP))


def _upright(image: Image.Image, turn: int) -> Image.Image:
    """The image turned as EXIF orientation `turn` (1 to 8) asks."""
    return image.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else image


def _jpeg(image: Image.Image) -> bytes:
    """The pixels as a JPEG, and nothing but the pixels: Pillow would copy the original's comment from `info`."""
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
