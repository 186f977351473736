"""What a GPU can do before anything is tuned for it: its JPEG engines, its models, and whether its decoder is safe.

    python -m benchmarks.gpu --out gpu.json

Compiling takes a minute or two per network, way and batch: where time is short, choose with --networks, --batches and
--ways. Photos are made here, from noise, at 100 KB and 3 MB; weights are random. Nothing of the network is needed.

The corruption test is that of pytorch/vision#9606: memory that a stream still reads has gone back to the allocator, the
decoder gets it, and the engine, which knows nothing of streams, writes into it at once. Each round queues a wait and a
copy of a pattern, gives the pattern's memory back, decodes, and then looks at the copy and at the photos.
"""

import argparse
import ctypes
import io
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.io import decode_jpeg

from workers.models.networks import architecture
from workers.models.prepare import Seeing, folded, in_bfloat16
from workers.models.registry import get
from workers.models.spec import ModelSpec
from workers.models.torch_cuda import COMPILER, CudaClassifier

SIDE = 224
NETWORKS = ("resnet50", "efficientnet_b0", "convnext_tiny", "vit_b_16", "googlenet")
BATCHES = (64, 256, 512)
WAYS = ("eager", COMPILER, "reduce-overhead")
PHOTOS = {"100 KB": ((500, 375), 100_000, 16), "3 MB": ((4000, 3000), 3_000_000, 3)}  # size, bytes, how many
DECODED_AT_A_TIME = {"100 KB": (16, 64, 256), "3 MB": (4, 16, 64)}
SECONDS = 3.0  # of each measurement
CORRUPTION_ROUNDS = 200
WAIT_CYCLES = 20_000_000  # about 10 ms: long enough for a decode to overtake what is queued
NO_GPU = 2  # exit status


def main() -> int:
    """Measure, and print JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, help="write the JSON here too")
    options.add_argument("--networks", nargs="*", default=NETWORKS, choices=NETWORKS)
    options.add_argument("--batches", nargs="*", type=int, default=BATCHES)
    options.add_argument("--ways", nargs="*", default=WAYS[:2], choices=WAYS)
    asked = options.parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU here that torch can use; run this on a machine that has one.", file=sys.stderr)
        return NO_GPU
    photos = {name: jpegs(*what) for name, what in PHOTOS.items()}
    found = {
        "machine": machine(),
        "jpeg_engines": tried(engines),
        "decode": {name: tried(partial(decoding, photos[name], DECODED_AT_A_TIME[name])) for name in photos},
        "corruption": tried(partial(corruption, photos["100 KB"])),
        "models": {name: tried(partial(rates, name, asked.batches, asked.ways)) for name in asked.networks},
    }
    text = json.dumps(found, indent=2)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")
    return 0


def tried(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured, or the error that kept it from being measured: the other figures are worth having."""
    try:
        return measure()
    except Exception as error:
        torch.cuda.empty_cache()
        return {"error": f"{type(error).__name__}: {error}"}


def machine() -> dict[str, Any]:
    about = torch.cuda.get_device_properties(0)
    return {
        "gpu": about.name,
        "memory_bytes": about.total_memory,
        "multiprocessors": about.multi_processor_count,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
    }


# ---- decoding


def engines() -> dict[str, int]:
    """How many JPEG engines the chip has, from nvJPEG itself."""
    libraries = [*_bundled(), *filter(None, [find_library("nvjpeg")])]
    if not libraries:
        raise OSError("libnvjpeg is not on this machine")
    library = ctypes.CDLL(libraries[0])
    torch.zeros(1, device="cuda")  # a context
    handle, number, cores = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_uint()
    status = library.nvjpegCreateSimple(ctypes.byref(handle))
    if status == 0:
        status = library.nvjpegGetHardwareDecoderInfo(handle, ctypes.byref(number), ctypes.byref(cores))
    if status != 0:
        raise OSError(f"nvJPEG answers {status}")
    return {"engines": number.value, "cores_per_engine": cores.value}


def _bundled() -> list[str]:
    """The libraries that were installed beside torch and torchvision."""
    site = Path(torch.__file__).parent.parent
    patterns = ("nvidia/**/libnvjpeg.so*", "torchvision.libs/libnvjpeg*.so*")
    return [str(path) for pattern in patterns for path in sorted(site.glob(pattern))]


def jpegs(size: tuple[int, int], wanted_bytes: int, number: int) -> list[bytes]:
    """Photos of noise on soft shapes, each within a few per cent of so many bytes."""
    random = np.random.default_rng(1)
    return [_jpeg(random, size, wanted_bytes) for _ in range(number)]


