"""The two facts that we take from EXIF: which way is up, and when. Everything else stays unread and unstored.

EXIF comes from the wild: any tag may be missing, of the wrong type, or point outside the file. Such a block says
nothing; it never spoils the photo.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image

_ORIENTATION, _EXIF_BLOCK, _TAKEN, _OFFSET = 0x0112, 0x8769, 0x9003, 0x9011
_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_ZONE = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)
_YEARS = range(1826, 2101)  # from the oldest photograph on; cameras without a clock write year 0


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) where it is missing or nonsense."""
    value = _tags(image).get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def taken_at(image: Image.Image) -> datetime | None:
    """When the shutter opened, in UTC; a time without an offset is taken as UTC. None where EXIF does not say."""
    tags = _tags(image, _EXIF_BLOCK)
    return parse_time(tags.get(_TAKEN), tags.get(_OFFSET))


def parse_time(when: object, offset: object) -> datetime | None:
    """EXIF's ``2019:07:31 18:05:09`` with its ``+02:00``; None unless it is a real time between 1826 and 2100."""
    match = _TIME.match(when) if isinstance(when, str) else None
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups())
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return local - _parse_offset(offset) if local.year in _YEARS else None


def _parse_offset(offset: object) -> timedelta:
    """EXIF's ``+02:00`` as a time span; zero where it is missing or nonsense."""
    match = _ZONE.match(offset) if isinstance(offset, str) else None
    if match is None:
        return timedelta()
    sign, hours, minutes = match.groups()
    span = timedelta(hours=int(hours), minutes=int(minutes))
    return -span if sign == "-" else span


def _tags(image: Image.Image, block: int | None = None) -> dict[int, Any]:
    """The tags of the main EXIF block or of a nested one; empty where the parser gives up, by whatever exception."""
    try:
        exif = image.getexif()
        return dict(exif.get_ifd(block) if block else exif)
    except Exception:
        return {}
