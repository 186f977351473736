"""Moments: a burst of photos counts once, so that three hundred frames of one cat are one.

Rule. A user's photos in the order of the time they were taken (and of their ids, where that is one and the same). A
photo belongs to the moment of the photo before it if it was taken at most GAP seconds later, on the same day in UTC,
and both know when they were taken: a time that is only that of a file says when somebody copied it, and files that were
copied together are no burst. Else it begins a moment of its own. Only photos that the model has seen are looked at.

Laws
1. A moment lies within one day, so whole days, and with them months, add up to the whole: no period that begins and
   ends at midnight cuts one. (One that ends at another time counts what it holds of a moment as a moment.)
2. A moment's mass in a category is the mean of its photos' masses, rounded down to ten-thousandths. The root's is
   10,000 of each, and so of the mean; a parent's is never below a child's, nor below the sum of disjoint children's;
   what rounding takes from a category goes to *other*, as with a single photo. So cells add up exactly.
3. A moment carries a tag if more than half of its photos do: two categories that share no label are never both carried
   on account of different photos, and tags stay closed upward. So there are never more moments than photos.

That people photograph in bursts, and that the pauses between photos tell where one ends, is the finding of A. Graham,
H. Garcia-Molina, A. Paepcke, T. Winograd, "Time as Essence for Photo Browsing through Personal Digital Libraries", JCDL
2002. They cut at pauses that fit each collection; one fixed pause is used here, so that a photo that comes later can
only change the moments around it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

GAP = timedelta(seconds=60)  # longer than a burst or a second try takes, shorter than going on to something else


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """When a photo was taken."""

    photo_id: int
    taken_at: datetime
    timed: bool  # whether the photo itself, or a manifest, told the time; else it is that of its file


def numbered(shots: Iterable[Shot]) -> Iterator[int]:
    """The number of each photo's moment, from 0 on, of one user's photos in the order of (taken_at, photo_id)."""
    before: Shot | None = None
    number = -1
    for shot in shots:
        if before is None or not _together(before, shot):
            number += 1
        yield number
        before = shot


def _together(before: Shot, after: Shot) -> bool:
    same_day = before.taken_at.astimezone(UTC).date() == after.taken_at.astimezone(UTC).date()
    return before.timed and after.timed and same_day and after.taken_at - before.taken_at <= GAP
