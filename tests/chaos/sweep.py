"""One case of the crash-point sweep: kill a process at a point, let fresh ones finish, and look at every number.

A lane runs one case at a time, on a Postgres and a broker of its own; lanes run side by side.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import redis

from pictograph.stack import Endpoints
from pipeline.crashpoints import Point
from pipeline.ledger import redrive, roster, work
from pipeline.ledger.roster import Sign
from pipeline.records import ItemState, WorkState
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from pipeline.store.session import Database
from tests.chaos import album
from tests.chaos.aftermath import Aftermath
from tests.integration.ledger_helpers import Ledger, make, wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REPOSITORY = Path(__file__).resolve().parents[2]
STEP_SECONDS = 120.0  # for one process of a case; it takes about one
LEASE_SECONDS = 2.0
HASTY_LEASE_SECONDS = 0.4  # so that a heart has beaten five times after half a second
SHARD_PHOTOS = 3
PAGE_KEYS = 4
QUEUE = "annotate.small"
DECODER = "workers.decode.child"  # on the command line of each
DEAD = ("dead-1", "dead-2")  # workers whose leases have run out

#: Points that a stream of many shards would pass too rarely: here every message is for one shard.
ONE_SHARD_A_MESSAGE = {Point.PUBLISH_AFTER_COMMIT, Point.PUBLISH_AFTER_SEND, Point.ACK_AFTER, Point.ERASE_MID}
PASSINGS = 5


@dataclass(frozen=True, kw_only=True)
class Case:
    """A point, and the how manieth passing of it."""

    point: Point
    nth: int

    def __str__(self) -> str:
        return f"{self.point}-{self.nth}"


#: Points that no photo passes: tests/integration has a process killed there.
ELSEWHERE = {Point.SCHEDULE_BEFORE_COMMIT, Point.DELIVER_BEFORE_COMMIT}
CASES = tuple(Case(point=point, nth=nth) for point in Point if point not in ELSEWHERE for nth in range(1, PASSINGS + 1))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a case that came out right was like."""

    case: Case
    seconds: float
    closed: int  # photos of jobs, when the process was killed
    deaths: int  # of shards that the ledger has counted
    again: int  # claims of what was claimed before


class Server:
    """The process that forks workers (`tests.chaos.launch`), as its lane sees it."""

    def __init__(self, folder: Path) -> None:
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        self._output = folder / "server"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.launch"],
                cwd=REPOSITORY,
                env=os.environ | quiet,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                bufsize=0,
            )

    def run(self, **orders: object) -> tuple[int, int]:
        """Have a process follow the orders: its pid and its exit code, negative for a signal."""
        with suppress(BrokenPipeError):  # to be told below
            self._process.stdin.write((json.dumps(orders) + "\n").encode())
        pid = self._read()
        try:
            return pid, os.waitstatus_to_exitcode(self._read())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._read()
            raise

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self) -> int:
        if not select.select([self._process.stdout], [], [], STEP_SECONDS)[0]:
            raise TimeoutError(f"no word from a worker within {STEP_SECONDS:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The server of workers has ended: {self._output.read_text()}")
        return int(line)


