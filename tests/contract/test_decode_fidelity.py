"""The quick way of decoding against Pillow's full decoding, on photographs."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.decode import pixels
from workers.decode.records import Decoded, Interpolation, Target

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def reference(data: bytes, interpolation: str) -> np.ndarray:
    """Everything decoded, then scaled and cut as torchvision does."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scaled = image.resize([256 * side // min(image.size) for side in image.size], FILTERS[interpolation])
    left, upper = (round((side - 224) / 2) for side in scaled.size)
    return np.asarray(scaled.crop((left, upper, left + 224, upper + 224)))


def difference(decoded: Decoded, expected: np.ndarray) -> float:
    return float(np.abs(decoded.pixels.astype(int) - expected).mean())


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_photographs_differ_by_a_fraction_of_a_grey_level(shared_photos: Path, interpolation: Interpolation) -> None:
    target = Target(interpolation=interpolation)
    found = []
    for path in sorted((shared_photos / "imagenet").glob("*.JPEG"))[::10]:
        data = path.read_bytes()
        found.append(difference(pixels.decode(data, target), reference(data, interpolation)))
    assert len(found) >= 20
    assert np.median(found) < 0.3  # rounding
    assert max(found) < 4  # those that were shrunk while they were decoded


def test_a_photograph_of_12_megapixels_differs_little(shared_photos: Path) -> None:
    path = sorted((shared_photos / "imagenet").glob("*.JPEG"))[3]
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    assert (
        difference(pixels.decode(data, Target()), reference(data, "bicubic")) < 2
    )  # a block of 8 x 8 becomes one pixel
