"""A model that knows photos by their colour, for tests that need no network, and what it must say of given bytes.

Each of its photos comes out with other masses, so one that was swapped for another one shows. The colours are far
enough apart for what JPEG does to them.
"""

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.annotate import annotate
from pipeline.records import Annotation
from taxonomy.decide import Decided, Decision, decide
from taxonomy.graph import Taxonomy
from taxonomy.rollup import Rollup
from tests.integration.ledger_helpers import small_taxonomy
from workers.decode.records import Pixels, Target

TARGET = Target(size=32, resize=36)
LABELS = 4  # of the small taxonomy; red says which one is sure
SHARES = 11  # green says how the rest is divided
TOLD_APART = LABELS * SHARES  # photos with masses of their own
MAIN, REST, ALL = 54, 10, 64  # 54 of 64 parts for the sure label


def photo(number: int) -> bytes:
    """The JPEG of a number below `TOLD_APART`."""
    label, share = divmod(number, SHARES)
    file = io.BytesIO()
    Image.new("RGB", (48, 40), (32 + 64 * label, 8 + 16 * share, 128)).save(file, "JPEG", quality=90)
    return file.getvalue()


def probabilities(pixels: Pixels) -> NDArray[np.float32]:
    """[B, labels], each a whole number of 64ths, so that no order of summing changes a mass."""
    means = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
    label = means[:, 0].astype(int) // 64
    share = np.minimum(means[:, 1].astype(int) // 16, REST)
    rows = np.arange(len(pixels))
    found = np.zeros((len(pixels), LABELS), np.float32)
    found[rows, label] = MAIN
    found[rows, (label + 1) % LABELS] = share
    found[rows, (label + 2) % LABELS] = REST - share
    return found / ALL


@dataclass
class ColourModel:
    """A classifier without weights."""

    batch_photos: int = 2
    in_flight: int = 2
    taxonomy: Taxonomy = field(default_factory=small_taxonomy)

    def __post_init__(self) -> None:
        self._rollup = Rollup(self.taxonomy)

    def buffer(self) -> Pixels:
        """Memory for a batch."""
        return np.zeros((self.batch_photos, TARGET.size, TARGET.size, 3), np.uint8)

    def start(self, pixels: Pixels) -> "Batch":
        """Begin a batch; it is looked at as late as can be."""
        return Batch(self, pixels)

    def predict(self, pixels: Pixels) -> NDArray[np.float32]:
        """Leaf probabilities."""
        return probabilities(pixels)

    def decide(self, pixels: Pixels) -> Decided:
        """What the photos show."""
        return decide(self._rollup.masses(self.predict(pixels)), self.taxonomy, Decision())

    def verify(self) -> None:
        """It cannot fail."""

    def annotation(self, body: bytes, nodes: NDArray[np.int16]) -> Annotation:
        """What a photo must come out as, from its bytes and by another decoder than the product's."""
        with Image.open(io.BytesIO(body)) as image:
            pixels = np.asarray(image.convert("RGB"))[np.newaxis]
        return annotate(self.decide(pixels), nodes)[0]


@dataclass(frozen=True)
class Batch:
    """Photos that the model has not looked at yet."""

    model: ColourModel
    pixels: Pixels

    def decided(self) -> Decided:
        """Look at them now."""
        return self.model.decide(self.pixels)
