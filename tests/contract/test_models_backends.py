"""The bundled model in each backend of a CPU, on real photographs."""

import dataclasses
import gc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from outcomes import same

from pipeline.errors import ModelError
from taxonomy.decide import decide
from taxonomy.graph import load as load_taxonomy
from taxonomy.rollup import Rollup
from workers.decode.pool import DecodePool
from workers.models.canary import check, draw
from workers.models.registry import get

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402  (after the skip)

from workers.models import networks  # noqa: E402
from workers.models.load import load  # noqa: E402
from workers.models.prepare import Seeing, folded, in_bfloat16, round_weights  # noqa: E402
from workers.models.torch_cpu import TorchCpuClassifier  # noqa: E402

SPEC = get("efficientnet-lite0")
BACKENDS = ["openvino", "torch"]


@pytest.fixture(scope="module", params=BACKENDS)
def model(request):
    if request.param == "openvino" and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    return load(SPEC, SPEC.decision, runtime=request.param)


def decoded(files: list[Path]):
    with DecodePool(2, SPEC.target) as decoders:
        return np.stack([decoders.decode(path.read_bytes()).pixels for path in files])


@pytest.fixture(scope="module")
def photos(shared_photos):
    """100 photographs and their classes."""
    files = sorted((shared_photos / "imagenet").glob("*.JPEG"))[::5]
    labels = load_taxonomy(SPEC.taxonomy).labels
    return decoded(files), [labels.index(path.name.split("_")[0]) for path in files]


def test_photographs_are_recognised(model, photos):
    pixels, classes = photos
    probabilities = model.predict(pixels)
    assert probabilities.shape == (len(pixels), 1000)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == classes).mean() >= 0.85


def test_the_samples_of_foolbox_are_recognised(model):
    package = find_spec("foolbox")
    if package is None or not package.submodule_search_locations:
        pytest.skip("foolbox is not installed")
    files = sorted((Path(package.submodule_search_locations[0]) / "data").glob("imagenet_*.jpg"))
    classes = [int(path.stem.rsplit("_", 1)[1]) for path in files]
    assert (model.predict(decoded(files)).argmax(axis=1) == classes).sum() >= 17


def test_a_photo_gets_the_same_bits_alone_and_among_31_others(model, photos):
    pixels = photos[0][:32]
    together = model.predict(pixels)
    for position in (0, 13, 31):
        np.testing.assert_array_equal(model.predict(pixels[position : position + 1])[0], together[position])
    np.testing.assert_array_equal(model.predict(pixels[::-1])[::-1], together)


def test_batches_in_flight_do_not_mix(model, photos):
    batches = [photos[0][at : at + 20] for at in range(0, 100, 20)]
    alone = [model.start(batch).decided() for batch in batches]
    pending, found = [], []
    for batch in batches:
        if len(pending) == model.in_flight:
            found.append(pending.pop(0).decided())
        pending.append(model.start(batch))
    for mine, its in zip(found + [each.decided() for each in pending], alone, strict=True):
        same(mine, its)


def test_what_is_decided_follows_from_the_probabilities(model, photos):
    few, taxonomy = photos[0][:10], load_taxonomy(SPEC.taxonomy)
    wanted = decide(Rollup(taxonomy).masses(model.predict(few)), taxonomy, SPEC.decision)
    pending = model.start(few)
    same(pending.decided(), wanted)
    same(pending.decided(), wanted)  # asking again changes nothing


def test_a_batch_that_nobody_asks_for_harms_no_other(model, photos):
    wanted = model.predict(photos[0][:8])
    for _ in range(5):
        model.start(model.buffer())
    gc.collect()
    np.testing.assert_array_equal(model.predict(photos[0][:8]), wanted)


def test_its_buffer_is_read_in_place(model, photos):
    buffer = model.buffer()
    assert buffer.shape == (model.batch_photos, 224, 224, 3)
    buffer[:5] = photos[0][:5]
    same(model.start(buffer[:5]).decided(), model.start(photos[0][:5]).decided())


def test_pixels_that_cannot_be_read_in_place_are_copied(model, photos):
    pixels = photos[0][:4]
    closed = pixels.copy()
    closed.flags.writeable = False
    strided = np.repeat(pixels, 2, axis=2)[:, :, ::2]
    for odd in (closed, strided):
        np.testing.assert_array_equal(model.predict(odd), model.predict(pixels))


@pytest.mark.parametrize("photos", [0, 33])
def test_batches_of_other_sizes_are_refused(model, photos):
    with pytest.raises(ValueError, match="1 to 32 photos"):
        model.start(np.zeros((photos, 224, 224, 3), np.uint8))


