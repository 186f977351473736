"""Whatever happens to photos, in whatever order: the totals equal a recount, and every photo is counted once."""

import contextlib
import random
import threading
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from ledger_helpers import LABELS, LEASE_SECONDS, failed, ref, waiting
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from pipeline.errors import ConfigurationError
from pipeline.ledger import ending, publish, redrive, roster, work
from pipeline.ledger.erase import erase
from pipeline.ledger.users import set_consent
from pipeline.records import Code, ItemState, Version
from pipeline.store.totals import apply_delta, ensure_delta

KEYS = [f"k{n}" for n in range(6)]
USERS = ["ann", "ben", "cleo"]
TAGS = st.lists(st.sampled_from(LABELS), max_size=3, unique=True)
SOME = st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True)


class Life(RuleBasedStateMachine):
    """A small library under listing, tagging, change, loss and redelivery. `ledger` is set by the test."""

    ledger = None
    emptied = None

    def __init__(self):
        super().__init__()
        self.emptied()
        self.there = dict.fromkeys(KEYS[:4], ("ann", "e0"))
        self.delivered = []
        self.revision = 1

    # ---- the source changes

    @rule(n=st.integers(0, 5), user=st.sampled_from(USERS), version=st.integers(0, 3))
    def put(self, n, user, version):
        self.there[KEYS[n]] = (user, f"e{version}")

    @rule(n=st.integers(0, 5))
    def remove(self, n):
        self.there.pop(KEYS[n], None)

    # ---- the ledger looks

    @rule(shard_photos=st.integers(1, 4), mass=st.booleans(), again=st.booleans())
    def list(self, shard_photos, mass, again):
        refs = [ref(key, user=user, etag=etag) for key, (user, etag) in self.there.items()]
        self.ledger.list(refs + refs[: 2 * again], shard_photos=shard_photos, allow_mass_delete=mass)

    def claims(self, some):
        rows = self.ledger.all("SELECT shard_id FROM core.shard WHERE state IN (0, 1) ORDER BY 1")
        leases = [self.ledger.claim(rows[n].shard_id) for n in some if n < len(rows)]
        return [lease for lease in leases if lease is not None]

    @rule(some=SOME, tags=TAGS, twice=st.booleans())
    def tag(self, some, tags, twice):
        leases = self.claims(some)
        results = [self.ledger.tagged(task, *tags) for lease in leases for task in self.ledger.tasks(lease)]
        self.deliver(results * (1 + twice), leases)

    @rule(some=SOME, code=st.sampled_from([Code.CORRUPT, Code.MODEL_ERROR, Code.GONE, Code.NONE]))
    def fail(self, some, code):
        leases = self.claims(some)
        tasks = [task for lease in leases for task in self.ledger.tasks(lease)]
        self.deliver([waiting(task) if code is Code.NONE else failed(task, code) for task in tasks], leases)

    @rule(some=SOME)
    def find_changed(self, some):
        leases = self.claims(some)
        tasks = [task for lease in leases for task in self.ledger.tasks(lease)]
        for task in tasks:
            self.ledger.database.run(lambda c, task=task: work.note_changed(c, task, Version(etag="new", size=1)))
        self.deliver([waiting(task) for task in tasks], leases)

    @rule(some=SOME)
    def claim_and_die(self, some):
        leases = self.claims(some)
        results = [self.ledger.tagged(task, "cup") for lease in leases for task in self.ledger.tasks(lease)]
        for lease in leases:
            self.ledger.database.run(lambda c, lease=lease: work.mark_started(c, lease))
        self.ledger.expire()
        self.ledger.database.run(lambda c: redrive.expire_shards(c, 4, LEASE_SECONDS))
        self.delivered.append((results, leases))  # only its pulse was gone: the zombie delivers later

    @rule()
    def come_back(self):
        self.ledger.execute("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1")
        self.ledger.database.run(lambda c: redrive.gather_retries(c, 3))

    @rule(n=st.integers(0, 30), tags=TAGS)
    def decide_again(self, n, tags):
        """Another decision for what an earlier delivery brought."""
        if self.delivered:
            self.revision += 1
            results, leases = self.delivered[n % len(self.delivered)]
            fresh = [self.ledger.tagged(result.task, *tags) for result in results]
            self.ledger.merge(fresh, leases, revision=self.revision)

    @rule(n=st.integers(0, 30))
    def redeliver(self, n):
        """Long after, a zombie or a lost reply brings an old batch once more."""
        if self.delivered:
            self.ledger.merge(*self.delivered[n % len(self.delivered)])

    @rule()
    def give_up_a_job(self):
        rows = self.ledger.all("SELECT job_id FROM core.job WHERE state < 10 ORDER BY 1 LIMIT 1")
        for row in rows:
            self.ledger.database.run(lambda c, row=row: ending.fail(c, row.job_id, "given up"))

    @rule()
    def end_jobs(self):
        ended = self.ledger.database.run(ending.finish_jobs)
        assert all(self.ledger.job(job_id).waiting == 0 for job_id in ended)

    @rule(user=st.sampled_from(USERS), answer=st.sampled_from([True, True, False, None]))
    def answer(self, user, answer):
        """A user says whether others may see their photos."""
        with contextlib.suppress(ConfigurationError):  # erased
            self.ledger.database.run(lambda c: set_consent(c, user, answer))

    @rule(user=st.sampled_from(USERS[1:]), really=st.integers(0, 3).map(lambda n: n == 3))
    def erase(self, user, really):
        with contextlib.suppress(ConfigurationError):  # nobody knows them yet
            if really:
                erase(self.ledger.database, user, batch_photos=2)

    def deliver(self, results, leases):
        if results or leases:
            self.ledger.merge(results, leases, revision=1)
            self.delivered.append((results, leases))

    # ---- what is always true

    @invariant()
    def totals_and_counts_are_exact(self):
        self.ledger.check()

    def teardown(self):
        """Nothing is stuck: a redriver and a worker bring every job to its end."""
        for _ in range(30):
            self.ledger.database.run(ending.finish_jobs)
            if not self.ledger.all("SELECT FROM core.job WHERE state < 10"):
                break
            self.come_back()
            self.ledger.expire(died=False)
            self.ledger.database.run(lambda c: redrive.expire_shards(c, 4, LEASE_SECONDS))
            leases = self.claims(range(50))
            self.ledger.merge(
                [self.ledger.tagged(task, "dog") for lease in leases for task in self.ledger.tasks(lease)], leases
            )
        assert self.ledger.all("SELECT job_id FROM core.job WHERE state < 10") == []
        assert self.ledger.all("SELECT shard_id FROM core.shard WHERE state IN (0, 1, 2)") == []
        self.ledger.check()


