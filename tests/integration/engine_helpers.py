"""A bucket of one-coloured photos, a model that only looks at the colour, and streams that work on them."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from ledger_helpers import LABELS, small_taxonomy
from PIL import Image

from pipeline.errors import ModelError
from pipeline.ledger import ending, redrive
from pipeline.records import Code, ItemState, WorkState
from pipeline.sources.s3 import S3Access
from taxonomy.decide import Decision, decide
from taxonomy.rollup import Rollup
from workers.engine.stream import Stream
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.ingest import list_range
from workers.tuning import Tuning
from workers.workbench import Bench

COLOURS = {"dog": (255, 0, 0), "cat": (0, 255, 0), "car": (0, 0, 255), "cup": (255, 255, 255)}
POISON = (0, 0, 0)  # the model cannot take a black photo
USERS = ["ann", "ben", "cleo"]
SIDE = 32  # pixels
TUNING = Tuning(
    model="small",
    runtime="colours",
    precision="fp32",
    device="cpu",
    cores=2,
    batch_photos=8,
    decode_processes=1,
    fetch_threads=4,
    fetch_bytes=1_000_000,
    fetch_photos=16,
    fetch_again_photos=4,
    shards_ahead=2,
)


def jpeg(colour, comment=""):
    """A photo of one colour; with another comment, the same picture in other bytes."""
    file = io.BytesIO()
    Image.new("RGB", (48, 40), colour).save(file, "JPEG", quality=90, comment=comment)
    return file.getvalue()


BODIES = {name: jpeg(colour) for name, colour in COLOURS.items()}


class ColourModel:
    """A classifier with one label per colour. `hook` is called before each batch with the number of the batch."""

    in_flight = 2
    batch_photos = 8
    photos = 0  # that it has looked at

    def __init__(self, hook=lambda _: None):
        self.hook = hook
        self.taxonomy = small_taxonomy()
        self.rollup = Rollup(self.taxonomy)
        self.batches = 0
        self.healthy = True

    def buffer(self):
        return np.zeros((self.batch_photos, SIDE, SIDE, 3), np.uint8)

    def start(self, pixels):
        assert 0 < len(pixels) <= self.batch_photos
        return Waiting(self, pixels)

    def predict(self, pixels):
        self.batches += 1
        self.photos += len(pixels)
        self.hook(self.batches)
        means = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        if (means.max(axis=1) < 20).any():
            raise ModelError("a black photo: the output is not finite")
        nearest = [np.abs(means - COLOURS[name]).sum(axis=1) for name in LABELS]
        probabilities = np.full((len(pixels), len(LABELS)), 0.01, dtype=np.float32)
        probabilities[np.arange(len(pixels)), np.argmin(nearest, axis=0)] = 0.97
        return probabilities

    def verify(self):
        if not self.healthy:
            raise ModelError("the canaries are dead")


@dataclass
class Waiting:
    """A batch that is looked at as late as can be: pixels that change too early would show."""

    model: ColourModel
    pixels: np.ndarray

    def decided(self):
        probabilities = self.model.predict(self.pixels)
        return decide(self.model.rollup.masses(probabilities), self.model.taxonomy, Decision())


class Library:
    """A bucket, jobs over it, and streams that work on them."""

    def __init__(self, ledger, settings, decoders, bucket):
        self.ledger, self.settings, self.decoders, self.bucket = ledger, settings, decoders, bucket
        self.access = S3Access.of(settings)
        self.client = self.access.client(16)
        self.labels = {}
        self.hearts = []

    def put(self, n):
        """n photos of three users; remembers what each shows."""
        names = {f"{USERS[i % 3]}/{i:03d}.jpg": LABELS[i % 4] for i in range(n)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: self.write(item[0], jpeg(COLOURS[item[1]], item[0])), names.items()))
        self.labels |= names

    def write(self, key, body):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def list(self, prefix="", **options):
        job_id = self.ledger.submit(source=f"s3://{self.bucket}/{prefix}", **options)
        heart = Heart(self.ledger.database, "lister", "ingest", self.settings.lease_seconds)
        list_range(self.settings, heart, self.ledger.range_of(job_id), threading.Event())
        return job_id

    def stream(self, model=None, stop=None, database=None, tuning=None, **changes):
        settings = self.settings.model_copy(update=changes)
        database = database or self.ledger.database
        heart = Heart(database, f"worker-{len(self.hearts)}", "annotate.small", settings.lease_seconds)
        heart.start()
        self.hearts.append(heart)
        bench = Bench(
            settings=settings,
            tuning=tuning or TUNING,
            database=database,
            heart=heart,
            fetcher=Fetcher(S3Access.of(settings), settings.max_photo_bytes),
            decoders=self.decoders,
            classifier=model or ColourModel(),
            registered=self.ledger.registered,
            taxonomy=self.ledger.taxonomy,
        )
        return Stream(bench, stop or threading.Event())

    def first(self, job_id):
        return self.ledger.shards(job_id, WorkState.PENDING)[0].shard_id

    def forget_the_pause(self):
        """What failed may be tried again at once."""
        self.ledger.execute("UPDATE core.shard SET next_attempt_at = NULL")

    def run_all(self, job_id, model=None):
        """Streams, one by one, until nothing is pending: what has failed before is not taken ahead."""
        while self.ledger.shards(job_id, WorkState.PENDING):
            self.stream(model).run(self.first(job_id))

    def bring_back(self):
        self.ledger.execute("UPDATE core.job_item SET next_attempt_at = now() WHERE state = 1")
        return self.ledger.database.run(lambda c: redrive.gather_retries(c, 10))

    def codes(self, job_id):
        rows = self.ledger.all(
            "SELECT p.key, i.state, i.code FROM core.job_item i JOIN core.photo p USING (photo_id) WHERE job_id = :j",
            j=job_id,
        )
        return {row.key: (ItemState(row.state), Code(row.code)) for row in rows}

    def tagged(self):
        """key -> name of the headline."""
        rows = self.ledger.all(
            "SELECT p.key, c.name FROM core.photo_result r JOIN core.photo p USING (photo_id) "
            "LEFT JOIN core.category c ON c.node = r.headline"
        )
        return dict(map(tuple, rows))

    def check_all_done(self, job_id):
        assert self.tagged() == self.labels
        assert {row.state for row in self.ledger.shards(job_id)} <= {WorkState.DONE, WorkState.SPLIT}
        assert self.ledger.database.run(ending.finish_jobs) == [job_id]
        self.ledger.check()

    def check_nothing_held(self, job_id):
        assert self.ledger.shards(job_id, WorkState.LEASED) == []
        assert {row.deaths for row in self.ledger.shards(job_id)} == {0}
        self.ledger.check()
