"""What follows a network whose logits are in this process's memory: numpy, and the same on every backend. No torch."""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from taxonomy.decide import Decided, Decision, decide
from taxonomy.graph import load
from taxonomy.rollup import Rollup
from workers.models.spec import ModelSpec

Logits = NDArray[np.float32]  # [B, L]
Probabilities = NDArray[np.float32]  # [B, L], each row summing to 1


class HostJudge:
    """Softmax, roll-up and decision of one model. Stateless once made."""

    def __init__(self, spec: ModelSpec, decision: Decision) -> None:
        self._spec = spec
        self._decision = decision
        self._taxonomy = load(spec.taxonomy)
        self._rollup = Rollup(self._taxonomy)

    def probabilities(self, logits: Logits) -> Probabilities:
        """Leaf probabilities; ModelError where a logit is not finite."""
        check_finite(logits, self._spec)
        return soften(logits, self._spec.temperature, self._spec.noise_floor)

    def decided(self, logits: Logits) -> Decided:
        """What each photo shows; ModelError where a logit is not finite."""
        masses = self._rollup.masses(self.probabilities(logits))
        return decide(masses, self._taxonomy, self._decision)


def check_finite(numbers: NDArray[np.float32], spec: ModelSpec) -> None:
    """Refuse what no sound network says.

    Raises:
        ModelError: a number is infinite or none at all.
    """
    if not np.isfinite(numbers).all():
        raise ModelError(f"{spec.name} returned numbers that are not finite; its weights or the device are broken.")


def soften(logits: Logits, temperature: float, noise_floor: float) -> Probabilities:
    """Softmax of logits / temperature, without the noise floor (see `ModelSpec`), in float32."""
    scaled = (logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    if noise_floor:
        scaled -= np.float32(noise_floor / scaled.shape[1])
        np.maximum(scaled, 0, out=scaled)  # the largest is 1 / L or more, so something is left
        scaled /= scaled.sum(axis=1, keepdims=True)
    probabilities: Probabilities = scaled
    return probabilities
