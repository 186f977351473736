"""Long lives of a small ledger, held against a model in plain Python after every step.

Whatever listers, workers, zombies, redrivers, erasers and losses do, and in whatever order: each photo, each item, each
shard and each report must be what `ledger_model` says. At the end everything is brought to rest and recounted.

CHAOS_EXAMPLES says how many lives. The same ones are lived each time, unless CHAOS_SEED names others.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, text

from pictograph.stack import Endpoints
from pipeline.errors import ConfigurationError
from pipeline.ledger import control, ending, erase, jobs, publish, redrive, users, work
from pipeline.ledger.listing import finish_range, record_page
from pipeline.ledger.work import RANGES, SHARDS
from pipeline.records import Code, ItemState, Lease, PhotoResult, PhotoTask, Version, WorkState
from pipeline.sources.source import Interval, after_prefix
from pipeline.store.merge import merge
from pipeline.store.session import Database
from tests.chaos.ledger_model import Expected, Item, Model, Said, Shard
from tests.chaos.sessions import quick
from tests.integration import ledger_helpers
from tests.integration.ledger_helpers import BUCKET, DAY_SECONDS, LEASE_SECONDS, Ledger, page_of, ref

EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "80"))
SEED = os.environ.get("CHAOS_SEED")
STEPS = 50
SHARD_PHOTOS = 2

KEYS = [f"k{n}" for n in range(5)]
USERS = ["ann", "ben", "cleo"]
TAGS = {"e0": "dog", "e1": "cat", "e2": "cup"}  # what the model says of bytes of this version
NEWER_TAG = "car"  # what a newer decision makes of whatever it is
OUTCOMES = ["tagged", "tagged", "tagged", "abstained", "corrupt", "gone", "waiting"]
NUMBER = st.integers(0, 50)
RARELY = st.integers(0, 5).map(lambda n: n == 5)  # for what ends much at once
WHOLE = Interval(bucket=BUCKET, after="", upto=after_prefix(""))


anything_held = precondition(lambda self: self.held)
anything_said = precondition(lambda self: self.said)


@dataclass(frozen=True)
class Held:
    """A lease that was once given, and the photos that its holder was told to do."""

    lease: Lease
    tasks: list[PhotoTask]


class Machine(RuleBasedStateMachine):
    """A ledger and its model. `ledger` is set by the test."""

    ledger: Ledger

    def __init__(self) -> None:
        super().__init__()
        self.run(ledger_helpers.forget)
        self.run(self._hire)
        self.model = Model()
        self.source = dict.fromkeys(KEYS[:3], ("ann", "e0")) | {KEYS[3]: ("ben", "e0")}
        self.held: list[Held] = []
        self.said: list[tuple[list[Said], list[Lease], int]] = []
        self.messages: list[int] = []
        self.claims: set[tuple[int, int]] = set()
        self.decision = 1

    def run(self, step):
        """A transaction of its own."""
        return self.ledger.database.run(step)

    def _hire(self, connection: Connection) -> None:
        connection.execute(
            text("INSERT INTO core.worker (worker_id, queue) VALUES ('w0', :queue), ('w1', :queue), ('w2', :queue)"),
            {"queue": "annotate.small"},
        )

    # ---- the source changes

    @rule(n=st.integers(0, len(KEYS) - 1), user=st.sampled_from(USERS), etag=st.sampled_from(sorted(TAGS)))
    def put(self, n: int, user: str, etag: str) -> None:
        """An object is written, or overwritten, or moves to another user."""
        self.source[KEYS[n]] = (user, etag)

    @rule(n=st.integers(0, len(KEYS) - 1))
    def remove(self, n: int) -> None:
        """An object is deleted."""
        self.source.pop(KEYS[n], None)

    # ---- listings

    @initialize(worker=st.integers(0, 2))
    def begin_with_something(self, worker: int) -> None:
        """A job is there, and its first shard in somebody's hands."""
        self.list_source(ended=True)
        self.look_ahead(worker)

    @rule(ended=st.booleans())
    def list_source(self, ended: bool) -> None:
        """A job lists the whole source; its range is finished now or later."""
        job, lease = self.run(self._list)
        ids = dict(map(tuple, self.ledger.all("SELECT key, photo_id FROM core.photo")))
        shard_of = dict(
            map(tuple, self.ledger.all("SELECT photo_id, shard_id FROM core.job_item WHERE job_id = :job", job=job))
        )
        assert self.model.listed(job, lease, self.source, ids) == set(shard_of)
        self.model.placed(job, shard_of)
        if ended:
            self._end_listing(job)

    def _list(self, connection: Connection) -> tuple[int, Lease]:
        request = jobs.JobRequest(kind="s3", source=f"{BUCKET}/", user_rule="{user}/{photo}", allow_mass_delete=True)
        job = jobs.submit(connection, request, self.ledger.registered.model_id)
        query = text("SELECT range_id FROM core.list_range WHERE job_id = :job")
        range_id = connection.execute(query, {"job": job}).scalar_one()
        lease = RANGES.claim(connection, range_id, "lister", 600)
        assert lease is not None
        jobs.start(connection, job)
        page = page_of([ref(key, user=user, etag=etag) for key, (user, etag) in self.source.items()])
        record_page(connection, jobs.find(connection, job), lease, page, WHOLE, SHARD_PHOTOS)
        return job, lease

    def _end_listing(self, job: int) -> None:
        lease = self.model.jobs[job].listing
        assert lease is not None
        self.run(lambda c: finish_range(c, jobs.find(c, job), lease))
        self.model.end_listing(job)

    @precondition(lambda self: any(job.listing for job in self.model.jobs.values()))
    @rule(n=NUMBER)
    def end_listing(self, n: int) -> None:
        """A listing that was under way is complete."""
        open_ones = sorted(number for number, job in self.model.jobs.items() if job.listing)
        self._end_listing(open_ones[n % len(open_ones)])

    # ---- messages and claims

    @precondition(lambda self: self._in(WorkState.PENDING))
    @rule()
    def publish(self) -> None:
        """A redriver rings for what is pending."""
        for bell in self.run(publish.publishable):
            shard = self.model.shards[bell.work_id]
            assert shard.state is WorkState.PENDING
            assert self.model.claimable(shard)
            shard.state = WorkState.QUEUED
            self.messages.append(bell.work_id)

    @precondition(lambda self: self.messages)
    @rule()
    def forget_messages(self) -> None:
        """The broker was wiped; the redriver sees it."""
        self.run(lambda c: publish.unqueue(c, 0))
        self.messages.clear()
        for shard in self.model.shards.values():
            if shard.state is WorkState.QUEUED:
                shard.state = WorkState.PENDING

    @precondition(lambda self: self.messages)
    @rule(n=NUMBER, worker=st.integers(0, 2), again=st.booleans())
    def deliver(self, n: int, worker: int, again: bool) -> None:
        """A message arrives, and maybe once more later."""
        shard = self.messages[n % len(self.messages)] if again else self.messages.pop(n % len(self.messages))
        self._claim(shard, worker)

    @precondition(lambda self: self.model.shards)
    @rule(n=NUMBER, worker=st.integers(0, 2))
    def deliver_late(self, n: int, worker: int) -> None:
        """A message that was sent long ago arrives."""
        self._claim(sorted(self.model.shards)[n % len(self.model.shards)], worker)

    def _claim(self, shard: int, worker: int) -> None:
        expected = self.model.claimable(self.model.shards[shard])
        lease = self.run(lambda c: SHARDS.claim(c, shard, f"w{worker}", 600))
        assert (lease is not None) == expected
        if lease is not None:
            self._claimed(lease)

    @precondition(lambda self: self._in(WorkState.PENDING))
    @rule(worker=st.integers(0, 2))
    def work_on(self, worker: int) -> None:
        """A worker takes what is next, and does it."""
        before = len(self.held)
        self.look_ahead(worker)
        for held in self.held[before:]:
            words = self._words(held.tasks, ["tagged"])
            self._merge(words, [held.lease], 1)
            self.said.append((words, [held.lease], 1))

    @precondition(lambda self: self._in(WorkState.PENDING))
    @rule(worker=st.integers(0, 2))
    def look_ahead(self, worker: int) -> None:
        """A worker asks for whatever is next."""
        model = self.ledger.registered.model_id
        lease = self.run(lambda c: work.claim_next_shard(c, model, f"w{worker}", 600))
        free = {n for n, s in self.model.shards.items() if s.state is WorkState.PENDING and self.model.claimable(s)}
        if lease is not None:
            assert lease.work_id in free
            self._claimed(lease)
        else:
            aside = "SELECT shard_id FROM core.shard WHERE failures > 0 OR alone"
            assert free <= {row.shard_id for row in self.ledger.all(aside)}

    def _claimed(self, lease: Lease) -> None:
        assert (lease.work_id, lease.epoch) not in self.claims, "two workers claimed one epoch"
        self.claims.add((lease.work_id, lease.epoch))
        self.model.claim(lease)
        tasks = self.ledger.tasks(lease)
        assert {task.photo_id for task in tasks} == self.model.pending(lease.work_id)
        self.held.append(Held(lease, tasks))

    @anything_held
    @rule(n=NUMBER)
    def renew(self, n: int) -> None:
        """A heart beats, a zombie's too."""
        for held in self._some_held(n):
            kept = self.run(lambda c, lease=held.lease: SHARDS.renew(c, [lease], 600))
            assert kept == ({held.lease.work_id} if self.model.holds(held.lease) else frozenset())

    @anything_held
    @rule(n=NUMBER)
    def begin(self, n: int) -> None:
        """The first photo of a shard is taken in hand."""
        for held in self._some_held(n):
            self.run(lambda c, lease=held.lease: work.mark_started(c, lease))
            if self.model.holds(held.lease):
                self.model.shards[held.lease.work_id].started = True

    @anything_held
    @rule(n=NUMBER)
    def release(self, n: int) -> None:
        """A worker stops in good order."""
        for held in self._some_held(n):
            self.run(lambda c, lease=held.lease: SHARDS.release(c, [lease]))
            if self.model.holds(held.lease):
                self.model.shards[held.lease.work_id].state = WorkState.PENDING

    @anything_held
    @rule(n=NUMBER)
    def fail(self, n: int) -> None:
        """A worker meets an error that no photo explains."""
        for held in self._some_held(n):
            failures = self.run(lambda c, lease=held.lease: work.release_failed(c, lease, "a bug"))
            assert (failures > 0) == self.model.holds(held.lease)
            if failures:
                shard = self.model.shards[held.lease.work_id]
                shard.state, shard.delayed = WorkState.PENDING, True

    @precondition(lambda self: self._in(WorkState.LEASED))
    @rule(died=st.booleans())
    def expire(self, died: bool) -> None:
        """Every lease runs out; their holders are silent, or live and are slow."""
        self.ledger.expire(died=died)
        self.run(lambda c: redrive.expire_shards(c, SHARD_PHOTOS, LEASE_SECONDS))
        rows = {row.shard_id: row for row in self.ledger.all("SELECT shard_id, state, deaths FROM core.shard")}
        for number, shard in list(self.model.shards.items()):
            if shard.state is WorkState.LEASED:
                self._expired(number, shard, rows[number], blamed=died and shard.started)

    @precondition(lambda self: any(map(self.model.claimable, self.model.shards.values())))
    @rule(n=NUMBER, worker=st.integers(0, 2))
    def perish(self, n: int, worker: int) -> None:
        """A worker takes a shard in hand, and dies of it; at the second death it is split, or its photo set aside."""
        free = sorted(number for number, shard in self.model.shards.items() if self.model.claimable(shard))
        self._claim(free[n % len(free)], worker)
        lease = self.held[-1].lease
        self.run(lambda c: work.mark_started(c, lease))
        self.model.shards[lease.work_id].started = True
        self.expire(died=True)

    def _expired(self, number: int, shard: Shard, row, *, blamed: bool) -> None:
        photos = self.model.pending(number)
        state = WorkState(row.state)
        if not blamed:
            assert (state, row.deaths) == (WorkState.PENDING, shard.deaths), "nobody died, and somebody was blamed"
        if state is WorkState.SPLIT:
            assert len(photos) > 1
            query = "SELECT photo_id, shard_id FROM core.job_item WHERE job_id = :job AND photo_id = ANY (:photos)"
            halves = dict(map(tuple, self.ledger.all(query, job=shard.job, photos=list(photos))))
            assert not set(halves.values()) & set(self.model.shards)
            self.model.placed(shard.job, halves)
        elif state is WorkState.DONE:
            assert len(photos) <= 1
            lease = Lease(work_id=number, job_id=shard.job, epoch=shard.epoch)
            self.model.merge([self._quarantined(shard.job, number, photo) for photo in photos], [lease], 1)
        shard.state, shard.deaths = state, row.deaths

    def _quarantined(self, job: int, shard: int, number: int) -> Said:
        photo = self.model.photos[number]
        task = PhotoTask(
            job_id=job, shard_id=shard, photo_id=number, content_rev=photo.rev, bucket=BUCKET, key=photo.key,
            etag=photo.etag, size=10, version_id=None,
        )  # fmt: skip
        return Said(task, ItemState.FAILED, Code.QUARANTINED)

    # ---- results

    def _words(self, tasks: list[PhotoTask], outcomes: list[str]) -> list[Said]:
        return [self._word(task, outcomes[n % len(outcomes)]) for n, task in enumerate(tasks)]

    def _word(self, task: PhotoTask, outcome: str) -> Said:
        if outcome == "tagged":
            return Said(task, ItemState.SUCCEEDED, Code.TAGGED, self.ledger.note(TAGS[task.etag]).tags)
        if outcome == "abstained":
            return Said(task, ItemState.SUCCEEDED, Code.ABSTAINED)
        if outcome == "waiting":
            return Said(task, ItemState.RETRY, Code.NONE)
        return Said(task, ItemState.FAILED, Code.CORRUPT if outcome == "corrupt" else Code.GONE)

    def _result(self, said: Said) -> PhotoResult:
        note = None
        if said.state is ItemState.SUCCEEDED:
            names = [
                name for name, node in self.ledger.node.items() if node in said.tags and name in ledger_helpers.LABELS
            ]
            note = self.ledger.note(*names)
        return PhotoResult(task=said.task, state=said.state, code=said.code, annotation=note)

    def _merge(self, words: list[Said], leases: list[Lease], decision: int) -> Expected:
        expected = self.model.merge(words, leases, decision)
        results = [self._result(said) for said in words]
        merged = self.run(
            lambda c: merge(
                c,
                model_id=self.ledger.registered.model_id,
                decision_rev=decision,
                results=results,
                leases=leases,
                patience_seconds=DAY_SECONDS,
            )
        )
        assert merged.stored == expected.stored
        assert merged.closed == dict(expected.closed)
        assert merged.finished == expected.finished
        return expected

    @anything_held
    @rule(
        n=NUMBER,
        outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=3),
        all_of_it=st.booleans(),
        unknown=st.booleans(),
    )
    def merge(self, n: int, outcomes: list[str], all_of_it: bool, unknown: bool) -> None:
        """A worker brings results, in time or as a zombie; if the reply to COMMIT was lost, it does so again."""
        for held in self._some_held(n):
            words = self._words(held.tasks if all_of_it else held.tasks[:1], outcomes)
            self._merge(words, [held.lease], 1)
            self.said.append((words, [held.lease], 1))
            if unknown:
                again = self._merge(words, [held.lease], 1)
                assert again == Expected(), "a repeat is no no-op"

    @anything_said
    @rule(n=NUMBER)
    def say_again(self, n: int) -> None:
        """Long after, the same batch comes once more."""
        for words, leases, decision in self._one(self.said, n):
            self._merge(words, leases, decision)

    @anything_said
    @rule(n=NUMBER)
    def decide_again(self, n: int) -> None:
        """A newer decision revision, for photos that were tagged before."""
        for words, leases, _ in self._one(self.said, n):
            self.decision += 1
            tags = self.ledger.note(NEWER_TAG).tags
            newer = [Said(said.task, ItemState.SUCCEEDED, Code.TAGGED, tags) for said in words]
            self._merge(newer, leases, self.decision)
            self.said.append((newer, leases, self.decision))

    @anything_held
    @rule(n=NUMBER, etag=st.sampled_from(sorted(TAGS)))
    def find_changed(self, n: int, etag: str) -> None:
        """A worker meets other bytes than it was told of, and hands the photo back."""
        for held in self._some_held(n):
            for task in held.tasks[:1]:
                if task.key in self.source:
                    self.source[task.key] = (self.source[task.key][0], etag)
                self.run(lambda c, task=task: work.note_changed(c, task, Version(etag=etag, size=10)))
                self.model.note_changed(task, etag)
                self._merge([self._word(task, "waiting")], [held.lease], 1)

    @precondition(lambda self: self.model.retries() or any(shard.delayed for shard in self.model.shards.values()))
    @rule()
    def come_back(self) -> None:
        """Time passes; what waited is gathered into new shards."""
        self.ledger.execute("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1")
        self.ledger.execute("UPDATE core.shard SET next_attempt_at = NULL")
        for shard in self.model.shards.values():
            shard.delayed = False
        waiting = self.model.retries()
        gathered = self.run(lambda c: redrive.gather_retries(c, SHARD_PHOTOS))
        assert gathered == sum(map(len, waiting.values()))
        for job, photos in waiting.items():
            query = "SELECT photo_id, shard_id FROM core.job_item WHERE job_id = :job AND photo_id = ANY (:photos)"
            places = dict(map(tuple, self.ledger.all(query, job=job, photos=list(photos))))
            assert not set(places.values()) & set(self.model.shards)
            self.model.placed(job, places)

    # ---- users and jobs end

    @precondition(lambda self: self.model.photos)
    @rule(user=st.sampled_from(USERS[:2]), really=RARELY)
    def hide(self, user: str, really: bool) -> None:
        """An erasure begins, and its process dies at once."""
        if really and any(photo.owner == user for photo in self.model.photos.values()):
            self.run(lambda c: erase.fence(c, user))
            self.model.hidden.add(user)

    @rule(user=st.sampled_from(USERS), consent=st.booleans())
    def answer(self, user: str, consent: bool) -> None:
        """A user says whether others may see their photos, and is heard unless hidden."""
        with contextlib.suppress(ConfigurationError):
            self.run(lambda c: users.set_consent(c, user, consent))

    @precondition(lambda self: self.model.hidden)
    @rule(n=NUMBER)
    def erase(self, n: int) -> None:
        """An erasure is completed."""
        user = sorted(self.model.hidden)[n % len(self.model.hidden)]
        receipt = erase.erase(self.ledger.database, user, batch_photos=1 + n % 2)
        assert not any(receipt.left.values())
        assert receipt.finished_at is not None
        self.model.erase(user)

    @rule()
    def end_jobs(self) -> None:
        """A redriver ends what is over."""
        expected = self.model.over()
        assert set(self.run(ending.finish_jobs)) == expected
        for job in expected:
            self.model.jobs[job].ended = True

    @rule(n=NUMBER, really=RARELY)
    def give_up(self, n: int, really: bool) -> None:
        """A job fails."""
        running = sorted(number for number, job in self.model.jobs.items() if not (job.ended or job.cancelling))
        if running and really:
            job = running[n % len(running)]
            self.run(lambda c: ending.fail(c, job, "given up"))
            self.model.give_up(job)

    @rule(n=NUMBER, really=RARELY)
    def cancel(self, n: int, really: bool) -> None:
        """An operator wants no more of a job, and goes away at once."""
        going = sorted(number for number, job in self.model.jobs.items() if not job.ended)
        if going and really:
            job = going[n % len(going)]
            assert self.run(lambda c: ending.cancel(c, job, "ann")) != self.model.jobs[job].cancelling
            self.model.jobs[job].paused, self.model.jobs[job].cancelling = False, True

    @precondition(lambda self: any(job.cancelling for job in self.model.jobs.values()))
    @rule()
    def wind_up(self) -> None:
        """A redriver ends what was cancelled."""
        expected = sorted(number for number, job in self.model.jobs.items() if job.cancelling)
        assert ending.wind_up_all(self.ledger.database) == expected
        for job in expected:
            self.model.give_up(job)

    @rule(n=NUMBER, really=RARELY)
    def pause(self, n: int, really: bool) -> None:
        """An operator lets a job rest."""
        going = sorted(number for number, job in self.model.jobs.items() if not (job.ended or job.cancelling))
        if going and really:
            job = going[n % len(going)]
            assert self.run(lambda c: control.pause(c, job, "ann", seconds=3600)) != self.model.jobs[job].paused
            self.model.pause(job)

    @precondition(lambda self: any(job.paused for job in self.model.jobs.values()))
    @rule(n=NUMBER, expires=st.booleans())
    def resume(self, n: int, expires: bool) -> None:
        """It goes on: somebody says so, or its time is over."""
        paused = sorted(number for number, job in self.model.jobs.items() if job.paused)
        job = paused[n % len(paused)]
        if expires:
            self.ledger.execute("UPDATE core.job SET pause_until = now() WHERE job_id = :job", job=job)
            assert self.run(control.keep_hours) == ([job], [])
        else:
            assert self.run(lambda c: control.resume(c, job))
        self.model.jobs[job].paused = False

    def _some_held(self, n: int) -> list[Held]:
        """One whose lease is good, if there is one; every third time, whichever: a zombie's too."""
        good = [held for held in self.held if self.model.holds(held.lease)]
        return self._one(good if good and n % 3 else self.held, n)

    def _one(self, things: list, n: int) -> list:
        """One of them, the newest most likely."""
        return [things[-1 - n % min(len(things), 3 if n % 3 else len(things))]]

    def _in(self, state: WorkState) -> bool:
        return any(shard.state is state for shard in self.model.shards.values())

    # ---- what is true at all times

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        """Photos, results, items and shards; four short queries."""
        self.run(self._compare)

    def _compare(self, connection: Connection) -> None:
        photos = connection.execute(
            text("""SELECT p.photo_id, p.key, u.name, p.etag, p.content_rev, p.gone_at IS NOT NULL,
                           r.content_rev, r.decision_rev, r.outcome, r.tags, coalesce(r.user_id = p.user_id, true)
                    FROM core.photo p JOIN core.app_user u USING (user_id)
                    LEFT JOIN core.photo_result r USING (photo_id)""")
        )
        assert {row[0]: tuple(row)[1:] for row in photos} == {n: _photo(p) for n, p in self.model.photos.items()}
        items = connection.execute(text("SELECT job_id, photo_id, state, code, shard_id FROM core.job_item"))
        assert {(row[0], row[1]): _open(*row[2:]) for row in items} == {
            key: _open(item.state, item.code, item.shard) for key, item in self.model.items.items()
        }
        shards = connection.execute(text("SELECT shard_id, job_id, state, lease_epoch FROM core.shard"))
        assert {row[0]: tuple(row)[1:] for row in shards} == {
            n: (shard.job, shard.state, shard.epoch) for n, shard in self.model.shards.items()
        }
        stray = (
            "SELECT count(*) FROM core.photo_result LEFT JOIN core.photo p USING (photo_id) WHERE p.photo_id IS NULL"
        )
        assert connection.execute(text(stray)).scalar_one() == 0

    # ---- the end of a life

    def teardown(self) -> None:
        """All is completed by an honest worker, recounted, and every object of the source has its own tags."""
        self.ledger.check()
        self._check_counts()
        for user in sorted(self.model.hidden):
            erase.erase(self.ledger.database, user)
        ending.wind_up_all(self.ledger.database)
        self.ledger.execute("UPDATE core.job SET pause_until = now() WHERE state = 2")
        self.run(control.keep_hours)
        for number, job in self.model.jobs.items():
            if job.cancelling:
                self.model.give_up(number)
            if job.listing:
                self._end_listing(number)
        self.run(self._list_and_end)
        for _ in range(10):
            self.run(self._honest_round)
            if not self.ledger.all("SELECT FROM core.job WHERE state < 10"):
                break
        assert self.ledger.all("SELECT job_id FROM core.job WHERE state < 10") == []
        assert self.ledger.all("SELECT shard_id FROM core.shard WHERE state IN (0, 1, 2)") == []
        self.ledger.check()
        self._check_source()

    def _check_counts(self) -> None:
        for number, job in self.model.jobs.items():
            counts = self.ledger.job(number).counts
            state = Item(ItemState.ERASED)
            erased = sum(item.state is state.state for (of, _), item in self.model.items.items() if of == number)
            assert counts.get((ItemState.SKIPPED_UNCHANGED, Code.NONE), 0) == job.unchanged
            assert counts.get((ItemState.ERASED, Code.NONE), 0) == job.erased + erased

    def _list_and_end(self, connection: Connection) -> None:
        job, lease = self._list(connection)
        finish_range(connection, jobs.find(connection, job), lease)

    def _honest_round(self, connection: Connection) -> None:
        connection.execute(text("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1"))
        connection.execute(
            text("""UPDATE core.shard SET lease_started = false, lease_until = now() - interval '1 s',
                    next_attempt_at = NULL""")
        )
        redrive.expire_shards(connection, SHARD_PHOTOS, LEASE_SECONDS)
        redrive.gather_retries(connection, SHARD_PHOTOS)
        for shard in connection.execute(text("SELECT shard_id FROM core.shard WHERE state IN (0, 1)")).scalars().all():
            lease = SHARDS.claim(connection, shard, "w0", 600)
            assert lease is not None
            words = self._words(work.open_photos(connection, lease), ["tagged"])
            merge(
                connection,
                model_id=self.ledger.registered.model_id,
                decision_rev=1,
                results=[self._result(said) for said in words],
                leases=[lease],
                patience_seconds=DAY_SECONDS,
            )
        ending.finish_jobs(connection)

    def _check_source(self) -> None:
        rows = self.ledger.all(
            """SELECT p.key, u.name, p.etag, p.content_rev, r.content_rev AS seen, r.decision_rev, r.outcome, r.tags
               FROM core.photo p JOIN core.app_user u USING (user_id) LEFT JOIN core.photo_result r USING (photo_id)
               WHERE p.gone_at IS NULL"""
        )
        there = {key: value for key, value in self.source.items() if value[0] not in self.model.hidden}
        assert {row.key: (row.name, row.etag) for row in rows} == there
        for row in rows:
            assert row.seen == row.content_rev, f"{row.key} is lost"
            tags = self.ledger.note(TAGS[row.etag] if row.decision_rev == 1 else NEWER_TAG).tags
            assert tuple(row.tags) == (tags if row.outcome == Code.TAGGED else ())


def _photo(photo) -> tuple:
    result = photo.result
    stored = (result.rev, result.decision, result.outcome, list(result.tags)) if result else (None,) * 4
    return (photo.key, photo.owner, photo.etag, photo.rev, photo.gone, *stored, True)


def _open(state: int, code: int, shard: int | None) -> tuple:
    """Of an item: in which shard it is matters only while it is to be done."""
    return state, code, shard if state == ItemState.PENDING else None


@pytest.fixture(scope="module")
def ledger(endpoints: Endpoints) -> Iterator[Ledger]:
    """The ledger that all lives are lived on."""
    with Database(endpoints.database_url, "pictograph machine", connections=2) as found:
        quick(found.engine)
        ledger_helpers.prepare(found)
        yield Ledger(found)


@pytest.mark.slow
def test_the_ledger_is_what_the_model_says(ledger: Ledger) -> None:
    Machine.ledger = ledger
    live = Machine if SEED is None else seed(int(SEED))(Machine)
    run_state_machine_as_test(
        live,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=SEED is None,
            print_blob=True,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