@pytest.mark.slow
def test_totals_stay_exact_through_any_life(ledger):
    Life.ledger, Life.emptied = ledger, staticmethod(ledger.empty)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=30, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("user_category", "photos = photos + 1"),
        ("user_category", "mass = mass - 1"),
        ("category_total", "mass = mass + 1"),
        ("shared_total", "users = users + 1"),
        ("shared_total", "mass = mass - 1"),
        ("app_user", "shared = false"),
        ("photo_result", "tags = '{}'"),
        ("job_count", "photos = photos + 1"),
    ],
)
def test_a_recount_finds_what_drifted(ledger, table, change):
    ledger.tag_all(ledger.list([ref("ann/1.jpg")]), "dog")
    ledger.database.run(lambda c: set_consent(c, "ann", True))
    ledger.check()
    ledger.execute(f"UPDATE core.{table} SET {change}")
    with pytest.raises(AssertionError):
        ledger.check()


def test_totals_cannot_go_below_zero(ledger):
    """A tripwire of the schema: a wrong delta fails its merge instead of spoiling the totals."""
    job_id = ledger.list([ref("ann/1.jpg")])
    ledger.tag_all(job_id, "dog")
    for table in ("user_category", "category_total", "job_count"):
        with pytest.raises(Exception, match="check"):
            ledger.execute(f"UPDATE core.{table} SET photos = -1")
    assert ledger.job(job_id).count(ItemState.SUCCEEDED) == 1


def test_what_was_never_added_cannot_be_taken_away(ledger):
    """A wrong delta fails, though the upsert before it proposes no negative row."""
    ledger.tag_all(ledger.list([ref("ann/1.jpg")]), "dog")
    model_id, user_id = ledger.one("SELECT model_id, user_id FROM core.photo_result")

    def take(node, connection):
        ensure_delta(connection)
        values = {"model": model_id, "user": user_id, "node": node}
        connection.execute(text("INSERT INTO delta VALUES (:model, :user, 0, :node, -1, 0)"), values)
        apply_delta(connection)

    for node in (ledger.node["cup"], ledger.node["entity"]):  # no such row; a row without a photo that carries the tag
        with pytest.raises(IntegrityError, match="photos_check"):
            ledger.database.run(lambda c, node=node: take(node, c))
    ledger.check()


