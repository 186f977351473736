"""Models in torch on a CPU: the plain fallback, for networks or machines that OpenVINO cannot take.

In bfloat16 where the processor has the instructions, else in float32.
"""

import numpy as np
import torch
from torch import nn

from taxonomy.decide import Decided, Decision
from taxonomy.graph import load as load_taxonomy
from workers.decode.records import Pixels
from workers.models import canary
from workers.models.host import HostJudge, Logits, Probabilities
from workers.models.prepare import Seeing, folded, in_bfloat16
from workers.models.spec import ModelSpec

CHUNK = 8  # photos at a time; the activations of more fall out of the cache


class _Pending:
    """A batch that runs when its outcome is asked for: a CPU has nothing to do beside it."""

    def __init__(self, model: "TorchCpuClassifier", pixels: Pixels) -> None:
        self._model = model
        self._pixels = pixels

    def decided(self) -> Decided:
        """See `workers.models.classifier.Pending`."""
        return self._model.judge.decided(self._model.logits(self._pixels))


class TorchCpuClassifier:
    """A `workers.models.classifier.Classifier` on this machine's CPU."""

    runtime = "torch"
    device = "cpu"

    def __init__(
        self, spec: ModelSpec, network: nn.Module, decision: Decision, *, batch_photos: int, bf16: bool
    ) -> None:
        """Prepare `network`, which is float32 and may be changed."""
        self.spec = spec
        self.batch_photos = batch_photos
        self.in_flight = 1
        self.judge = HostJudge(spec, decision)
        quick = folded(network, spec.image_size)
        low = in_bfloat16(quick, len(load_taxonomy(spec.taxonomy).labels), spec.image_size) if bf16 else None
        self.precision = "fp32" if low is None else "bf16"
        seeing = Seeing(quick, spec) if low is None else Seeing(low, spec, torch.bfloat16)
        self._network = seeing.eval().to(memory_format=torch.channels_last)

    def buffer(self) -> Pixels:
        """See `workers.models.classifier.Classifier`."""
        return np.zeros((self.batch_photos, self.spec.image_size, self.spec.image_size, 3), np.uint8)

    def start(self, pixels: Pixels) -> _Pending:
        """See `workers.models.classifier.Classifier`."""
        if not 0 < len(pixels) <= self.batch_photos:
            raise ValueError(f"a batch has 1 to {self.batch_photos} photos, not {len(pixels)}")
        return _Pending(self, pixels)

    def predict(self, pixels: Pixels) -> Probabilities:
        """See `workers.models.classifier.Classifier`."""
        return self.judge.probabilities(self.logits(pixels))

    def verify(self) -> None:
        """See `workers.models.classifier.Classifier`."""
        canary.check(self.spec, self.predict)

    @torch.inference_mode()
    def logits(self, pixels: Pixels) -> Logits:
        """Logits [B, L] of any number of photos, in chunks of one size: other sizes have other kernels."""
        found = [self._chunk(pixels[at : at + CHUNK]) for at in range(0, len(pixels), CHUNK)]
        return np.concatenate(found)

    def _chunk(self, pixels: Pixels) -> Logits:
        full = np.require(pixels, np.uint8, ["C", "W"])  # what torch can read in place
        if len(pixels) < CHUNK:
            full = np.zeros((CHUNK, *pixels.shape[1:]), np.uint8)
            full[: len(pixels)] = pixels
        logits: Logits = self._network(torch.from_numpy(full)).numpy()
        return logits[: len(pixels)]


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively; emulation is slower than float32.

    Asked in a way that older versions of torch do not know; with them, no.
    """
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
