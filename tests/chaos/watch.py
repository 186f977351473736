"""What is looked at while a storm goes on: totals against a recount, whether there is work, who runs and how large."""

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from sqlalchemy import text

from pipeline.errors import PictographError
from pipeline.records import ItemState, JobState
from pipeline.store.session import Database
from pipeline.store.totals import differences
from tests.chaos.servers import lives
from tests.chaos.victims import Crowd, Role

SAMPLE_SECONDS = 1.0
RECOUNT_SECONDS = 8.0
ORPHAN_SECONDS = 45.0  # a frozen process notices only when it goes on, and one that starts is not to be hurried

_OPEN = text(f"""
SELECT j.model_id, 1 + coalesce(sum(c.photos), 0)::bigint FROM core.job j
LEFT JOIN core.job_count c ON c.job_id = j.job_id AND c.state IN ({ItemState.PENDING}, {ItemState.RETRY})
WHERE j.state < {JobState.SUCCEEDED} GROUP BY 1""")


class Looker:
    """A thread that looks again and again, until it is told to stop. Whatever it raises is raised by `stop`."""

    def __init__(self, name: str, look: Callable[[], None], seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._seconds):
                self._look()
        except BaseException as exc:  # told to whoever waits
            self._failure = exc


@dataclass
class Reader:
    """Somebody who reads totals all the time: what he sees must add up in every snapshot."""

    database: Database
    recounts: int = 0
    outages: int = 0  # looks that met no database
    wrong: list[str] = field(default_factory=list)
    work: list[tuple[float, int]] = field(default_factory=list)  # when, and how much was open
    open: dict[int, int] = field(default_factory=dict)  # by model: jobs and photos that were open when last seen
    _recounted: float = 0.0

    def look(self) -> None:
        """One look; a database that is being killed is no finding."""
        try:
            self._look()
        except PictographError:
            self.outages += 1

    def _look(self) -> None:
        with self.database.transaction() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            self.open = {row[0]: row[1] for row in connection.execute(_OPEN)}
            self.work.append((time.time(), sum(self.open.values())))
            if time.monotonic() - self._recounted > RECOUNT_SECONDS:
                found = differences(connection)
                self._recounted = time.monotonic()
                self.recounts += 1
                if found:
                    self.wrong.append(f"{time.time():.3f}: {found} totals differed from a recount in one snapshot")

    def was_idle(self, begin: float, end: float) -> bool:
        """Whether there was a moment in between at which nothing was open."""
        place = bisect_left(self.work, (begin, -1))
        return any(count == 0 for at, count in self.work[max(0, place - 1) :] if at <= end)

    def busy_share(self, begin: float, end: float) -> float:
        """Of the looks in between, how many found work."""
        counts = [count for at, count in self.work if begin <= at <= end]
        return sum(count > 0 for count in counts) / len(counts) if counts else 0.0


@dataclass
class Census:
    """Who has ever run below the site, how large they were, and who runs without belonging to anybody."""

    crowd: Crowd
    met: dict[tuple[int, float], tuple[psutil.Process, Role]] = field(default_factory=dict)
    parents: dict[tuple[int, float], int] = field(default_factory=dict)  # their process ids
    sizes: dict[tuple[int, float], list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    orphans: list[str] = field(default_factory=list)
    _alone_since: dict[tuple[int, float], float] = field(default_factory=dict)

    def look(self) -> None:
        """Count everybody once."""
        now = time.time()
        here = set()
        for process, role in self.crowd.everyone():
            try:
                name = process.pid, process.create_time()
                size, parent = process.memory_info().rss, process.ppid()
            except psutil.NoSuchProcess:
                continue
            here.add(name)
            self.met[name] = process, role
            self.parents[name] = parent
            self.sizes[name].append((now, size))
        self._look_for_orphans(here, now)

    def left(self) -> list[psutil.Process]:
        """Those ever met who still run."""
        return [process for process, _ in self.met.values() if lives(process)]

    def _look_for_orphans(self, here: set[tuple[int, float]], now: float) -> None:
        for name, (process, role) in self.met.items():
            if name in here or not lives(process):
                self._alone_since.pop(name, None)
                continue
            since = self._alone_since.setdefault(name, now)
            if now - since > ORPHAN_SECONDS:
                self.orphans.append(f"{role} {process.pid} has belonged to nobody for {now - since:.0f} s")
                self._alone_since[name] = now
