"""A storm: photos come in waves, jobs list and tag them, users are erased, a second model looks at everything, and all
the while a nemesis breaks what it can. Then quiet, and everything is checked.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from sqlalchemy import Connection, text

from pipeline.errors import PictographError
from pipeline.ledger import jobs
from pipeline.ledger.requests import JobRequest
from pipeline.records import ItemState, JobState, WorkState
from pipeline.store.catalogue import Registered, newest_decision, store_decision
from pipeline.store.session import Database
from tests.chaos import history
from tests.chaos.afflictions import Arena
from tests.chaos.corpus import Corpus, Item, in_waves
from tests.chaos.nemesis import Nemesis, plan
from tests.chaos.servers import wait_for
from tests.chaos.shelf import SOURCE, Shelf
from tests.chaos.site import Site
from tests.chaos.victims import Crowd, Role
from tests.chaos.watch import SAMPLE_SECONDS, Census, Looker, Reader
from workers.ledger import register
from workers.models import registry

log = logging.getLogger(__name__)

FIRST_MODEL, SECOND_MODEL = "efficientnet-lite0", "efficientnet-lite1"
WAVE_PHOTOS = 500
LEAST_WAVES = 6
BACKLOG_WAVES = 1.5  # with more to do than this, the next wave's job lists this one's photos, too
OVERWRITTEN_SHARE = DELETED_SHARE = 0.01
FILLING_PHOTOS = 150  # that are overwritten whenever there is nothing to do
USERS_ERASED = 3
LAST_WAVE_AT = 0.94  # of the storm
NEW_DECISION_AT = 0.4
STRICTER = 1_500  # ten-thousandths, by which the new decision's threshold is lower
READY_SECONDS = 240.0
STILL_SECONDS = 90.0  # without any progress, once the nemesis has gone, are a finding
POLL_SECONDS = 0.25
_LEFT = f"""
SELECT (SELECT count(*) FROM core.job WHERE state < {JobState.SUCCEEDED})
     + (SELECT count(*) FROM core.shard WHERE state <= {WorkState.LEASED})
     + (SELECT count(*) FROM core.list_range WHERE state <= {WorkState.LEASED})
     + (SELECT coalesce(sum(photos), 0)::bigint FROM core.job_count
        WHERE state IN ({ItemState.PENDING}, {ItemState.RETRY}))"""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What kind of storm."""

    seed: int
    minutes: float
    photos: int
    users: int

    @property
    def waves(self) -> int:
        """How many."""
        return max(LEAST_WAVES, round(self.photos / WAVE_PHOTOS))


