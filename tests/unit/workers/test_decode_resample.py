"""Scaling by matrix products: as Pillow's, and exact."""

import numpy as np
import pytest
from PIL import Image

from workers.decode import resample as module
from workers.decode.records import Interpolation
from workers.decode.resample import Box, resample

PILLOW: dict[str, Image.Resampling] = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def picture(width: int, height: int) -> np.ndarray:
    """Noise on slopes: every frequency, and values at both ends of the range."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 255 / width, y * 255 / height, (x + y) % 256], axis=-1)
    noise = np.random.default_rng(width).integers(-60, 61, slopes.shape)
    return np.clip(slopes + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("width", "height", "size", "fraction"),
    [
        (500, 375, 224, 0.875),  # shrinks to 0.68
        (375, 500, 224, 0.875),
        (256, 256, 224, 0.875),  # one to one
        (281, 333, 299, 1.0),  # enlarges, and 299 is no multiple of a block
        (100, 60, 380, 0.95),  # enlarges a lot
        (1500, 1000, 64, 0.9),  # shrinks a lot
        (97, 64, 5, 1.0),  # fewer outputs than a block
        (6, 300, 224, 0.9),  # fewer inputs than the filter is wide
    ],
)
def test_it_scales_as_pillow_does(
    interpolation: Interpolation, width: int, height: int, size: int, fraction: float
) -> None:
    image, half = picture(width, height), min(width, height) * fraction / 2
    box: Box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    expected = np.asarray(Image.fromarray(image).resize((size, size), PILLOW[interpolation], box))
    scaled = resample(image, box, size, interpolation)
    difference = np.abs(scaled.astype(int) - expected)
    assert difference.mean() < 0.4  # Pillow rounds to whole grey levels between its passes
    assert np.percentile(difference, 99) <= 2


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_an_even_picture_stays_even(value: int) -> None:
    image = np.full((300, 400, 3), value, np.uint8)
    scaled = resample(image, (50.3, 0.7, 349.7, 299.9), 224, "bicubic")
    assert (scaled == value).all()


def test_channels_do_not_mix() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    image[..., 1] = picture(400, 300)[..., 1]
    scaled = resample(image, (0, 0, 300, 300), 64, "bicubic")
    assert scaled[..., 1].any()
    assert not scaled[..., (0, 2)].any()


def test_the_sums_are_exact_in_whatever_order() -> None:
    """The same products in 64-bit integers: so no BLAS, thread or machine can change a pixel."""
    black_and_white = np.random.default_rng(1).integers(0, 2, (375, 500, 3), np.uint8) * 255  # overshoots the most
    box = (86.0, 23.5, 414.0, 351.5)
    rows = module._axis(375, box[1], box[3], 224, "bicubic", 1)
    columns = module._axis(500, box[0], box[2], 224, "bicubic", 3)
    needed = black_and_white[rows.first : rows.last, columns.first : columns.last].astype(np.int64)
    needed = needed.reshape(len(needed), -1)
    low = np.zeros((224, needed.shape[1]))
    for start, source, weights in rows.blocks:
        whole = (weights * 2.0**9).astype(np.int64)
        low[start : start + len(whole)] = whole @ needed[source : source + whole.shape[1]] / 2.0**9
    low = np.rint(low).astype(np.int64)
    square = np.zeros((224, 224 * 3))
    for start, source, weights in columns.blocks:
        whole = (weights * 2.0**15).astype(np.int64)
        square[:, start * 3 : start * 3 + whole.shape[1]] = low[:, source * 3 : source * 3 + len(whole)] @ whole
    assert np.abs(square).max() < 2**24
    expected = np.clip(square / 2.0**15 + 0.5, 0, 255).astype(np.uint8).reshape(224, 224, 3)
    assert np.array_equal(resample(black_and_white, box, 224, "bicubic"), expected)
