"""What every photo must come out as, worked out from its pixels in one quiet process.

The same pure steps as in the product (decode, classify, roll up, decide), but none of its stores, queues, shards and
processes: what a worker wrote down is compared with what the bytes say. The product promises the same bits for a photo
alone and among others, in batches of any size, so equality here is exact.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import annotate
from pipeline.errors import PhotoUnreadable
from pipeline.records import Annotation, Code
from pipeline.settings import Settings
from pipeline.store.catalogue import Registered, stored_decision
from pipeline.store.session import Database
from taxonomy.decide import Decision, decide
from taxonomy.graph import Taxonomy
from taxonomy.graph import load as load_taxonomy
from taxonomy.rollup import Rollup
from workers.decode.pixels import decode
from workers.decode.records import Target
from workers.ledger import register
from workers.models import registry, weights
from workers.models.classifier import Classifier
from workers.models.load import load

DECODERS = 2  # threads; decoding lets go of the interpreter
CHUNK_PHOTOS = 256

T = TypeVar("T")

Pixels = NDArray[np.uint8]  # [size, size, 3]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a photo is to one model under one decision."""

    code: Code  # tagged, abstained, or why it cannot be read
    annotation: Annotation | None = None
    sha256: bytes | None = None  # of the bytes that the model saw


@dataclass(kw_only=True)
class Oracle:
    """One model's word on any bytes, by every decision that it has had. Each content is looked at once."""

    registered: Registered
    decisions: Mapping[int, Decision]  # by revision
    classifier: Classifier
    taxonomy: Taxonomy
    _known: dict[bytes, Mapping[int, Verdict]] = field(default_factory=dict)  # by SHA-256, then by revision

    @classmethod
    def of(cls, settings: Settings, database: Database, model: str) -> "Oracle":
        """Of a model of the ledger, run as a worker would run it."""
        spec = registry.get(model, registry.folder_of(settings))
        registered = register(database, spec)
        with database.transaction() as connection:
            revisions = range(1, registered.decision_rev + 1)
            decisions = {n: stored_decision(connection, registered.model_id, n) for n in revisions}
        classifier = load(
            weights.at_hand(spec, settings),
            registered.decision,
            runtime=settings.runtime,
            models=registry.folder_of(settings),
        )
        classifier.verify()
        taxonomy = load_taxonomy(spec.taxonomy)
        return cls(registered=registered, decisions=decisions, classifier=classifier, taxonomy=taxonomy)

    def look(self, bodies: Iterable[bytes]) -> None:
        """See all of them; the decoders are a chunk ahead of the model."""
        with ThreadPoolExecutor(DECODERS) as decoders:
            before: list[tuple[bytes, Pixels | Code]] = []
            for chunk in _chunks(self._unknown(bodies), CHUNK_PHOTOS):
                futures = [(digest, decoders.submit(_pixels, body, self._target)) for digest, body in chunk]
                self._judge(before)
                before = [(digest, future.result()) for digest, future in futures]
            self._judge(before)

    def verdict(self, body: bytes, revision: int) -> Verdict:
        """What these bytes are under one revision of the decision. `look` has seen them; KeyError if not."""
        return self._known[hashlib.sha256(body).digest()][revision]

    @property
    def _target(self) -> Target:
        return self.classifier.spec.target

    def _unknown(self, bodies: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        met = set(self._known)
        for body in bodies:
            digest = hashlib.sha256(body).digest()
            if digest not in met:
                met.add(digest)
                yield digest, body

    def _judge(self, chunk: list[tuple[bytes, Pixels | Code]]) -> None:
        readable = []
        for digest, seen in chunk:
            if isinstance(seen, Code):
                self._known[digest] = dict.fromkeys(self.decisions, Verdict(code=seen))
            else:
                readable.append((digest, seen))
        if readable:
            self._classify(readable)

    def _classify(self, photos: list[tuple[bytes, Pixels]]) -> None:
        probabilities = self.classifier.predict(np.stack([pixels for _, pixels in photos]))
        masses = Rollup(self.taxonomy).masses(probabilities)
        known: dict[bytes, dict[int, Verdict]] = {digest: {} for digest, _ in photos}
        for revision, decision in self.decisions.items():
            notes = annotate(decide(masses, self.taxonomy, decision), self.registered.nodes)
            for (digest, _), note in zip(photos, notes, strict=True):
                code = Code.ABSTAINED if note.headline is None else Code.TAGGED
                known[digest][revision] = Verdict(code=code, annotation=note, sha256=digest)
        self._known.update(known)


def _pixels(body: bytes, target: Target) -> Pixels | Code:
    try:
        return decode(body, target).pixels
    except PhotoUnreadable as exc:
        return exc.code


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk
