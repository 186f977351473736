"""What the engine needs of a model that is ready to run: batches in, decided photos out. Light: no torch."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from taxonomy.decide import Decided
from workers.decode.records import Pixels
from workers.models.spec import ModelSpec


class Pending(Protocol):
    """A batch that the device works on."""

    def decided(self) -> Decided:
        """Wait for it, and decide what each of its photos shows; ModelError if a probability is not finite."""


class Classifier(Protocol):
    """A network with its preprocessing, roll-up and decision, on a device. For one thread."""

    spec: ModelSpec
    runtime: str  # "openvino", "torch"
    device: str  # as it is printed: "cpu", "cuda:0 NVIDIA H200"
    precision: str  # "bf16", "fp32"
    batch_photos: int  # photos of a full batch
    in_flight: int  # batches that may be pending at a time

    def buffer(self) -> Pixels:
        """Memory for one batch, uint8 [batch_photos, size, size, 3], where the device reads it fastest."""

    def start(self, pixels: Pixels) -> Pending:
        """Begin a batch [B, size, size, 3], 0 < B <= batch_photos, which must not change until it is decided."""

    def predict(self, pixels: Pixels) -> NDArray[np.float32]:
        """Leaf probabilities [B, L] of any B > 0, rows summing to 1; ModelError if they are not finite."""

    def verify(self) -> None:
        """ModelError unless the canaries come out as they were measured."""
