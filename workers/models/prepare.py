"""Making a published network fit to be run: its preprocessing in front, its batch norms folded, in bfloat16.

Everything here keeps what the network says, or says no: what cannot be checked on the network at hand is not done.
"""

import copy
import logging

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from workers.models.spec import ModelSpec

log = logging.getLogger(__name__)

FOLDED_AS_BEFORE = 1e-3  # of the spread of the logits; rounding alone is a hundred times smaller


class Seeing(nn.Module):
    """A network with its normalisation: uint8 photos [B, size, size, 3] in, float32 logits [B, L] out."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: ModelSpec, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise in float32, then run the network in its own precision."""
        photos = pixels.permute(0, 3, 1, 2).float()  # NHWC memory is channels_last
        logits: Tensor = self.network(((photos - self.mean) / self.std).to(self.dtype))
        return logits.float()


class InFloat32(nn.Module):
    """A layer of a bfloat16 network that stays in float32."""

    def __init__(self, layer: nn.Module) -> None:  # float32
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """The layer's output, float32."""
        output: Tensor = self.layer(features.float())
        return output


@torch.no_grad()
def folded(network: nn.Module, size: int) -> nn.Module:
    """The network with each batch norm multiplied into its convolution, which doubles its speed on a CPU.

    A batch norm is taken to follow the convolution that is listed before it. Where that is not how the network is
    wired, or it cannot be done, what the network says changes or fails, and it is left as it is.
    """
    changed = copy.deepcopy(network)
    if not _fold(changed):
        return network
    sample = _sample(size)
    before = network(sample)
    try:
        moved = float((changed(sample) - before).abs().max() / before.std())
    except RuntimeError:
        moved = float("inf")
    if not moved <= FOLDED_AS_BEFORE:  # NaN counts as moved
        log.info("batch norms stay as they are: folded, they would change what the network says")
        return network
    return changed


@torch.no_grad()
def round_weights(network: nn.Module) -> None:
    """Round the weights of all products to bfloat16, in place, so that their errors cancel within each sum.

    What a layer multiplies is mostly positive and much alike from one input to the next, so the errors of a sum that
    all point the same way add up, and those that add up to nothing hardly show. So each weight takes over the error of
    the one before, from the largest to the smallest, as in error diffusion (Floyd & Steinberg 1976). EfficientNet-Lite0
    gives 0.8 % of ImageNet photos another class than the float32 reference of `tests/contract/test_fidelity.py`; with
    each weight rounded to its nearest, 1.8 %.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.copy_(_diffused(module.weight))


def _diffused(weight: Tensor) -> Tensor:
    """Weights [outputs, ...] rounded to bfloat16, as float32; each output's errors add up to nearly nothing."""
    inputs = weight.flatten(1).t().contiguous()
    order = inputs.abs().argsort(dim=0, descending=True)  # the finest steps come last
    ordered = inputs.gather(0, order)
    error = torch.zeros_like(ordered[0])
    for at, exact in enumerate(ordered):
        wanted = exact - error
        ordered[at] = wanted.bfloat16().float()
        error = ordered[at] - wanted
    return inputs.scatter_(0, order, ordered).t().reshape(weight.shape)


@torch.no_grad()
def in_bfloat16(network: nn.Module, labels: int, size: int) -> nn.Module | None:
    """A copy of the network in bfloat16, but for the last layer; None where it does not run so.

    The last layer and what follows it are in float32, because bfloat16 has steps of 6 % where logits are. Layers that
    have as many outputs as there are labels count as the last one.
    """
    changed = copy.deepcopy(network)
    round_weights(changed)
    changed.to(torch.bfloat16)
    for name in [name for name, module in network.named_modules() if _outputs(module) == labels]:
        parent, _, child = name.rpartition(".")
        setattr(changed.get_submodule(parent), child, InFloat32(network.get_submodule(name)))
    try:
        logits = changed(_sample(size).bfloat16())
    except RuntimeError as exc:  # it makes float32 tensors of its own
        log.warning("the network does not run in bfloat16 (%s)", exc)
        return None
    return changed if logits.dtype == torch.float32 else None


def _sample(size: int) -> Tensor:
    """A picture of noise, normalised; the same every time."""
    return torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(1))


def _outputs(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else 0


def _fold(module: nn.Module) -> int:
    """Fold in place, leaving the activation of timm's combined layers; how many there were."""
    number = 0
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
            number += 1
        else:
            number += _fold(child)
        previous = (name, child)
    return number
