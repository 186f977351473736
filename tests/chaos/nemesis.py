"""The nemesis: a seeded plan of faults, one every few seconds, each written down with what it really hit.

Theory of operation
    `plan` deals out the faults of `KINDS`, so many of each kind as the length of the storm asks for, in an order and at
    times that follow from the seed. `Nemesis.run` inflicts them one after the other. A fault that lasts ends by itself
    some seconds later, while others go on; of one `place` (a server, a proxy, a kind of worker) there is never a
    second one at the same time. When the plan is through, everything is healed.

Laws
1. What counts is what happened: a fault without a victim is tried again a few times and then counted as missed.
2. What ends up broken is mended by the nemesis alone where in life an operator or a platform would: a server that it
   killed is started again, a supervisor likewise. Workers are the product's own business.
"""

import heapq
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos.afflictions import KINDS, Affliction, Arena, Effect

log = logging.getLogger(__name__)

FULL_MINUTES = 25.0  # the storm that the numbers in `KINDS` are for
GAP_SECONDS = (0.3, 1.7)  # between two faults, of the mean
OVERTIME = 1.3  # of the planned time; a nemesis that has so much to wait for stops
TRIES = 6
RETRY_SECONDS = 0.5


@dataclass(kw_only=True)
class Injury:
    """A fault that happened. Times in seconds since the epoch."""

    kind: str
    at: float
    ended: float | None = None
    victims: tuple[int, ...] = ()  # process ids that were killed
    bereft: tuple[int, ...] = ()  # of those below them
    weight: int = 1  # how often it bit, where that is more than once


@dataclass(frozen=True, kw_only=True)
class Appointment:
    """A fault of the plan."""

    after: float  # seconds from the beginning
    affliction: Affliction


def plan(seed: int, minutes: float) -> list[Appointment]:
    """The faults of a storm in their order. Pure."""
    chance = random.Random(f"nemesis {seed}")
    wanted = [kind for kind in KINDS for _ in range(_count(kind, minutes, chance))]
    chance.shuffle(wanted)
    gaps = [chance.uniform(*GAP_SECONDS) for _ in wanted]
    scale = minutes * 60 / sum(gaps) if gaps else 1.0
    appointments, after = [], 0.0
    for kind, gap in zip(wanted, gaps, strict=True):
        after += gap * scale
        appointments.append(Appointment(after=after, affliction=kind))
    return appointments


def _count(kind: Affliction, minutes: float, chance: random.Random) -> int:
    """How many of a kind; of what is rare in a short storm, one or none, by chance."""
    share = kind.times * minutes / FULL_MINUTES
    return int(share) + (chance.random() < share - int(share))


@dataclass(kw_only=True)
class Nemesis:
    """Inflicts a plan on a site."""

    arena: Arena
    appointments: Sequence[Appointment]
    injuries: list[Injury] = field(default_factory=list)
    missed: Counter[str] = field(default_factory=Counter)
    _lasting: list[tuple[float, int, Effect, Injury]] = field(default_factory=list)  # by when they end
    _busy: set[str] = field(default_factory=set)  # places
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Inflict everything, end everything."""
        began = time.monotonic()
        latest = began + OVERTIME * self.appointments[-1].after if self.appointments else began
        try:
            for appointment in self.appointments:
                self._wait_until(began + appointment.after)
                if self._stop.is_set() or time.monotonic() > latest:
                    break
                self._inflict(appointment.affliction)
        finally:
            while self._lasting:
                self._end_first()
            self.arena.heal()

    def stop(self) -> None:
        """Inflict no more."""
        self._stop.set()

    def _wait_until(self, moment: float) -> None:
        while True:
            now = time.monotonic()
            self._end_those_due(now)
            next_end = self._lasting[0][0] if self._lasting else moment
            if now >= moment or self._stop.wait(max(0.0, min(moment, next_end) - now)):
                return

    def _inflict(self, affliction: Affliction) -> None:
        for _ in range(TRIES):
            free = affliction.place not in self._busy
            at = time.time()
            effect = affliction.inflict(self.arena) if free else None
            if effect is not None:
                self._note(affliction, effect, at)
                return
            self._wait_until(time.monotonic() + RETRY_SECONDS)
        self.missed[affliction.name] += 1

    def _note(self, affliction: Affliction, effect: Effect, at: float) -> None:
        injury = Injury(kind=affliction.name, at=at, victims=effect.victims, bereft=effect.bereft, weight=effect.weight)
        self.injuries.append(injury)
        log.info("%s %s", affliction.name, effect.victims or "")
        if effect.end is None:
            injury.ended = time.time()
            return
        self._busy.add(affliction.place)
        heapq.heappush(self._lasting, (time.monotonic() + effect.seconds, len(self.injuries), effect, injury))

    def _end_those_due(self, now: float) -> None:
        while self._lasting and self._lasting[0][0] <= now:
            self._end_first()

    def _end_first(self) -> None:
        _, _, effect, injury = heapq.heappop(self._lasting)
        assert effect.end is not None
        effect.end()
        injury.ended = time.time()
        self._busy.discard(next(kind.place for kind in KINDS if kind.name == injury.kind))


def counted(injuries: Sequence[Injury], weigh: Callable[[Injury], int] = lambda injury: injury.weight) -> Counter[str]:
    """How many of each kind."""
    total: Counter[str] = Counter()
    for injury in injuries:
        total[injury.kind] += weigh(injury)
    return total
