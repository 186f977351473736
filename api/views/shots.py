"""Lists of a category's photos, page by page: newest first, most certain first, or as different as can be.

Laws
1. The pages of a list together are every photo of the category that the reader may see, each once: as many as its
   count.
2. Newest first is exact. The other two put a *window* of the newest photos in order, WINDOW or MIXED of them, then the
   next window, and so on; the answer says how many were put in order together.
3. A window is two times, its newest photo's and its oldest's, which the first page of it sets and each token carries.
   Whatever comes meanwhile, nothing comes twice and nothing that was there is left out: where a page begins is said by
   what the last one ended with, or by all that was shown of the window, and not by a number of photos.
"""

import base64
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection

from api.tokens import invalid
from api.views.gallery import Count, Overview, Reader
from pipeline.store import categories as store
from pipeline.store.categories import Mark, Pictured, Weighed
from taxonomy.policy import coarsen_photo

Sort = Literal["probability", "newest", "diverse"]

WINDOW = 1000  # photos put in order by probability
MIXED = 240  # photos put in a diverse order; the ids of those that were shown must fit into a token


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A photo in a list."""

    photo_id: int
    mass: int  # of the category, ten-thousandths
    user: str
    taken_at: datetime
    headline_wnid: str | None  # what it shows above all, or what of that may be told; None: nothing
    headline: str | None  # its name
    own: bool  # the reader's


@dataclass(frozen=True, kw_only=True, slots=True)
class Shots:
    """A page of photos."""

    shots: tuple[Shot, ...]
    photos: int | None  # on all pages together; None: not known, as only those with some probability were asked for
    withheld: bool  # only the reader's own are listed
    ordered: int | None  # how many were put in order together; None: the order is that of the whole list
    following: list[object] | None  # where the next page begins, as JSON has it; None: nowhere


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A list."""

    connection: Connection
    node: int
    own: bool  # only the reader's own
    least: int  # ten-thousandths
    over: Overview

    def newest(self, most: int, before: Mark | None = None) -> list[Mark]:
        """The next photos by time."""
        model_id = self.over.stamp.model.model_id
        return store.newest(self.connection, model_id, self.node, most, before, own=self.own, least_mass=self.least)

    def weighed(self, marks: Sequence[Mark], children: Sequence[int]) -> list[Weighed]:
        """How much of the category each photo has, whose it is, and of which child it has most."""
        terms = self.over.policy.terms.get(self.node, ())
        model_id = self.over.stamp.model.model_id
        return store.weighed(self.connection, model_id, marks, self.node, terms, children)


def newest_of(connection: Connection, node: int, count: Count, most: int, over: Overview) -> list[Pictured]:
    """The newest photos of a category that can be a tag, as the policy shows them."""
    if count.withheld and not count.own:
        return []
    asked = Asked(connection=connection, node=node, own=count.withheld, least=0, over=over)
    return _pictured(asked, asked.newest(most))


def listed(
    connection: Connection,
    reader: Reader,
    node: int,
    count: Count,
    sort: Sort,
    after: Sequence[object] | None,
    limit: int,
    least: int,
    children: Sequence[int],
    over: Overview,
) -> Shots:
    """A page of the list that `after` leads to; the first one where it is None."""
    if node not in over.showable:
        return Shots(shots=(), photos=None, withheld=False, ordered=None, following=None)
    asked = Asked(connection=connection, node=node, own=count.withheld, least=least, over=over)
    if sort == "newest":
        marks, following, ordered = _by_time(asked, after, limit)
    else:
        gone = over.withheld(reader)
        order = _by_mass(asked) if sort == "probability" else _mixed(asked, [v for v in children if v not in gone])
        marks, following, ordered = _by_windows(asked, order, after, limit)
    everything = count.own if count.withheld else count.photos
    return Shots(
        shots=tuple(_shot(photo, node, reader, over) for photo in _pictured(asked, marks)),
        photos=None if least else everything,
        withheld=count.withheld,
        ordered=ordered,
        following=following,
    )


