"""Dates from cameras."""

from datetime import UTC, datetime

import pytest

from workers.decode.exif import parse_time


@pytest.mark.parametrize(
    ("when", "offset", "expected"),
    [
        ("2019:07:31 18:05:09", None, datetime(2019, 7, 31, 18, 5, 9, tzinfo=UTC)),
        ("2019:07:31 18:05:09", "+02:00", datetime(2019, 7, 31, 16, 5, 9, tzinfo=UTC)),
        ("2019:07:31 18:05:09", "-09:30", datetime(2019, 8, 1, 3, 35, 9, tzinfo=UTC)),
        ("2019:07:31 18:05:09\0", "nonsense", datetime(2019, 7, 31, 18, 5, 9, tzinfo=UTC)),
        ("0000:00:00 00:00:00", None, None),
        ("0001:01:01 00:00:00", "+23:59", None),  # a camera without a clock; must not overflow either
        ("2019:02:30 18:05:09", None, None),
        ("9999:12:31 23:59:59", "-23:59", None),
        ("    :  :     :  :  ", None, None),
        ("yesterday", None, None),
        (20190731, None, None),
        (None, None, None),
    ],
)
def test_dates(when: object, offset: object, expected: datetime | None) -> None:
    assert parse_time(when, offset) == expected