def test_the_model_recognises_its_canaries(model):
    model.verify()


def test_the_canaries_notice_float32_too():
    TorchCpuClassifier(SPEC, networks.build(SPEC), SPEC.decision, batch_photos=8, bf16=False).verify()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "change",
    [
        {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},  # torchvision's
        {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)},
        {"temperature": 1.5},
    ],
)
def test_the_canaries_notice_wrong_preprocessing(change, backend):
    if backend == "openvino" and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    with pytest.raises(ModelError, match="instead of"):
        load(dataclasses.replace(SPEC, **change), SPEC.decision, runtime=backend).verify()


def test_the_canaries_notice_swapped_colours_and_labels(model):
    for wrong in (
        lambda pixels: model.predict(np.ascontiguousarray(pixels[..., ::-1])),
        lambda pixels: model.predict(pixels)[:, ::-1],
    ):
        with pytest.raises(ModelError, match="instead of"):
            check(SPEC, wrong)


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_that_are_not_finite_are_refused(backend, monkeypatch):
    if backend == "openvino" and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    broken = networks.build(SPEC)
    with torch.no_grad():
        broken.get_classifier().bias[7] = float("nan")
    monkeypatch.setattr(networks, "build", lambda _: broken)
    model = load(SPEC, SPEC.decision, runtime=backend)
    with pytest.raises(ModelError, match="finite"):
        model.predict(np.zeros((1, 224, 224, 3), np.uint8))
    with pytest.raises(ModelError, match="finite"):
        model.start(np.zeros((1, 224, 224, 3), np.uint8)).decided()


# ---- making a network fit


def sample(seed=3):
    return torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(seed))


class Wired(nn.Module):
    """A convolution and a batch norm that is listed after it, as `order` wires them."""

    def __init__(self, order):
        super().__init__()
        torch.manual_seed(2)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
        self.head = nn.Linear(3, 10)
        self.order = order
        self.eval().requires_grad_(False)

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return self.head(x.mean(dim=(2, 3)))


def test_a_batch_norm_is_folded_into_its_convolution():
    network = Wired(("conv", "norm"))
    changed = folded(network, 64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in changed.modules())
    torch.testing.assert_close(changed(sample()), network(sample()), atol=1e-5, rtol=1e-4)


def test_a_batch_norm_that_does_not_follow_its_neighbour_stays():
    network = Wired(("norm", "conv"))
    assert folded(network, 64) is network


def test_rounding_errors_of_a_sum_cancel():
    layer = nn.Linear(600, 50)
    exact = layer.weight.detach().clone()
    round_weights(layer)
    torch.testing.assert_close(layer.weight, layer.weight.bfloat16().float(), atol=0, rtol=0)
    apart, nearest = layer.weight - exact, exact.bfloat16().float() - exact
    assert apart.sum(dim=1).abs().max() < nearest.sum(dim=1).abs().mean() / 20
    assert apart.abs().max() <= 2 * nearest.abs().max()


def test_the_last_layer_stays_in_float32():
    network = Wired(("conv", "norm"))
    changed = in_bfloat16(network, labels=10, size=64)
    assert changed.conv.weight.dtype == torch.bfloat16
    assert changed.head.layer.weight.dtype == torch.float32
    logits = changed(sample().bfloat16())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, network(sample()), atol=0.02, rtol=0.05)


def test_a_network_that_makes_float32_of_its_own_is_not_run_in_bfloat16():
    class Stubborn(Wired):
        def forward(self, x):
            return super().forward(x * torch.ones(1))

    assert in_bfloat16(Stubborn(("conv",)), labels=10, size=64) is None


@pytest.mark.parametrize(
    "name", ["torchvision:googlenet", "torchvision:resnet18", "timm:vit_tiny_patch16_224", "torchvision:convnext_tiny"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_other_architectures_say_what_torch_says_in_float32(backend, name, monkeypatch):
    if backend == "openvino" and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    torch.manual_seed(5)
    network = networks.architecture(name)
    monkeypatch.setattr(networks, "build", lambda _: network)
    spec = dataclasses.replace(SPEC, noise_floor=0.0, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    pixels = np.stack([draw(canary.picture, 224) for canary in SPEC.canaries])
    with torch.inference_mode():
        exact = Seeing(network, spec)(torch.from_numpy(pixels)).numpy()
    model = load(spec, SPEC.decision, runtime=backend)
    found = np.log(model.predict(pixels)) * spec.temperature  # logits, but for a constant
    off = (found - found.mean(axis=1, keepdims=True)) - (exact - exact.mean(axis=1, keepdims=True))
    assert np.sqrt((off**2).mean()) <= 0.05 * exact.std()