def _pictured(asked: Asked, marks: Sequence[Mark]) -> list[Pictured]:
    over = asked.over
    found = store.pictured(asked.connection, over.stamp.model.model_id, marks, over.columns)
    if not over.policy.rules:
        return found
    return [replace(photo, decision=coarsen_photo(photo.decision, over.policy, over.taxonomy)) for photo in found]


def _shot(photo: Pictured, node: int, reader: Reader, over: Overview) -> Shot:
    decision, own = photo.decision, photo.user == reader.user
    mass = dict(zip(decision.columns.tolist(), decision.masses.tolist(), strict=True)).get(node, 0)
    told = _told(photo, own, reader, over)
    return Shot(
        photo_id=photo.mark.photo_id,
        mass=mass,
        user=photo.user,
        taken_at=photo.mark.taken_at,
        headline_wnid=None if told is None else over.taxonomy.synsets[told].wnid,
        headline=None if told is None else over.taxonomy.synsets[told].name,
        own=own,
    )


def _told(photo: Pictured, own: bool, reader: Reader, over: Overview) -> int | None:
    """The headline, or of somebody else's photo the narrowest tag above it that is withheld from nobody."""
    headline = photo.decision.headline
    gone = frozenset[int]() if own else over.withheld(reader)
    if headline is None or headline not in gone:
        return headline
    above = [tag for tag in photo.decision.tags.tolist() if over.taxonomy.is_under(headline, tag) and tag not in gone]
    return min(above, key=lambda tag: (over.taxonomy.leaf_count[tag], tag), default=None)


# ---- by time

Page = tuple[list[Mark], list[object] | None, int | None]  # the photos, where the next page begins, how many in order


def _by_time(asked: Asked, after: Sequence[object] | None, limit: int) -> Page:
    before = None if after is None else _mark(after)
    marks = asked.newest(limit + 1, before)
    return marks[:limit], _spelt(marks[limit - 1]) if len(marks) > limit else None, None


