"""The quick way for the usual JPEG: libjpeg-turbo straight into one RGB array, without Pillow's copies.

Only a photo that libjpeg-turbo decodes without a single warning passes here. All else (a photo that ends early, CMYK,
grey, arithmetic coding, a broken marker) goes to Pillow, whose word counts: so there is one judge of what is corrupt.

Measured and left out: `fastdct` and `fastupsample` (1 to 3 % of the decoding, at some fidelity); scales between the
powers of two, such as 3/4, whose transforms have no SIMD code (30 % slower than decoding whole).
"""

import simplejpeg
from PIL import Image

from workers.decode.records import Pixels

_FACTORS = (8, 4, 2)  # a JPEG's blocks of 8 x 8 shrink by these at next to no cost


def shrinking(short_side: int, at_least: int) -> int:
    """The largest of 8, 4, 2 and 1 by which the short side can be divided without falling below `at_least` pixels."""
    return next((factor for factor in _FACTORS if short_side // factor >= at_least), 1)


def decode(data: bytes, header: Image.Image, at_least: int) -> "Pixels | None":
    """The photo as uint8 RGB [h, w, 3], shrunk to no less than `at_least` pixels; None unless it is flawless and usual.

    `header` is the photo as Pillow opened it, not yet loaded, its size already accepted.
    """
    if header.format not in ("JPEG", "MPO") or header.mode != "RGB":
        return None
    factor = shrinking(min(header.size), at_least)
    width, height = (-(-side // factor) for side in header.size)
    try:
        # The smallest scale that satisfies both sides is exactly 1/factor.
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, strict=True)
    except ValueError:  # its one exception, for errors and warnings alike
        return None
    return pixels if pixels.shape == (height, width, 3) else None
