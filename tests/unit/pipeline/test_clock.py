"""When a schedule is due and when a window is open, across clocks that are put forward and back."""

import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.ledger import clock
from pipeline.ledger.requests import Window

BERLIN = "Europe/Berlin"  # put forward on 29 March 2026 at 2:00, back on 25 October at 3:00
# Half an hour at Lord Howe; at midnight in Santiago; always 5:45 in Kathmandu.
ZONES = st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"])
MINUTE = timedelta(minutes=1)
SPOTS = [datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 8), (3, 29), (4, 5), (9, 6), (10, 4), (10, 25))]


def at(text: str, zone: str = BERLIN, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


@st.composite
def moments(draw: st.DrawFn) -> datetime:
    """Often a moment near the day on which some clock is put forward or back."""
    return draw(st.sampled_from(SPOTS)) + draw(st.integers(-2 * 24 * 60, 2 * 24 * 60)) * MINUTE


@st.composite
def windows(draw: st.DrawFn) -> Window:
    begins = draw(st.integers(0, 1439))
    ends = draw(st.integers(0, 1439).filter(lambda minute: minute != begins))
    spelt = "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (begins, ends))
    return clock.parse_window(spelt, draw(ZONES))


@given(windows(), moments(), st.integers(0, 59))
@settings(deadline=None, max_examples=60)
def test_a_window_opens_at_the_first_minute_that_is_inside(window: Window, now: datetime, seconds: int) -> None:
    now += timedelta(seconds=seconds)
    opens = clock.opens_next(window, now)
    if opens is None:
        assert clock.is_open(window, now)
        return
    assert not clock.is_open(window, now)
    minute = now.replace(second=0) + MINUTE
    while not clock.is_open(window, minute):
        minute += MINUTE
    assert opens == minute


@pytest.mark.parametrize(
    ("span", "now", "opens"),
    [
        ("01:00-06:00", "2026-06-01 00:59:59", "2026-06-01 01:00"),
        ("01:00-06:00", "2026-06-01 01:00", None),
        ("01:00-06:00", "2026-06-01 05:59:59", None),
        ("01:00-06:00", "2026-06-01 06:00", "2026-06-02 01:00"),
        ("22:00-06:00", "2026-06-01 23:00", None),
        ("22:00-06:00", "2026-06-01 03:00", None),
        ("22:00-06:00", "2026-06-01 06:00", "2026-06-01 22:00"),
        ("22:00-24:00", "2026-06-01 00:00", "2026-06-01 22:00"),
        ("02:15-05:00", "2026-03-29 00:00", "2026-03-29 03:00"),  # 2:15 is skipped
        ("02:15-02:45", "2026-03-29 00:00", "2026-03-30 02:15"),  # all of it is
    ],
)
def test_windows(span: str, now: str, opens: str | None) -> None:
    assert clock.opens_next(clock.parse_window(span, BERLIN), at(now)) == (opens and at(opens))


def test_a_window_among_the_hours_that_come_twice_opens_twice() -> None:
    window = clock.parse_window("02:15-02:45", BERLIN)
    assert clock.opens_next(window, at("2026-10-25 02:50")) == at("2026-10-25 02:15", fold=1)
    over_the_edge = clock.parse_window("01:30-02:30", BERLIN)
    assert clock.opens_next(over_the_edge, at("2026-10-25 02:45")) == at("2026-10-25 02:00", fold=1)


@pytest.mark.parametrize(
    "span",
    [
        "01:00",
        "1:00-6:00",
        "01:00-01:00",
        "00:00-24:00",
        "24:00-06:00",
        "25:00-26:00",
        "01:60-02:00",
        "",
        "٠١:00-02:00",
    ],
)
def test_a_window_that_is_none_is_refused(span: str) -> None:
    with pytest.raises(ConfigurationError, match="--window"):
        clock.parse_window(span, "UTC")


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "Europe", "../../etc/passwd", "", "/etc/localtime", "a\0b"])
def test_a_time_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        clock.parse_window("01:00-06:00", zone)


