"""What an annotate worker process builds once: connections, model, decode children, heartbeat, batch buffers."""

import logging
from dataclasses import dataclass
from functools import cached_property

from pipeline.ledger.redrive import annotate_queue
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access
from pipeline.store.catalogue import Registered
from pipeline.store.session import Database
from taxonomy.graph import Taxonomy
from taxonomy.graph import load as load_taxonomy
from workers import tuning
from workers.decode.pool import DecodePool
from workers.decode.records import Pixels
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.ledger import open_database, register, worker_id
from workers.models import registry, weights
from workers.models.classifier import Classifier
from workers.models.load import load
from workers.tuning import SPARE_BUFFERS, Tuning

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

    def close(self) -> None:
        """End the decode children and take this worker off the list."""
        self.decoders.close()
        self.heart.stop()
        self.database.close()


def build_bench(settings: Settings) -> Bench:
    """Everything that a stream needs, ready to run: the model is loaded and has passed its canaries.

    Raises:
        ConfigurationError, ServiceDown, ModelError: a part is missing, away, or not what it should be.
    """
    tuning.settle()
    database = open_database(settings, "pictograph annotate")
    spec = registry.chosen(settings)
    registered = register(database, spec)
    machine = tuning.look()
    classifier = load(
        weights.at_hand(spec, settings),
        registered.decision,
        runtime=settings.runtime,
        batch_photos=settings.batch_photos,
        threads=machine.threads,
        models=registry.folder_of(settings),
    )
    classifier.verify()
    tuned = tuning.tune(settings, machine, classifier)
    log.info("%s", tuned)
    decoders = DecodePool(
        tuned.decode_processes,
        spec.target,
        max_photo_bytes=settings.max_photo_bytes,
        niceness=tuning.DECODER_NICENESS,
    )
    heart = Heart(database, worker_id(), annotate_queue(spec.name), settings.lease_seconds)
    bench = Bench(
        settings=settings,
        tuning=tuned,
        database=database,
        heart=heart,
        fetcher=Fetcher(S3Access.of(settings), settings.max_photo_bytes),
        decoders=decoders,
        classifier=classifier,
        registered=registered,
        taxonomy=load_taxonomy(spec.taxonomy),
    )
    heart.start()  # last: from now on others ring for this worker
    return bench
