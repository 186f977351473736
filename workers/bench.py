"""What an annotate worker builds once: connections, model, decode children, heartbeat. Imports torch."""

import os

from pipeline.ledger.redrive import annotate_queue
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access
from taxonomy.graph import load as load_taxonomy
from taxonomy.rollup import Rollup
from workers.decode.pool import DecodePool
from workers.engine import Bench
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.ledger import open_database, register, worker_id
from workers.models import registry
from workers.models.torch_backend import TorchModel

MOST_DECODERS = 12


def build_bench(settings: Settings) -> Bench:
    """Everything that a stream needs, ready to run: the model is loaded and has passed its canaries.

    Raises:
        ConfigurationError, ServiceDown, ModelError: a part is missing, away, or not what it should be.
    """
    database = open_database(settings, "pictograph annotate")
    registered = register(database, settings.model)
    spec = registry.get(settings.model)
    model = TorchModel.load(spec)
    model.verify()
    taxonomy = load_taxonomy(spec.taxonomy)
    heart = Heart(database, worker_id(), annotate_queue(spec.name), settings.lease_seconds)
    heart.start()
    return Bench(
        settings=settings,
        database=database,
        heart=heart,
        fetcher=Fetcher(S3Access.of(settings), settings.max_photo_bytes),
        decoders=DecodePool(
            settings.decode_processes or min(os.cpu_count() or 1, MOST_DECODERS),
            spec.target,
            max_photo_bytes=settings.max_photo_bytes,
        ),
        model=model,
        registered=registered,
        taxonomy=taxonomy,
        rollup=Rollup(taxonomy),
        decision=registered.decision,
    )
