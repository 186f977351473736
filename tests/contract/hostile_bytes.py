"""Image files laid down byte by byte, as no encoder would: the material of `hostile_corpus`."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WIDTH, HEIGHT = 96, 64  # of the scene


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth, in colour, different in each corner."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = 255 * x / width, 255 * y / height, 255 * (x * y) / (width * height)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """What Pillow makes of it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, rows: bytes, *, bits: int = 8, colour: int = 2, interlace: int = 0, extra: bytes = b""
) -> bytes:
    """A PNG of filtered rows; `colour` 0 grey, 2 RGB. `extra` chunks go before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


def png_rows(image: Image.Image) -> bytes:
    """An RGB image's rows, each behind a filter byte of 0."""
    return b"".join(b"\0" + row.tobytes() for row in np.asarray(image))


def interlaced_png(image: Image.Image) -> bytes:
    """The image in Adam7's seven passes."""
    pixels = np.asarray(image)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.tobytes() for y, x, down, right in passes for row in pixels[y::down, x::right] if row.size
    )
    return png(image.width, image.height, rows, interlace=1)


def deep_png(image: Image.Image) -> bytes:
    """The image with 16 bits a channel."""
    deep = np.asarray(image).astype(">u2") * 257
    return png(image.width, image.height, b"".join(b"\0" + row.tobytes() for row in deep), bits=16)


def animated_png(frames: int) -> bytes:
    """An APNG of so many 1 x 1 frames."""
    pixel = zlib.compress(b"\0\x0a\x14\x1e")
    control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 100, 0, 0)
    parts = [PNG_SIGNATURE, chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))]
    parts += [chunk(b"acTL", struct.pack(">II", frames, 0)), chunk(b"fcTL", control), chunk(b"IDAT", pixel)]
    for number in range(1, frames):
        at = number * 2 - 1
        parts.append(chunk(b"fcTL", struct.pack(">I", at) + control[4:]))
        parts.append(chunk(b"fdAT", struct.pack(">I", at + 1) + pixel))
    return b"".join([*parts, chunk(b"IEND", b"")])


# JPEG


def segment(marker: int, body: bytes) -> bytes:
    """One JPEG segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def after_start(jpeg: bytes, *segments: bytes) -> bytes:
    """The JPEG with more segments directly behind its first marker."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def only_code(table: int, symbol: int) -> bytes:
    """A Huffman table (0 DC, 0x10 AC) in which the one bit 0 stands for `symbol`, and nothing else exists."""
    return segment(0xC4, bytes([table, 1, *[0] * 15, symbol]))


def flat_jpeg(
    *, frame: int = 0xC0, bits: int = 8, width: int = 64, height: int = 64, scans: Iterable[bytes] | None = None
) -> bytes:
    """A grey JPEG of the frame type `frame` (0xC0: SOF0) whose every coefficient is zero."""
    size = struct.pack(">BHHB", bits, height, width, 1) + b"\x01\x11\0"
    blocks = -(-width // 8) * -(-height // 8)
    if scans is None:  # two bits a block: no difference, end of block
        scans = [only_code(0x00, 0) + only_code(0x10, 0) + scan(0, 63) + bytes(-(-blocks * 2 // 8))]
    tables = segment(0xDB, b"\0" + b"\x01" * 64)
    return b"".join([b"\xff\xd8", tables, segment(frame, size), *scans, b"\xff\xd9"])


def scan(first: int, last: int) -> bytes:
    """The header of a scan of coefficients `first` to `last`."""
    return segment(0xDA, bytes([1, 1, 0, first, last, 0]))


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG: many scans of a few bytes, each of which has the decoder walk over all blocks."""
    blocks = (side // 8) ** 2
    runs = -(-blocks // 0x7FFF)
    # One symbol: a run of 2^14 blocks without coefficients, its 14 further bits all ones: 32,767 blocks in 15 bits.
    bits = ("0" + "1" * 14) * runs
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    first = only_code(0x00, 0) + scan(0, 0) + bytes(-(-blocks // 8))
    again = scan(1, 63) + empty
    return flat_jpeg(frame=0xC2, width=side, height=side, scans=[first, only_code(0x10, 0xE0), again * scans])


# GIF, WebP, BMP, TIFF, EXIF


def gif(width: int, height: int, frames: Iterable[bytes]) -> bytes:
    """A GIF with two colours."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    return b"GIF89a" + screen + b"\x0a\x14\x1e\xff\xff\xff" + b"".join(frames) + b";"


def gif_frame(width: int = 1, height: int = 1) -> bytes:
    """A frame that holds data for one pixel of the first colour."""
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0"


def riff(kind: bytes, body: bytes) -> bytes:
    """One RIFF chunk, padded."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def animated_webp(frames: int) -> bytes:
    """A WebP of so many 1 x 1 frames."""
    still = encoded(Image.new("RGB", (1, 1), (10, 20, 30)), "WEBP", lossless=True)[12:]
    frame = riff(b"ANMF", b"\0" * 12 + b"\x64\0\0\0" + still)
    header = riff(b"VP8X", b"\x02" + b"\0" * 9) + riff(b"ANIM", b"\0" * 6)
    return riff(b"RIFF", b"WEBP" + header + frame * frames)


def webp_header(width: int, height: int) -> bytes:
    """A lossless WebP that announces a size and holds nothing."""
    size = (width - 1) | (height - 1) << 14
    return riff(b"RIFF", b"WEBP" + riff(b"VP8L", b"\x2f" + struct.pack("<I", size) + b"\0" * 8))


def rle_bmp(side: int) -> bytes:
    """A run-length coded BMP of colour 1."""
    rows = (bytes([side, 1]) + b"\0\0") * side + b"\0\1"
    palette = b"\0\0\0\0" + b"\x1e\x14\x0a\0"
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 2, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows


def tiff(entries: Iterable[tuple[int, int, int, int]], *, following: int = 0, pixels: bytes = b"") -> bytes:
    """A little-endian TIFF: entries (tag, type, count, value), the next directory's offset, pixels at byte 8."""
    entries = list(entries)
    at = 8 + len(pixels)
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", at) + pixels + directory + struct.pack("<I", following)


def grey_tiff(side: int = 16, *, following: int = 0, more: Iterable[tuple[int, int, int, int]] = ()) -> bytes:
    """A grey TIFF, one byte a pixel."""
    pixels = b"\x80" * side * side
    entries = [(256, 3, 1, side), (257, 3, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, side), (279, 4, 1, len(pixels))]
    return tiff([*entries, *more], following=following, pixels=pixels)


def exif(entries: Iterable[tuple[int, int, int, int]], *, following: int = 0, tail: bytes = b"") -> bytes:
    """The body of an EXIF segment; entries as in `tiff`."""
    return b"Exif\0\0" + tiff(entries, following=following) + tail
