"""Pillow's image modes, before and after scaling: alpha, palettes, 16 and 32 bits, colour spaces other than RGB."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def interpolable(image: Image.Image) -> Image.Image:
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


def to_rgb(image: Image.Image) -> Image.Image:
    """What came out of scaling an interpolable image, as RGB with transparency laid on white."""
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("I", "F"):
        image = Image.fromarray(_stretched(np.asarray(image, dtype=np.float32)))
    return _lab_to_rgb(image) if image.mode == "LAB" else image.convert("RGB")


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