def test_a_photo_counts_in_one_slot_with_its_neighbours_whoever_owns_it(ledger):
    ledger.tag_all(ledger.list([ref(f"{n}.jpg", user=USERS[n % 3]) for n in range(9)]), "dog")
    slots = (
        "SELECT slot, sum(photos)::int FROM core.category_total WHERE node = :dog AND photos > 0 GROUP BY 1 ORDER BY 1"
    )
    before = ledger.all(slots, dog=ledger.node["dog"])
    blocks = ledger.all("SELECT core.slot_of(photo_id), count(*) FROM core.photo GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in before] == [tuple(row) for row in blocks]
    ledger.list([ref(f"{n}.jpg", user="dan") for n in range(9)])
    assert ledger.all(slots, dog=ledger.node["dog"]) == before
    assert ledger.photos_with("dog", "dan") == (9, 81_000)
    ledger.check()


def test_four_writers_of_the_same_users_never_wait_for_each_other_in_a_circle(ledger, caplog):
    """Each has photos of its own of every user, and adds to and takes from the same rows in its own order."""
    refs = [ref(f"{n:03d}.jpg", user=f"user-{n % 12:02d}") for n in range(96)]
    tasks = [task for lease in ledger.claim_all(ledger.list(refs)) for task in ledger.tasks(lease)]
    errors = []
    caplog.set_level("INFO", "pipeline.store.session")

    def write(mine, seed):
        chance = random.Random(seed)
        try:
            for revision in range(1, 9):
                batch = [ledger.tagged(task, *chance.sample(LABELS, chance.randint(0, 3))) for task in mine]
                chance.shuffle(batch)
                ledger.merge(batch, revision=revision)
        except Exception as exc:
            errors.append(exc)

    writers = [threading.Thread(target=write, args=(tasks[n::4], n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert [record.getMessage() for record in caplog.records if "repeated" in record.getMessage()] == []
    assert ledger.one("SELECT count(*), min(decision_rev) FROM core.photo_result") == (96, 8)
    ledger.check()


class Fire:
    """Threads that do to one ledger whatever processes may do to it, at once and for a while."""

    def __init__(self, ledger, seconds):
        self.ledger, self.until = ledger, time.monotonic() + seconds
        self.errors = []
        self.rounds = Counter()

    def thread(self, step, seed):
        def run():
            chance = random.Random(seed)
            try:
                while time.monotonic() < self.until:
                    step(chance)
                    self.rounds[step.__name__] += 1
            except Exception as exc:
                self.errors.append(exc)

        return threading.Thread(target=run, name=f"{step.__name__}-{seed}")

    def lister(self, chance):
        keys = chance.sample(range(40), chance.randint(25, 40))
        refs = [ref(f"k{n:02d}", user=chance.choice(USERS), etag=chance.choice(["e1", "e2"])) for n in keys]
        self.ledger.list(refs, shard_photos=chance.choice([3, 8]), allow_mass_delete=chance.random() < 0.5)

    def worker(self, chance):
        owner = f"worker-{chance.random()}"
        self.ledger.database.run(lambda c: roster.note_worker(c, owner, "annotate.small", progressed=True))
        model = self.ledger.registered.model_id
        seconds = chance.choice([0.001, 0.01, 30])
        lease = self.ledger.database.run(lambda c: work.claim_next_shard(c, model, owner, seconds))
        if lease is None:
            return time.sleep(0.01)
        self.ledger.database.run(lambda c: work.mark_started(c, lease))
        results = [self.outcome(task, chance) for task in self.ledger.tasks(lease)]
        chance.shuffle(results)
        if chance.random() < 0.2:  # dies with its results, is stopped, or says everything twice
            return None
        if chance.random() < 0.2:
            return self.ledger.database.run(lambda c: work.SHARDS.release(c, [lease]))
        for part in (results[:4], results[4:], results)[: 2 + (chance.random() < 0.3)]:
            self.ledger.merge(part, [lease])
        return None

    def outcome(self, task, chance):
        code = chance.choice([Code.TAGGED] * 6 + [Code.GONE, Code.CORRUPT, Code.NONE, Code.NONE])
        if code is Code.TAGGED:
            return self.ledger.tagged(task, *chance.sample(LABELS, chance.randint(0, 2)))
        return waiting(task) if code is Code.NONE else failed(task, code)

    def asker(self, chance):
        self.ledger.database.run(lambda c: set_consent(c, chance.choice(USERS), chance.choice([True, False])))

    def redriver(self, _chance):
        self.ledger.execute("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1 AND photo_id % 2 = 0")
        run = self.ledger.database.run
        run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))
        run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
        run(lambda c: redrive.gather_retries(c, 5))
        run(ending.finish_jobs)
        run(publish.publishable)
        run(lambda c: publish.unqueue(c, 0))

    def burn(self):
        steps = [self.lister, self.lister, self.worker, self.worker, self.worker, self.redriver, self.asker]
        threads = [self.thread(step, seed) for seed, step in enumerate(steps)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def put_out(self):
        """A redriver and an honest worker bring everything to its end."""
        run = self.ledger.database.run
        for _ in range(60):
            self.ledger.execute("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1")
            self.ledger.expire(died=False)
            run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))
            run(lambda c: redrive.gather_retries(c, 512))
            for row in self.ledger.all("SELECT shard_id FROM core.shard WHERE state IN (0, 1)"):
                lease = self.ledger.claim(row.shard_id)
                self.ledger.merge([self.ledger.tagged(task, "dog") for task in self.ledger.tasks(lease)], [lease])
            run(ending.finish_jobs)
            if not self.ledger.all("SELECT FROM core.job WHERE state < 10"):
                return


def test_everything_at_once_loses_nothing_and_counts_exactly(ledger):
    fire = Fire(ledger, seconds=3)
    fire.burn()
    assert fire.errors == []
    assert all(fire.rounds[step] > 3 for step in ("lister", "worker", "redriver"))
    ledger.check()
    fire.put_out()
    assert ledger.all("SELECT job_id FROM core.job WHERE state < 10") == []
    assert ledger.all("SELECT shard_id FROM core.shard WHERE state IN (0, 1, 2)") == []
    ledger.check()
