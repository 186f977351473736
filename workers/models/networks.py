"""From a model's description to the network with its weights: float32, on the CPU, as its authors published it.

Weights are tensors and nothing else: safetensors, or torch's format read with `weights_only=True`, which executes no
code of the file. Every tensor must fit the network by name and shape.
"""

import hashlib
import io
import pickle
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import safetensors.torch
import timm
import torch
import torchvision
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.errors import ConfigurationError, ModelError
from taxonomy.graph import load as load_taxonomy
from workers.models import weights
from workers.models.spec import RANDOM, ModelSpec

TIMM, TORCHVISION = "timm", "torchvision"

Tensors = Mapping[str, Tensor]

_PLAIN = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")  # no address of a hub or a folder
_NESTED = ("state_dict", "model")  # under which training scripts store the tensors
_TRAINING_ONLY = ("aux1.", "aux2.", "AuxLogits.")  # heads of googlenet and inception_v3 that only training uses
_COUNTER = "num_batches_tracked"  # of a batch norm; says nothing, and older files do not have it
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
_SHOWN = 3  # tensors that a message names


def build(spec: ModelSpec) -> nn.Module:
    """The network of `spec` in evaluation mode, float32, with its pinned weights.

    It takes normalised photos [B, 3, size, size] and gives logits [B, L].

    Raises:
        ConfigurationError: there is no such network, or the weights are not here.
        ModelError: weights, network and labels do not belong together, or the weights are not those that were pinned.
    """
    if spec.weights.random:
        network = seeded(spec.network, spec.weights.uri)
        if hash_of(network) != spec.weights.sha256:
            raise ModelError(f"This version of torch draws other random weights than {spec.name} had; add it again.")
    else:
        network = architecture(spec.network)
        stored = tensors(weights.read(spec.weights), spec.name)
        fill(network, in_order(stored, network, spec) if spec.weights.ordered else stored, spec)
    _check_labels(network, spec)
    return network


def architecture(name: str) -> nn.Module:
    """The network `timm:NAME` or `torchvision:NAME` in evaluation mode, its weights not yet what they should be.

    Raises:
        ConfigurationError: there is none of that name that classifies photos.
    """
    source, plain = known(name)
    if source == TIMM:
        network: nn.Module = timm.create_model(plain, pretrained=False)
    else:
        network = torchvision.models.get_model(plain, weights=None, **_torchvision_options(plain))
    return network.eval().requires_grad_(False)


def known(name: str) -> tuple[str, str]:
    """The source of a network and its name there; ConfigurationError, with close names, where there is none."""
    source, _, plain = name.partition(":")
    if source == TIMM and _PLAIN.fullmatch(plain) and timm.is_model(plain):
        return source, plain
    if source == TORCHVISION and plain in torchvision.models.list_models(module=torchvision.models):
        return source, plain
    among = timm.list_models() if source == TIMM else torchvision.models.list_models(module=torchvision.models)
    close = get_close_matches(plain or source, among, n=1)
    kind = source if source == TIMM else TORCHVISION
    hint = f"did you mean {kind}:{close[0]}?" if close else "write timm:NAME or torchvision:NAME."
    raise ConfigurationError(f"There is no network {name!r}; {hint}")


def _torchvision_options(name: str) -> dict[str, bool]:
    """The published weights of these two expect TensorFlow's normalisation, made from ImageNet's inside the network."""
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "transform_input": True, "init_weights": False}
    return {}


def seeded(name: str, uri: str) -> nn.Module:
    """The network with random weights; `uri` is random:SEED, and the same seed draws the same weights."""
    seed = uri.removeprefix(RANDOM)
    if not (seed.isdecimal() and seed.isascii() and len(seed) <= 18):
        raise ConfigurationError(f"{uri!r} has no seed; write random:0, or another number.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return architecture(name)


def hash_of(network: nn.Module) -> str:
    """Hex SHA-256 over the names and bytes of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def tensors(data: bytes, name: str) -> dict[str, Tensor]:
    """The named tensors of a safetensors or torch file, in its order.

    Raises:
        ModelError: it is neither, is damaged, or holds more than tensors.
    """
    if data[8:9] == b"{":
        try:
            return safetensors.torch.load(data)
        except SafetensorError as exc:
            raise ModelError(f"The weights of {name} are a damaged safetensors file ({exc}).") from exc
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise ModelError(
            f"The weights of {name} are no safetensors file, and as a torch file they are damaged, or hold more than "
            "tensors and might run code; ask for safetensors."
        ) from exc
    except Exception as exc:  # of damaged bytes the parser says so with whatever error they lead it to
        raise ModelError(f"The weights of {name} are neither a safetensors nor a torch file, or damaged.") from exc
    for key in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in found.items()):
        raise ModelError(f"The weights of {name} are no table of named tensors; save the network's state_dict().")
    return found


def in_order(stored: Tensors, network: nn.Module, spec: ModelSpec) -> dict[str, Tensor]:
    """The tensors of a file with names of its own under the network's names, one after the other."""
    wanted = network.state_dict()
    if [tensor.shape for tensor in stored.values()] != [tensor.shape for tensor in wanted.values()]:
        raise ModelError(f"The weights of {spec.name} do not fit {spec.network}; install the pinned versions.")
    return dict(zip(wanted, stored.values(), strict=True))


def fill(network: nn.Module, stored: Tensors, spec: ModelSpec) -> None:
    """Give the network its tensors; ModelError, with the first that differ, unless every one fits."""
    wanted = network.state_dict()
    have = {_renamed(name): tensor for name, tensor in stored.items()}
    have = {name: each for name, each in have.items() if name in wanted or not _ignored(name)}
    have |= {name: each for name, each in wanted.items() if name.endswith(_COUNTER) and name not in have}
    if differences := list(_differences(wanted, have)):
        more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise ModelError(
            f"The weights of {spec.name} do not fit {spec.network}: {', '.join(differences[:_SHOWN])}{more}."
        )
    try:
        network.load_state_dict(have)
    except RuntimeError as exc:  # sparse or quantised tensors have names and shapes like others
        raise ModelError(f"The weights of {spec.name} hold tensors that {spec.network} cannot take.") from exc


def _differences(wanted: Tensors, have: Tensors) -> Iterator[str]:
    for name, tensor in wanted.items():
        if name not in have:
            yield f"{name} is missing"
        elif have[name].shape != tensor.shape:
            yield f"{name} is {list(have[name].shape)} instead of {list(tensor.shape)}"
        elif have[name].is_floating_point() != tensor.is_floating_point():
            yield f"{name} holds {have[name].dtype} instead of {tensor.dtype}"
    yield from (f"{name} is not of this network" for name in have if name not in wanted)


def _renamed(name: str) -> str:
    """Torchvision published densenet's weights before it renamed the layers."""
    return _OLD_DENSENET.sub(r"\1\2", name)


def _ignored(name: str) -> bool:
    return name.startswith(_TRAINING_ONLY) or name.endswith(_COUNTER)


@torch.inference_mode()
def _check_labels(network: nn.Module, spec: ModelSpec) -> None:
    """ModelError unless the network gives one number for each label."""
    classes = len(load_taxonomy(spec.taxonomy).labels)
    try:
        shape = tuple(network(torch.zeros(1, 3, spec.image_size, spec.image_size)).shape)
    except (RuntimeError, AssertionError) as exc:
        raise ModelError(f"{spec.network} cannot see photos of {spec.image_size} pixels ({exc}).") from exc
    if shape != (1, classes):
        raise ModelError(
            f"{spec.name} gives {shape[-1]} numbers for a photo; the taxonomy {spec.taxonomy} has {classes} labels."
        )
