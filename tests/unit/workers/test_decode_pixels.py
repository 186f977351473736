"""The decoder on pictures made here: formats, modes, sizes, orientation, damage."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import PhotoUnreadable
from pipeline.records import Code
from workers.decode import pixels as pixels_module
from workers.decode.pixels import MAX_PIXELS, decode, sniff, thumbnail
from workers.decode.records import Target

SMALL = Target(size=32, resize=40)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(width: int = 120, height: int = 80) -> Image.Image:
    """Smooth, in colour, and different in each corner, so that no turn or flip goes unseen."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = 255 * x / width, 255 * y / height, 255 * (x * y) / (width * height)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def code_of(data: bytes) -> Code:
    with pytest.raises(PhotoUnreadable) as caught:
        decode(data, SMALL)
    return caught.value.code


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_deflate"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 90}, 4),
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True}, 3),
        ("AVIF", {"quality": 90}, 4),
        ("GIF", {}, 12),  # 256 colours
    ],
)
def test_every_format_gives_the_same_picture(kind: str, options: dict[str, object], tolerance: float) -> None:
    expected = decode(encoded(scene(), "PNG"), SMALL).pixels
    photo = decode(encoded(scene(), kind, **options), SMALL)
    assert photo.pixels.shape == (32, 32, 3)
    assert photo.pixels.dtype == np.uint8
    assert (photo.width, photo.height) == (120, 80)
    assert difference(photo.pixels, expected) <= tolerance


def test_the_square_is_what_scaling_and_cropping_would_give() -> None:
    image = scene(125, 100)  # scaled to 50 x 40; the crop starts at 9 and 4, whole pixels
    by_hand = image.resize((50, 40), Image.Resampling.BICUBIC).crop((9, 4, 41, 36))
    assert difference(decode(encoded(image, "PNG"), SMALL).pixels, np.asarray(by_hand)) < 0.6


@pytest.mark.parametrize("size", [(1600, 1200), (401, 333), (79, 700)])
def test_a_jpeg_is_never_scaled_below_the_model_s_size(size: tuple[int, int]) -> None:
    image = scene(*size)
    whole = decode(encoded(image, "PNG"), SMALL).pixels
    assert difference(decode(encoded(image, "JPEG", quality=95), SMALL).pixels, whole) < 3


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


def high_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(grey(image)).astype(np.uint16) * 257)


def with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(255)
    return image


@pytest.mark.parametrize(
    ("kind", "convert", "compared", "tolerance"),
    [
        ("PNG", grey, grey, 0),
        ("PNG", lambda image: with_alpha(grey(image)), grey, 0),
        ("PNG", with_alpha, None, 1),
        ("PNG", high_bits, grey, 1),  # 16 bits: shifted, not clipped
        ("PNG", lambda image: image.quantize(256), None, 12),
        ("TIFF", lambda image: image.convert("CMYK"), None, 1),
        ("JPEG", lambda image: image.convert("CMYK"), None, 4),  # stored inverted, after Adobe
        ("TIFF", lambda image: image.convert("YCbCr"), None, 4),
    ],
    ids=["L", "LA", "RGBA", "I;16", "P", "CMYK-tiff", "CMYK-jpeg", "YCbCr"],
)
def test_every_mode_gives_the_same_picture(
    kind: str,
    convert: Callable[[Image.Image], Image.Image],
    compared: Callable[[Image.Image], Image.Image] | None,
    tolerance: float,
) -> None:
    plain = compared(scene()) if compared else scene()
    expected = decode(encoded(plain, "PNG"), SMALL).pixels
    assert difference(decode(encoded(convert(scene()), kind), SMALL).pixels, expected) <= tolerance


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_stretched_from_darkest_to_lightest(mode: str) -> None:
    x = np.broadcast_to(np.arange(64), (64, 64))
    ramp = Image.fromarray((x * 1000 - 30_000).astype(np.int32 if mode == "I" else np.float32))
    assert ramp.mode == mode
    row = decode(encoded(ramp, "TIFF"), SMALL).pixels[16, :, 0]
    assert (row[0], row[-1]) == (0, 255)
    assert np.diff(row.astype(int)).min() > 0


def test_what_is_no_number_is_black() -> None:
    values = np.full((64, 64), 7.0, np.float32)
    values[:, 40:] = np.nan
    assert (decode(encoded(Image.fromarray(values), "TIFF"), SMALL).pixels == 0).all()


def test_black_and_white() -> None:
    image = Image.new("1", (64, 64), 1)
    assert (decode(encoded(image, "PNG"), SMALL).pixels == 255).all()


def test_lab_is_read_as_colour() -> None:
    grey_lab = Image.merge("LAB", [Image.new("L", (64, 64), value) for value in (137, 128, 128)])
    pixels = decode(encoded(grey_lab, "TIFF"), SMALL).pixels
    assert abs(int(pixels[5, 5, 0]) - 128) < 8
    assert pixels.max() - pixels.min() < 4


