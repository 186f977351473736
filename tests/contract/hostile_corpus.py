"""Hostile and odd photos by a seeded script: what each is called, its bytes, and the outcomes that it may have.

Every base picture is drawn, so nothing here is anybody's photo. `corpus()` gives the same bytes in every run with the
same versions of the encoders. An outcome is a `Code`; `Code.NONE` means decoded.
"""

import importlib.util
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from hostile_bytes import (
    PNG_SIGNATURE,
    after_start,
    animated_png,
    animated_webp,
    chunk,
    deep_png,
    encoded,
    exif,
    flat_jpeg,
    gif,
    gif_frame,
    grey_tiff,
    interlaced_png,
    only_code,
    png,
    rle_bmp,
    scene,
    segment,
    tiff,
    webp_header,
)
from PIL import Image

from pipeline.records import Code

Outcomes = frozenset[Code]

DECODED = frozenset({Code.NONE})
CORRUPT = frozenset({Code.CORRUPT})
UNSUPPORTED = frozenset({Code.UNSUPPORTED})
TOO_LARGE = frozenset({Code.TOO_LARGE})
REFUSED = CORRUPT | UNSUPPORTED
UNHURT = DECODED | REFUSED | TOO_LARGE  # anything but the death of a child

SEED = 20_251
CUTS, ROTTEN, RANDOM = 16, 25, 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One file of the corpus."""

    name: str
    data: bytes
    expected: Outcomes
    shows: str = ""  # "scene", "grey scene": what a decoded picture must look like
    tolerance: float = 3.0  # mean difference from that, in grey levels


def corpus() -> Iterator[Case]:
    """All files, by group; none of them may end a child."""
    rng = random.Random(SEED)
    yield from _tiny(rng)
    yield from _truncated()
    yield from _rotten(rng)
    yield from _disguised()
    yield from _odd()
    yield from _orientations()
    yield from _metadata()
    yield from _bombs()
    yield from _heic(rng)


def bases() -> dict[str, bytes]:
    """Eight pictures that any of our decoders reads, with enough detail that every part of the file matters."""
    noise = np.random.default_rng(SEED).integers(-20, 21, (64, 96, 3))
    picture = Image.fromarray(np.clip(np.asarray(scene()).astype(int) + noise, 0, 255).astype(np.uint8))
    return {
        "jpeg": encoded(picture, "JPEG", quality=90),
        "progressive": encoded(picture, "JPEG", quality=90, progressive=True),
        "png": encoded(picture, "PNG"),
        "interlaced": interlaced_png(picture),
        "webp": encoded(picture, "WEBP", quality=90),
        "gif": encoded(picture, "GIF"),
        "tiff": encoded(picture, "TIFF", compression="tiff_lzw"),
        "avif": encoded(picture, "AVIF", quality=90),
    }


def _tiny(rng: random.Random) -> Iterator[Case]:
    """Nothing, next to nothing, and noise."""
    for name, data in {
        "empty": b"",
        "one byte": b"\0",
        "half a JPEG signature": b"\xff\xd8",
        "JPEG signature": b"\xff\xd8\xff",
        "PNG signature": PNG_SIGNATURE,
        "GIF signature": b"GIF89a",
        "WebP signature": b"RIFF\0\0\0\0WEBP",
        "TIFF signature": b"II*\0",
        "AVIF signature": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
        "zeros": bytes(100_000),
    }.items():
        yield Case(name=f"tiny: {name}", data=data, expected=REFUSED)
    for number in range(RANDOM):
        yield Case(name=f"tiny: noise {number}", data=rng.randbytes(rng.randint(10, 5000)), expected=REFUSED)


def _truncated() -> Iterator[Case]:
    """Each base cut at 16 places, the last of which still misses pixels."""
    for name, data in bases().items():
        for cut in range(1, CUTS + 1):
            length = len(data) * cut // (CUTS + 1)
            yield Case(name=f"truncated: {name} {cut}", data=data[:length], expected=REFUSED)


def _rotten(rng: random.Random) -> Iterator[Case]:
    """Each base with a few bits flipped, 25 times."""
    for name, data in bases().items():
        for number in range(ROTTEN):
            yield Case(name=f"rotten: {name} {number}", data=_with_flipped_bits(data, rng), expected=UNHURT)


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("evil.class"), b"\xca\xfe\xba\xbe" * 100)
    return buffer.getvalue()


def _heic(rng: random.Random) -> Iterator[Case]:
    """HEIC, whole, cut and rotten, where its extra is installed."""
    data = heic()
    if not data:
        return
    yield Case(name="odd: HEIC", data=data, expected=DECODED, shows="scene", tolerance=12)
    for cut in range(1, CUTS + 1):
        yield Case(name=f"truncated: HEIC {cut}", data=data[: len(data) * cut // (CUTS + 1)], expected=REFUSED)
    for number in range(ROTTEN):
        yield Case(name=f"rotten: HEIC {number}", data=_with_flipped_bits(data, rng), expected=UNHURT)


@cache
def heic() -> bytes:
    """The scene as HEIC, kept because its encoder promises no same bytes; empty without the extra."""
    if not importlib.util.find_spec("pillow_heif"):
        return b""
    import pillow_heif  # noqa: PLC0415  # an extra

    pillow_heif.register_heif_opener()
    return encoded(scene(), "HEIF", quality=95)


def _with_flipped_bits(data: bytes, rng: random.Random) -> bytes:
    rotten = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 10))):
        rotten[rng.randrange(len(rotten))] ^= 1 << rng.randrange(8)
    return bytes(rotten)


def _disguised() -> Iterator[Case]:
    """Other things that call themselves photos, and photos that are something else as well."""
    laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    no_photos = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "EPS for DOS": b"\xc5\xd0\xd3\xc6" + bytes(100),
        "SVG with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "SVG with an entity": b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "SVG of a billion laughs": f'<!DOCTYPE svg [<!ENTITY l0 "ha">{laughs}]><svg>&l9;</svg>'.encode(),
        "PDF": b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript>>>>endobj\n",
        "ZIP": _zip(),
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "FITS": b"SIMPLE  =                    T" + b" " * 2850,
        "PSD": b"8BPS\0\1" + bytes(100),
        "ICNS": b"icns\0\0\0\x10ic07\0\0\0\x08",
        "ICO": b"\0\0\1\0\1\0" + bytes(100),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "TGA": b"\0\0\2" + bytes(9) + b"\1\0\1\0\x18\0" + bytes(3),
        "PCX": b"\x0a\5\1\x08" + bytes(200),
        "shell script": b"#!/bin/sh\nrm -rf /\n",
        "ELF": b"\x7fELF\2\1\1" + bytes(100),
        "text that begins like a BMP": b"BM is how this sentence begins",
        "MP4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100),
    }
    for name, data in no_photos.items():
        yield Case(name=f"disguised: {name}", data=data, expected=UNSUPPORTED)
    broken = {
        "HTML behind a PNG's signature": PNG_SIGNATURE + b"<script>alert(1)</script>",
        "HTML behind a JPEG's signature": b"\xff\xd8\xff<script>alert(1)</script>",
        "a GIF that says it is a JPEG": b"\xff\xd8\xff" + encoded(scene(), "GIF"),
    }
    for name, data in broken.items():
        yield Case(name=f"disguised: {name}", data=data, expected=CORRUPT)
    jpeg = encoded(scene(), "JPEG", quality=95)
    photos = {
        "JPEG and ZIP": jpeg + _zip(),
        "GIF and ZIP": encoded(scene(), "GIF") + _zip(),
        "PNG and HTML": encoded(scene(), "PNG") + b"<script>alert(1)</script>",
        "JPEG with PHP in its comment": after_start(jpeg, segment(0xFE, b"<?php system($_GET[0]); ?>")),
        "two JPEGs": jpeg + jpeg,
    }
    for name, data in photos.items():
        yield Case(name=f"disguised: {name}", data=data, expected=DECODED, shows="scene", tolerance=12)


def _odd() -> Iterator[Case]:
    """Legal, and seldom."""
    picture, grey = scene(), scene().convert("L")
    palette = picture.quantize(64)
    jpeg = encoded(picture, "JPEG", quality=95)
    cmyk = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    opaque = picture.copy()
    opaque.putalpha(255)
    scenes = {
        "JPEG 4:1:1": encoded(picture, "JPEG", quality=95, subsampling="4:1:1"),
        "JPEG 4:4:4": encoded(picture, "JPEG", quality=95, subsampling="4:4:4"),
        "JPEG in RGB": encoded(picture, "JPEG", quality=95, keep_rgb=True),
        "JPEG without JFIF": jpeg[:2] + jpeg[20:],
        "JPEG with restarts": encoded(picture, "JPEG", quality=95, restart_marker_blocks=1),
        "JPEG in CMYK": cmyk,
        "MPO": encoded(picture, "MPO", quality=95, save_all=True, append_images=[grey.convert("RGB")]),
        "PNG interlaced": interlaced_png(picture),
        "PNG of 16 bits": deep_png(picture),
        "PNG with a palette and transparency": encoded(palette, "PNG", transparency=b"\xff" * 64),
        "PNG with alpha": encoded(opaque, "PNG"),
        "PNG with a profile": encoded(picture, "PNG", icc_profile=b"\0" * 500),
        "WebP lossless": encoded(picture, "WEBP", lossless=True),
        "TIFF in CMYK": encoded(picture.convert("CMYK"), "TIFF"),
        "TIFF by deflate": encoded(picture, "TIFF", compression="tiff_deflate"),
        "TIFF in JPEG": encoded(picture, "TIFF", compression="jpeg"),
        "BMP": encoded(picture, "BMP"),
        "animated GIF": encoded(picture, "GIF", save_all=True, append_images=[grey]),
        "animated WebP": encoded(picture, "WEBP", lossless=True, save_all=True, append_images=[grey.convert("RGB")]),
        "animated PNG": encoded(picture, "PNG", save_all=True, append_images=[grey.convert("RGB")]),
        "AVIF": encoded(picture, "AVIF", quality=95),
    }
    for name, data in scenes.items():
        yield Case(name=f"odd: {name}", data=data, expected=DECODED, shows="scene", tolerance=12)
    greys = {
        "JPEG in grey": encoded(grey, "JPEG", quality=95),
        "PNG in grey": encoded(grey, "PNG"),
        "PNG in grey with alpha": encoded(grey.convert("LA"), "PNG"),
        "PNG in grey of 16 bits": encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"),
        "TIFF of 32 bits": encoded(Image.fromarray(np.asarray(grey).astype(np.int32) * 1000), "TIFF"),
        "BMP in grey": encoded(grey, "BMP"),
    }
    for name, data in greys.items():
        yield Case(name=f"odd: {name}", data=data, expected=DECODED, shows="grey scene", tolerance=12)
    transform = cmyk.index(b"Adobe") + 11  # its colour transform: 0 CMYK, 2 YCCK
    decoded = {
        "JPEG in YCCK": cmyk[:transform] + b"\x02" + cmyk[transform + 1 :],
        "JPEG in arithmetic coding": flat_jpeg(frame=0xC9),
        "PNG of 1 bit": encoded(grey.convert("1"), "PNG"),
        "BMP in runs": rle_bmp(64),
        "one pixel": encoded(picture.resize((1, 1)), "PNG"),
        "one pixel in JPEG": encoded(picture.resize((1, 1)), "JPEG"),
        "a strip of 200:1": encoded(picture.resize((1000, 5)), "PNG"),
    }
    for name, data in decoded.items():
        yield Case(name=f"odd: {name}", data=data, expected=DECODED)
    refused = {
        "JPEG of 12 bits": flat_jpeg(frame=0xC1, bits=12),
        "JPEG lossless": flat_jpeg(frame=0xC3),
        "JPEG lossless of 16 bits": flat_jpeg(frame=0xC3, bits=16),
        "JPEG hierarchical": flat_jpeg(frame=0xC5),
        "a line": encoded(picture.resize((20_000, 1)), "PNG"),
        "a column": encoded(picture.resize((1, 20_000)), "PNG"),
    }
    for name, data in refused.items():
        yield Case(name=f"odd: {name}", data=data, expected=UNSUPPORTED)
    short = after_start(jpeg, segment(0xEE, b"Adobe"))
    yield Case(name="odd: JPEG whose Adobe marker is short", data=short, expected=DECODED | CORRUPT)
    for name, data in {
        "PNG without width": png(0, 10, b""),
        "JPEG without height": flat_jpeg(height=0),
        "GIF without size": gif(0, 0, []),
    }.items():
        yield Case(name=f"odd: {name}", data=data, expected=REFUSED)


def _orientations() -> Iterator[Case]:
    """The scene stored in each of the eight ways, with the tag that undoes it; and tags that make no sense."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that stores an upright picture as `turn`
    for turn in range(1, 9):
        stored = scene().transpose(Image.Transpose(undo[turn])) if turn > 1 else scene()
        tag = Image.Exif()
        tag[0x0112] = turn
        data = encoded(stored, "JPEG", quality=95, exif=tag)
        yield Case(name=f"orientation {turn}", data=data, expected=DECODED, shows="scene")
    for value in (0, 9, 65_535):
        data = _with_exif(exif([(0x0112, 3, 1, value)]))
        yield Case(name=f"orientation {value}", data=data, expected=DECODED, shows="scene")


