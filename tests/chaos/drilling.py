"""What a drill needs: a site with workers, small photos, a job in the middle of its work, and the checks at its end.

A drill is one fault. The job is slowed down by a latency before S3, so that the fault meets it half-way. What each
picture must come out as is known from the first job of a site, which nothing disturbs.
"""

import hashlib
import io
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from subprocess import Popen
from typing import Any

import psutil
from PIL import Image, ImageDraw, ImageFilter
from sqlalchemy import text

from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job
from pipeline.ledger.publish import INGEST_QUEUE, annotate_queue
from pipeline.ledger.requests import JobRequest
from pipeline.records import SEEN, Code, ItemState, WorkState
from pipeline.settings import PREFIX
from pipeline.sources.s3 import create_bucket
from pipeline.store.totals import differences
from tests.chaos.proxy import Fault, Kind
from tests.chaos.servers import PATIENCE_SECONDS, end_all, family, lives, wait_for
from tests.chaos.site import Site

BUCKET = "drills"
PHOTOS = 64
SIDE = 96
USERS = 3
SLOW_SECONDS = 0.15  # per request to S3: two workers with four requests each do some 50 photos a second
IN_THE_MIDDLE = 8  # photos that are done when the fault comes
FRESH_SECONDS = 2.0  # since the last beat of a worker that lives: it beats more often than once a second
MASS_TOLERANCE = 300  # of 10,000: a model in bfloat16 says almost the same of a photo in another batch
WORKERS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("worker", "ingest"),
    "annotate 1": ("worker", "annotate"),
    "annotate 2": ("worker", "annotate"),
    "redriver": ("redriver",),
}
OPEN = f"{WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED}"
RECORD = "CHAOS_RECOVERY"  # a variable that names a file; each recovery becomes a line of JSON in it


