"""What a model says in plain float32, photo by photo, with nothing made quick: canaries are measured by it.

Whatever runs a model in earnest is checked against these numbers.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import ModelError
from workers.decode.records import Pixels
from workers.models import canary
from workers.models.spec import Canary, ModelSpec

DIGITS = 6  # of a measured probability


@torch.inference_mode()
def predict(spec: ModelSpec, network: nn.Module, pixels: Pixels) -> NDArray[np.float32]:
    """Leaf probabilities [B, L] of uint8 photos [B, size, size, 3].

    Raises:
        ModelError: a number is not finite.
    """
    mean, std = (np.asarray(each, np.float32) for each in (spec.mean, spec.std))
    rows = []
    for photo in pixels:
        normal = ((photo.astype(np.float32) - mean) / std).transpose(2, 0, 1)[None]
        rows.append(network(torch.from_numpy(np.ascontiguousarray(normal)))[0].numpy())
    logits = np.stack(rows).astype(np.float64)
    if not np.isfinite(logits).all():
        raise ModelError(f"{spec.name} returned numbers that are not finite; its weights are broken.")
    return _soften(spec, logits)


def _soften(spec: ModelSpec, logits: NDArray[np.float64]) -> NDArray[np.float32]:
    scaled = logits / spec.temperature
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    evident = np.maximum(shares - spec.noise_floor / logits.shape[1], 0)  # the largest is 1 / L or more
    probabilities: NDArray[np.float32] = (evident / evident.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def measure(spec: ModelSpec, network: nn.Module) -> tuple[Canary, ...]:
    """The canaries as the network sees them; raises what `predict` raises, of noise as well."""
    predict(spec, network, _noise(spec.image_size))
    pictures = np.stack([canary.draw(picture, spec.image_size) for picture in canary.PICTURES])
    return tuple(
        Canary(picture=picture, top=int(row.argmax()), probability=round(float(row.max()), DIGITS))
        for picture, row in zip(canary.PICTURES, predict(spec, network, pictures), strict=True)
    )


def _noise(size: int) -> Pixels:
    """One picture of noise, always the same: what no photo looks like reaches numbers that no photo reaches."""
    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
