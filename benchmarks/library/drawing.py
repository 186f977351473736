"""A library of photos with the skew of real ones: owners, times, and what a model would say. Pure; drawn from a seed.

Owners follow a heavy tail: one has a fifth of all photos, the sizes of the others are lognormal. Each likes some
labels, popular ones more often. Times come in events of some minutes on days of the owner's active years, later years
denser; some owners have no EXIF times, and uploaded everything on one day. What the model says of a label is drawn
once, a few dozen times over, through the product's own roll-up and decision, so that arrays are as long and as alike
as real ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import annotate
from pipeline.records import Annotation
from pipeline.store.catalogue import Registered
from taxonomy.decide import decide
from taxonomy.graph import Taxonomy
from taxonomy.rollup import Rollup

LARGEST_SHARE = 0.2  # of all photos, of the user with the most
SIZE_SIGMA = 1.6  # of the others' lognormal sizes
FIRST_DAY = datetime(2012, 1, 1, tzinfo=UTC)
DAYS = 12 * 365
DAY_SECONDS = 86_400
EVENT_PHOTOS = 12  # photos of an event, in the mean
EVENT_SECONDS = 45  # between two photos of an event, in the mean
EXIF_SHARE = 0.8  # of photos
AT_ONCE_SHARE = 0.15  # of users: uploaded everything on one day

KINSHIP = 1.6  # how much likelier a label is for each category it shares with the right one
NOISE = 1.5
RIVAL_SHARE = 0.15  # photos that show a second thing
VIEWS = 24  # different photos of a label
DRAWN_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Photos that follow each other by key, all of one user."""

    user: int
    labels: NDArray[np.int64]  # [n]: what they show
    taken: NDArray[np.int64]  # [n]: seconds since FIRST_DAY
    uploaded: NDArray[np.int64]  # [n]: likewise
    has_exif: NDArray[np.bool_]  # [n]


def sizes(photos: int, users: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """How many photos each user has, in order of their names; the sum is `photos`, and nobody has none."""
    weights = chance.lognormal(0, SIZE_SIGMA, users)
    weights[chance.integers(users)] = weights.sum() * LARGEST_SHARE / (1 - LARGEST_SHARE)
    spread = np.floor(weights / weights.sum() * (photos - users)).astype(np.int64) + 1
    spread[spread.argmax()] += photos - spread.sum()
    return spread


def stretches(photos: int, users: int, labels: int, seed: int, longest: int) -> Iterator[Stretch]:
    """All photos in order of their keys, in pieces of at most `longest`."""
    chance = np.random.default_rng(seed)
    popular = 1 / (5 + chance.permutation(labels)) ** 0.8
    for user, size in enumerate(sizes(photos, users, chance).tolist()):
        mine = np.random.default_rng([seed, user])
        liked = _liked(popular, size, mine)
        uploads = int(mine.integers(DAYS)) if mine.random() < AT_ONCE_SHARE else None
        first = int(DAYS * np.sqrt(mine.random()) * 0.95)
        for at in range(0, size, longest):
            yield _stretch(user, min(longest, size - at), liked, first, uploads, mine)


def _liked(popular: NDArray[np.float64], size: int, chance: np.random.Generator) -> NDArray[np.float64]:
    """Chances of the labels for a user with so many photos."""
    many = min(len(popular), 20 + int(8 * np.sqrt(size)))
    chosen = chance.choice(len(popular), many, replace=False, p=popular / popular.sum())
    liked = np.zeros(len(popular))
    liked[chosen] = chance.exponential(size=many) * np.sqrt(popular[chosen])
    return liked.cumsum() / liked.sum()


def _stretch(
    user: int, photos: int, liked: NDArray[np.float64], first: int, uploads: int | None, chance: np.random.Generator
) -> Stretch:
    events = max(1, photos // EVENT_PHOTOS)
    # A key order is an order of time for most people, so the events of a stretch are drawn and sorted.
    days = np.sort(first + (DAYS - first) * np.sqrt(chance.random(events)))
    event = np.sort(chance.integers(events, size=photos))
    taken = (days[event] * DAY_SECONDS + chance.exponential(EVENT_SECONDS * EVENT_PHOTOS, photos)).astype(np.int64)
    later = chance.exponential(3 * DAY_SECONDS, photos).astype(np.int64)
    uploaded = taken + later if uploads is None else np.sort(uploads * DAY_SECONDS + later % DAY_SECONDS)
    return Stretch(
        user=user,
        labels=np.searchsorted(liked, chance.random(photos)).clip(max=len(liked) - 1),
        taken=taken,
        uploaded=uploaded,
        has_exif=chance.random(photos) < EXIF_SHARE,
    )


def moment(seconds: int) -> datetime:
    """A drawn time as one that is stored."""
    return FIRST_DAY + timedelta(seconds=seconds)


class Model:
    """What a model says of a photo that shows a label."""

    def __init__(self, taxonomy: Taxonomy, registered: Registered, seed: int) -> None:
        member = taxonomy.membership
        self._kin = KINSHIP * (member @ member.T)
        self._rollup, self._taxonomy, self._registered = Rollup(taxonomy), taxonomy, registered
        chance = np.random.default_rng([seed, 1])
        labels = np.repeat(np.arange(len(self._kin)), VIEWS)
        self._notes: list[Annotation] = []
        for at in range(0, len(labels), DRAWN_AT_ONCE):
            self._notes += self._draw(labels[at : at + DRAWN_AT_ONCE], chance)

    def says(self, labels: NDArray[np.int64], chance: np.random.Generator) -> list[Annotation]:
        """One annotation per photo."""
        chosen = labels * VIEWS + chance.integers(VIEWS, size=len(labels))
        return [self._notes[n] for n in chosen.tolist()]

    def _draw(self, labels: NDArray[np.int64], chance: np.random.Generator) -> list[Annotation]:
        scores = self._scores(labels, chance)
        rivals = chance.random(len(labels)) < RIVAL_SHARE
        share = np.where(rivals, chance.random(len(labels)) * 0.5, 0.0)[:, None]
        scores = (1 - share) * scores + share * self._scores(chance.permutation(labels), chance)
        decided = decide(self._rollup.masses(scores), self._taxonomy, self._registered.decision)
        return annotate(decided, self._registered.nodes)

    def _scores(self, labels: NDArray[np.int64], chance: np.random.Generator) -> NDArray[np.float64]:
        logits = self._kin[labels] + NOISE * chance.standard_normal((len(labels), self._kin.shape[1]))
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
        return found
