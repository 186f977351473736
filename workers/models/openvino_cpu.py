"""Models in OpenVINO on a CPU: the quickest there, in bfloat16 where the processor has the instructions. No torch.

Theory of operation
    The graph takes one photo. A batch is so many requests, all handed over at once; OpenVINO has a queue for them and
    works on as many as it has streams, in its own threads. More photos per request are no quicker: one fills a core.

Laws
1. What a photo gets does not depend on its neighbours, not by a single bit: it never meets them.
2. Photos are read where the caller has them; logits are written where they are used.
3. The threads are not tied to cores: the decode children, and other workers, need the same ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from taxonomy.decide import Decided, Decision
from workers.decode.records import Pixels
from workers.models import canary
from workers.models.host import HostJudge, Logits, Probabilities
from workers.models.silent_openvino import ov
from workers.models.spec import ModelSpec

IN_FLIGHT = 2  # batches: while one is rolled up, the streams have the next


@dataclass(frozen=True, kw_only=True, slots=True)
class _Requests:
    """What one batch needs, used for one batch after the other."""

    each: list[Any]  # one InferRequest per photo
    logits: Logits  # [batch_photos, L], which they write into


class _Pending:
    """A batch that the streams work on."""

    def __init__(self, model: "OpenVinoClassifier", requests: _Requests, pixels: Pixels) -> None:
        self._model = model
        self._requests: _Requests | None = requests
        self._pixels = pixels  # kept alive for the streams
        self._logits: Logits | None = None

    def logits(self) -> Logits:
        """Wait for the batch; its logits [B, L]."""
        if self._requests is not None:
            photos = len(self._pixels)
            with self._model.errors():
                for request in self._requests.each[:photos]:
                    request.wait()
            self._logits = self._requests.logits[:photos].copy()
            self._model.take_back(self._requests)
            self._requests = None
        assert self._logits is not None
        return self._logits

    def decided(self) -> Decided:
        """See `workers.models.classifier.Pending`."""
        return self._model.judge.decided(self.logits())


class OpenVinoClassifier:
    """A `workers.models.classifier.Classifier` on this machine's CPU."""

    runtime = "openvino"
    device = "cpu"

    def __init__(
        self, spec: ModelSpec, graph: ov.Model | Path, decision: Decision, *, batch_photos: int, threads: int = 0
    ) -> None:
        """Compile the graph of `spec`: one of `openvino_graph.graph`, or the file of one.

        `threads` is how many work on photos at a time; 0 leaves it to OpenVINO: one for each core.
        """
        self.spec = spec
        self.batch_photos = batch_photos
        self.in_flight = IN_FLIGHT
        self.judge = HostJudge(spec, decision)
        wishes = {"PERFORMANCE_HINT": "THROUGHPUT", "ENABLE_CPU_PINNING": False}
        if threads:
            wishes["INFERENCE_NUM_THREADS"] = threads
        with self.errors():
            self._compiled = ov.Core().compile_model(graph, "CPU", wishes)
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = {"bf16": "bf16", "f32": "fp32"}.get(precision, precision)
        self._idle: list[_Requests] = []

    def buffer(self) -> Pixels:
        """See `workers.models.classifier.Classifier`."""
        return np.zeros((self.batch_photos, self.spec.image_size, self.spec.image_size, 3), np.uint8)

    def start(self, pixels: Pixels) -> _Pending:
        """See `workers.models.classifier.Classifier`."""
        if not 0 < len(pixels) <= self.batch_photos:
            raise ValueError(f"a batch has 1 to {self.batch_photos} photos, not {len(pixels)}")
        photos = np.require(pixels, np.uint8, ["C", "W"])  # what OpenVINO can read in place
        requests = self._idle.pop() if self._idle else self._requests()
        with self.errors():
            for photo, request in enumerate(requests.each[: len(photos)]):
                request.set_input_tensor(ov.Tensor(photos[photo : photo + 1], shared_memory=True))
                request.start_async()
        return _Pending(self, requests, photos)

    def predict(self, pixels: Pixels) -> Probabilities:
        """See `workers.models.classifier.Classifier`."""
        starts = range(0, len(pixels), self.batch_photos)
        logits = [self.start(pixels[at : at + self.batch_photos]).logits() for at in starts]
        return self.judge.probabilities(np.concatenate(logits))

    def verify(self) -> None:
        """See `workers.models.classifier.Classifier`."""
        canary.check(self.spec, self.predict)

    def take_back(self, requests: _Requests) -> None:
        """Requests whose batch is over, for the next one."""
        self._idle.append(requests)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """OpenVINO's errors as ours."""
        try:
            yield
        except RuntimeError as exc:
            raise ModelError(f"OpenVINO could not run {self.spec.name} ({exc}).") from exc

    def _requests(self) -> _Requests:
        each = [self._compiled.create_infer_request() for _ in range(self.batch_photos)]
        logits = np.empty((self.batch_photos, self._compiled.output(0).shape[1]), np.float32)
        for photo, request in enumerate(each):
            request.set_output_tensor(ov.Tensor(logits[photo : photo + 1], shared_memory=True))
        return _Requests(each=each, logits=logits)


def multiplies_bf16() -> bool:
    """Whether this CPU has the instructions, so that OpenVINO chooses bfloat16."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