def test_without_a_database_of_time_zones_there_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tzdata", None)  # as if it were not installed
    zoneinfo.reset_tzpath(to=())
    ZoneInfo.clear_cache()
    try:
        with pytest.raises(ConfigurationError, match=r"no database of time zones.* install tzdata"):
            clock.check_schedule("0 2 * * *", BERLIN, None, SPOTS[0])
        window = clock.parse_window("01:00-06:00", "UTC")
        assert clock.next_after("0 2 * * *", "UTC", datetime(2026, 3, 8, tzinfo=UTC), window) is not None
    finally:
        zoneinfo.reset_tzpath()


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("61 2 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 2 32 * *", "day of month"),
        ("0 2 * 13 *", "month"),
        ("0 2 * * 8", "day of week"),
        ("0 2 * * MOON", "day of week"),
        ("*/0 2 * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("0 2 31 2 *", "day of month"),  # never
        ("0 2 * * *  *", "five fields"),
        ("@daily", "five fields"),
        ("", "five fields"),
        ("1," * 300 + "1 * * * *", "five fields"),
    ],
)
def test_a_cron_that_is_wrong_names_the_field(cron: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        clock.check_cron(cron)


def test_a_cron_whose_times_all_lie_outside_of_its_window_is_refused() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    night = clock.parse_window("01:00-06:00", BERLIN)
    with pytest.raises(ConfigurationError, match="would never run"):
        clock.check_schedule("0 12 * * *", BERLIN, night, now)
    clock.check_schedule("0 2 * * *", BERLIN, night, now)
    clock.check_schedule("*/5 * * * *", BERLIN, clock.parse_window("23:58-00:01", BERLIN), now)
    # 23:30 UTC is 1:30 in Berlin in summer, and half past midnight in winter.
    clock.check_schedule("30 23 * * *", "UTC", night, now)
    with pytest.raises(ConfigurationError, match="would never run"):
        clock.check_schedule("30 22 * * *", "UTC", night, now)


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("0 2 * * *", "2026-06-01 02:00", "2026-06-02 02:00"),
        ("0 2 * * *", "2026-06-01 01:59:59", "2026-06-01 02:00"),
        ("30 2 * * *", "2026-03-28 12:00", "2026-03-29 03:00"),  # skipped: when the clocks have been put forward
        ("30 2 * * *", "2026-10-25 01:00", "2026-10-25 02:30"),  # twice: the first
        ("30 2 * * *", "2026-10-25 02:30", "2026-10-26 02:30"),
        ("0 2 29 2 *", "2026-06-01 02:00", "2028-02-29 02:00"),
        ("0 2 * * MON", "2026-06-01 02:00", "2026-06-08 02:00"),
        ("0 0 L * *", "2026-06-01 02:00", "2026-06-30 00:00"),
    ],
)
def test_when_a_cron_is_next_due(cron: str, after: str, due: str) -> None:
    assert clock.next_after(cron, BERLIN, at(after)) == at(due)


def test_times_outside_of_the_window_are_none() -> None:
    window = clock.parse_window("01:00-06:00", BERLIN)
    hourly = clock.next_after("0 * * * *", BERLIN, at("2026-06-01 05:00"), window)
    assert hourly == at("2026-06-02 01:00")
    assert clock.next_after("0 12 * * *", BERLIN, at("2026-06-01 05:00"), window) is None


CRONS = st.sampled_from(
    ["30 2 * * *", "*/20 * * * *", "0,30 0-3 * * *", "15 * * * *", "*/30 2 * * *", "0 0 * * SUN", "45 1-3 29,25 * *"]
)


@given(CRONS, ZONES, moments())
@settings(deadline=None, max_examples=80)
def test_times_rise_and_none_is_left_out(cron: str, zone: str, now: datetime) -> None:
    """Whatever clocks do: asking for what follows each moment meets the same times as going on from the last."""
    times = [now]
    for _ in range(8):
        following = clock.next_after(cron, zone, times[-1])
        assert following is not None
        times.append(following)
    assert all(earlier < later for earlier, later in pairwise(times))
    middle = now + (times[-1] - now) / 2
    expected = next(each for each in times[1:] if each > middle)
    assert clock.next_after(cron, zone, middle) == expected


def test_the_latest_of_the_missed_times_stands_for_all() -> None:
    first, now = at("2026-06-01 02:00"), at("2026-06-04 03:00")
    assert clock.latest_due("0 2 * * *", BERLIN, first, now) == (at("2026-06-04 02:00"), 3)
    assert clock.latest_due("0 2 * * *", BERLIN, first, first) == (first, 0)
    window = clock.parse_window("01:00-06:00", BERLIN)
    assert clock.latest_due("0 */5 * * *", BERLIN, at("2026-06-01 05:00"), now, window) == (at("2026-06-03 05:00"), 2)