@dataclass(kw_only=True)
class Lane:
    """Where cases run, one after the other."""

    servers: Endpoints
    folder: Path
    database: Database
    ledger: Ledger
    client: "S3Client"  # of those who may write photos
    broker: redis.Redis
    server: Server

    @classmethod
    @contextmanager
    def opened(cls, servers: Endpoints, folder: Path) -> Iterator[Self]:
        """A lane on these servers, which are nobody else's meanwhile."""
        with ExitStack() as opened:
            database = opened.enter_context(Database(servers.database_url, "sweep lane", connections=4))
            make(database)
            keeper = _keeper(servers)
            create_bucket(keeper, album.BUCKET)
            client = keeper.client()
            opened.callback(client.delete_bucket, Bucket=album.BUCKET)  # this server takes what is in it along
            album.hang_up(client)
            yield cls(
                servers=servers,
                folder=folder,
                database=database,
                ledger=Ledger(database),
                client=client,
                broker=opened.enter_context(redis.Redis.from_url(servers.broker_admin_url)),
                server=opened.enter_context(closing(Server(folder))),
            )

    # ---- a case

    def run(self, case: Case) -> Outcome:
        """Kill at the point, finish, check. AssertionError: something is lost, counted twice, or left behind."""
        begun = time.monotonic()
        self._begin(case)
        doomed = self._launch(case, point=case.point.value, nth=case.nth)
        at_death = self._closed()
        self._check_committed(case, at_death)
        self._let_time_pass()
        self._launch(case)
        self._check(case)
        self._check_nothing_left_behind(doomed)
        claims = self._claims()
        return Outcome(
            case=case,
            seconds=time.monotonic() - begun,
            closed=at_death,
            deaths=self.ledger.one("SELECT coalesce(sum(deaths), 0)::int FROM core.shard"),
            again=len(claims) - len({(by, work_id) for by, work_id, _ in claims}),
        )

    def _begin(self, case: Case) -> None:
        self.ledger.empty()
        self.broker.flushall()
        album.restore(self.client)
        self.events = self.folder / str(case)
        self.events.mkdir()
        self.jobs = (
            self.ledger.submit(source=f"s3://{album.BUCKET}/{album.PLACE}"),
            self.ledger.submit(source=f"s3://{album.BUCKET}/{album.PLACE}{album.TWICE}/", fixed_user=album.TWICE),
        )
        if case.point in (Point.REDRIVE_AFTER_UPDATE, Point.SPLIT_MID):
            self._launch(case, until="listed")
            self._let_workers_die(2 if case.point is Point.SPLIT_MID else 1)

    def _launch(self, case: Case, **orders: object) -> int:
        """One process; its pid. Without a point it must end well, with one it must be killed."""
        settings = _settings(self.servers).model_copy(update=_hurry(case) if "point" in orders else {})
        if case.point is Point.ERASE_MID:
            orders |= {"erase": album.ERASED, "erase_after": 3 if "point" in orders else 0}
        pid, status = self.server.run(
            environment=settings.environment(),
            folder=str(self.events),
            keeper=asdict(_keeper(self.servers)),
            broker_admin_url=self.servers.broker_admin_url,
            **orders,
        )
        expected = -signal.SIGKILL if "point" in orders else 0
        passed = self._passed(pid)
        assert status == expected, f"ended with {status}; passed {passed}; {self._last_words()}"
        if "point" in orders:
            assert passed[case.point] == case.nth
        return pid

    def _let_workers_die(self, times: int) -> None:
        """Every shard was in the hands of workers that are no more; the last lease has not been noticed yet.

        Not those of one photo, which a second death sets aside.
        """
        for worker in DEAD[:times]:
            self.database.run(lambda c: redrive.expire_shards(c, SHARD_PHOTOS, LEASE_SECONDS))
            self.database.run(lambda c, name=worker: roster.note(c, Sign(worker_id=name, queue=QUEUE), LEASE_SECONDS))
            shards = chain.from_iterable(self.ledger.shards(job_id, WorkState.PENDING) for job_id in self.jobs)
            for shard_id in [row.shard_id for row in shards if row.photos > 1]:
                lease = self.ledger.claim(shard_id, worker)
                self.database.run(lambda c, lease=lease: work.mark_started(c, lease))
            self.ledger.expire()

    def _let_time_pass(self) -> None:
        """Every lease has run out, every message has become stale."""
        for table in ("core.shard", "core.list_range"):
            self.ledger.expire(table)
            self.ledger.execute(
                f"UPDATE {table} SET published_at = now() - interval '1 h' WHERE state = {WorkState.QUEUED}"
            )

    # ---- what happened

    def _events(self) -> list[dict]:
        return [json.loads(line) for line in (self.events / "events").read_text().splitlines()]

    def _passed(self, pid: int) -> Counter:
        events = self._events() if (self.events / "events").exists() else []
        return Counter(event["point"] for event in events if event["event"] == "point" and event["pid"] == pid)

    def _claims(self) -> list[tuple]:
        return [(e["by"], e["id"], e["epoch"]) for e in self._events() if e["event"] == "claim"]

    def _closed(self) -> int:
        return self.ledger.one(f"SELECT count(*) FROM core.job_item WHERE state >= {ItemState.SUCCEEDED}")

    def _last_words(self) -> str:
        output = self.events / "output"
        return output.read_text()[-4000:] if output.exists() else "it said nothing"

    # ---- what must be true

    def _check(self, case: Case) -> None:
        Aftermath(ledger=self.ledger, jobs=self.jobs, point=case.point).check()
        claims = Counter(self._claims())
        assert max(claims.values()) == 1, f"claimed twice in the same epoch: {claims}"

    def _check_committed(self, case: Case, closed: int) -> None:
        """A COMMIT that was sent has happened, though the process that sent it never knew."""
        if case.point is Point.MERGE_COMMIT_SENT:
            (before,) = [event["items"] for event in self._events() if event["event"] == "closed before"]
            assert closed > before

    def _check_nothing_left_behind(self, pid: int) -> None:
        """No decode child outlives the killed process for long, nor a backend; no file is left."""
        children = [event["pids"] for event in self._events() if event["event"] == "children"]
        wait_for(lambda: not any(map(_decodes, chain.from_iterable(children))))
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name"
        wait_for(lambda: self.ledger.one(query, name=f"sweep {pid}") == 0)
        assert {path.name for path in self.events.iterdir()} == {"events", "output"}
        known = {"server", *map(str, CASES)}
        assert {path.name for path in self.folder.iterdir()} <= known


def _settings(servers: Endpoints) -> Settings:
    """As workers have them: small shards and pages, so that each point is passed often."""
    return Settings(
        database_url=servers.database_url,
        broker_url=servers.broker_url,
        s3_endpoint_url=servers.s3_endpoint_url,
        s3_access_key_id=servers.s3_reader_access_key_id,
        s3_secret_access_key=servers.s3_reader_secret_access_key,
        lease_seconds=LEASE_SECONDS,
        shard_photos=SHARD_PHOTOS,
        page_keys=PAGE_KEYS,
    )


def _keeper(servers: Endpoints) -> S3Access:
    """The access of those who may write photos."""
    return S3Access(
        endpoint_url=servers.s3_endpoint_url,
        access_key_id=servers.s3_access_key_id,
        secret_access_key=servers.s3_secret_access_key,
        region="us-east-1",
    )


def _hurry(case: Case) -> dict[str, float]:
    """What must be otherwise for the point to be passed often."""
    if case.point is Point.HEARTBEAT_BEFORE:
        return {"lease_seconds": HASTY_LEASE_SECONDS}
    return {"stream_seconds": 1e-9} if case.point in ONE_SHARD_A_MESSAGE else {}


def _decodes(pid: int) -> bool:
    """Whether this process lives, and still is the decode child that it was."""
    try:
        return DECODER in psutil.Process(pid).cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
