"""Each stage alone, as the stream runs it, over the photos of a listed job or what was made of them.

A stage gets its input from memory and drops its output, so that it waits for nobody. Its memory is bounded: what is
held is some of the photos, taken again and again.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from typing import TypeVar

import numpy as np

from pictograph.benching import scratch
from pictograph.benching.photos import evenly
from pipeline.annotate import annotate
from pipeline.errors import ConfigurationError, ServiceDown, SkipPhoto
from pipeline.ledger import work
from pipeline.records import Annotation, Code, ItemState, Lease, PhotoResult, PhotoTask
from pipeline.store.merge import merge
from taxonomy.decide import decide
from taxonomy.rollup import Rollup
from workers.decode.records import Decoded, Pixels
from workers.models.classifier import Pending
from workers.workbench import Bench

T = TypeVar("T")

MOST_HELD = 512  # photos that are held decoded or as bytes; as many bytes as the stream may hold, at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A photo that the whole path has seen: what `merge` has to store of it."""

    annotation: Annotation
    sha256: bytes
    taken_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Inputs of the stages, made of the photos of a job."""

    tasks: tuple[PhotoTask, ...]  # all photos of the job, shard by shard
    data: tuple[bytes, ...]  # of some of them, readable or not
    batches: tuple[Pixels, ...]  # full ones, in the classifier's own memory
    seen: tuple[Seen, ...]  # at least one


def hold(bench: Bench) -> Held:
    """Make the inputs, of the one job of the ledger, which is listed and not begun.

    Raises:
        ConfigurationError: not one of the photos that were tried can be read.
    """
    tasks = _tasks(bench)
    data = tuple(bench.fetcher.fetch(task) for task in _held(tasks, bench.tuning.fetch_bytes))
    readable = list(_decoded(bench, data))
    if not readable:
        raise ConfigurationError(f"None of {len(data)} photos could be read; name a source with photographs.")
    pixels = [decoded.pixels for decoded, _ in readable]
    seen = tuple(
        Seen(annotation=note, sha256=hashlib.sha256(body).digest(), taken_at=decoded.taken_at)
        for note, (decoded, body) in zip(_annotated(bench, pixels), readable, strict=True)
    )
    return Held(tasks=tasks, data=data, batches=_full(bench, pixels), seen=seen)


def fetch(bench: Bench, held: Held) -> int:
    """Read every photo of the job from S3, and hash it; how many."""
    spread(lambda task: hashlib.sha256(bench.fetcher.fetch(task)).digest(), held.tasks, bench.tuning.fetch_threads)
    return len(held.tasks)


def decode(bench: Bench, held: Held, photos: int) -> int:
    """Decode so many photos; how many."""
    side = bench.classifier.spec.image_size
    rows = threading.local()

    def one(data: bytes) -> None:
        row = rows.__dict__.setdefault("row", np.empty((side, side, 3), np.uint8))
        try:
            bench.decoders.decode_into(data, row)
        except SkipPhoto:
            return  # it has cost what it costs in the stream

    spread(one, islice(cycle(held.data), photos), bench.tuning.decode_processes)
    return photos


def classify(bench: Bench, held: Held, photos: int) -> int:
    """Classify, roll up and decide full batches, at least so many photos; how many."""
    pending: deque[Pending] = deque()
    done = 0
    for full in cycle(held.batches):
        if done >= photos:
            break
        batch = full[: bench.classifier.batch_photos]  # fewer than at first, where the GPU's memory did not suffice
        if len(pending) == bench.classifier.in_flight:
            annotate(pending.popleft().decided(), bench.registered.nodes)
        pending.append(bench.classifier.start(batch))
        done += len(batch)
    for last in pending:
        annotate(last.decided(), bench.registered.nodes)
    return done


def roll_up(bench: Bench, held: Held, photos: int, *, on_host: bool) -> Callable[[], int]:
    """Ready to do the part of `classify` that is the roll-up: from probabilities to what is stored.

    A GPU rolls up and decides by itself; what the processor does is the rest.
    """
    steps = [_from_probabilities(bench, batch) if on_host else _from_decided(bench, batch) for batch in held.batches]

    def run() -> int:
        done = 0
        for step in cycle(steps):
            if done >= photos:
                break
            done += len(step())
        return done

    return run


def _from_probabilities(bench: Bench, batch: Pixels) -> Callable[[], list[Annotation]]:
    probabilities = bench.classifier.predict(batch)
    ladder = Rollup(bench.taxonomy)
    decision, nodes = bench.registered.decision, bench.registered.nodes
    return lambda: annotate(decide(ladder.masses(probabilities), bench.taxonomy, decision), nodes)


def _from_decided(bench: Bench, batch: Pixels) -> Callable[[], list[Annotation]]:
    decided = bench.classifier.start(batch[: bench.classifier.batch_photos]).decided()
    return lambda: annotate(decided, bench.registered.nodes)


def merge_all(bench: Bench, held: Held) -> int:
    """Claim the shards of the listed job one by one, and store a result of each photo; of how many.

    Raises:
        ServiceDown: the ledger did not take them.
    """
    seen = cycle(held.seen)
    stored = 0
    for lease in _claimed(bench):
        with bench.database.transaction() as connection:
            work.mark_started(connection, lease)
            tasks = work.open_photos(connection, lease)
        _merge(bench, lease, [_result(task, next(seen)) for task in tasks])
        stored += len(tasks)
    return stored


def spread(do: Callable[[T], object], items: Iterable[T], threads: int) -> None:
    """Do it to each of the items, in so many threads; the first error ends it, and is raised."""
    guard = threading.Lock()
    source: Iterator[T] = iter(items)
    failures: list[BaseException] = []

    def take() -> Iterator[T]:
        while not failures:
            with guard:
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item

    def work_on() -> None:
        try:
            for item in take():
                do(item)
        except BaseException as exc:  # kept for the caller's thread
            failures.append(exc)

    running = [threading.Thread(target=work_on, name=f"bench-{n}", daemon=True) for n in range(threads)]
    for thread in running:
        thread.start()
    try:
        for thread in running:
            thread.join()
    except BaseException as exc:  # Ctrl-C: nobody takes another item
        failures.insert(0, exc)
    if failures:
        raise failures[0]


def _tasks(bench: Bench) -> tuple[PhotoTask, ...]:
    """The photos of a listed job, shard by shard; its shards stay as they are."""
    leases = list(_claimed(bench))
    with bench.database.transaction() as connection:
        tasks = tuple(task for lease in leases for task in work.open_photos(connection, lease))
        work.SHARDS.release(connection, leases)
    return tasks


def _merge(bench: Bench, lease: Lease, results: list[PhotoResult]) -> None:
    merged = bench.database.run(
        lambda connection: merge(
            connection,
            model_id=bench.registered.model_id,
            decision_rev=bench.registered.decision_rev,
            results=results,
            leases=[lease],
            patience_seconds=bench.settings.patience_seconds,
        )
    )
    if lease.work_id not in merged.finished or merged.stored != len(results):
        raise ServiceDown(f"The scratch ledger took {merged.stored} of {len(results)} results; start again.")


def _claimed(bench: Bench) -> Iterator[Lease]:
    """The shards of the ledger's one job, each claimed when it is asked for."""
    owner, seconds = bench.heart.worker_id, bench.settings.lease_seconds
    while True:
        lease = bench.database.run(
            lambda connection: work.claim_next_shard(connection, bench.registered.model_id, owner, seconds)
        )
        if lease is None:
            return
        yield lease