def _with_exif(body: bytes) -> bytes:
    return after_start(encoded(scene(), "JPEG", quality=95), segment(0xE1, body))


def _metadata() -> Iterator[Case]:
    """Tags that loop, point outside, or carry an attack; none may spoil the photo, and none is kept."""
    jpeg = encoded(scene(), "JPEG", quality=95)
    texts = {
        "NUL": b"a\0b",
        "SQL": b"'); DROP TABLE core.photo; --",
        "script": b"<script>alert(1)</script>",
        "terminal codes": b"\x1b]0;owned\x07\x1b[2J",
        "right to left": "photo\u202egpj.exe".encode(),
        "lone surrogate": b"\xed\xa0\x80",
        "template": b"{{7*7}}${jndi:ldap://127.0.0.1/x}",
    }
    for name, text in texts.items():
        tags = Image.Exif()
        tags[0x010E], tags[0x9C9B] = text, text
        tags.get_ifd(0x8769)[0x9003] = text
        data = encoded(scene(), "JPEG", quality=95, exif=tags.tobytes(), comment=text)
        yield Case(name=f"metadata: {name}", data=data, expected=DECODED, shows="scene")
    blocks = {
        "block that contains itself": exif([(0x8769, 4, 1, 8)]),
        "directory that follows itself": exif([(0x0112, 3, 1, 1)], following=8),
        "offset outside": exif([(0x010E, 2, 1000, 0x7FFF_FFFF), (0x8769, 4, 1, 0xFFFF_FFF0)]),
        "count of four billion": exif([(0x010E, 2, 0xFFFF_FFFF, 8), (0x829A, 5, 0xFFFF_FFFF, 8)]),
        "unknown type": exif([(0x0112, 99, 1, 6), (0x9003, 0, 5, 5)]),
        "fraction over zero": exif([(0x829A, 5, 1, 26)], tail=bytes(8)),
        "wrong byte order": b"Exif\0\0XX*\0\x08\0\0\0",
        "nothing": b"Exif\0\0",
        "noise": b"Exif\0\0II*\0" + random.Random(SEED).randbytes(2000),
        "GPS in a loop": exif([(0x8825, 4, 1, 8), (0x8769, 4, 1, 8), (0xA005, 4, 1, 8)]),
    }
    for name, body in blocks.items():
        yield Case(name=f"EXIF: {name}", data=_with_exif(body), expected=DECODED, shows="scene")
    for name, segments in {
        "5 MB of comments": [segment(0xFE, b"A" * 65_000)] * 80,
        "XMP with an entity": [
            segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<!DOCTYPE x SYSTEM 'file:///etc/passwd'>")
        ],
        "profile in parts that are missing": [segment(0xE2, b"ICC_PROFILE\0\x01\xff" + bytes(100))],
        "Photoshop block that lies": [segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff")],
        "MPO index that lies": [segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 60)],
    }.items():
        yield Case(name=f"metadata: {name}", data=after_start(jpeg, *segments), expected=DECODED, shows="scene")


