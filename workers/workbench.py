"""What an annotate worker process builds once: connections, model, decode children, heartbeat, batch buffers."""

import logging
import os
import threading
from dataclasses import dataclass
from functools import cached_property

from pipeline.errors import BackendDown, ServiceDown
from pipeline.ledger.publish import annotate_queue
from pipeline.ledger.roster import STARTING
from pipeline.settings import Settings
from pipeline.sources.allowed import Allowed
from pipeline.sources.s3 import S3Access
from pipeline.store.catalogue import Registered
from pipeline.store.roles import Role
from pipeline.store.session import Database
from taxonomy.graph import Taxonomy
from taxonomy.graph import load as load_taxonomy
from workers import tuning
from workers.decode.pool import DecodePool
from workers.decode.records import Pixels
from workers.fetch import Fetcher
from workers.guard import Guard
from workers.heart import Heart
from workers.ledger import open_database, registered, worker_id
from workers.models import registry, weights
from workers.models.classifier import Classifier
from workers.models.load import load
from workers.models.spec import ModelSpec
from workers.tuning import SPARE_BUFFERS, Machine, Tuning

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every stream of a worker process uses, one after the other."""

    settings: Settings
    tuning: Tuning
    database: Database
    heart: Heart
    fetcher: Fetcher
    decoders: DecodePool
    classifier: Classifier
    registered: Registered
    taxonomy: Taxonomy

    @cached_property
    def buffers(self) -> list[Pixels]:
        """Memory for the batches under way: made once, because memory that a GPU reads is slow to get."""
        return [self.classifier.buffer() for _ in range(self.classifier.in_flight + SPARE_BUFFERS)]

    @cached_property
    def guard(self) -> Guard:
        """The breaker that opens when the model stops working here."""
        return _guard(self.settings, self.heart, self.heart.queue)

    def close(self) -> None:
        """End the decode children and take this worker off the list."""
        self.decoders.close()
        self.heart.stop()
        self.database.close()


def build_bench(
    settings: Settings, role: Role | None = Role.WORKER, *, stop: threading.Event | None = None, process_id: int = 0
) -> Bench:
    """Everything that a stream needs, ready to run: the model is loaded and has passed its canaries.

    Without a role it acts as the ledger's owner: for who measures it on a ledger that he fills and empties himself.
    `process_id` is what a supervisor started, if not this process; `stop` ends waiting for a model that does not work.

    Raises:
        ConfigurationError, ServiceDown: a part is missing, or away.
        BackendDown: the model does not work here; the breaker is open now.
    """
    tuning.settle()
    database = open_database(settings, "pictograph annotate", role)
    queue = annotate_queue(registry.chosen(settings).name)
    heart = Heart(database, worker_id(), STARTING + queue, settings.lease_seconds, process_id or os.getpid())
    heart.start()
    try:
        bench = _build(settings, database, heart, queue, stop or threading.Event())
    except BaseException:
        heart.stop()
        database.close()
        raise
    heart.listen_to(queue)  # last: from now on others ring for this worker
    return bench


def _build(settings: Settings, database: Database, heart: Heart, queue: str, stop: threading.Event) -> Bench:
    spec = registry.chosen(settings)
    known = registered(database, spec)
    guard = _guard(settings, heart, queue)
    guard.wait(stop)
    if stop.is_set():
        raise BackendDown("This worker was told to stop before its model was tried again.")
    machine = tuning.look()
    try:
        classifier = _load(settings, spec, known, machine)
    except ServiceDown:
        raise
    except Exception as exc:
        raise guard.cannot_start(exc) from exc
    guard.works()
    tuned = tuning.tune(settings, machine, classifier)
    log.info("%s", tuned)
    decoders = DecodePool(
        tuned.decode_processes,
        spec.target,
        max_photo_bytes=settings.max_photo_bytes,
        niceness=tuning.DECODER_NICENESS,
    )
    return Bench(
        settings=settings,
        tuning=tuned,
        database=database,
        heart=heart,
        fetcher=Fetcher(S3Access.of(settings), settings.max_photo_bytes, Allowed.of(settings)),
        decoders=decoders,
        classifier=classifier,
        registered=known,
        taxonomy=load_taxonomy(spec.taxonomy),
    )


def _guard(settings: Settings, heart: Heart, queue: str) -> Guard:
    return Guard(database=heart.database, heart=heart, queue=queue, first_seconds=settings.breaker_seconds)


def _load(settings: Settings, spec: ModelSpec, known: Registered, machine: Machine) -> Classifier:
    classifier = load(
        weights.at_hand(spec, settings),
        known.decision,
        runtime=settings.runtime,
        batch_photos=settings.batch_photos,
        threads=machine.threads,
        models=registry.folder_of(settings),
    )
    classifier.verify()
    return classifier
