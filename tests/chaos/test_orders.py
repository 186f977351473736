"""Two or three sessions do to the same few photos whatever may be done to them, in every order of their steps.

A merge, the same merge again, one of a newer decision, an eraser, a worker who finds a photo overwritten, a listing
that finds it changed and others moved, one that meets a new photo, a user who consents to be seen by others, a redriver
who hands the shard to somebody else, and one who splits it. After every order the ledger is brought to rest, and must
say exactly what the photos are.

All orders of two sessions; of three, some for each combination, always the same ones: CHAOS_ORDERS says how many, and
"all" means every one (hours).
"""

import contextlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from sqlalchemy import Connection, text

from pictograph.stack import Endpoints
from pipeline.errors import ConfigurationError
from pipeline.ledger import ending, erase, jobs, redrive, users, work
from pipeline.ledger.listing import finish_range, record_page
from pipeline.ledger.work import RANGES, SHARDS
from pipeline.records import Lease, PhotoTask, Version, WorkState
from pipeline.store.merge import merge
from pipeline.store.session import Database
from tests.chaos.sessions import Operation, Played, Stage, orders, quick
from tests.integration import ledger_helpers
from tests.integration.ledger_helpers import DAY_SECONDS, LABELS, LEASE_SECONDS, Ledger, page_of, ref, waiting

ORDERS_OF_THREE = os.environ.get("CHAOS_ORDERS", "3")
SHARD_PHOTOS = 2
DECIDED_AGAIN = 2  # the newer decision's revision

#: What lies in the source at first, and what the listings find there later: key, owner, version of the bytes.
BEFORE = {"a1": ("ann", "e1"), "a2": ("ann", "e1"), "b1": ("ben", "e1"), "c1": ("cleo", "e1")}
LATER = {
    "relist": {"a1": ("ann", "e2"), "a2": ("ben", "e1"), "b1": ("ann", "e1"), "c1": ("cleo", "e1")},
    "arrive": {"a3": ("ann", "e1")},
}
TAGS = {"e1": "dog", "e2": "cat"}  # what the model says of these bytes
NEWER_TAG = "car"  # what the newer decision makes of it


