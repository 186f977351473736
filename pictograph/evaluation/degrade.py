"""Stock photographs made as bad as users' photographs, always alike for the same seed.

Photographs of data sets are framed, lit and focused with care, so constants that were set on them promise too much.
Three degradations, each with a level:

  user:LEVEL   0 to 1: an off-centre crop, a tilt, blur, dim light with sensor noise, and a strong JPEG compression,
               each drawn at random between nothing and its strongest, which grows with the level
  crop:LEVEL   a random part of the photo that has this share (0 to 1) of its area
  blur:LEVEL   a Gaussian blur of this many pixels (0 to 50)

Lengths in pixels are those of a photo whose short side is `SHORT_SIDE`, so a large photo suffers as a small one does.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from PIL import Image, ImageFilter

from pipeline.errors import ConfigurationError

SHORT_SIDE = 256  # pixels; from this the usual square of 224 is cut
SMALLEST_SIDE = 8  # pixels; a part of a photo is never cut smaller
LONGEST_SIDE = 8_192  # pixels; a thread of a photo is squeezed to this, as a JPEG cannot be longer than 65,535

# What `user` does at level 1, at worst.
CUT_AWAY = 0.75  # share of the area that is lost to the crop
LEAST_AREA = 0.15  # and what always remains
TILT = 20.0  # degrees, to either side
BLUR = 3.0  # pixels
DIMMING = 0.75  # share of the light that is lost
NOISE = 14.0  # standard deviation, of 255
QUALITY_BEST, QUALITY_LOST = 70, 55  # JPEG quality, and how much of it is lost

Photo = Image.Image
_Rng = np.random.Generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Degradation:
    """One kind of degradation at one level.

    Raises:
        ConfigurationError: there is no such kind, or it has no such level.
    """

    kind: str
    level: float

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigurationError(f"There is no degradation {self.kind!r}; choose one of: {', '.join(_KINDS)}.")
        most = _KINDS[self.kind].most
        if not (math.isfinite(self.level) and 0 < self.level <= most):
            raise ConfigurationError(
                f"The level of {self.kind} is above 0 and at most {most:g}, not {self.level:g}; as in {self.kind}:0.6."
            )

    @classmethod
    def parse(cls, text: str) -> "Degradation":
        """The degradation that is written as KIND:LEVEL, such as user:0.6.

        Raises:
            ConfigurationError: it is not written so, or there is no such kind or level.
        """
        kind, colon, level = text.partition(":")
        try:
            number = float(level) if colon else math.nan
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise ConfigurationError(f"{text!r} is no degradation; write its kind and its level, such as user:0.6.")
        return cls(kind=kind, level=number)

    def __str__(self) -> str:
        return f"{self.kind}:{self.level:g}"

    def apply(self, photo: Photo, seed: int) -> Photo:
        """A degraded copy, in RGB. The same photo, degradation and seed give the same pixels."""
        rng = np.random.default_rng([crc32(str(self).encode()), seed])
        return _KINDS[self.kind].degrade(photo.convert("RGB"), self.level, rng)


def encoded(photo: Photo) -> bytes:
    """A photo as PNG, without loss, so that a copy goes the same way as any other file."""
    buffer = io.BytesIO()
    photo.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _user(photo: Photo, level: float, rng: _Rng) -> Photo:
    """What happens to it in the order in which it happens to a user: framing, focus, light and sensor, sharing."""
    least = max(LEAST_AREA, 1 - CUT_AWAY * level)
    photo = _cut(_scaled(photo), rng.uniform(least, 1), rng)
    photo = photo.rotate(rng.uniform(-TILT, TILT) * level, resample=Image.Resampling.BILINEAR)
    photo = _scaled(photo).filter(ImageFilter.GaussianBlur(rng.uniform(0, BLUR) * level))
    photo = _in_dim_light(photo, 1 - rng.uniform(0, DIMMING) * level, rng.uniform(0, NOISE) * level, rng)
    return _as_jpeg(photo, round(QUALITY_BEST - rng.uniform(0, QUALITY_LOST) * level))


def _crop(photo: Photo, level: float, rng: _Rng) -> Photo:
    return _cut(photo, level, rng)


def _blur(photo: Photo, level: float, _rng: _Rng) -> Photo:
    return _scaled(photo).filter(ImageFilter.GaussianBlur(level))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    most: float  # the highest level
    degrade: Callable[[Photo, float, _Rng], Photo]


_KINDS = {
    "user": _Kind(most=1, degrade=_user),
    "crop": _Kind(most=1, degrade=_crop),
    "blur": _Kind(most=50, degrade=_blur),
}


def _scaled(photo: Photo) -> Photo:
    """With `SHORT_SIDE` pixels on the short side, in the same proportions unless that would be longer than allowed."""
    factor = SHORT_SIDE / min(photo.size)
    width, height = (min(LONGEST_SIDE, round(side * factor)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BICUBIC)


def _cut(photo: Photo, area: float, rng: _Rng) -> Photo:
    """A part with this share of the area and the photo's proportions, anywhere in it."""
    width, height = (min(side, max(SMALLEST_SIDE, int(side * math.sqrt(area)))) for side in photo.size)
    left = int(rng.integers(photo.width - width, endpoint=True))
    top = int(rng.integers(photo.height - height, endpoint=True))
    return photo.crop((left, top, left + width, top + height))


def _in_dim_light(photo: Photo, light: float, noise: float, rng: _Rng) -> Photo:
    pixels = np.asarray(photo, dtype=np.float64) * light
    noisy = pixels + rng.normal(0, noise, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _as_jpeg(photo: Photo, quality: int) -> Photo:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
