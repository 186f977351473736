"""Which format a photo's first bytes announce, and what is said of those that we do not read. Pure."""

from collections.abc import Iterator

from PIL import features

UNREAD = "This is no image format that we read; use JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC."
RARE_JPEG = "This JPEG is coded in a rare way (lossless, hierarchical or over 8 bits); store it as a usual one."
NO_HEIF = "HEIC photos are read where the extra `heif` is installed: pip install 'pictograph[heif]'."

_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BRANDS_END = 256  # bytes; nobody lists more than a dozen

_SEGMENTS_END = 1000  # markers before a JPEG's frame header; more are no camera's
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_USUAL_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # baseline, extended, progressive, the last two arithmetic
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes announce; None if we do not read it."""
    for name, starts in (("PNG", b"\x89PNG\r\n\x1a\n"), ("JPEG", b"\xff\xd8\xff")):
        if data.startswith(starts):
            return name
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(_TIFF_STARTS):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    brands = _brands(data)
    if brands & _AVIF_BRANDS and features.check("avif"):
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def is_rare_jpeg(data: bytes) -> bool:
    """Whether this is a JPEG whose frame our decoders may refuse although nothing is broken."""
    for marker, at in _segments(data) if sniff(data) == "JPEG" else ():
        if marker in _FRAMES:
            return marker not in _USUAL_FRAMES or data[at + 2 : at + 3] != b"\x08"
    return False


def _brands(data: bytes) -> frozenset[bytes]:
    """The brands that an ISO box header names, major and compatible ones."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), _BRANDS_END)
    return frozenset(data[at : at + 4] for at in range(8, end, 4))


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """A JPEG's first markers, each with where its length stands; ends where the file makes no sense any more."""
    at = 2
    for _ in range(_SEGMENTS_END):
        at = data.find(b"\xff", at)
        while data[at : at + 1] == b"\xff" and at >= 0:  # any number of fill bytes
            at += 1
        if not 0 < at < len(data):
            return
        marker = data[at]
        yield marker, at + 1
        at += 1 if marker in _BARE else 1 + max(2, int.from_bytes(data[at + 1 : at + 3], "big"))