def _bombs() -> Iterator[Case]:
    """Small files that ask for much."""
    huge = {
        "PNG": png(50_000, 50_000, bytes(1000), bits=1, colour=0),
        "JPEG": flat_jpeg(width=65_535, height=65_535, scans=[]),
        "WebP": webp_header(16_383, 16_383),
        "GIF": gif(65_535, 65_535, [gif_frame()]),
        "GIF by its frame": gif(10, 10, [gif_frame(65_535, 65_535)]),
        "TIFF": tiff([(256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]),
        "BMP": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    }
    for name, data in huge.items():
        yield Case(name=f"bomb: huge {name}", data=data, expected=TOO_LARGE | CORRUPT)
    for name, data in {
        "largest PNG, empty": png(8000, 8000, bytes(1000)),
        "largest WebP, empty": webp_header(8000, 8000),
        "largest JPEG, empty": flat_jpeg(width=8000, height=8000, scans=[]),
        "TIFF with a strip of 4 GB": tiff([(256, 3, 1, 99), (257, 3, 1, 99), (273, 4, 1, 8), (279, 4, 1, 0xFFFF_FFFF)]),
        "TIFF with a tag of 4 GB": grey_tiff(more=[(700, 1, 0xFFFF_FFFF, 8)]),
    }.items():
        yield Case(name=f"bomb: {name}", data=data, expected=UNHURT)
    inflated = zlib.compress(bytes(100_000_000))  # 100 kB
    small = encoded(scene(), "PNG")
    for name, extra in {
        "text": chunk(b"zTXt", b"k\0\0" + inflated),
        "international text": chunk(b"iTXt", b"k\0\1\0\0\0" + inflated),
        "profile": chunk(b"iCCP", b"k\0\0" + inflated),
        "many texts": chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000))) * 500,
    }.items():
        data = small[:33] + extra + small[33:]
        yield Case(name=f"bomb: PNG with {name} that grows", data=data, expected=UNHURT)
    yield Case(
        name="bomb: PNG of more pixels than it says",
        data=png(10, 10, bytes(100_000_000), colour=0),
        expected=UNHURT,
    )
    yield Case(name="bomb: TIFF whose directory follows itself", data=grey_tiff(following=8 + 256), expected=DECODED)
    jpeg = encoded(scene(), "JPEG", quality=95)
    repeated = {
        "10,000 Huffman tables": after_start(jpeg, only_code(0, 0) * 10_000),
        "10,000 restarts": jpeg[:-2] + b"".join(b"\xff" + bytes([0xD0 + n % 8]) for n in range(10_000)) + jpeg[-2:],
        "a million fill bytes": jpeg[:2] + b"\xff" * 1_000_000 + jpeg[2:],
        "10,000 empty segments": after_start(jpeg, segment(0xE5, b"") * 10_000),
    }
    for name, data in repeated.items():
        yield Case(name=f"bomb: JPEG of {name}", data=data, expected=UNHURT)
    for name, data in {
        "GIF": gif(1, 1, [gif_frame()] * 100_000),
        "PNG": animated_png(100_000),
        "WebP": animated_webp(100_000),
    }.items():
        yield Case(name=f"bomb: {name} of 100,000 frames", data=data, expected=DECODED)
