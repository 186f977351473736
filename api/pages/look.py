"""How a pictograph is looked at: the parameters of its page, and the addresses of the pages that lie one step away.

Months are whole ones, the last one included: `from=2025-01&to=2025-03` is a quarter of a year.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import islice
from urllib.parse import urlencode

from api.names import encoded
from api.pages.mosaic import Tile
from api.views.profiles import Asked, PhotosAsked
from pipeline.profile import CELLS, Unit
from pipeline.store.periods import Month

CHOICES = (2, 4, 6, 8, 12)  # of k
MOST_MONTHS = 240  # to choose from, those without photos included
LOWEST_BAR = 1.5  # of 40: a month with few photos is a month with photos


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What is shown of whom."""

    user: str
    under: str | None = None  # synset id
    k: int = CELLS
    start: date | None = None  # first day of the first month
    end: date | None = None  # first day of the last month
    unit: Unit = "photos"

    @property
    def since(self) -> datetime | None:
        """When the period begins."""
        return None if self.start is None else _moment(self.start)

    @property
    def until(self) -> datetime | None:
        """When it is over."""
        return None if self.end is None else _moment(following(self.end))

    @property
    def asked(self) -> Asked:
        """The profile behind it; its cells are divided once more, to name what is inside them."""
        return Asked(k=self.k, depth=2, unit=self.unit, since=self.since, until=self.until, under=self.under)

    @property
    def photos(self) -> PhotosAsked:
        """The photos below it."""
        return PhotosAsked(under=self.under, since=self.since, until=self.until)

    @property
    def period(self) -> str:
        """The months in words; nothing where all are shown."""
        words = [in_words(day) if day else "" for day in (self.start, self.end)]
        if words[0] == words[1]:
            return words[0]
        return " to ".join(words).strip() if all(words) else f"from {words[0]}" if words[0] else f"until {words[1]}"

    def at(self, **changes: object) -> str:
        """The address of the page with these changes."""
        return self._address(f"/u/{encoded(self.user)}", replace(self, **changes))  # type: ignore[arg-type]

    def file(self, suffix: str) -> str:
        """The address of exactly this, as a file. There, periods end before the month that is named."""
        end = None if self.end is None else following(self.end)
        return self._address(f"/v1/users/{encoded(self.user)}/profile{suffix}", replace(self, end=end))

    def way(self, tile: Tile) -> str:
        """Where a tile leads: into its category, *other* to more categories; else to its photos, or what it means."""
        if tile.wnid is not None:
            return "#newest" if tile.wnid == self.under else self.at(under=tile.wnid)
        more = next((choice for choice in CHOICES if choice > self.k), None)
        return self.at(k=more) if tile.kind == "other" and more else "#reading"

    def hidden(self) -> list[tuple[str, str]]:
        """What a form that chooses months must carry along."""
        return [(name, value) for name, value in _parameters(self) if name not in ("from", "to")]

    def _address(self, path: str, look: "Look") -> str:
        query = urlencode(list(_parameters(look)))
        return f"{path}?{query}" if query else path


def _parameters(look: Look) -> Iterator[tuple[str, str]]:
    """By name, what is not as usual."""
    if look.under is not None:
        yield "under", look.under
    if look.k != CELLS:
        yield "k", str(look.k)
    if look.start is not None:
        yield "from", f"{look.start:%Y-%m}"
    if look.end is not None:
        yield "to", f"{look.end:%Y-%m}"
    if look.unit != "photos":
        yield "unit", look.unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A month to choose."""

    value: str  # 2025-01
    words: str
    photos: int
    height: float  # of 40
    chosen: bool  # whether it is shown
    first: bool  # whether it is the first one shown
    last: bool


def bars(months: Sequence[Month], look: Look) -> list[Bar]:
    """Every month from the first one to the last, those without photos too: time does not jump.

    Except where a camera's clock was years off; then those with photos alone.
    """
    if not months:
        return []
    photos = {month.month: month.photos for month in months}
    days = list(islice(_each(months[0].month, months[-1].month), MOST_MONTHS + 1))
    if len(days) > MOST_MONTHS:
        days = list(photos)
    chosen = [day for day in days if (look.start or day) <= day <= (look.end or day)] or days
    most = max(photos.values())
    return [
        Bar(
            value=f"{day:%Y-%m}",
            words=in_words(day),
            photos=photos.get(day, 0),
            height=max(LOWEST_BAR, 40 * photos[day] / most) if day in photos else 0.0,
            chosen=chosen[0] <= day <= chosen[-1],
            first=day == chosen[0],
            last=day == chosen[-1],
        )
        for day in days
    ]


def within(look: Look, months: Sequence[Month]) -> Look:
    """The same look, without an end of the period that leaves nothing out: so one period has one address."""
    if not months:
        return look
    start = None if look.start and look.start <= months[0].month else look.start
    end = None if look.end and look.end >= months[-1].month else look.end
    return replace(look, start=start, end=end)


def following(month: date) -> date:
    """The first day of the next month."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def in_words(month: date) -> str:
    """A month as people write it: Jan 2025."""
    return f"{month:%b %Y}"


def _each(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first = following(first)


def _moment(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
