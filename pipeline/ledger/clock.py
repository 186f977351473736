"""When a schedule is due, and when a window is open: pure, by the wall clock of a time zone.

Laws
1. A *window* is a stretch of every day as the clocks there show it, its beginning inside and its end outside. Clocks
   that are put back show some times twice: both are inside. Clocks that are put forward skip some: a window that lies
   wholly among them does not open that day.
2. A *cron expression* has the usual five fields. A fixed time that is skipped fires when the clocks have been put
   forward; one that comes twice fires the first time. What fires every so many minutes keeps firing through both.
3. A time outside of a schedule's window is none of its times.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from pipeline.errors import ConfigurationError
from pipeline.ledger.requests import Window

MOST_CRON_CHARACTERS = 200  # every list of every value is shorter
HORIZON = timedelta(days=10 * 366)  # 29 February comes within eight years, whatever the century
MOST_TIMES_TRIED = 20_000  # for one inside a window; a day has 1,440 minutes
DAYS_LOOKED_AHEAD = 8  # a window that is skipped opens on the next day or the one after
OFFSETS_LOOKED_AT = 2 * 53  # weeks: every shift of a clock in two years

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_SPAN = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_MINUTES = 24 * 60


def parse_window(span: str, timezone: str) -> Window:
    """The window that "01:00-06:00" means in this time zone; 24:00 is midnight at the end of the day.

    Raises:
        ConfigurationError: it is no such span, it is empty, or there is no such time zone.
    """
    zone_of(timezone)
    match = _SPAN.fullmatch(span.strip())
    if match is None:
        raise ConfigurationError(f"--window {span!r} is no span of a day; write it as 01:00-06:00.")
    begins, ends = (_minute(match[1], match[2]), _minute(match[3], match[4]))
    if begins is None or ends is None or begins == _MINUTES:
        raise ConfigurationError(f"--window {span!r} names a time that no clock shows; 00:00 to 23:59 do.")
    if begins == ends % _MINUTES:
        raise ConfigurationError(f"--window {span!r} begins when it ends; leave it out for the whole day.")
    return Window(begins=_spelt(begins), ends=_spelt(ends % _MINUTES), timezone=timezone)


def zone_of(timezone: str) -> tzinfo:
    """The time zone of this name; ConfigurationError if the IANA database has none, or there is no such database."""
    if timezone == "UTC":
        return UTC
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as exc:
        if not available_timezones():
            raise ConfigurationError(
                f"This machine has no database of time zones, so none is known but UTC, and not {timezone!r}; install "
                "tzdata, be it the system's package or Python's."
            ) from exc
        raise ConfigurationError(
            f"There is no time zone {timezone!r}; take a name of the IANA database, such as Europe/Berlin or UTC."
        ) from exc


def is_open(window: Window, now: datetime) -> bool:
    """Whether `now` lies inside of the window."""
    return _inside(window, _minute_of(now.astimezone(zone_of(window.timezone))))


def opens_next(window: Window, now: datetime) -> datetime | None:
    """When the window opens next, in UTC; None: `now` is inside."""
    if is_open(window, now):
        return None
    zone = zone_of(window.timezone)
    for day in range(DAYS_LOOKED_AHEAD):
        start = now.astimezone(UTC) + day * _DAY
        openings = [*_beginnings(window, start, zone), *_shifts(start, start + _DAY, zone)]
        after = sorted(moment for moment in openings if moment > now and is_open(window, moment))
        if after:
            return after[0]
    raise ConfigurationError(f"The window {window.begins}-{window.ends} never opens in {window.timezone}.")


def check_cron(cron: str) -> None:
    """Refuse what is no cron expression of five fields, and what never comes.

    Raises:
        ConfigurationError: says which field is wrong.
    """
    _times(cron, "UTC", datetime(2000, 1, 1, tzinfo=UTC))
    if next_after(cron, "UTC", datetime(2000, 1, 1, tzinfo=UTC)) is None:
        raise ConfigurationError(f"--cron {cron!r} never comes: no month of it has such a day.")


def check_schedule(cron: str, timezone: str, window: Window | None, now: datetime) -> None:
    """Refuse a schedule that could never fire: a wrong `cron`, or one whose times all lie outside of its window.

    Raises:
        ConfigurationError: it could not.
    """
    check_cron(cron)
    zone = zone_of(timezone)
    if window is None:
        return
    there = zone_of(window.timezone)
    probes = [now + timedelta(weeks=week) for week in range(OFFSETS_LOOKED_AT)]
    shifts = {_minute_of(probe.astimezone(there)) - _minute_of(probe.astimezone(zone)) for probe in probes}
    rule = CronSim(cron, now)
    minutes = {60 * hour + minute for hour in rule.hours for minute in rule.minutes}
    if not any(_inside(window, (minute + shift) % _MINUTES) for minute in minutes for shift in shifts):
        raise ConfigurationError(
            f"--cron {cron!r} would never run: all of its times lie outside of --window {window.begins}-{window.ends}; "
            "widen one of the two."
        )


def next_after(cron: str, timezone: str, moment: datetime, window: Window | None = None) -> datetime | None:
    """The first time after `moment`, in UTC, that `cron` names in this time zone, and that `window` holds.

    None: it names none in the next ten years.
    """
    times = islice(_times(cron, timezone, moment), MOST_TIMES_TRIED)
    return next((each for each in times if window is None or is_open(window, each)), None)


def latest_due(
    cron: str, timezone: str, first: datetime, now: datetime, window: Window | None = None
) -> tuple[datetime, int]:
    """The latest time up to `now` of a schedule that is due since `first`, and how many earlier ones it stands for."""
    latest, missed = first, 0
    for each in takewhile(lambda each: each <= now, _times(cron, timezone, first)):
        if window is None or is_open(window, each):
            latest, missed = each, missed + 1
    return latest, missed


def _times(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Every time after `after`, in UTC, in order, none twice; checked at once."""
    if len(cron) > MOST_CRON_CHARACTERS or len(cron.split()) != 5:
        raise ConfigurationError(
            f"--cron {cron[:MOST_CRON_CHARACTERS]!r} must have five fields: minute, hour, day of the month, month and "
            "day of the week, such as '0 2 * * *'."
        )
    try:
        rule = CronSim(cron, after.astimezone(zone_of(timezone)))
    except CronSimError as exc:
        field = str(exc).removeprefix("Bad ").replace("-", " ")
        raise ConfigurationError(f"--cron {cron!r} cannot be read: its field {field} is wrong.") from exc
    return _rising(rule, after.astimezone(UTC))


