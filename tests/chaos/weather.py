"""One storm from beginning to end: the site, the storm over it, and what is found when it has passed."""

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from pipeline.store.session import Database
from tests.chaos.corpus import Corpus
from tests.chaos.figures import growth, read_logs, recovery, taken_up
from tests.chaos.history import History
from tests.chaos.invariants import Finding, Judge, Truth
from tests.chaos.mounts import on_small_disk
from tests.chaos.nemesis import counted
from tests.chaos.oracle import Oracle
from tests.chaos.report import Report, summary_of, versions
from tests.chaos.servers import wait_for
from tests.chaos.shelf import PREFIX
from tests.chaos.site import BRIEF, Site
from tests.chaos.storm import Storm, Wish, logs_of, open_storm

SETTINGS = {"watchdog_seconds": 15}  # more than a short freeze, less than one for good
STOP_SECONDS = 90.0  # a supervisor ends its workers gently, and then less gently
MOST_GROWTH = 1.0  # MB per 1,000 photos, in the median
LEAST_PROCESSES = 3  # of fewer nothing is said: each fills its buffers at first

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A storm that is over: the servers still run, the workers do not."""

    storm: Storm
    history: History
    judge: Judge
    left: list[str]  # who and what was still there when all workers had been told to go
    clock: "_Clock"

    def report(self) -> Report:
        """What came of it."""
        findings = self.judge.findings()
        self.clock.lap("judge")
        return _report(self.storm, self.history, [*findings, *_watched(self.storm, self.left)], self.clock)


@contextmanager
def weather(wish: Wish, out: Path, *, may_mount: bool = False) -> Iterator[Passed]:
    """A storm; what it leaves lies in `out`. Without the right to mount, no disk is full."""
    clock = _Clock()
    corpus = Corpus.of(wish.seed, wish.photos, wish.users)
    bodies = corpus.make()
    clock.lap("corpus")
    with ExitStack() as stack:
        site = stack.enter_context(Site(out / "site", seed=wish.seed, **SETTINGS))
        assert site.direct.database_url is not None
        reading = stack.enter_context(Database(site.direct.database_url.get_secret_value(), "chaos reader"))
        storm = open_storm(site, wish, reading, corpus, bodies)
        if may_mount:
            storm.nemesis.arena.fill_disk = on_small_disk(site)
        storm.run()
        clock.lap("storm")
        storm.calm_jobs()
        clock.lap("quiet")
        left = _stop_workers(storm)
        clock.lap("stop")
        history = History.read(site.database)
        _write_events(out, storm, history)
        judge = Judge(database=site.database, truth=_truth(storm, history))
        clock.lap("oracle")
        yield Passed(storm=storm, history=history, judge=judge, left=left, clock=clock)


class _Clock:
    """How long each phase took."""

    def __init__(self) -> None:
        self.began = time.time()
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """This phase is over."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 1)
        self._last = now
        log.info("%s took %.1f s", name, self.laps[name])


def _stop_workers(storm: Storm) -> list[str]:
    """TERM to everybody; who and what is still there afterwards."""
    for head in storm.heads:
        head.terminate()
    for head in storm.heads:
        head.wait(STOP_SECONDS)
    found = []
    try:
        wait_for(lambda: not storm.census.left(), STOP_SECONDS)
    except TimeoutError:
        found = [f"{process} still runs" for process in storm.census.left()]
    query = """SELECT pid, application_name, state FROM pg_stat_activity
               WHERE application_name LIKE 'pictograph%' AND backend_type = 'client backend'"""
    with storm.site.database.transaction() as connection:
        found += [f"backend {tuple(row)} has nobody" for row in connection.execute(text(query))]
    return found


