"""The quick way for JPEGs, and what it leaves to Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from workers.decode import jpeg


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, str(options.pop("format", "JPEG")), **options)
    return buffer.getvalue()


def picture(width: int = 500, height: int = 375) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    red, green, blue = 255 * x / width, 255 * y / height, (x * 3 + y * 5) % 256
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def header(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("short_side", "factor"),
    # 256 are needed: 511 / 2 would be 255
    [(100, 1), (256, 1), (511, 1), (512, 2), (1023, 2), (1024, 4), (2047, 4), (2048, 8), (20_000, 8)],
)
def test_shrinking_never_falls_below_what_is_needed(short_side: int, factor: int) -> None:
    assert jpeg.shrinking(short_side, 256) == factor


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:1:1"}, {"format": "MPO"}])
def test_it_gives_pillow_s_pixels(options: dict[str, object]) -> None:
    data = encoded(picture(), quality=90, **options)
    pixels = jpeg.decode(data, header(data), 256)
    assert pixels is not None
    assert np.abs(pixels.astype(int) - np.asarray(header(data).convert("RGB"))).mean() < 0.1


@pytest.mark.parametrize(("size", "shape"), [((1601, 1203), (301, 401, 3)), ((600, 4000), (2000, 300, 3))])
def test_large_ones_are_shrunk_while_they_are_decoded(size: tuple[int, int], shape: tuple[int, ...]) -> None:
    data = encoded(picture(*size), quality=90)
    pixels = jpeg.decode(data, header(data), 256)
    assert pixels is not None
    assert pixels.shape == shape


def test_only_the_flawless_and_usual_pass() -> None:
    whole = encoded(picture(), quality=90)
    declined = {
        "grey": encoded(picture().convert("L")),
        "four colours": encoded(picture().convert("CMYK")),
        "ends early": whole[:-500],
        "lacks its last marker": whole[:-2],
        "a hole": whole[:5000] + bytes(200) + whole[5200:],
        "a PNG": encoded(picture(), format="PNG"),
    }
    assert {name for name, data in declined.items() if jpeg.decode(data, header(data), 256) is not None} == set()
    assert jpeg.decode(whole, header(whole), 256) is not None


def test_a_header_that_names_another_size_is_not_believed() -> None:
    small, large = encoded(picture(300, 300)), encoded(picture(500, 400))
    assert jpeg.decode(large, header(small), 256) is None
