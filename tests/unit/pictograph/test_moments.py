"""Moments and stretches of time, as people type them."""

from datetime import UTC, datetime

import pytest

from pictograph.cli.moments import moment, seconds
from pipeline.errors import ConfigurationError


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("2026-11-21T06:00", datetime(2026, 11, 21, 6, 0, tzinfo=UTC)),
        (" 2026-11-21 06:00:30 ", datetime(2026, 11, 21, 6, 0, 30, tzinfo=UTC)),
        ("2026-11-21T06:00+01:00", datetime(2026, 11, 21, 5, 0, tzinfo=UTC)),
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
    ],
)
def test_a_moment_is_of_utc_unless_it_says_otherwise(typed, expected):
    assert moment(typed) == expected


@pytest.mark.parametrize("typed", ["", "soon", "06:00", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_is_refused(typed):
    with pytest.raises(ConfigurationError, match=r"is no moment|outside of all calendars"):
        moment(typed)


@pytest.mark.parametrize(
    ("typed", "expected"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 d", 172_800), ("1w", 604_800)]
)
def test_a_stretch_of_time_in_seconds(typed, expected):
    assert seconds(typed) == expected


@pytest.mark.parametrize("typed", ["", "5", "h", "-1h", "0s", "1y", "400d", "1e3s", "٣h", "999999w"])
def test_what_is_no_stretch_of_time_is_refused(typed):
    with pytest.raises(ConfigurationError, match="no stretch of time up to a year; write it as"):
        seconds(typed)
