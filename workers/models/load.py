"""From a model's description to a classifier on the best device this machine has. Light until `load` is called."""

import ctypes
import logging
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ConfigurationError
from taxonomy.decide import Decision
from workers.models.classifier import Classifier
from workers.models.spec import ModelSpec

log = logging.getLogger(__name__)

CPU_BATCH = 32  # photos; on two cores 64 and 128 were as fast within the noise, and fewer cost more Python for each
GPU_BATCHES = (16, 512)  # photos, the least and the most; above that a GPU gains nothing
BYTES_PER_PIXEL = 600  # of activations that a network holds at a time; resnet50 needs about 200, wide ones more
GPU_SHARE = 0.5  # of the free memory


class Backend(Enum):
    """What runs a model, and where."""

    CUDA = "torch on a GPU"
    OPENVINO = "OpenVINO on a CPU"
    TORCH = "torch on a CPU"


def load(
    spec: ModelSpec,
    decision: Decision,
    *,
    runtime: str = "auto",
    batch_photos: int = 0,
    threads: int = 0,
    models: Path | None = None,
) -> Classifier:
    """The model, ready to run but not yet verified.

    Args:
        spec: which.
        decision: its constants.
        runtime: "auto", "openvino" or "torch", as in the settings.
        batch_photos: of a full batch; 0: by the device and its memory.
        threads: of a CPU that work on photos; 0: one for each core.
        models: the models' folder, where a graph for OpenVINO is kept: then this process imports no torch for it.

    Raises:
        ConfigurationError: what was asked for is not installed, or the weights are not.
        ModelError: weights, network and labels do not belong together, or one photo is too much for the GPU's memory.
    """
    if find_spec("torch") is None:
        raise ConfigurationError("torch is not installed; pip install 'pictograph[worker]'.")
    backend = choose(runtime, gpu=runtime != "openvino" and _has_gpu(), openvino=find_spec("openvino") is not None)
    photos = batch_photos or CPU_BATCH
    if backend is Backend.OPENVINO:
        from workers.models.openvino_kept import CannotConvert  # noqa: PLC0415

        try:
            return _in_openvino(spec, decision, photos, threads, models)
        except CannotConvert as exc:
            if runtime == "openvino":
                raise ConfigurationError(f"{exc} Set PICTOGRAPH_RUNTIME=torch.") from exc
            log.warning("%s runs in torch: %s", spec.name, exc)
    if backend is Backend.CUDA:
        return _on_gpu(spec, decision, batch_photos)
    return _in_torch(spec, decision, photos, threads)


def choose(runtime: str, *, gpu: bool, openvino: bool) -> Backend:
    """What to run a model with, given what there is.

    Raises:
        ConfigurationError: OpenVINO was asked for, and is not there.
    """
    if runtime == "openvino" and not openvino:
        raise ConfigurationError(
            "OpenVINO is not installed; pip install 'pictograph[worker]', or set PICTOGRAPH_RUNTIME=torch."
        )
    if runtime != "openvino" and gpu:
        return Backend.CUDA
    return Backend.OPENVINO if openvino and runtime != "torch" else Backend.TORCH


def automatic_gpu_batch(free_bytes: int, size: int) -> int:
    """Photos of `size` pixels per batch for a GPU with so much free memory: a power of two."""
    least, most = GPU_BATCHES
    affordable = int(free_bytes * GPU_SHARE) // (BYTES_PER_PIXEL * size * size)
    return min(most, max(least, 1 << max(affordable, 1).bit_length() - 1))


def _has_gpu() -> bool:
    """Whether torch can use one; without a driver there is none, and torch need not be asked."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch  # noqa: PLC0415

    return torch.cuda.is_available()


def _on_gpu(spec: ModelSpec, decision: Decision, batch_photos: int) -> Classifier:
    import torch  # noqa: PLC0415

    from workers.models import networks  # noqa: PLC0415
    from workers.models.torch_cuda import CudaClassifier  # noqa: PLC0415

    network = networks.build(spec)
    device = torch.device("cuda", torch.cuda.current_device())
    photos = batch_photos or automatic_gpu_batch(torch.cuda.mem_get_info(device)[0], spec.image_size)
    return CudaClassifier(spec, network, decision, device, batch_photos=photos)


def _in_openvino(
    spec: ModelSpec, decision: Decision, batch_photos: int, threads: int, models: Path | None
) -> Classifier:
    from workers.models.openvino_cpu import OpenVinoClassifier, multiplies_bf16  # noqa: PLC0415
    from workers.models.openvino_kept import CannotKeep, graph_of  # noqa: PLC0415

    rounded = multiplies_bf16()
    if models is not None:
        try:
            kept = graph_of(spec, models, rounded=rounded)
        except CannotKeep as exc:
            log.warning("the graph of %s is converted here, and not kept: %s", spec.name, exc)
        else:
            return OpenVinoClassifier(spec, kept, decision, batch_photos=batch_photos, threads=threads)
    from workers.models import networks  # noqa: PLC0415
    from workers.models.openvino_graph import graph  # noqa: PLC0415

    converted = graph(networks.build(spec), spec, rounded=rounded)
    return OpenVinoClassifier(spec, converted, decision, batch_photos=batch_photos, threads=threads)


def _in_torch(spec: ModelSpec, decision: Decision, batch_photos: int, threads: int) -> Classifier:
    import torch  # noqa: PLC0415

    from workers.models import networks  # noqa: PLC0415
    from workers.models.torch_cpu import TorchCpuClassifier, has_bf16  # noqa: PLC0415

    if threads:
        torch.set_num_threads(threads)
    network = networks.build(spec)
    return TorchCpuClassifier(spec, network, decision, batch_photos=batch_photos, bf16=has_bf16())
