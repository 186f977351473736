"""Formats by their first bytes."""

import pytest

from workers.decode.formats import is_rare_jpeg, sniff


def box(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(64)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (box(b"heic", b"mif1", b"heic"), "HEIF"),
        (box(b"mif1", b"heic"), "HEIF"),  # the brand that says it is among the compatible ones
        (box(b"heix"), "HEIF"),
        (box(b"avif", b"mif1", b"miaf"), "AVIF"),
        (box(b"mif1", b"avif"), "AVIF"),
        (box(b"isom", b"mp42"), None),
        (box(b"mif1"), None),
        (b"\0\0\0\0ftypheic", None),  # an empty box names nothing
        (b"\xff\xff\xff\xffftypheic" + bytes(300), "HEIF"),
        (box(b"mp42", *[b"isom"] * 70, b"heic"), None),  # nobody lists so many
    ],
)
def test_the_brands_of_an_iso_file(data: bytes, name: str | None) -> None:
    assert sniff(data) == name


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("rest", "rare"),
    [
        (segment(0xC0, b"\x08"), False),
        (segment(0xC2, b"\x08"), False),
        (segment(0xC9, b"\x08"), False),  # arithmetic
        (segment(0xC1, b"\x0c"), True),  # 12 bits
        (segment(0xC3, b"\x08"), True),  # lossless
        (segment(0xC5, b"\x08"), True),  # hierarchical
        (
            segment(0xE1, b"\xff\xc3\0\x09\x08") + segment(0xC0, b"\x08"),
            False,
        ),  # a thumbnail's frame
        (segment(0xC4, bytes(9)) + b"\xff\xff\xff\xd0" + segment(0xC3, b"\x08"), True),
        (segment(0xFE, b"") * 2000 + segment(0xC3, b"\x08"), False),  # nobody looks that far
        (b"\xff\xe0\0\0" * 9, False),
        (b"\xff" * 99, False),
        (b"", False),
    ],
)
def test_rare_kinds_of_jpeg_are_told_by_their_frame(rest: bytes, rare: bool) -> None:
    assert is_rare_jpeg(b"\xff\xd8" + (rest or b"\xff")) is rare


def test_only_a_jpeg_is_a_rare_jpeg() -> None:
    assert not is_rare_jpeg(b"BM" + segment(0xC3, b"\x08"))
