"""Moments and stretches of time, as people type them."""

import re
from datetime import UTC, datetime, timedelta

from pipeline.errors import ConfigurationError

_STRETCH = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
LONGEST_SECONDS = 366 * 86_400.0


def moment(typed: str) -> datetime:
    """A moment such as 2026-11-21T06:00 or 2026-11-21 06:00+01:00; UTC where it names no zone.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        found = datetime.fromisoformat(typed.strip())
    except ValueError as exc:
        raise ConfigurationError(f"{typed!r} is no moment; write it as 2026-11-21T06:00, which is UTC.") from exc
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as exc:
        raise ConfigurationError(f"{typed!r} lies outside of all calendars.") from exc


def seconds(typed: str) -> float:
    """A stretch of time such as 90s, 30m, 2h, 1d or 1w, in seconds.

    Raises:
        ConfigurationError: it is none, or nothing, or longer than a year.
    """
    match = _STRETCH.fullmatch(typed.strip())
    found = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < found <= LONGEST_SECONDS:
        raise ConfigurationError(f"{typed!r} is no stretch of time up to a year; write it as 90s, 30m, 2h or 1d.")
    return timedelta(seconds=found).total_seconds()