@dataclass
class Scene:
    """A ledger with one job and one shard, whose lease ran out; made anew for every order."""

    ledger: Ledger
    names: tuple[str, ...]  # of the operations that are to be played
    job: int = 0
    lease: Lease | None = None
    tasks: list[PhotoTask] = field(default_factory=list)
    listings: dict[str, tuple[int, Lease]] = field(default_factory=dict)  # further jobs, and their ranges
    second: Lease | None = None  # who took the shard over

    def set_up(self, connection: Connection) -> None:
        """One transaction: it is made hundreds of times."""
        ledger_helpers.forget(connection)
        self.job, listing = self._submit(connection)
        record_page(connection, jobs.find(connection, self.job), listing, page_of(refs(BEFORE)), None, 512)
        finish_range(connection, jobs.find(connection, self.job), listing)
        # Silent for long, if this server has been up for so long: so its lease's end is a death.
        connection.execute(
            text("""INSERT INTO core.worker (worker_id, queue, last_seen) VALUES ('worker', 'annotate.small',
                    greatest(now() - interval '1 h', pg_postmaster_start_time() + interval '1 ms'))""")
        )
        users.set_consent(connection, "ben", consent=True)
        (shard,) = connection.execute(text("SELECT shard_id FROM core.shard")).scalars()
        self.lease = SHARDS.claim(connection, shard, "worker", 0.001)
        assert self.lease is not None
        work.mark_started(connection, self.lease)
        self.tasks = work.open_photos(connection, self.lease)
        connection.execute(text("UPDATE core.shard SET deaths = :n"), {"n": int("split" in self.names)})
        self.listings = {name: self._submit(connection) for name in LATER if name in self.names}

    def _submit(self, connection: Connection) -> tuple[int, Lease]:
        request = jobs.JobRequest(kind="s3", source=f"{ledger_helpers.BUCKET}/", user_rule="{user}/{photo}")
        job = jobs.submit(connection, request, self.ledger.registered.model_id)
        range_id = connection.execute(
            text("SELECT range_id FROM core.list_range WHERE job_id = :job"), {"job": job}
        ).scalar_one()
        lease = RANGES.claim(connection, range_id, "lister", 600)
        assert lease is not None
        jobs.start(connection, job)
        return job, lease

    # ---- what is played

    def operation(self, name: str) -> Operation:
        """An operation by its name; those of two transactions commit in between."""
        steps = {
            "merge": (self.merge,),
            "duplicate": (self.merge,),
            "newer": (self.newer,),
            "delete": (self.fence, self.erase),
            "change": (self.change,),
            "relist": (lambda connection: self.list(connection, "relist"),),
            "arrive": (lambda connection: self.list(connection, "arrive"),),
            "answer": (self.answer,),
            "redrive": (self.expire, self.take_over),
            "split": (self.expire,),
        }
        return Operation(name=name, transactions=steps[name])

    def merge(self, connection: Connection) -> None:
        """The worker brings what it made of the bytes that it was told to read."""
        self._merge(connection, [self.ledger.tagged(task, TAGS[task.etag]) for task in self.tasks], 1, self.lease)

    def newer(self, connection: Connection) -> None:
        """The same photos, decided by newer constants."""
        self._merge(connection, [self.ledger.tagged(task, NEWER_TAG) for task in self.tasks], DECIDED_AGAIN, self.lease)

    def _merge(self, connection: Connection, results: list, revision: int, lease: Lease | None) -> None:
        assert lease is not None
        merge(
            connection,
            model_id=self.ledger.registered.model_id,
            decision_rev=revision,
            results=results,
            leases=[lease],
            patience_seconds=DAY_SECONDS,
        )

    def fence(self, connection: Connection) -> None:
        """Ann is to be erased."""
        erase.fence(connection, "ann")

    def erase(self, connection: Connection) -> None:
        """What she has goes, and it is counted that nothing is left."""
        user = connection.execute(text("SELECT user_id FROM core.app_user WHERE name = 'ann'")).scalar_one()
        while erase.erase_some(connection, user, 100):
            pass
        erase.finish(connection, user)

    def change(self, connection: Connection) -> None:
        """Another worker finds that a photo was overwritten, and hands it back."""
        task = next(task for task in self.tasks if task.key == "a1")
        self._merge(connection, [waiting(task)], 1, self.lease)
        work.note_changed(connection, task, Version(etag="e2", size=10))  # last, because it raises a revision

    def list(self, connection: Connection, name: str) -> None:
        """A page of another job: a photo changed and two under another owner, or one that is new."""
        job, lease = self.listings[name]
        record_page(connection, jobs.find(connection, job), lease, page_of(refs(LATER[name])), None, SHARD_PHOTOS)

    def answer(self, connection: Connection) -> None:
        """Ann says that others may see her photos, as Ben has before; nobody hears her if she is being erased."""
        with contextlib.suppress(ConfigurationError):
            users.set_consent(connection, "ann", consent=True)

    def expire(self, connection: Connection) -> None:
        """The lease has run out; whether that was the second death is the scene's matter."""
        redrive.expire_shards(connection, SHARD_PHOTOS, LEASE_SECONDS)

    def take_over(self, connection: Connection) -> None:
        """Somebody else claims the shard, if it is to be had."""
        assert self.lease is not None
        self.second = SHARDS.claim(connection, self.lease.work_id, "second", 600)

    # ---- what must be true

    def rest(self, run) -> None:
        """Everything that was begun is completed, as the processes of a living site would."""
        run(self._end_listings)
        for _ in range(20):
            run(self._one_round)
            if not run(lambda c: c.execute(text("SELECT count(*) FROM core.job WHERE state < 10")).scalar_one()):
                return
        raise AssertionError("a job does not come to its end")

    def _end_listings(self, connection: Connection) -> None:
        for job, lease in self.listings.values():
            finish_range(connection, jobs.find(connection, job), lease)

    def _one_round(self, connection: Connection) -> None:
        connection.execute(text("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1"))
        connection.execute(text("UPDATE core.shard SET lease_started = false, lease_until = now() - interval '1 s'"))
        redrive.expire_shards(connection, 512, LEASE_SECONDS)
        redrive.gather_retries(connection, 512)
        for shard in connection.execute(text("SELECT shard_id FROM core.shard WHERE state IN (0, 1)")).scalars().all():
            lease = SHARDS.claim(connection, shard, "last", 600)
            assert lease is not None
            results = [self.ledger.tagged(t, TAGS[t.etag]) for t in work.open_photos(connection, lease)]
            self._merge(connection, results, 1, lease)
        ending.finish_jobs(connection)

    def check_holder(self, connection: Connection) -> None:
        """Who took the shard over has it: nobody finished it at an epoch that is over."""
        if self.second is not None:
            row = connection.execute(
                text("SELECT state, lease_epoch, lease_owner FROM core.shard WHERE shard_id = :id"),
                {"id": self.second.work_id},
            ).one()
            assert tuple(row) == (WorkState.LEASED, self.second.epoch, "second")

    def check_photos(self, connection: Connection, played: Played) -> None:
        """The photos that there are, whose they are, and what is said of each."""
        rows = connection.execute(
            text("""SELECT p.key, u.name, p.etag, p.content_rev, r.content_rev AS seen, r.decision_rev, r.tags,
                           r.user_id = p.user_id AS same
                    FROM core.photo p JOIN core.app_user u USING (user_id)
                    LEFT JOIN core.photo_result r USING (photo_id)
                    WHERE p.gone_at IS NULL""")
        ).all()
        listed = dict(BEFORE)
        for name in self.listings:
            listed |= LATER[name]
        erased = "ann" if "delete" in self.names else None
        there = {key: owner for key, (owner, _) in listed.items() if owner != erased}
        assert {row.key: row.name for row in rows} == there
        for row in rows:
            assert row.same, f"{row.key} counts for somebody else"
            if row.key != "a1" or self._must_be_seen_again(played):
                assert row.seen == row.content_rev, f"{row.key} is lost: it was overwritten, and never read again"
            bytes_seen = "e2" if row.key == "a1" and row.seen > 1 else "e1"
            tag = TAGS[bytes_seen] if row.decision_rev == 1 else NEWER_TAG
            assert list(row.tags) == list(self.ledger.note(tag).tags), f"{row.key} has the tags of other bytes"

    def _must_be_seen_again(self, played: Played) -> bool:
        """Whether `a1` is to be read once more without a further listing: not if its job was done with it before."""
        if "change" not in self.names or "relist" in self.names:
            return True
        merges = {"merge", "duplicate", "newer"} & set(self.names)
        return all(played.at("change", 1, "ends") < played.at(name, 0, "begins") for name in merges)

    def check_nothing_of_ann(self, connection: Connection) -> None:
        """No row of an erased user, and none of a photo that is nowhere."""
        for table in ("photo_result", "job_item", "job_missing", "thumbnail"):
            stray = text(f"SELECT count(*) FROM core.{table} LEFT JOIN core.photo p USING (photo_id) WHERE p IS NULL")
            assert connection.execute(stray).scalar_one() == 0, table
        if "delete" in self.names:
            receipt = erase.find(connection, "ann")
            assert receipt is not None
            assert receipt.finished_at is not None
            user = "SELECT user_id FROM core.app_user WHERE name = 'ann'"
            for table in ("photo", "photo_result", "user_category", "user_revision"):
                rows = connection.execute(text(f"SELECT count(*) FROM core.{table} WHERE user_id = ({user})"))
                assert rows.scalar_one() == 0, table

    def check_work(self, connection: Connection) -> None:
        """No shard is open, and no death was invented."""
        open_ones = text("SELECT count(*) FROM core.shard WHERE state IN (0, 1, 2)")
        assert connection.execute(open_ones).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM core.job_item WHERE code = 14")).scalar_one() == 0