def _truth(storm: Storm, history: History) -> Truth:
    things = storm.shelf.everything()
    oracles = []
    for model in storm.models:
        oracle = Oracle.of(storm.site.direct, storm.site.database, model.name)
        oracle.look(thing.body for thing in things.values())
        oracles.append(oracle)
    return Truth(
        things=things,
        unreadable=frozenset(PREFIX + item.key for item in storm.shelf.corpus.items if not item.sound),
        taken_away=frozenset(storm.shelf.taken_away),
        erased=frozenset(storm.erased),
        oracles=oracles,
        history=history,
        mending=storm.mending,
    )


def _watched(storm: Storm, left: list[str]) -> list[Finding]:
    """What was seen while the storm went on, and when everybody had gone."""
    return [
        Finding.of("I3 snapshots", "a reader saw totals that differ from a recount", storm.reader.wrong),
        Finding.of("I10 orphans", "a process or a connection without anybody", [*storm.census.orphans, *left]),
    ]


def _report(storm: Storm, history: History, findings: list[Finding], clock: _Clock) -> Report:
    site, nemesis, wish = storm.site, storm.nemesis, storm.wish
    bites: Counter[str] = Counter()
    for proxy in site.proxies.values():
        bites += proxy.bites
    slopes = growth(storm.census, history, BRIEF["decode_processes"])
    grown = [
        f"{role}: {found['median']} MB per 1,000 photos"
        for role, found in slopes.items()
        if found["median"] > MOST_GROWTH and found["processes"] >= LEAST_PROCESSES
    ]
    return Report(
        seed=wish.seed,
        minutes=wish.minutes,
        photos=wish.photos,
        users=wish.users,
        began=datetime.fromtimestamp(clock.began, UTC).isoformat(timespec="seconds"),
        seconds=clock.laps,
        versions=versions(),
        settings={**BRIEF, **SETTINGS},
        summary=summary_of(nemesis.injuries, bites),
        inflicted=dict(counted(nemesis.injuries)),
        bites=dict(bites),
        missed=dict(nemesis.missed),
        busy_share=storm.reader.busy_share(storm.began, storm.calmed),
        counts=_counts(storm, history),
        findings=[*findings, Finding.of("I12 growth", "processes that grow with the photos they see", grown)],
        recovery=recovery(nemesis.injuries, history, storm.reader, storm.calmed),
        taken_up=taken_up(nemesis.injuries, history),
        growth=slopes,
        said=read_logs(logs_of(site), site.postgres.log),
    )


def _counts(storm: Storm, history: History) -> dict[str, int | float]:
    items = storm.shelf.corpus.items
    return {
        "photos": len(storm.shelf.revisions),
        "malformed": sum(not item.sound for item in items),
        "contents overwritten": sum(storm.shelf.revisions[n] > 1 for n in storm.shelf.revisions),
        "deleted": len(storm.shelf.taken_away),
        "users erased": len(storm.erased),
        "photos overwritten to keep workers busy": storm.filled,
        "photos that jobs worked on": history.worked,
        "contents stored": history.stored,
        "results brought by merges": history.offered,
        "results refused as repeated or old": history.offered - history.stored,
        "photos fetched": storm.site.proxies["s3"].served,
        "wasted work: photos fetched for each worked on": waste(storm, history),
        "messages sent twice": storm.nemesis.arena.sent_twice,
        "recounts by the reader": storm.reader.recounts,
        "seconds from the end of the storm to quiet": round(storm.quiet_after_storm, 1),
    }


def waste(storm: Storm, history: History) -> float:
    """How many photos were fetched for each that had to be; 1 is none wasted."""
    return round(storm.site.proxies["s3"].served / max(1, history.worked), 3)


def _write_events(out: Path, storm: Storm, history: History) -> None:
    with (out / "events.jsonl").open("w", encoding="utf-8") as file:
        for event in history.events:
            file.write(json.dumps(asdict(event)) + "\n")
    with (out / "injuries.jsonl").open("w", encoding="utf-8") as file:
        for injury in storm.nemesis.injuries:
            file.write(json.dumps(asdict(injury)) + "\n")
