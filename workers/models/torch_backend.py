"""Models in PyTorch: on a GPU or a CPU with bf16 instructions in bfloat16, else in float32.

What makes it quick: batch norms folded into the convolutions, channels_last, and the whole feature extractor in bf16.
The last layer and the softmax run in float32, because probabilities feed exact arithmetic.
"""

import io
from typing import Any, TypeAlias

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.errors import ModelError
from taxonomy.graph import load as load_taxonomy
from workers.decode.records import Pixels
from workers.models import canary, weights
from workers.models.spec import ModelSpec

CPU_CHUNK = 8  # photos at a time on a CPU, where the activations of more fall out of the cache

_Timm: TypeAlias = Any  # a timm network: a Module with get_classifier and reset_classifier, without types


class TorchModel:
    """A classifier that is ready to run. Make one with `load`; not thread-safe."""

    def __init__(self, spec: ModelSpec, network: _Timm, device: torch.device, dtype: torch.dtype) -> None:
        """Take a timm network in evaluation mode, with its weights, and prepare it for `device`."""
        self.spec = spec
        self.device = device
        self.dtype = dtype
        self.classes = len(load_taxonomy(spec.taxonomy).labels)
        _fold_batch_norms(network)
        self._head = network.get_classifier().to(device)
        network.reset_classifier(0)
        self._features = network.to(device, dtype).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    @classmethod
    def load(cls, spec: ModelSpec, threads: int | None = None) -> "TorchModel":
        """The model with its pinned weights, on the GPU if there is one.

        `threads` bounds the CPU threads of this whole process. ConfigurationError where the weights are not installed,
        ModelError where weights, network and labels do not belong together.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = timm.create_model(spec.network, pretrained=False).eval().requires_grad_(False)
        _load_weights(network, spec)
        return cls(spec, network, device, torch.bfloat16 if _has_bf16(device) else torch.float32)

    def predict(self, pixels: Pixels) -> NDArray[np.float32]:
        """Leaf probabilities [B, L] of uint8 RGB photos [B, size, size, 3], B > 0; each row summing to 1.

        ModelError where a probability is not finite.
        """
        probabilities: NDArray[np.float32] = self.probabilities(torch.from_numpy(pixels)).cpu().numpy()
        if not np.isfinite(probabilities).all():
            raise ModelError(
                f"{self.spec.name} returned numbers that are not finite; its weights or the GPU are broken."
            )
        return probabilities

    @torch.inference_mode()
    def probabilities(self, pixels: Tensor) -> Tensor:
        """As `predict`, on tensors: the result stays on the model's device, unchecked."""
        chunk = CPU_CHUNK if self.device.type == "cpu" else len(pixels)
        return torch.cat([self._forward(pixels[at : at + chunk]) for at in range(0, len(pixels), chunk)])

    def _forward(self, pixels: Tensor) -> Tensor:
        """Normalise, classify and soften one chunk."""
        batch = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)  # NHWC memory is channels_last
        batch = ((batch - self._mean) / self._std).to(self.dtype)
        logits = self._head(self._features(batch).float())
        probabilities = torch.softmax(logits / self.spec.temperature, dim=1)
        evident = (probabilities - self.spec.noise_floor / self.classes).clamp_min_(0)  # the largest is 1 / L or more
        return evident / evident.sum(dim=1, keepdim=True)

    def verify(self) -> None:
        """Check the model against what it said when it was measured; ModelError if it sees the canaries otherwise."""
        canary.check(self.spec, self.predict)


def _load_weights(network: _Timm, spec: ModelSpec) -> None:
    """Fill the network from the pinned file, tensor by tensor in order: the file uses names of its own."""
    stored = torch.load(io.BytesIO(weights.read(spec.weights)), map_location="cpu", weights_only=True)
    wanted = network.state_dict()
    if [tensor.shape for tensor in stored.values()] != [tensor.shape for tensor in wanted.values()]:
        raise ModelError(f"The weights of {spec.name} do not fit timm's {spec.network}; install the pinned versions.")
    network.load_state_dict(dict(zip(wanted, stored.values(), strict=True)))
    classes = len(load_taxonomy(spec.taxonomy).labels)
    if network.get_classifier().out_features != classes:
        raise ModelError(f"{spec.name} does not have the {classes} labels of the taxonomy {spec.taxonomy}.")


def _fold_batch_norms(module: nn.Module) -> None:
    """Multiply each batch norm that follows a convolution into it, leaving the activation; doubles the speed on a CPU.

    Relies on timm's order of children, in which a batch norm directly follows the convolution that feeds it.
    """
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_batch_norms(child)
        previous = (name, child)


def _has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; emulation is slower than float32.

    On a CPU that is asked in a way that older versions of torch do not know; with them, float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
