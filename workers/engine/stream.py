"""One run of the engine: the steps put together, from a message to its acknowledgement. The laws: `workers.engine`."""

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Connection

from pipeline.errors import BackendDown, ModelError, PictographError, ServiceDown
from pipeline.ledger import breaker, redrive, work
from pipeline.records import Lease, PhotoResult, PhotoTask
from workers.engine.classify import Classify
from workers.engine.feeder import Feeder
from workers.engine.flow import Aborted, Budget, Channel, Ranked
from workers.engine.intake import Intake
from workers.engine.merger import Merger
from workers.engine.outages import Patience
from workers.engine.recognise import Recognise
from workers.engine.slots import Slots
from workers.engine.timing import Effort, Stopwatch
from workers.engine.twins import Twins
from workers.holdings import Holdings
from workers.workbench import Bench

log = logging.getLogger(__name__)

LONGEST_ERROR = 300  # characters of an error's text that are kept
# Then a stream stops as if told to: well before Celery's hard limit kills it in mid-work. Where the broker is away for
# longer than that, nobody can ring for the next one: this worker rests until the broker is back.
LONGEST_SECONDS = 780.0


class Stream:
    """Work on one shard and on what is pending after it. Run it once."""

    def __init__(self, bench: Bench, stop: threading.Event) -> None:
        self.bench = bench
        self._watch = Stopwatch()
        self.effort: Effort = self._watch.read(photos=0)  # what it cost, once it has run
        self._stop = stop
        self._deadline = time.monotonic() + LONGEST_SECONDS
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._holdings = Holdings()
        self._tasks: Ranked[PhotoTask] = Ranked()
        self._results: Channel[list[PhotoResult]] = Channel()
        self._twins = Twins(self._tasks)
        self._slots = Slots(bench.buffers, lambda: bench.classifier.batch_photos)
        self._merger = self._make_merger()
        patience = Patience(seconds=bench.settings.lease_seconds, hurried=self._stopping, troubles=bench.heart.troubles)
        self._feeder = self._make_feeder(patience)
        self._intake = self._make_intake(patience)
        self._recognise = self._make_recognise()
        self._classify = Classify(
            classifier=bench.classifier,
            nodes=bench.registered.nodes,
            slots=self._slots,
            results=self._results,
            watch=self._watch,
        )

    def _make_merger(self) -> Merger:
        settings, troubles = self.bench.settings, self.bench.heart.troubles
        return Merger(
            database=self.bench.database,
            registered=self.bench.registered,
            holdings=self._holdings,
            twins=self._twins,
            patience_seconds=settings.patience_seconds,
            # Never hurried: what is done is merged, also when stopping.
            patience=Patience(seconds=settings.lease_seconds, troubles=troubles),
        )

    def _make_feeder(self, patience: Patience) -> Feeder:
        bench = self.bench
        return Feeder(
            database=bench.database,
            patience=patience,
            holdings=self._holdings,
            tasks=self._tasks,
            model_id=bench.registered.model_id,
            owner=bench.heart.worker_id,
            lease_seconds=bench.settings.lease_seconds,
            shards_ahead=bench.tuning.shards_ahead,
            stream_seconds=bench.settings.stream_seconds,
            finish=self._merger.finish,
            stopping=self._stopping,
        )

    def _make_intake(self, patience: Patience) -> Intake:
        bench = self.bench
        return Intake(
            database=bench.database,
            patience=patience,
            fetcher=bench.fetcher,
            decoders=bench.decoders,
            holdings=self._holdings,
            bytes_in_hand=Budget(bench.tuning.fetch_bytes),
            photos_in_hand=Budget(bench.tuning.fetch_photos, resume=bench.tuning.fetch_again_photos),
            slots=self._slots,
            results=self._results,
            troubles=bench.heart.troubles,
            stopping=self._stopping,
        )

    def _make_recognise(self) -> Recognise:
        return Recognise(
            database=self.bench.database,
            registered=self.bench.registered,
            taxonomy=self.bench.taxonomy,
            twins=self._twins,
            fetched=self._intake.fetched,
            fresh=self._intake.fresh,
            results=self._results,
            let_go=self._intake.let_go,
            stopping=self._stopping,
        )

    def run(self, shard_id: int) -> int:
        """Work on this shard and on whatever is pending after it; returns how many photos were merged.

        Raises:
            ServiceDown: the database is away; the leases are released.
            BackendDown: the model does not work any more in this process; nobody was blamed.
            ModelError: the model cannot take what it was given; it was counted against the shards in hand.
            Exception: what nobody thought of; it was counted against the shards in hand.
        """
        first = self._feeder.claim(shard_id)
        if first is None:
            return 0
        self.bench.heart.watch(self._holdings)
        try:
            self._flow(first)
        except BaseException as exc:  # such as a thread that cannot be started: those that run must end all the same
            self._fail(exc)
            for channel in (self._tasks, self._intake.fetched, self._intake.fresh, self._results):
                channel.close()
            for thread in self._threads:  # the next stream uses the same buffers, and what they claim is handed back
                thread.join()
            raise
        finally:
            self.bench.heart.watch(None)
            self._examine_model()
            self._hand_back()
        if self._failure is not None:
            raise self._failure
        self.effort = self._watch.read(photos=self._merger.photos)
        log.info("%s", self.effort)
        return self._merger.photos

    def _flow(self, first: Lease) -> None:
        """Start the threads, be the classifier, and end one step after the other."""
        tuning = self.bench.tuning
        feeding = self._thread("feed", lambda: self._feeder.feed(first))
        fetching = [self._thread("fetch", lambda: self._intake.fetch(self._tasks)) for _ in range(tuning.fetch_threads)]
        recognising = self._thread("recognise", self._recognise.run)
        decoding = [self._thread("decode", self._intake.decode) for _ in range(tuning.decode_processes)]
        merging = self._thread("merge", lambda: self._merger.drain(self._results))
        closing = self._thread("close", lambda: self._close(feeding, fetching, recognising, decoding))
        self._guarded(self._classify.run)
        closing.join()
        self._results.close()  # also after a failure: what is done is merged
        merging.join()

    def _close(
        self,
        feeding: threading.Thread,
        fetching: list[threading.Thread],
        recognising: threading.Thread,
        decoding: list[threading.Thread],
    ) -> None:
        """Tell each step that the one before it has ended."""
        feeding.join()
        self._tasks.close()
        for thread in fetching:
            thread.join()
        self._intake.fetched.close()
        recognising.join()
        self._intake.fresh.close()
        for thread in decoding:
            thread.join()
        self._slots.end()

    def _thread(self, name: str, step: Callable[[], None]) -> threading.Thread:
        def timed() -> None:
            with self._watch.timed(name):
                self._guarded(step)

        thread = threading.Thread(target=timed, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Aborted:
            log.debug("a step ends because another one failed")
        except BaseException as exc:  # kept, and raised by `run` once the threads have ended
            self._fail(exc)

    def _fail(self, error: BaseException) -> None:
        """From now on every step ends; the first error is the one that counts."""
        if self._failure is None:
            self._failure = error
        self._intake.abort()
        self._slots.abort()

    def _stopping(self) -> bool:
        return self._stop.is_set() or self._failure is not None or time.monotonic() > self._deadline

    @property
    def _blameless(self) -> bool:
        """Whether the stream ended well, was told to stop, or met a service or a model that does not work."""
        told = self._stop.is_set() or not isinstance(self._failure, Exception)  # None, SystemExit
        return told or isinstance(self._failure, ServiceDown | BackendDown)

    def _examine_model(self) -> None:
        """After an error of the model: is it what it was given, or does not even see its canaries any more?"""
        if isinstance(self._failure, ModelError) and not isinstance(self._failure, BackendDown):
            try:
                self.bench.classifier.verify()
            except BackendDown as exc:
                self._failure = exc
            except ModelError as exc:
                self._failure = BackendDown(str(exc))

    def _hand_back(self) -> None:
        """Release what is left, so that another worker may have it at once; after a failure of ours, later."""
        leases = self._holdings.leases()
        if not leases:
            return
        blamed = [] if self._blameless else self._holdings.begun() or leases
        try:
            for lease in blamed:
                self._give_up_failing(lease)
            suspects = self._holdings.begun() if isinstance(self._failure, BackendDown) else []
            rest = [lease for lease in leases if lease not in blamed + suspects]
            self.bench.database.run(lambda connection: self._release(connection, rest, suspects))
        except PictographError as exc:
            log.warning("%d leases will have to expire: %s", len(leases), exc)
        self._holdings.drop(leases)

    def _release(self, connection: Connection, leases: list[Lease], suspects: list[Lease]) -> None:
        work.SHARDS.release(connection, leases)
        if suspects:
            breaker.release_suspects(connection, suspects, self.bench.heart.queue, self.bench.heart.host)

    def _give_up_failing(self, lease: Lease) -> None:
        error = _as_text(self._failure)
        failed = self.bench.database.run(lambda connection: redrive.give_up_failing(connection, lease, error))
        log.error("shard %d failed%s: %s", lease.work_id, ", and with it its job" if failed else "", error)


def _as_text(error: BaseException | None) -> str:
    """An error as one line that Postgres can hold."""
    words = f"{type(error).__name__}: {error}".replace("\0", "").encode(errors="backslashreplace").decode()
    return " ".join(words.split())[:LONGEST_ERROR].rstrip(".")