def _rising(rule: CronSim, last: datetime) -> Iterator[datetime]:
    # A clock that was put back makes the rule name times that are over: it reads the face alone.
    end = last + HORIZON
    for each in rule:
        moment = each.astimezone(UTC)
        if moment > end:
            return
        if moment > last:
            last = moment
            yield moment


def _beginnings(window: Window, start: datetime, zone: tzinfo) -> Iterator[datetime]:
    """When the clocks show the window's beginning in the day or two after `start`, both times if twice."""
    at = time.fromisoformat(window.begins)
    day: date = start.astimezone(zone).date()
    for local in (datetime.combine(day + n * _DAY, at, zone) for n in (0, 1)):
        for fold in (0, 1):
            yield local.replace(fold=fold).astimezone(UTC)


def _shifts(start: datetime, end: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The minutes in (start, end] at which the clocks are put forward or back."""
    before = start.replace(second=0, microsecond=0)
    while before < end:
        after = before + _HOUR
        if _offset(before, zone) != _offset(after, zone):
            minutes = (before + timedelta(minutes=n) for n in range(1, 61))
            yield next(minute for minute in minutes if _offset(minute, zone) == _offset(after, zone))
        before = after


def _offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _inside(window: Window, minute: int) -> bool:
    begins, ends = (_minute_of(time.fromisoformat(at)) for at in (window.begins, window.ends))
    return begins <= minute < ends if begins < ends else not ends <= minute < begins


def _minute_of(at: time | datetime) -> int:
    """Minutes since midnight."""
    return 60 * at.hour + at.minute


def _minute(hours: str, minutes: str) -> int | None:
    """Minutes since midnight; None: no clock shows it."""
    minute = 60 * int(hours) + int(minutes)
    return minute if int(minutes) < 60 and minute <= _MINUTES else None


def _spelt(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