def _held(tasks: Sequence[PhotoTask], budget: int) -> list[PhotoTask]:
    """One copy of each photo; where they have more bytes than that, of some, evenly spread."""
    firsts = [task for task in tasks if scratch.is_first_copy(task.key)]
    mean = max(1.0, sum(task.size for task in firsts) / len(firsts))
    return evenly(firsts, max(1, min(MOST_HELD, int(budget / mean))))


def _decoded(bench: Bench, data: Sequence[bytes]) -> Iterator[tuple[Decoded, bytes]]:
    """The photos that can be read, with their bytes."""
    for body in data:
        with suppress(SkipPhoto):
            row = np.empty((bench.classifier.spec.image_size, bench.classifier.spec.image_size, 3), np.uint8)
            yield bench.decoders.decode_into(body, row), body


def _annotated(bench: Bench, pixels: Sequence[Pixels]) -> list[Annotation]:
    """What the model says of each."""
    most = bench.classifier.batch_photos
    chunks = (pixels[at : at + most] for at in range(0, len(pixels), most))
    decided = (bench.classifier.start(np.stack(chunk)).decided() for chunk in chunks)
    return [note for batch in decided for note in annotate(batch, bench.registered.nodes)]


def _full(bench: Bench, pixels: Sequence[Pixels]) -> tuple[Pixels, ...]:
    """One batch more than can be pending, filled with the photos in turn."""
    source = cycle(pixels)
    batches = tuple(bench.classifier.buffer() for _ in range(bench.classifier.in_flight + 1))
    for batch in batches:
        batch[...] = np.stack(list(islice(source, len(batch))))
    return batches


def _result(task: PhotoTask, seen: Seen) -> PhotoResult:
    return PhotoResult(
        task=task,
        state=ItemState.SUCCEEDED,
        code=Code.ABSTAINED if seen.annotation.headline is None else Code.TAGGED,
        annotation=seen.annotation,
        sha256=seen.sha256,
        taken_at=seen.taken_at,
    )