def refs(source: dict[str, tuple[str, str]]) -> list:
    return [ref(key, user=owner, etag=etag) for key, (owner, etag) in source.items()]


@pytest.fixture(scope="module")
def database(endpoints: Endpoints) -> Iterator[Database]:
    """Connections for many small transactions, to a ledger that is made if it is not there."""
    with Database(endpoints.database_url, "pictograph orders", connections=8) as found:
        quick(found.engine)
        ledger_helpers.prepare(found)
        yield found


@pytest.fixture(scope="module")
def ledger(database: Database) -> Ledger:
    """The ledger that every scene is played on."""
    found = Ledger(database)
    found.register("small", DECIDED_AGAIN)
    return found


@pytest.fixture(scope="module")
def stage(database: Database) -> Iterator[Stage]:
    """Three sessions, kept for all orders."""
    found = Stage(database.engine, 3)
    yield found
    found.close()


NAMES = ("merge", "duplicate", "newer", "delete", "change", "relist", "arrive", "answer", "redrive", "split")


def play(ledger: Ledger, stage: Stage, names: tuple[str, ...], order: tuple[int, ...]) -> None:
    """One order, from an empty ledger to a ledger at rest."""
    run = ledger.database.run
    scene = Scene(ledger, names)
    run(scene.set_up)
    played = stage.play([scene.operation(name) for name in names], order)
    try:
        assert played.repeated == 0, "a deadlock"
        run(scene.check_holder)
        scene.rest(run)
        ledger.check()
        run(lambda c: scene.check_photos(c, played))
        run(scene.check_nothing_of_ann)
        run(scene.check_work)
    except AssertionError as exc:
        exc.add_note(f"the order was: {played}")
        raise


