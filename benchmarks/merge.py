"""What it costs to store photos: merged photos per second and CPU time per photo, on an embedded PostgreSQL of its own.

    python benchmarks/merge.py [--photos N] [--user-photos N] [--batch N] [--home DIR]

A library of N photos is listed (page by page, by the code that lists), claimed, and merged in batches three times over:
`first` stores new results, `again` replaces each by another one of a newer decision, `repeat` sends the same once more,
which must change nothing. Results are drawn: leaf probabilities around a label that the user likes, through the real
roll-up and decision, about 34 categories a photo.

CPU time is counted, not guessed: this process (formatting, COPY, driver) and every process of the server (sessions, WAL
writer, checkpointer). `statement_ms` are milliseconds per photo that this process waited for, by statement. At the end
the totals are counted anew; `totals_unlike_recount` must be 0.
"""

import argparse
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from sqlalchemy import Connection, event, text

from pictograph import stack
from pictograph.places import DATABASE, servers
from pipeline.annotate import annotate
from pipeline.ledger import jobs, work
from pipeline.ledger.listing import finish_range, record_page
from pipeline.ledger.requests import JobRequest
from pipeline.records import Annotation, Code, ItemState, Lease, Page, PhotoRef, PhotoResult, PhotoTask
from pipeline.settings import Settings
from pipeline.store.catalogue import Registered, register_model
from pipeline.store.merge import merge
from pipeline.store.migrate import migrate
from pipeline.store.roles import Role
from pipeline.store.session import Database
from pipeline.store.totals import differences
from taxonomy.decide import Decision, decide
from taxonomy.graph import Taxonomy, load
from taxonomy.rollup import Rollup

PAGE = 1000
SHARD = 512
LEASE_SECONDS = 3600.0
PATIENCE_SECONDS = 86_400.0
LIKED = 60  # labels that a user photographs
KINSHIP = 1.6  # how much likelier a label is for each category it shares with the right one
NOISE = 1.5
SHOWN = 12  # statements per phase
LISTED_AT = datetime(2020, 1, 1, tzinfo=UTC)