def _jpeg(random: np.random.Generator, size: tuple[int, int], wanted: int) -> bytes:
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    soft, noise = np.asarray(coarse, np.float32), random.normal(size=(size[1], size[0], 3)).astype(np.float32)
    low, high = 0.0, 120.0
    data = b""
    for _ in range(12):  # more noise, more bytes
        strength = (low + high) / 2
        buffer = io.BytesIO()
        pixels = np.clip(soft + strength * noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        data = buffer.getvalue()
        low, high = (strength, high) if len(data) < wanted else (low, strength)
    return data


def decoding(photos: list[bytes], at_a_time: tuple[int, ...]) -> dict[str, Any]:
    """Photos and bytes per second of torchvision's decoder on the GPU, by how many it gets at a time."""
    mean = statistics.fmean(map(len, photos))
    found: dict[str, Any] = {"mean_bytes": round(mean)}
    for number in at_a_time:
        batch = tensors((photos * number)[:number])
        per_s = number * _per_second(lambda batch=batch: decode_jpeg(batch, device="cuda"))
        found[str(number)] = {"photos_per_s": round(per_s), "mb_per_s": round(per_s * mean / 1e6)}
    return found


def tensors(photos: list[bytes]) -> list[torch.Tensor]:
    return [torch.frombuffer(bytearray(photo), dtype=torch.uint8) for photo in photos]


def corruption(photos: list[bytes]) -> dict[str, Any]:
    """How many rounds spoilt what a stream still read, or the photos themselves; as it is, and synchronised first."""
    batch = tensors(photos)
    wanted = [photo.cpu() for photo in decode_jpeg(batch, device="cuda")]
    torch.cuda.synchronize()
    ways = {"as it is": False, "synchronised first": True}
    return {name: _corrupted(batch, wanted, synchronise=synchronise) for name, synchronise in ways.items()}


def _corrupted(batch: list[torch.Tensor], wanted: list[torch.Tensor], *, synchronise: bool) -> dict[str, int]:
    spoilt_memory = spoilt_photos = 0
    for number in range(CORRUPTION_ROUNDS):
        torch.cuda.empty_cache()
        patterns = [torch.full(photo.shape, number % 256, dtype=torch.uint8, device="cuda") for photo in wanted]
        torch.cuda.synchronize()
        torch.cuda._sleep(WAIT_CYCLES)
        copies = [pattern.clone() for pattern in patterns]  # reads the patterns when the wait is over
        for pattern in patterns:
            pattern.fill_(0)  # and writes them then
        del pattern, patterns  # the allocator may hand their memory to whoever asks next on this stream
        if synchronise:
            torch.cuda.synchronize()
        photos = decode_jpeg(batch, device="cuda")
        torch.cuda.synchronize()
        spoilt_memory += any(bool((copy != number % 256).any()) for copy in copies)
        spoilt_photos += any(not torch.equal(a.cpu(), b) for a, b in zip(photos, wanted, strict=True))
    return {"rounds": CORRUPTION_ROUNDS, "spoilt_memory": spoilt_memory, "spoilt_photos": spoilt_photos}


# ---- models


def spec_of(name: str) -> ModelSpec:
    """A model of random weights."""
    return replace(
        get("efficientnet-lite0"), name=name, network=f"torchvision:{name}", noise_floor=0.0, temperature=1.0
    )


def rates(name: str, batches: list[int], ways: list[str]) -> dict[str, Any]:
    """Photos per second: the network alone by way and batch, and the classifier from host memory to decisions."""
    spec = spec_of(name)
    torch.manual_seed(0)
    network = folded(architecture(spec.network), SIDE)
    low = in_bfloat16(network, 1000, SIDE)
    if low is None:
        raise RuntimeError("it does not run in bfloat16")
    seeing = Seeing(low, spec, torch.bfloat16).eval().cuda().to(memory_format=torch.channels_last)
    found: dict[str, Any] = {}
    for way in ways:
        found[way] = {str(batch): tried(partial(_network, seeing, way, batch)) for batch in batches}
    found["classifier"] = {str(batch): tried(partial(_classifier, spec, network, batch)) for batch in batches}
    return found


@torch.inference_mode()
def _network(seeing: torch.nn.Module, way: str, batch: int) -> dict[str, float]:
    torch.compiler.reset()
    began = time.perf_counter()
    network = seeing if way == "eager" else torch.compile(seeing, mode=way, dynamic=False)
    pixels = torch.randint(0, 256, (batch, SIDE, SIDE, 3), dtype=torch.uint8, device="cuda")
    for _ in range(3):
        network(pixels)
    torch.cuda.synchronize()
    ready = time.perf_counter() - began
    per_s = batch * _per_second(lambda: network(pixels))
    return {"photos_per_s": round(per_s), "ready_after_s": round(ready, 1)}


def _classifier(spec: ModelSpec, network: torch.nn.Module, batch: int) -> dict[str, float]:
    torch.compiler.reset()
    device = torch.device("cuda", torch.cuda.current_device())
    model = CudaClassifier(spec, network, spec.decision, device, batch_photos=batch)
    buffers = [model.buffer() for _ in range(model.in_flight)]
    for buffer in buffers:
        buffer[...] = np.random.default_rng(0).integers(0, 256, buffer.shape, dtype=np.uint8)
    pending, started, done, busy = [], 0, 0, time.process_time()
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        if len(pending) == model.in_flight:
            done += len(pending.pop(0).decided())
        pending.append(model.start(buffers[started % len(buffers)]))
        started += 1
    done += sum(len(each.decided()) for each in pending)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    return {"photos_per_s": round(done / seconds), "cpu_s_per_1000": round(1000 * busy / done, 3)}


def _per_second(step: Callable[[], object]) -> float:
    """How often it runs per second, the device's work included."""
    step()
    torch.cuda.synchronize()
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        for _ in range(5):
            step()
        times += 5
        torch.cuda.synchronize()
    return times / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