@dataclass(kw_only=True)
class Storm:
    """A storm over one site."""

    wish: Wish
    site: Site
    shelf: Shelf
    models: Sequence[Registered]
    reader: Reader
    began: float = 0.0  # seconds since the epoch, as the next two
    calmed: float = 0.0  # when the nemesis had gone
    quiet_after_storm: float = 0.0  # seconds until everything had ended
    erased: list[str] = field(default_factory=list)
    submitted: dict[int, float] = field(default_factory=dict)  # by model: when the last job was
    mending: dict[int, frozenset[str]] = field(default_factory=dict)  # by job after the storm: what is its own to tag
    filled: int = 0  # photos overwritten to keep workers busy
    heads: list["Popen[bytes]"] = field(default_factory=list)
    crowd: Crowd = field(init=False)
    census: Census = field(init=False)
    nemesis: Nemesis = field(init=False)
    _second: "Popen[bytes] | None" = None  # the worker of the second model

    def __post_init__(self) -> None:
        self._chance = random.Random(f"storm {self.wish.seed}")
        self.crowd = Crowd(lambda: list(self.heads))
        self.census = Census(self.crowd)
        arena = Arena(
            site=self.site,
            chance=random.Random(f"victims {self.wish.seed}"),
            crowd=self.crowd,
            restart=self._restart,
            heads=lambda: list(self.heads),
            holders=self._holders,
        )
        self.nemesis = Nemesis(arena=arena, appointments=plan(self.wish.seed, self.wish.minutes))

    def run(self) -> None:
        """All of it: workers start, the storm rages, quiet comes back. The workers go on running."""
        for _ in range(2):
            self.heads.append(self.site.supervise())
        self._start_second()
        wait_for(self._ready, READY_SECONDS, "the workers did not come up")
        self.began = time.time()
        with self._watched(), ThreadPoolExecutor(2) as pool:
            raging = pool.submit(self.nemesis.run)
            try:
                self._work(pool, raging)
            except BaseException:
                self.nemesis.stop()
                raise
            raging.result()
            self.calmed = time.time()
            self._await_quiet()
            self.quiet_after_storm = time.time() - self.calmed

    def calm_jobs(self) -> None:
        """One more job over everything for each model, now that nothing breaks."""
        for model in self.models:
            changed = self.shelf.touched_since(self.submitted[model.model_id])
            self.mending[self._submit(model)] = changed
        self._await_quiet()

    def _ready(self) -> bool:
        roles = [role for _, role in self.crowd.everyone()]
        living = "SELECT count(DISTINCT worker_id) FROM core.worker WHERE queue LIKE 'annotate.%'"
        self._mind_second()
        return roles.count(Role.ANNOTATE_CHILD) >= 3 and self._asked(living) >= 3

    def _work(self, pool: ThreadPoolExecutor, raging: "Future[None]") -> None:
        seconds = self.wish.minutes * 60
        waves = list(in_waves(self.shelf.corpus.items, self.wish.waves))
        erasing = []
        for number, wave in enumerate(waves):
            self._keep_busy_until(self.began + number * seconds * LAST_WAVE_AT / len(waves))
            self.shelf.put(wave)
            last = number == len(waves) - 1
            if last or self._open() < BACKLOG_WAVES * len(wave):
                self._submit(self.models[0])
            self._look_again()
            if number == round(len(waves) * NEW_DECISION_AT):
                self._decide_otherwise()
            for turn in range(1, USERS_ERASED + 1):
                if number == len(waves) * turn // (USERS_ERASED + 1):
                    erasing.append(pool.submit(self._erase, self._somebody()))
            self._change(waves, number)
        while not raging.done():
            self._keep_busy_until(time.time() + 1.0)
        for future in erasing:
            future.result()

    def _keep_busy_until(self, moment: float) -> None:
        """Wait; whenever there is nothing to do, overwrite some photos, so that faults meet work in progress."""
        while time.time() < moment:
            self._mind_second()
            if self.reader.work and self._open() == 0 and self.shelf.revisions:
                items = self._some(self.shelf.corpus.items, FILLING_PHOTOS)
                self.shelf.put(items)
                self.filled += len(items)
                self._submit(self.models[0])
                self._look_again()
                time.sleep(2 * SAMPLE_SECONDS)  # until the reader has seen it
            time.sleep(POLL_SECONDS)

    def _open(self, model: int = 0) -> int:
        """How much the workers of a model had to do when last seen."""
        return self.reader.open.get(self.models[model].model_id, 0)

    def _look_again(self) -> None:
        """Have the second model see everything there is, unless it is still at it: it has one worker only."""
        if self._open(1) == 0:
            self._submit(self.models[1])

    def _change(self, waves: list[tuple[Item, ...]], number: int) -> None:
        """Overwrite and delete some photos of the last waves, which are being listed and tagged just now."""
        recent = [item for wave in waves[max(0, number - 1) : number + 1] for item in wave]
        count = max(1, round(len(waves[number]) * OVERWRITTEN_SHARE))
        for act, share in ((self.shelf.put, OVERWRITTEN_SHARE), (self.shelf.take_away, DELETED_SHARE)):
            time.sleep(self._chance.uniform(0.0, 1.5))
            act(self._some(recent, max(1, round(len(waves[number]) * share))))
        log.info("wave %d: %d photos, %d changed, %d deleted", number, len(waves[number]), count, count)

    def _some(self, among: Sequence[Item], count: int) -> list[Item]:
        there = self.shelf.there(among)
        return self._chance.sample(there, min(count, len(there)))

    def _somebody(self) -> str:
        """A user with some photos, not the one with most of them, and not erased before."""
        users = sorted({item.user for item in self.shelf.there(self.shelf.corpus.items)} - set(self.erased))
        user = self._chance.choice(users[1 : max(2, len(users) // 4)])
        self.erased.append(user)
        return user

    def _erase(self, user: str) -> None:
        """`pictograph erase`, through the storm, until it has succeeded."""
        until = time.time() + 2 * self.wish.minutes * 60 + READY_SECONDS
        while time.time() < until:  # a user who is still there is a finding
            process = self.site.start_module("pictograph", "erase", user, "--yes", log="erase")
            try:
                if process.wait(READY_SECONDS) == 0:
                    return
            except TimeoutExpired:
                self.site.kill(process)
            time.sleep(1.0)

    def _decide_otherwise(self) -> None:
        """A new revision of the first model's decision: workers that start from now on decide by it."""
        model_id = self.models[0].model_id

        def store(connection: Connection) -> None:
            old = newest_decision(connection, model_id)
            new = replace(old, threshold=max(old.keep_mass, old.ambiguous_mass, old.threshold - STRICTER))
            store_decision(connection, model_id, new, {"made": "for a test"})

        self._insist(lambda: self.site.database.run(store))

    def _holders(self) -> frozenset[int]:
        """The process ids of those who hold a lease; nobody while the database is away."""
        query = f"""SELECT lease_owner FROM core.shard WHERE state = {WorkState.LEASED}
                    UNION SELECT lease_owner FROM core.list_range WHERE state = {WorkState.LEASED}"""
        try:
            with self.site.database.transaction() as connection:
                owners = connection.execute(text(query)).scalars().all()
        except PictographError:
            return frozenset()
        return frozenset(pid for owner in owners if (pid := history.process_of(owner)) is not None)

    def _submit(self, model: Registered) -> int:
        request = JobRequest(kind="s3", source=SOURCE, user_rule="{user}/{photo}")
        self.submitted[model.model_id] = time.time()
        return self._insist(lambda: self.site.database.run(lambda c: jobs.submit(c, request, model.model_id)))

    def _insist(self, act: Callable[[], int | None]) -> int:
        """Do it as soon as the database lets us."""
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                return act() or 0
            except PictographError:
                if time.monotonic() > until:
                    raise
                time.sleep(POLL_SECONDS)

    def _asked(self, query: str) -> int:
        def ask() -> int:
            with self.site.database.transaction() as connection:
                count: int = connection.execute(text(query)).scalar_one()
                return count

        return self._insist(ask)

    def _await_quiet(self) -> None:
        """Until nothing is left to do, or nothing of it gets done any more."""
        left, since = -1, time.monotonic()
        while (now_left := self._asked(_LEFT)) and time.monotonic() - since < STILL_SECONDS:
            if now_left != left:
                left, since = now_left, time.monotonic()
            self._mind_second()
            time.sleep(POLL_SECONDS)
        if now_left:
            log.warning("for %.0f s nothing has been done, and %d pieces of work are left", STILL_SECONDS, now_left)

    def _restart(self, head: "Popen[bytes]") -> None:
        """As a platform would: a supervisor that was killed comes back."""
        head.wait()
        self.heads.remove(head)
        self.heads.append(self.site.supervise())

    def _start_second(self) -> None:
        self._second = self.site.start("worker", "annotate", env={"PICTOGRAPH_MODEL": SECOND_MODEL})
        self.heads.append(self._second)

    def _mind_second(self) -> None:
        """The worker of the second model has no supervisor but us."""
        if self._second is not None and self._second.poll() is not None:
            self.heads.remove(self._second)
            self._start_second()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        lookers = [Looker("reader", self.reader.look, SAMPLE_SECONDS), Looker("census", self.census.look, 2.0)]
        try:
            yield
        finally:
            for looker in lookers:
                looker.stop()


def open_storm(site: Site, wish: Wish, reading: Database, corpus: Corpus, bodies: dict[int, bytes]) -> Storm:
    """Everything in place, nothing started yet."""
    models = [
        register(site.database, registry.get(name, registry.folder_of(site.direct)))
        for name in (FIRST_MODEL, SECOND_MODEL)
    ]
    history.begin(site.database)
    shelf = Shelf(site.access, corpus, bodies)
    return Storm(wish=wish, site=site, shelf=shelf, models=models, reader=Reader(reading))


def logs_of(site: Site) -> list[Path]:
    """Everything that the workers have said."""
    return sorted(site.folder.rglob("logs/*.log"))