def transparent_palette() -> bytes:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([10, 20, 30] + [0] * 765)
    return encoded(image, "PNG", transparency=0)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("RGBA", (64, 64), (10, 20, 30, 0)), "PNG"),
        encoded(Image.new("LA", (64, 64), (10, 0)), "PNG"),
        encoded(Image.new("RGB", (64, 64), (10, 20, 30)), "PNG", transparency=(10, 20, 30)),
        transparent_palette(),
    ],
    ids=["RGBA", "LA", "RGB colour key", "P colour key"],
)
def test_what_is_transparent_is_white(data: bytes) -> None:
    assert (decode(data, SMALL).pixels == 255).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_makes_the_picture_upright(kind: str, turn: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that stores an upright picture as `turn`
    upright = scene()
    stored = upright.transpose(Image.Transpose(undo[turn])) if turn > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    photo = decode(encoded(stored, kind, exif=exif, **options), SMALL)
    assert (photo.width, photo.height) == (120, 80)
    assert difference(photo.pixels, decode(encoded(upright, "PNG"), SMALL).pixels) < 3


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(animated, SMALL).pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 1), (200, 1)])
def test_tiny_pictures_are_pictures(size: tuple[int, int]) -> None:
    photo = decode(encoded(Image.new("RGB", size, (9, 99, 199)), "PNG"), SMALL)
    assert difference(photo.pixels, np.full((32, 32, 3), (9, 99, 199), np.uint8)) <= 1


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest lifts the decoder's own filter
@pytest.mark.parametrize(
    ("size", "code"),
    [
        ((50_000, 10), Code.TOO_LARGE),  # a side
        ((20_001, 20_001), Code.TOO_LARGE),
        ((10_000, MAX_PIXELS // 10_000 + 1), Code.TOO_LARGE),  # pixels in all
        ((50_000, 50_000), Code.TOO_LARGE),  # past Pillow's own alarm
        ((2_010, 10), Code.UNSUPPORTED),  # 201:1
        ((10, 2_010), Code.UNSUPPORTED),
    ],
)
def test_sizes_are_refused_on_the_header_alone(size: tuple[int, int], code: Code) -> None:
    assert code_of(png_header(*size)) is code


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"PK\x03\x04",
        b"8BPS\0\1" + b"\0" * 30,
        b"SIMPLE  =                    T",
        b"BM is how this sentence begins",
    ],
    ids=["empty", "zeros", "eps", "pdf", "svg", "zip", "psd", "fits", "text"],
)
def test_what_is_no_photo_is_unsupported(data: bytes) -> None:
    assert code_of(data) is Code.UNSUPPORTED


def test_heic_is_read_where_its_extra_is_installed() -> None:
    pytest.importorskip("pillow_heif")
    photo = decode(encoded(scene(), "HEIF", quality=95), SMALL)
    assert (photo.width, photo.height) == (120, 80)
    assert difference(photo.pixels, decode(encoded(scene(), "PNG"), SMALL).pixels) < 3
    assert code_of(encoded(scene(), "HEIF")[:400]) is Code.CORRUPT


def test_heic_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels_module, "HEIF", False)
    with pytest.raises(PhotoUnreadable, match=r"pictograph\[heif\]") as caught:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64, SMALL)
    assert caught.value.code is Code.UNSUPPORTED


def test_a_target_names_its_interpolation() -> None:
    for kind in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (79, 79, 3), np.uint8)), kind)
        both = [decode(data, Target(size=32, resize=40, interpolation=one)).pixels for one in ("bicubic", "bilinear")]
        assert difference(*both) > 2
        box = (7.9, 7.9, 71.1, 71.1)  # 32/40 of the side
        smooth = Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BILINEAR, box)
        assert difference(both[1], np.asarray(smooth)) < 0.5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("part", [0.4, 0.7, 0.95])
def test_what_ends_early_is_corrupt(kind: str, part: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, kind)
    assert code_of(data[: int(len(data) * part)]) is Code.CORRUPT


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "AVIF"])
def test_sniffing_agrees_with_the_encoder(kind: str) -> None:
    assert sniff(encoded(scene(), kind)) == kind


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_spoil_a_photo() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01\x02" + b"\xff" * 40)
    photo = decode(data, SMALL)
    assert photo.taken_at is None
    assert photo.width == 120


def test_a_thumbnail_covers_a_square() -> None:
    image = Image.open(io.BytesIO(thumbnail(encoded(scene(), "PNG"), 48)))
    assert (image.format, image.size, image.mode) == ("JPEG", (48, 48), "RGB")


@pytest.mark.parametrize(("side", "size"), [(60, (60, 40)), (500, (120, 80))])
def test_a_thumbnail_fits_without_enlarging(side: int, size: tuple[int, int]) -> None:
    assert Image.open(io.BytesIO(thumbnail(encoded(scene(), "PNG"), side, cover=False))).size == size


def test_a_thumbnail_is_upright_and_tells_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "my home"
    data = encoded(scene(), "JPEG", exif=exif, comment=b"secret", icc_profile=b"colours", quality=95)
    small = Image.open(io.BytesIO(thumbnail(data, 60, cover=False)))
    assert small.size == (40, 60)
    assert not small.getexif()
    assert small.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
