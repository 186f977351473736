"""The GPU's backend on a GPU: what `tests/contract/test_models_cuda.py` cannot see on a CPU."""

import numpy as np
import pytest
from outcomes import same

torch = pytest.importorskip("torch", reason="torch is not installed")

from taxonomy.decide import decide  # noqa: E402  (after the skip)
from taxonomy.graph import load as load_taxonomy  # noqa: E402
from taxonomy.rollup import Rollup  # noqa: E402
from workers.models import networks  # noqa: E402
from workers.models.canary import draw  # noqa: E402
from workers.models.load import load  # noqa: E402
from workers.models.prepare import Seeing  # noqa: E402
from workers.models.registry import get  # noqa: E402
from workers.models.rollup import DeviceRollup  # noqa: E402
from workers.models.torch_cuda import CudaClassifier  # noqa: E402

SPEC = get("efficientnet-lite0")
BATCH = 16
OVERLAPPED = 200


@pytest.fixture(scope="module")
def model():
    device = torch.device("cuda", torch.cuda.current_device())
    return CudaClassifier(SPEC, networks.build(SPEC), SPEC.decision, device, batch_photos=BATCH)


@pytest.fixture(scope="module")
def photos():
    """Drawn pictures, shifted and dimmed: 64 that differ."""
    drawn = [draw(canary.picture, 224) for canary in SPEC.canaries]
    shifts = range(0, 224, 10)
    made = [np.roll(picture, at, axis=1) // (1 + at % 3) for at in shifts for picture in drawn]
    return np.stack(made[:64]).astype(np.uint8)


def test_it_is_what_auto_chooses():
    chosen = load(SPEC, SPEC.decision, batch_photos=BATCH)
    assert (chosen.runtime, chosen.precision, chosen.batch_photos) == ("torch", "bf16", BATCH)
    assert chosen.device.startswith("cuda:0 ")
    chosen.verify()


def test_bfloat16_says_what_float32_says(model, photos):
    network = Seeing(networks.build(SPEC), SPEC).eval()
    with torch.inference_mode():
        exact = torch.softmax(network(torch.from_numpy(photos)) / SPEC.temperature, dim=1).numpy()
    found = model.predict(photos)
    sure = np.sort(exact, axis=1)[:, -1] - np.sort(exact, axis=1)[:, -2] > 0.1
    assert sure.sum() >= 10
    assert (found.argmax(axis=1) == exact.argmax(axis=1))[sure].all()


def test_a_photo_gets_the_same_bits_alone_and_among_others(model, photos):
    together = model.predict(photos[:BATCH])
    for position in (0, 7, BATCH - 1):
        np.testing.assert_array_equal(model.predict(photos[position : position + 1])[0], together[position])


def test_overlapped_batches_are_those_of_one_after_the_other(model, photos):
    """Copies, kernels and decisions of different batches may never touch the same memory at the same time."""
    random = np.random.default_rng(11)
    chosen = [random.integers(0, len(photos), random.integers(1, BATCH + 1)) for _ in range(OVERLAPPED)]
    alone = [model.start(photos[rows]).decided() for rows in chosen]
    buffers = [model.buffer() for _ in range(model.in_flight)]
    pending, found = [], []
    for number, rows in enumerate(chosen):
        if len(pending) == model.in_flight:
            found.append(pending.pop(0).decided())
        batch = buffers[number % len(buffers)][: len(rows)]  # its last user has been decided
        batch[...] = photos[rows]
        pending.append(model.start(batch))
    found += [each.decided() for each in pending]
    for mine, its in zip(found, alone, strict=True):
        same(mine, its)


def test_what_is_decided_is_what_the_host_decides(model, photos):
    taxonomy = load_taxonomy(SPEC.taxonomy)
    wanted = decide(Rollup(taxonomy).masses(model.predict(photos[:BATCH])), taxonomy, SPEC.decision)
    same(model.start(photos[:BATCH]).decided(), wanted)


def test_masses_are_those_of_numpy_on_any_scores():
    taxonomy = load_taxonomy(SPEC.taxonomy)
    device = DeviceRollup(taxonomy, torch.device("cuda"))
    for sharpness in (0.1, 1.0, 3.0, 30.0):
        logits = torch.randn((512, 1000), generator=torch.Generator().manual_seed(7)) * sharpness
        scores = torch.softmax(logits, dim=1)
        found = device.masses(scores.cuda()).cpu().numpy()
        np.testing.assert_array_equal(found, Rollup(taxonomy).masses(scores.numpy()))


def test_too_large_a_batch_is_halved_until_it_fits(photos):
    free = torch.cuda.mem_get_info()[0]
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    used = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (used + min(free, 1 << 30)) / whole))  # one GiB more
    try:
        device = torch.device("cuda", torch.cuda.current_device())
        small = CudaClassifier(SPEC, networks.build(SPEC), SPEC.decision, device, batch_photos=4096, compiled=False)
        assert small.batch_photos < 4096
        small.verify()
        assert len(small.start(photos).decided()) == len(photos)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
