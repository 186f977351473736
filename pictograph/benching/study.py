"""The rounds: end to end, then each stage alone, and again; so that a machine that gets slower slows all of them.

Every measurement of the database begins with an empty ledger: it writes every row for the first time, as a first job
over a source does.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from pictograph.benching import scratch, stages
from pictograph.benching.figures import STAGES, Round, Stretch, Summary, summary
from pictograph.benching.meter import Meter, peak_memory
from pictograph.benching.photos import copies_needed, originals
from pictograph.benching.stages import Held
from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger.jobs import Job
from pipeline.records import Code, ItemState
from pipeline.settings import Settings
from pipeline.sources.opening import kind_of
from workers.engine.stream import Stream
from workers.engine.timing import Effort
from workers.tuning import Tuning
from workers.workbench import Bench, build_bench

WARM_PHOTOS = 64  # go through everything before the first round: connections, caches, children that start
WARM, MEASURED = "warm/", "measured/"  # prefixes in the scratch bucket

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be measured, and how often."""

    source: str | None  # None: the photographs of the demonstration
    photos: int  # different ones, at most
    copies: int  # of each; 0: as many as make enough to be measured
    rounds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What was measured, and on what."""

    tuning: Tuning
    originals: int  # different photos
    photos: int  # with their copies
    mean_photo_bytes: float
    counts: dict[tuple[ItemState, Code], int]  # how the photos of the last round ended
    rounds: int
    found: Summary

    @property
    def readable(self) -> float:
        """Share of the photos that the model has seen."""
        return sum(n for (state, _), n in self.counts.items() if state is ItemState.SUCCEEDED) / self.photos


def study(request: Request, settings: Settings, progress: Progress) -> Study:
    """Measure, in a scratch installation that is gone afterwards, however this ends.

    Raises:
        ConfigurationError, ServiceDown, ModelError: no photos, no room, no model, or servers that do not start.
    """
    if request.source is not None:
        kind_of(request.source)  # before anything is started for it
    progress("Starting scratch servers in a temporary folder ...")
    with scratch.scratch(settings) as place:
        with originals(request.source, request.photos, settings) as photos:
            copies = copies_needed(photos, request.copies)
            progress(f"Uploading {len(photos) * copies:,} photos ({len(photos):,} different ones) ...")
            scratch.upload(place, photos[:WARM_PHOTOS], 1, WARM)
            sizes = scratch.upload(place, photos, copies, MEASURED)
        if not sizes:
            raise ConfigurationError(f"None of the {len(photos):,} photos can be read; check who may read them.")
        progress("Loading the model ...")
        with closing(build_bench(place, role=None)) as bench:
            rounds, job = _Rounds(bench, len(sizes) * copies, progress).run(request.rounds)
            return Study(
                tuning=bench.tuning,
                originals=len(sizes),
                photos=len(sizes) * copies,
                mean_photo_bytes=sum(sizes) / len(sizes),
                counts=job.counts,
                rounds=len(rounds),
                found=summary(rounds, bench.tuning.cores, shared=on_cores(bench.tuning)),
            )


def on_cores(tuning: Tuning) -> bool:
    """Whether the model runs on the cores that do everything else, too."""
    return tuning.device.startswith("cpu")


class _Rounds:
    """Measures a number of photos that lie in the scratch bucket."""

    def __init__(self, bench: Bench, photos: int, progress: Progress) -> None:
        self._bench = bench
        self._photos = photos
        self._progress = progress
        self._shared = on_cores(bench.tuning)
        self._meter = Meter(scratch.keeper_pid(bench.settings), bench.tuning.cores)
        self._held: Held | None = None

    def run(self, number: int) -> tuple[list[Round], Job]:
        """At least one round; and the job of the last one."""
        self._progress("Warming up ...")
        warm = scratch.submit(self._bench, WARM)
        scratch.list_photos(self._bench, warm)
        self._work_off(warm)
        rounds = []
        for n in range(1, number + 1):
            self._progress(f"Round {n} of {number}: end to end, {self._photos:,} photos ...")
            job_id, listing = self._listed()
            stream, efforts, memory = self._end_to_end(job_id)
            job, differing = scratch.outcome(self._bench, job_id)
            self._progress(f"Round {n} of {number}: each stage alone ...")
            alone = self._alone()
            rounds.append(
                Round(
                    listing=listing,
                    stream=stream,
                    stages={name: alone[name] for name in STAGES},
                    roll_up=alone["roll up"],
                    threads=_added(effort.cpu_seconds for effort in efforts),
                    starved_seconds=sum(effort.starved_seconds for effort in efforts),
                    peak_memory_bytes=memory,
                    differing_totals=differing,
                )
            )
        return rounds, job

    def _end_to_end(self, job_id: int) -> tuple[Stretch, list[Effort], int]:
        """The stream over a listed job, what it says of itself, and its most memory in bytes."""
        efforts: list[Effort] = []

        def run() -> int:
            efforts.extend(self._work_off(job_id))
            return sum(effort.photos for effort in efforts)

        with peak_memory(lambda: self._bench.decoders.pids) as peak:
            stream = self._measured(run)
        return stream, efforts, peak.bytes

    def _alone(self) -> dict[str, Stretch]:
        """Each stage, by name."""
        bench, photos = self._bench, self._photos
        self._listed()
        held = self._held = self._held or stages.hold(bench)
        roll_up = stages.roll_up(bench, held, photos, on_host=self._shared)
        return {
            "fetch": self._measured(lambda: stages.fetch(bench, held)),
            "decode": self._measured(lambda: stages.decode(bench, held, photos)),
            "classify": self._measured(lambda: stages.classify(bench, held, photos)),
            "roll up": self._measured(roll_up),
            "merge": self._measured(lambda: stages.merge_all(bench, held)),
        }

    def _listed(self) -> tuple[int, Stretch]:
        """A new job in an empty ledger, its photos listed."""
        scratch.empty(self._bench.database)
        job_id = scratch.submit(self._bench, MEASURED)
        return job_id, self._measured(lambda: scratch.list_photos(self._bench, job_id))

    def _work_off(self, job_id: int) -> list[Effort]:
        """Run streams until nothing of the job is left; one does, unless there is more work than one may take."""
        efforts = []
        while (shard_id := scratch.pending_shard(self._bench, job_id)) is not None:
            stream = Stream(self._bench, threading.Event())
            if not stream.run(shard_id):
                raise ServiceDown("A shard of the scratch ledger cannot be claimed; try again.")
            efforts.append(stream.effort)
        return efforts

    def _measured(self, do: Callable[[], int]) -> Stretch:
        """What it took to do something with as many photos as it says."""
        before = self._meter.read()
        photos = do()
        stretch = before.until(self._meter.read(), photos)
        if not photos:
            raise ServiceDown("The scratch servers did not take part; try again.")
        return stretch


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sums, by name."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
