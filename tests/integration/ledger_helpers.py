"""A ledger with a small model over real PostgreSQL, and short ways to fill it, work on it and check it."""

import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import text

from pipeline.ledger import jobs, work
from pipeline.ledger.listing import finish_range, record_page
from pipeline.ledger.requests import JobRequest
from pipeline.ledger.work import RANGES, SHARDS
from pipeline.records import Annotation, Code, ItemState, Page, PhotoRef, PhotoResult
from pipeline.sources.source import Interval, after_prefix
from pipeline.store.catalogue import register_model
from pipeline.store.merge import merge
from pipeline.store.session import Database
from pipeline.store.totals import differences
from taxonomy.build import from_hypernyms
from taxonomy.decide import Decision
from taxonomy.synset import Synset
from tests.schema import is_made, make, make_empty

DAY = datetime(2020, 1, 1, tzinfo=UTC)
BUCKET = "s3://photos"
DAY_SECONDS = 86_400.0
LEASE_SECONDS = 2.0  # in the rhythm of which workers are taken to beat
PATIENCE_SECONDS = 60.0  # for what takes a moment, on a machine that may be slow and busy

#: entity ── animal ── dog, cat          the labels are dog, cat, car and cup
#:        └─ thing ─── car, cup
PARENTS = {"entity": [], "animal": ["entity"], "thing": ["entity"]} | {
    "dog": ["animal"],
    "cat": ["animal"],
    "car": ["thing"],
    "cup": ["thing"],
}
NAMES = list(PARENTS)
LABELS = ["dog", "cat", "car", "cup"]

#: What only a listing counts: no item stands behind it.
LISTING_ONLY = {
    (ItemState.SKIPPED_UNCHANGED, Code.NONE),
    (ItemState.DUPLICATE, Code.LISTED_TWICE),
    (ItemState.ERASED, Code.NONE),
    (ItemState.FAILED, Code.GONE),
    (ItemState.FAILED, Code.FORBIDDEN),
    *((ItemState.EXCLUDED, code) for code in Code),
}


def wnid(name):
    return f"n{NAMES.index(name) + 1:08d}"


def small_taxonomy():
    synsets = {
        wnid(name): Synset(wnid=wnid(name), lemmas=(name,), name=name, gloss="", subject="noun.Tops", uses=1)
        for name in NAMES
    }
    hypernyms = {wnid(name): [wnid(parent) for parent in above] for name, above in PARENTS.items()}
    return from_hypernyms(name="small", labels=[wnid(name) for name in LABELS], synsets=synsets, hypernyms=hypernyms)


def fingerprint_of(model):
    return model.encode().ljust(32, b"\0")


def ref(key, user="ann", etag="e1", size=10, bucket=BUCKET):
    return PhotoRef(bucket=bucket, key=key, user=user, etag=etag, size=size, modified_at=DAY)


def page_of(refs=(), refusals=(), gone=(), last=True, cursor=None):
    end = cursor if cursor is not None else max((r.key for r in refs), default="")
    return Page(refs=tuple(refs), refusals=tuple(refusals), gone=tuple(gone), cursor=end, last=last)


EMPTIED = [
    "policy_effect",
    "policy_rule",
    "policy",
    "thumbnail",
    "erasure",
    "breaker",
    "queue_limit",
    "firing",
    "delivery",
    "job_line",
    "job_entry",
    "object_event",
    "job_missing",
    "job_item",
    "job_count",
    "list_range",
    "shard",
    "job",
    "schedule",
    "user_category",
    "category_total",
    "shared_total",
    "user_revision",
    "model_revision",
    "api_key",
    "photo_result",
    "photo",
    "app_user",
    "bucket",
    "worker",
]


def forget(connection):
    """Forget all photos, users and jobs."""
    connection.execute(text("; ".join(f"DELETE FROM core.{table}" for table in EMPTIED)))


def prepare(database):
    """Leave nothing in the database, or the small model alone; whatever was there before."""
    if not is_made(database):
        make(database)
    elif _knows_another_taxonomy(database):  # it has a dog, too
        make_empty(database)
    else:
        empty(database)


def _knows_another_taxonomy(database):
    with database.transaction() as connection:
        other = "SELECT EXISTS (SELECT FROM core.taxonomy WHERE name <> 'small')"
        return connection.execute(text(other)).scalar_one()