@cache
def picture(number: int) -> bytes:
    """A JPEG of shapes and colours, other ones for each number."""
    chance = random.Random(number)
    image = Image.new("RGB", (SIDE, SIDE), tuple(chance.randbytes(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        (x, y), (w, h) = (chance.randrange(SIDE), chance.randrange(SIDE)), (chance.randrange(60), chance.randrange(60))
        draw.ellipse((x, y, x + w, y + h), fill=tuple(chance.randbytes(3)))
    file = io.BytesIO()
    image.filter(ImageFilter.SMOOTH).save(file, "JPEG", quality=90)
    return file.getvalue()


def flat(colour: tuple[int, int, int]) -> bytes:
    """A JPEG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


@dataclass(frozen=True)
class Held:
    """A lease as it stands."""

    shard: int
    epoch: int
    pid: int  # of its holder


@dataclass
class Work:
    """A job, and what was uploaded for it."""

    ground: "Ground"
    prefix: str
    bodies: dict[str, bytes] = field(repr=False)  # by key
    job_id: int = 0

    def find(self) -> Job:
        """The job as it stands."""
        with self.ground.site.database.transaction() as connection:
            return jobs.find(connection, self.job_id)

    def done(self) -> int:
        """Photos in a state that is final."""
        return self.ground.one(
            f"""SELECT coalesce(sum(photos), 0)::int FROM core.job_count
                WHERE job_id = :job AND state >= {ItemState.SUCCEEDED}""",
            job=self.job_id,
        )

    def wait_for_the_middle(self) -> None:
        """Some photos are done and many are not."""
        wait_for(lambda: self.done() >= IN_THE_MIDDLE)
        assert not self.find().state.ended, "the job was over too soon to be disturbed"

    def held(self, pid: int | None = None) -> list[Held]:
        """The leases of this process, or of all, as the ledger has them."""
        rows = self.ground.rows(
            f"""SELECT shard_id, lease_epoch, lease_owner FROM core.shard
                WHERE job_id = :job AND state = {WorkState.LEASED}""",
            job=self.job_id,
        )
        found = [Held(shard, epoch, int(owner.split(":")[1])) for shard, epoch, owner in rows]
        return [lease for lease in found if pid in (None, lease.pid)]

    def goes_on(self) -> float:
        """Seconds until another photo is done."""
        before, began = self.done(), time.monotonic()
        wait_for(lambda: self.done() > before or self.find().state.ended)
        return time.monotonic() - began

    def taken_over(self, pid: int) -> float:
        """Seconds until somebody else works on what this process held a moment ago, and will not finish."""
        lost, began = set(self.held(pid)), time.monotonic()
        assert lost, "the process held nothing"
        wait_for(lambda: not lost & set(self.held()) and not self._orphans(lost))
        return time.monotonic() - began

    def _orphans(self, lost: Iterable[Held]) -> list[Any]:
        """Shards of these that nobody has claimed since."""
        query = f"""SELECT FROM core.shard
                    JOIN unnest(CAST(:ids AS bigint[]), CAST(:epochs AS bigint[])) AS l(id, epoch)
                      ON shard_id = id AND lease_epoch = epoch
                    WHERE state IN ({OPEN})"""
        pairs = sorted((one.shard, one.epoch) for one in lost)
        return self.ground.rows(query, ids=[shard for shard, _ in pairs], epochs=[epoch for _, epoch in pairs])

    def finish(self) -> float:
        """Seconds until the job has ended."""
        began = time.monotonic()
        wait_for(lambda: self.find().state.ended, seconds=300, message=f"job {self.job_id} does not end: {self.find()}")
        return time.monotonic() - began

    def check(self, failed: Mapping[str, Code] | None = None) -> None:
        """Every photo is in one state, counted once, and has come out as what it is. `failed`: the others, by key."""
        job, wrong = self.find(), dict(failed or {})
        assert job.total == sum(job.counts.values()) == len(self.bodies), job
        assert Counter(job.by_code(ItemState.FAILED)) == Counter(wrong.values()), job
        assert job.count(ItemState.SUCCEEDED) == len(self.bodies) - len(wrong), job
        assert self.ground.differences() == 0
        open_shards = f"SELECT FROM core.shard WHERE job_id = :job AND state IN ({OPEN})"
        assert not self.ground.rows(open_shards, job=self.job_id)
        expected = {key: hashlib.sha256(body).digest() for key, body in self.bodies.items() if key not in wrong}
        results = self.ground.results(self.prefix)
        assert {key: found.sha256 for key, found in results.items()} == expected
        for found in results.values():
            self.ground.compare(found)


@dataclass(frozen=True)
class Result:
    """What the ledger says of a photo."""

    sha256: bytes
    masses: dict[int, int]


@dataclass
class Ground:
    """A site, its workers, and what its pictures are known to be."""

    site: Site
    workers: dict[str, "Popen[bytes]"] = field(default_factory=dict)
    hands: dict[int, str] = field(default_factory=dict)  # every process of the workers, and whose it is
    known: dict[bytes, Result] = field(default_factory=dict)  # by the hash of the picture
    shown: dict[bytes, bytes] = field(default_factory=dict)  # the hash of the picture, by that of an upload
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _uploads: "itertools.count[int]" = field(default_factory=itertools.count)

    # ---- workers

    def man(self) -> None:
        """Start every worker that does not run, and wait until all are on the ledger's list."""
        for name, command in WORKERS.items():
            if name not in self.workers or self.workers[name].poll() is not None:
                self.workers[name] = self.site.start(*command)
        wait_for(lambda: self.listed("annotate.%") >= 2 and self.listed("ingest") >= 1, message="workers do not start")
        self.hands = {member.pid: name for name, process in self.workers.items() for member in family(process.pid)}

    def listed(self, queue: str) -> int:
        """How many workers of these queues have been heard of a moment ago."""
        query = (
            "SELECT count(*) FROM core.worker WHERE queue LIKE :queue AND last_seen > now() - make_interval(secs => :s)"
        )
        return self.one(query, queue=queue, s=FRESH_SECONDS)

    def beats(self, pid: int) -> bool:
        """Whether the worker of this process has been heard of a moment ago."""
        return bool(
            self.rows(
                """SELECT FROM core.worker WHERE worker_id LIKE '%:' || :pid || ':%'
                   AND last_seen > now() - make_interval(secs => :s)""",
                pid=str(pid),
                s=FRESH_SECONDS,
            )
        )

    def holder(self, work: Work) -> tuple[str, int]:
        """An annotate worker that holds shards of a job, and the process in it."""
        found = self.holders(work)
        assert found, "nobody who lives holds a shard"
        return found[0]

    def holders(self, work: Work) -> list[tuple[str, int]]:
        """All of them, in order; a worker whose process has been replaced since `man` is none."""
        pids = {lease.pid for lease in work.held()}
        return sorted((self.hands[pid], pid) for pid in pids if pid in self.hands and is_alive(pid))

    def busy(self, work: Work) -> set[str]:
        """The annotate workers that hold shards of a job."""
        return {self.hands[lease.pid] for lease in work.held() if lease.pid in self.hands}

    @contextmanager
    def supervised(self, **settings: object) -> Iterator[None]:
        """Meanwhile the workers are those of the product's own supervisor, with these settings."""
        for process in self.workers.values():
            self.site.kill(process)
        env = {PREFIX + name.upper(): str(value) for name, value in settings.items()}
        supervisor = self.site.supervise(env=env)
        try:
            queues = ("annotate.%", "ingest")
            wait_for(lambda: all(map(self.listed, queues)), message="the supervisor starts no workers")
            yield
        finally:
            self.site.kill(supervisor)

    def bury(self, name: str) -> None:
        """See a killed worker out. What descends from it must go by itself."""
        self.workers[name].wait(PATIENCE_SECONDS)
        pids = [pid for pid, whose in self.hands.items() if whose == name]
        wait_for(lambda: not any(map(is_alive, pids)), message=f"children of {name} outlive it")

    def decoders(self) -> list[psutil.Process]:
        """The decode children of all workers."""
        found = []
        for process in self.workers.values():
            for member in family(process.pid):
                try:
                    if "workers.decode.child" in member.cmdline():
                        found.append(member)
                except psutil.NoSuchProcess:
                    continue
        return found

    # ---- jobs

    def upload(self, number: int) -> bytes:
        """A picture in bytes that no job has had: copies are not looked at. Decoders ignore what follows the end."""
        body = picture(number) + f"upload {next(self._uploads)}".encode()
        self.shown[hashlib.sha256(body).digest()] = hashlib.sha256(picture(number)).digest()
        return body

    def work(self, photos: int = PHOTOS, slow: float = SLOW_SECONDS, extra: Mapping[str, bytes] | None = None) -> Work:
        """Upload photos under a prefix of their own, and submit a job over them."""
        prefix = f"drill {next(self._numbers)}/"
        bodies = {f"{prefix}user {n % USERS}/{n:03}.jpg": self.upload(n) for n in range(photos)}
        bodies |= {prefix + name: body for name, body in (extra or {}).items()}
        client = self.site.access.client()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: client.put_object(Bucket=BUCKET, Key=item[0], Body=item[1]), bodies.items()))
        if slow:
            self.site.proxies["s3"].inject(Fault(kind=Kind.LATENCY, seconds=slow))
        work = Work(self, prefix, bodies)
        request = JobRequest(kind="s3", source=f"s3://{BUCKET}/{prefix}", user_rule="{user}/{photo}")
        model = self.site.registered.model_id
        work.job_id = self.site.database.run(lambda connection: jobs.submit(connection, request, model))
        return work

    def heal(self) -> None:
        """No proxy does anything any more."""
        for proxy in self.site.proxies.values():
            proxy.heal()

    def doorbells(self, work: Work) -> list[tuple[str, str, int]]:
        """Kind, queue and id of each message that the work of a job may be rung for with."""
        shards = self.rows("SELECT shard_id FROM core.shard WHERE job_id = :job", job=work.job_id)
        ranges = self.rows("SELECT range_id FROM core.list_range WHERE job_id = :job", job=work.job_id)
        queue = annotate_queue(self.site.direct.model)
        return [*(("annotate", queue, n) for (n,) in shards), *(("ingest", INGEST_QUEUE, n) for (n,) in ranges)]

    def waiting(self, work: Work) -> list[str]:
        """The keys of the shard of a job that will be worked on last, and that nobody has begun."""
        rows = self.rows(
            f"""SELECT key FROM core.job_item i JOIN core.photo USING (photo_id) WHERE i.shard_id =
                (SELECT max(shard_id) FROM core.shard
                 WHERE job_id = :job AND state IN ({WorkState.PENDING}, {WorkState.QUEUED})) ORDER BY key""",
            job=work.job_id,
        )
        return [key for (key,) in rows]

    # ---- what the ledger says

    def rows(self, query: str, **values: object) -> list[Any]:
        """The answer to a query."""
        with self.site.database.transaction() as connection:
            return list(connection.execute(text(query), values))

    def one(self, query: str, **values: object) -> Any:
        """The one value of an answer."""
        return self.rows(query, **values)[0][0]

    def differences(self) -> int:
        """Rows in which the totals differ from a recount."""
        with self.site.database.transaction() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            return differences(connection)

    def results(self, prefix: str) -> dict[str, Result]:
        """By key, of all photos under a prefix that a model has seen."""
        rows = self.rows(
            "SELECT key, sha256, nodes, masses FROM core.photo_result JOIN core.photo USING (photo_id) "
            "WHERE starts_with(key, :prefix) AND outcome = ANY (:seen)",
            prefix=prefix,
            seen=[int(code) for code in SEEN],
        )
        return {key: Result(bytes(sha), dict(zip(nodes, masses, strict=True))) for key, sha, nodes, masses in rows}

    def reason(self, work: Work, key: str) -> str:
        """Why a photo of a job failed, in words."""
        return self.one(
            "SELECT coalesce(message, '') FROM core.job_item JOIN core.photo USING (photo_id) "
            "WHERE job_id = :job AND key = :key",
            job=work.job_id,
            key=key,
        )

    def compare(self, found: Result) -> None:
        """A picture comes out as it did when nothing disturbed it."""
        known = self.known.setdefault(self.shown.get(found.sha256, found.sha256), found)
        for node in known.masses.keys() | found.masses.keys():
            assert abs(known.masses.get(node, 0) - found.masses.get(node, 0)) <= MASS_TOLERANCE, node

    # ---- recoveries

    def recovered(self, fault: str, seconds: float, bound: float) -> None:
        """Write down how long it took to be well again; at most three times what it should take."""
        if os.environ.get(RECORD):
            line = {"fault": fault, "seconds": round(seconds, 3), "bound": bound}
            with open(os.environ[RECORD], "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        assert seconds <= 3 * bound, f"{fault}: {seconds:.1f} s, expected {bound:.1f} s"

    def close(self) -> None:
        """End the workers."""
        end_all(member for process in self.workers.values() for member in family(process.pid))


def opened(site: Site) -> Ground:
    """The ground of a site, manned, with every picture known from a job that nothing disturbs."""
    create_bucket(site.access, BUCKET)
    ground = Ground(site)
    ground.man()
    work = ground.work(slow=0)
    work.finish()
    work.check()
    assert len({tuple(sorted(known.masses.items())) for known in ground.known.values()}) > PHOTOS // 2
    return ground


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs, or is stopped."""
    try:
        return lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def seconds_until(what: Callable[[], object]) -> float:
    """How long it takes for this to be true."""
    began = time.monotonic()
    wait_for(what)
    return time.monotonic() - began