def of_two() -> list[tuple[str, ...]]:
    return list(combinations(NAMES, 2))


def of_three() -> list[tuple[str, ...]]:
    return list(combinations(NAMES, 3))


@pytest.mark.parametrize("names", of_two(), ids="-".join)
def test_every_order_of_two(ledger: Ledger, stage: Stage, names: tuple[str, ...]) -> None:
    for order in orders([Scene(ledger, names).operation(name) for name in names]):
        play(ledger, stage, names, order)


@pytest.mark.parametrize("names", of_three(), ids="-".join)
def test_orders_of_three(ledger: Ledger, stage: Stage, names: tuple[str, ...]) -> None:
    operations = [Scene(ledger, names).operation(name) for name in names]
    for order in chosen(operations):
        play(ledger, stage, names, order)


def chosen(operations: list[Operation]) -> Iterator[tuple[int, ...]]:
    """All orders, or as many as are asked for: drawn by chance, but the same ones each time."""
    if ORDERS_OF_THREE == "all":
        yield from orders(operations)
        return
    chance = random.Random("-".join(operation.name for operation in operations))
    steps = [n for n, operation in enumerate(operations) for _ in range(operation.steps)]
    seen = set()
    while len(seen) < int(ORDERS_OF_THREE):
        chance.shuffle(steps)
        if tuple(steps) not in seen:
            seen.add(tuple(steps))
            yield tuple(steps)


# ---- within a step

WRITERS = 4
ROUNDS = 10
USERS = 12
LIBRARY = 60  # photos


@pytest.fixture
def tasks(ledger: Ledger) -> list[PhotoTask]:
    """The photos of a library of many users, claimed."""
    ledger.empty()
    ledger.register("small", DECIDED_AGAIN)
    job = ledger.list([ref(f"{n:03d}", user=f"user-{n % USERS:02d}") for n in range(LIBRARY)])
    return [task for lease in ledger.claim_all(job) for task in ledger.tasks(lease)]


@pytest.mark.parametrize("photos", ["the same photos", "the same users"])
def test_merges_of_any_size_and_order_take_their_locks_in_one_order(
    ledger: Ledger, tasks: list[PhotoTask], caplog: pytest.LogCaptureFixture, photos: str
) -> None:
    """Steps cannot be taken apart into rows; but whoever takes rows in an order of his own meets the others soon."""
    caplog.set_level("INFO", "pipeline.store.session")

    def write(seed: int) -> None:
        chance = random.Random(seed)
        mine = tasks if photos == "the same photos" else tasks[seed::WRITERS]
        for revision in range(1, ROUNDS):
            some = chance.sample(mine, chance.choice((2, 4, len(mine) // 2, len(mine))))
            ledger.merge(
                [ledger.tagged(t, *chance.sample(LABELS, 2)) for t in some], revision=revision * WRITERS + seed
            )

    with ThreadPoolExecutor(WRITERS) as writers:
        for done in [writers.submit(write, seed) for seed in range(WRITERS)]:
            done.result()
    assert [line for line in caplog.messages if "repeated" in line] == []
    ledger.check()