def empty(database):
    """Forget everything but the small model and its first decision."""
    with database.transaction() as connection:
        forget(connection)
        others = text("SELECT model_id FROM core.model WHERE fingerprint <> :small")
        for model_id in connection.execute(others, {"small": fingerprint_of("small")}).scalars().all():
            connection.execute(text(f"DROP TABLE IF EXISTS core.photo_result_{model_id}"))
            connection.execute(text("DELETE FROM core.promotion WHERE model_id = :id"), {"id": model_id})
            connection.execute(text("DELETE FROM core.decision WHERE model_id = :id"), {"id": model_id})
            connection.execute(text("DELETE FROM core.model WHERE model_id = :id"), {"id": model_id})
        connection.execute(text("DELETE FROM core.decision WHERE revision > 1"))


@dataclass
class Ledger:
    """The ledger of one test. Every method is one or a few transactions."""

    database: Database
    model: str = "small"
    taxonomy: object = field(default_factory=small_taxonomy)
    patience: float = DAY_SECONDS

    def __post_init__(self):
        self.registered = self.register(self.model)
        rows = self.all("SELECT name, node FROM core.category WHERE NOT area_only")
        self.node = {row.name: row.node for row in rows}

    def register(self, name, revision=1):
        return self.database.run(
            lambda c: register_model(c, name, fingerprint_of(name), self.taxonomy, Decision(revision=revision))
        )

    def empty(self):
        """Forget every photo and every job."""
        empty(self.database)

    # ---- SQL

    def all(self, query, **values):
        with self.database.transaction() as connection:
            result = connection.execute(text(query), values)
            return result.all() if result.returns_rows else []

    def one(self, query, **values):
        (row,) = self.all(query, **values)
        return row[0] if len(row) == 1 else row

    def execute(self, query, **values):
        self.all(query, **values)

    # ---- jobs and listings

    def submit(self, model=None, source=f"{BUCKET}/", **options):
        request = JobRequest(kind="s3", source=source, user_rule="{user}/{photo}", **options)
        model_id = (model or self.registered).model_id
        return self.database.run(lambda c: jobs.submit(c, request, model_id))

    def job(self, job_id):
        with self.database.transaction() as connection:
            return jobs.find(connection, job_id)

    def range_of(self, job_id):
        return self.one("SELECT range_id FROM core.list_range WHERE job_id = :job", job=job_id)

    def claim_range(self, job_id, seconds=60.0, owner="lister"):
        lease = self.database.run(lambda c: RANGES.claim(c, self.range_of(job_id), owner, seconds))
        self.database.run(lambda c: jobs.start(c, job_id))
        return lease

    def write_page(self, job_id, lease, page, span=None, shard_photos=512):
        job = self.job(job_id)
        self.database.run(lambda c: record_page(c, job, lease, page, span, shard_photos))

    def finish(self, job_id, lease):
        job = self.job(job_id)
        self.database.run(lambda c: finish_range(c, job, lease))

    def list(self, refs, *, prefix="", shard_photos=512, whole=True, **options):
        """A job whose listing of one page is complete; `whole`: what is not listed under `prefix` is missing."""
        job_id = self.submit(**options)
        lease = self.claim_range(job_id)
        span = Interval(bucket=BUCKET, after=prefix, upto=after_prefix(prefix)) if whole else None
        self.write_page(job_id, lease, page_of(refs), span, shard_photos)
        self.finish(job_id, lease)
        return job_id

    # ---- shards

    def shards(self, job_id, *states):
        rows = self.all("SELECT * FROM core.shard WHERE job_id = :job ORDER BY shard_id", job=job_id)
        return [row for row in rows if not states or row.state in states]

    def claim(self, shard_id, owner="worker", seconds=60.0):
        return self.database.run(lambda c: SHARDS.claim(c, shard_id, owner, seconds))

    def claim_all(self, job_id, owner="worker", seconds=60.0):
        leases = [self.claim(row.shard_id, owner, seconds) for row in self.shards(job_id)]
        return [lease for lease in leases if lease is not None]

    def tasks(self, lease):
        with self.database.transaction() as connection:
            return work.open_photos(connection, lease)

    def expire(self, table="core.shard", died=True):
        """Let every lease run out; `died`: and its worker has been silent for so long that it must be dead."""
        self.execute(f"UPDATE {table} SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 2")
        self.execute("UPDATE core.worker SET last_seen = now()")
        if died:
            self.execute(
                "UPDATE core.worker SET last_seen = greatest(now() - interval '5 s', pg_postmaster_start_time() "
                "+ interval '1 ms')"
            )
            self.execute(f"UPDATE {table} SET lease_until = clock_timestamp() - interval '1 ms' WHERE state = 2")

    # ---- results

    def note(self, *tags, mass=9000):
        """An annotation with the categories above each tag; all of the same mass but the root."""
        names = [name for name in NAMES if name in tags or any(name in _above(tag) for tag in tags)]
        names = names or ["entity"]
        return Annotation(
            nodes=tuple(self.node[name] for name in names),
            masses=tuple(10_000 if name == "entity" else mass for name in names),
            tags=tuple(self.node[name] for name in names if name != "entity"),
            headline=self.node[tags[0]] if tags else None,
        )

    def tagged(self, task, *tags, mass=9000, **more):
        code = Code.TAGGED if tags else Code.ABSTAINED
        return PhotoResult(
            task=task, state=ItemState.SUCCEEDED, code=code, annotation=self.note(*tags, mass=mass), **more
        )

    def merge(self, results, leases=(), revision=1, model=None, patience=None):
        return self.database.run(
            lambda c: merge(
                c,
                model_id=(model or self.registered).model_id,
                decision_rev=revision,
                results=results,
                leases=leases,
                patience_seconds=self.patience if patience is None else patience,
            )
        )

    def tag_all(self, job_id, *tags, owner="worker"):
        """Claim all of a job's shards and tag their photos; returns the results."""
        results = []
        for lease in self.claim_all(job_id, owner):
            mine = [self.tagged(task, *(tags or (random.choice(LABELS),))) for task in self.tasks(lease)]
            self.merge(mine, [lease])
            results += mine
        return results

    # ---- what must be true

    def photos_with(self, tag, user=None):
        """(photos, mass) of a tag in the totals, of one user or of all; both tables must agree."""
        of_users = self.one(
            "SELECT coalesce(sum(photos), 0)::bigint AS p, coalesce(sum(mass), 0)::bigint AS m "
            "FROM core.user_category t JOIN core.app_user u USING (user_id) "
            "WHERE node = :node AND (u.name = :user OR CAST(:user AS text) IS NULL)",
            node=self.node[tag],
            user=user,
        )
        return tuple(of_users)

    def check(self):
        """Totals equal a recount; every photo of every job is counted once, and as what its item says."""
        with self.database.engine.connect() as plain:
            connection = plain.execution_options(isolation_level="REPEATABLE READ")
            assert differences(connection) == 0
            for job_id in connection.execute(text("SELECT job_id FROM core.job")).scalars().all():
                self._check_job(connection, job_id)
            connection.rollback()

    def _check_job(self, connection, job_id):
        found = jobs.find(connection, job_id)
        assert sum(found.counts.values()) == found.total
        if found.kind == "decide":  # has no items: what it met is all in its counts
            return
        rows = connection.execute(
            text("SELECT state, code, count(*) FROM core.job_item WHERE job_id = :job GROUP BY 1, 2"), {"job": job_id}
        )
        items = {(ItemState(state), Code(code)): n for state, code, n in rows}
        for key in {*items, *found.counts} - LISTING_ONLY:
            assert items.get(key, 0) == found.counts.get(key, 0), (job_id, key)
        for key in LISTING_ONLY:
            assert items.get(key, 0) <= found.counts.get(key, 0), (job_id, key)
        stray = connection.execute(
            text("""SELECT count(*) FROM core.job_item i LEFT JOIN core.shard s USING (shard_id)
                    WHERE i.job_id = :job AND i.state = 0 AND (s.shard_id IS NULL OR s.state NOT IN (0, 1, 2))"""),
            {"job": job_id},
        ).scalar_one()
        assert stray == 0, "an open photo is in no open shard: nobody will ever come for it"


def _above(name):
    return {name}.union(*(_above(parent) for parent in PARENTS[name]))


def wait_for(seen):
    """What `seen` returns as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := seen()):
        assert time.monotonic() < deadline, f"it did not come true in {PATIENCE_SECONDS} s"
        time.sleep(0.02)
    return found


def failed(task, code, message="", state=ItemState.FAILED):
    return PhotoResult(task=task, state=state, code=code, message=message)


def waiting(task, message="the store did not answer"):
    return failed(task, Code.NONE, message, ItemState.RETRY)