def main() -> None:
    """Measure once and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_240)
    parser.add_argument("--user-photos", type=int, default=25, help="photos per user")
    parser.add_argument("--batch", type=int, default=512, help="photos per transaction")
    parser.add_argument("--home", type=Path, help="keep the server's data here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or Path(scratch)
        with servers(Settings(home=home), DATABASE) as settings:
            assert settings.database_url is not None
            url = settings.database_url.get_secret_value()
            with (
                Database(url, "merge benchmark") as owner,
                Database(url, "merge benchmark", role=Role.INGEST) as lister,
                Database(url, "merge benchmark", role=Role.WORKER) as worker,
            ):
                found = measure(owner, lister, worker, options.photos, options.user_photos, options.batch)
                print(json.dumps(found, indent=2))
        stack.wait_until_stopped(home)


def measure(
    owner: Database, lister: Database, worker: Database, photos: int, user_photos: int, batch: int
) -> dict[str, object]:
    """List, claim, merge three times, each in the role that does it; the figures of each."""
    migrate(owner)
    taxonomy = load()
    registered = owner.run(lambda c: register_model(c, "drawn", b"drawn".ljust(32, b"\0"), taxonomy, Decision()))
    meter = Meter(lister, worker)
    listing = _list(lister, registered, photos, user_photos, meter)
    with meter.phase() as claiming, meter.over(claiming, photos):
        leases, tasks = _claim(worker, registered)
    batches = [tasks[at : at + batch] for at in range(0, len(tasks), batch)]
    drawn = Drawn(taxonomy, registered)
    phases: dict[str, Phase] = {}
    shape = Counter[str]()
    for name, revision in (("first", 1), ("again", 2), ("repeat", 2)):
        with meter.phase() as phases[name]:
            for number, mine in enumerate(batches):
                results = drawn.results(mine, revision)
                shape.update(_shape(results) if name == "first" else {})
                last = leases if name == "first" and number == len(batches) - 1 else []
                with meter.over(phases[name], len(mine)):
                    _merge(worker, registered, revision, results, last)
    with owner.transaction() as connection:
        wrong = differences(connection)
        rows = {
            table: connection.execute(text(f"SELECT count(*) FROM core.{table}")).scalar_one()
            for table in ("photo_result", "user_category", "category_total")
        }
    return {
        "photos": len(tasks),
        "batch": batch,
        "users_per_batch": round(shape["users"] / len(batches), 1),
        "nodes_per_photo": round(shape["nodes"] / len(tasks), 1),
        "tags_per_photo": round(shape["tags"] / len(tasks), 1),
        "rows": rows,
        "totals_unlike_recount": wrong,
        "listing": listing.figures(),
        "claiming": claiming.figures(),
        **{name: phase.figures() for name, phase in phases.items()},
    }


@dataclass
class Phase:
    """What was used while photos went through."""

    photos: int = 0
    seconds: float = 0.0
    client_s: float = 0.0
    server_s: float = 0.0
    statements: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def figures(self) -> dict[str, object]:
        """Photos per second, and milliseconds per photo."""

        def per_photo(seconds: float) -> float:
            return round(seconds / self.photos * 1000, 4)

        slowest = sorted(self.statements.items(), key=lambda named: -named[1])
        return {
            "photos_per_s": round(self.photos / self.seconds),
            "client_cpu_ms": per_photo(self.client_s),
            "server_cpu_ms": per_photo(self.server_s),
            "cpu_ms": per_photo(self.client_s + self.server_s),
            "statement_ms": {name: per_photo(spent) for name, spent in slowest[:SHOWN]},
        }


class Meter:
    """Measures what this process and the server's processes use."""

    def __init__(self, *databases: Database) -> None:
        self._statements = defaultdict[str, float](float)
        with databases[0].transaction() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        postmaster = psutil.Process(pid).parent()
        assert postmaster is not None
        self._postmaster = postmaster
        for database in databases:
            event.listen(database.engine, "before_cursor_execute", self._before)
            event.listen(database.engine, "after_cursor_execute", self._after)

    @contextmanager
    def phase(self) -> Iterator[Phase]:
        """A phase that lasts as long as the block: what the server does in the background counts too."""
        phase = Phase()
        began = self._server_seconds()
        yield phase
        phase.server_s = self._server_seconds() - began

    @contextmanager
    def over(self, phase: Phase, photos: int) -> Iterator[None]:
        """Add what this process uses in this block to `phase`."""
        self._statements = phase.statements
        client, began = time.process_time(), time.perf_counter()
        yield
        self._statements = defaultdict(float)  # of nobody
        phase.seconds += time.perf_counter() - began
        phase.client_s += time.process_time() - client
        phase.photos += photos

    def _server_seconds(self) -> float:
        """CPU seconds of the server so far, of children that have ended too."""
        times = [process.cpu_times() for process in [self._postmaster, *self._postmaster.children()]]
        ended = self._postmaster.cpu_times()
        return sum(t.user + t.system for t in times) + ended.children_user + ended.children_system

    def _before(self, connection: Connection, *_: object) -> None:
        connection.info["began"] = time.perf_counter()

    def _after(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        label = " ".join(statement.split())[:60]
        self._statements[label] += time.perf_counter() - connection.info["began"]


class Drawn:
    """Results like those of a model: a function of the photo and the revision only."""

    def __init__(self, taxonomy: Taxonomy, registered: Registered) -> None:
        member = taxonomy.membership
        self._kin = KINSHIP * (member @ member.T)
        self._rollup, self._taxonomy, self._registered = Rollup(taxonomy), taxonomy, registered

    def results(self, tasks: list[PhotoTask], revision: int) -> list[PhotoResult]:
        """One result per task."""
        notes = self._notes(tasks, revision)
        return [
            PhotoResult(
                task=task,
                state=ItemState.SUCCEEDED,
                code=Code.TAGGED if note.tags else Code.ABSTAINED,
                annotation=note,
                sha256=task.photo_id.to_bytes(32, "big"),
                taken_at=LISTED_AT.replace(minute=task.photo_id % 60),
            )
            for task, note in zip(tasks, notes, strict=True)
        ]

    def _notes(self, tasks: list[PhotoTask], revision: int) -> list[Annotation]:
        chance = np.random.default_rng([tasks[0].photo_id, revision])
        labels = np.array([self._label(task, chance) for task in tasks])
        logits = self._kin[labels] + NOISE * chance.standard_normal((len(tasks), self._kin.shape[1]))
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        masses = self._rollup.masses(scores / scores.sum(axis=1, keepdims=True))
        return annotate(decide(masses, self._taxonomy, self._registered.decision), self._registered.nodes)

    def _label(self, task: PhotoTask, chance: np.random.Generator) -> int:
        liked: NDArray[np.int64] = np.random.default_rng(_user(task.key)).permutation(self._kin.shape[0])
        return int(liked[chance.integers(LIKED)])


def _list(database: Database, registered: Registered, photos: int, user_photos: int, meter: Meter) -> Phase:
    request = JobRequest(kind="s3", source="s3://photos/", user_rule="{user}/{photo}")
    job_id = database.run(lambda c: jobs.submit(c, request, registered.model_id))
    lease = database.run(lambda c: work.RANGES.claim(c, _range_of(c, job_id), "benchmark", LEASE_SECONDS))
    assert lease is not None
    database.run(lambda c: jobs.start(c, job_id))
    with meter.phase() as phase:
        for at in range(0, photos, PAGE):
            refs = tuple(_ref(n, user_photos) for n in range(at, min(at + PAGE, photos)))
            page = Page(refs=refs, refusals=(), gone=(), cursor=refs[-1].key, last=at + PAGE >= photos)
            with meter.over(phase, len(refs)), database.transaction() as connection:
                record_page(connection, jobs.find(connection, job_id), lease, page, None, SHARD)
    with database.transaction() as connection:
        finish_range(connection, jobs.find(connection, job_id), lease)
    return phase


def _range_of(connection: Connection, job_id: int) -> int:
    query = text("SELECT range_id FROM core.list_range WHERE job_id = :job")
    return int(connection.execute(query, {"job": job_id}).scalar_one())


def _ref(number: int, user_photos: int) -> PhotoRef:
    return PhotoRef(
        bucket="s3://photos",
        key=f"user-{number // user_photos:06d}/photo-{number:08d}.jpg",
        user=f"user-{number // user_photos:06d}",
        etag=f"{number:032x}",
        size=100_000 + number % 1000,
        modified_at=LISTED_AT,
    )


def _user(key: str) -> int:
    return int(key[5:11])


def _claim(database: Database, registered: Registered) -> tuple[list[Lease], list[PhotoTask]]:
    leases: list[Lease] = []
    tasks: list[PhotoTask] = []
    while True:
        with database.transaction() as connection:
            lease = work.claim_next_shard(connection, registered.model_id, "benchmark", LEASE_SECONDS)
        if lease is None:
            return leases, tasks
        with database.transaction() as connection:
            work.mark_started(connection, lease)
            tasks += work.open_photos(connection, lease)
        leases.append(lease)


def _merge(
    database: Database, registered: Registered, revision: int, results: list[PhotoResult], leases: list[Lease]
) -> None:
    database.run(
        lambda connection: merge(
            connection,
            model_id=registered.model_id,
            decision_rev=revision,
            results=results,
            leases=leases,
            patience_seconds=PATIENCE_SECONDS,
        )
    )


def _shape(results: list[PhotoResult]) -> Counter[str]:
    notes = [result.annotation for result in results if result.annotation is not None]
    return Counter(
        users=len({_user(result.task.key) for result in results}),
        nodes=sum(len(note.nodes) for note in notes),
        tags=sum(len(note.tags) for note in notes),
    )


if __name__ == "__main__":
    main()