# ---- by windows


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """How the photos of a window are put in order, and how a token says where a page ended."""

    photos: int  # of a window
    rest: Callable[[list[Mark], list[object]], list[Mark]]  # what is still to be shown of a window, in order
    ended: Callable[[list[object], list[Mark]], list[object]]  # what a token says after these were shown, too


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A stretch of the list by time."""

    newer: Mark | None  # it begins behind this one
    oldest: Mark | None  # and ends with this one; None: not yet set
    shown: list[object]  # what the order says of how far it was shown


def _by_windows(asked: Asked, order: Order, after: Sequence[object] | None, limit: int) -> Page:
    window = Window(newer=None, oldest=None, shown=[]) if after is None else _window(after)
    page: list[Mark] = []
    ordered: int | None = None
    while True:
        marks = _inside(asked, window, order.photos)
        ordered = len(marks) if ordered is None else ordered
        if not marks and window.oldest is None:
            return page, None, ordered
        rest = order.rest(marks, window.shown)
        taken = rest[: limit - len(page)]
        page += taken
        oldest = window.oldest or marks[-1]
        if len(rest) > len(taken):
            token = Window(newer=window.newer, oldest=oldest, shown=order.ended(window.shown, taken))
            return page, _token(token), ordered
        if window.oldest is None and len(marks) < order.photos:
            return page, None, ordered  # no photo lies behind it
        window = Window(newer=oldest, oldest=None, shown=[])
        if len(page) == limit:
            return page, _token(window) if asked.newest(1, oldest) else None, ordered


def _inside(asked: Asked, window: Window, most: int) -> list[Mark]:
    """The photos of a window as they are now, newest first."""
    marks = asked.newest(most, window.newer)
    if window.oldest is None:
        return marks
    found = list(marks)
    while len(marks) == most and marks[-1] > window.oldest:  # more of them have come since
        marks = asked.newest(most, marks[-1])
        found += marks
    return [mark for mark in found if mark >= window.oldest]


def _by_mass(asked: Asked) -> Order:
    """Most certain first; of equals the newest."""

    def rest(marks: list[Mark], shown: list[object]) -> list[Mark]:
        keys = sorted(((photo.mass, photo.mark) for photo in asked.weighed(marks, ())), reverse=True)
        if not shown:
            return [mark for _, mark in keys]
        last = (_number(shown[0]), _mark(shown[1:]))
        return [mark for mass, mark in keys if (mass, mark) < last]

    def ended(_: list[object], taken: list[Mark]) -> list[object]:
        (last,) = asked.weighed(taken[-1:], ())
        return [last.mass, *_spelt(last.mark)]

    return Order(photos=WINDOW, rest=rest, ended=ended)


def _mixed(asked: Asked, children: Sequence[int]) -> Order:
    """By turns of the kinds of it, those with most photos first, and within each by turns of whose they are."""

    def rest(marks: list[Mark], shown: list[object]) -> list[Mark]:
        known = _ids(shown)
        return [mark for mark in mixed(asked.weighed(marks, children)) if mark.photo_id not in known]

    def ended(shown: list[object], taken: list[Mark]) -> list[object]:
        return _packed({*_ids(shown), *(mark.photo_id for mark in taken)})

    return Order(photos=MIXED, rest=rest, ended=ended)


def mixed(photos: Iterable[Weighed]) -> list[Mark]:
    """Photos by turns: of each kind one, by turns of the users; always alike for the same photos."""
    ordered = sorted(photos, key=lambda photo: photo.mark, reverse=True)
    kinds = Counter(photo.child for photo in ordered)
    turns: defaultdict[tuple[int | None, int], itertools.count[int]] = defaultdict(itertools.count)
    by_user = sorted(ordered, key=lambda photo: next(turns[photo.child, photo.user_id]))  # each user's newest first
    rounds: defaultdict[int | None, itertools.count[int]] = defaultdict(itertools.count)
    placed = [(next(rounds[p.child]), p.child is None, -kinds[p.child], p.child or 0, p.mark) for p in by_user]
    return [mark for *_, mark in sorted(placed, key=lambda place: place[:4])]


# ---- tokens


def _spelt(mark: Mark) -> list[object]:
    return [mark.taken_at.isoformat(), mark.photo_id]


def _mark(spelt: Sequence[object]) -> Mark:
    try:
        at, photo_id = spelt
        return Mark(taken_at=datetime.fromisoformat(str(at)), photo_id=_number(photo_id))
    except ValueError as wrong:
        raise invalid() from wrong


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise invalid()
    return value


def _token(window: Window) -> list[object]:
    ends = [None if mark is None else _spelt(mark) for mark in (window.newer, window.oldest)]
    return [*ends, window.shown]


def _window(token: Sequence[object]) -> Window:
    try:
        newer, oldest, shown = token
    except ValueError as wrong:
        raise invalid() from wrong
    if not isinstance(shown, list):
        raise invalid()
    return Window(newer=_end(newer), oldest=_end(oldest), shown=shown)


def _end(spelt: object) -> Mark | None:
    if spelt is None:
        return None
    if not isinstance(spelt, list):
        raise invalid()
    return _mark(spelt)


def _packed(ids: Iterable[int]) -> list[object]:
    """Ids as the gaps between them, seven bits to a byte: two or three bytes each, as they lie close together."""
    packed, last = bytearray(), 0
    for number in sorted(ids):
        gap, last = number - last, number
        while gap > 0x7F:
            packed.append(gap & 0x7F | 0x80)
            gap >>= 7
        packed.append(gap)
    return [base64.b85encode(bytes(packed)).decode()]


def _ids(shown: Sequence[object]) -> set[int]:
    if not shown:
        return set()
    try:
        packed = base64.b85decode(str(shown[0]))
    except ValueError as wrong:
        raise invalid() from wrong
    found, last, gap, bits = set(), 0, 0, 0
    for byte in packed:
        gap |= (byte & 0x7F) << bits
        bits += 7
        if byte < 0x80:
            last += gap
            found.add(last)
            gap = bits = 0
    return found
