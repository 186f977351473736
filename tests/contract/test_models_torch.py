"""The bundled model on real photographs, on whatever device this machine has."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ModelError
from taxonomy.graph import load as load_taxonomy
from workers.decode.pool import DecodePool
from workers.models.registry import get

torch = pytest.importorskip("torch", reason="torch is not installed")

from workers.models import torch_backend  # noqa: E402  (after the skip)
from workers.models.torch_backend import TorchModel  # noqa: E402

SPEC = get("efficientnet-lite0")


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return TorchModel.load(SPEC)


def decoded(files: list[Path]) -> NDArray[np.uint8]:
    with DecodePool(2, SPEC.target) as decoders:
        return np.stack([decoders.decode(path.read_bytes()).pixels for path in files])


@pytest.fixture(scope="module")
def photos(shared_photos: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """500 photographs and their classes."""
    files = sorted((shared_photos / "imagenet").glob("*.JPEG"))
    labels = load_taxonomy(SPEC.taxonomy).labels
    return decoded(files), [labels.index(path.name.split("_")[0]) for path in files]


def test_photographs_are_recognised(model: TorchModel, photos: tuple[NDArray[np.uint8], list[int]]) -> None:
    pixels, classes = photos
    probabilities = model.predict(pixels)
    assert probabilities.shape == (len(pixels), 1000)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == classes).mean() >= 0.87


def test_the_samples_of_foolbox_are_recognised(model: TorchModel) -> None:
    package = find_spec("foolbox")
    if package is None or not package.submodule_search_locations:
        pytest.skip("foolbox is not installed")
    files = sorted((Path(package.submodule_search_locations[0]) / "data").glob("imagenet_*.jpg"))
    classes = [int(path.stem.rsplit("_", 1)[1]) for path in files]
    assert (model.predict(decoded(files)).argmax(axis=1) == classes).sum() >= 17


def test_a_photo_s_neighbours_do_not_matter(model: TorchModel, photos: tuple[NDArray[np.uint8], list[int]]) -> None:
    pixels = photos[0][:32]
    together = model.predict(pixels)
    for position in (0, 13, 31):
        alone = model.predict(pixels[position : position + 1])[0]
        assert alone.argmax() == together[position].argmax()
        np.testing.assert_allclose(alone, together[position], atol=1e-3)


def test_bfloat16_says_what_float32_says(
    photos: tuple[NDArray[np.uint8], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tops = []
    for native in (True, False):
        monkeypatch.setattr(torch_backend, "_has_bf16", lambda _, native=native: native)
        tops.append(TorchModel.load(SPEC).predict(photos[0][::5]).argmax(axis=1))
    assert (tops[0] == tops[1]).mean() >= 0.97  # of 100; 0.994 of all 500


def test_the_model_recognises_its_canaries(model: TorchModel) -> None:
    model.verify()


def test_the_canaries_notice_float32_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_backend, "_has_bf16", lambda _: False)
    TorchModel.load(SPEC).verify()


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},  # torchvision's
        {"mean": (0.0, 0.0, 0.0)},
        {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)},
        {"temperature": 1.5},
    ],
)
def test_the_canaries_notice_wrong_preprocessing(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="instead of"):
        TorchModel.load(dataclasses.replace(SPEC, **change)).verify()


def test_the_canaries_notice_swapped_colours_and_labels(model: TorchModel) -> None:
    for wrong in (
        lambda pixels: model.predict(np.ascontiguousarray(pixels[..., ::-1])),
        lambda pixels: model.predict(pixels)[:, ::-1],
    ):
        with pytest.raises(ModelError, match="instead of"):
            torch_backend.canary.check(SPEC, wrong)


def test_shuffled_weights_are_refused() -> None:
    broken = TorchModel.load(SPEC)
    with torch.no_grad():
        broken._head.weight.copy_(broken._head.weight[torch.randperm(1000, generator=torch.Generator().manual_seed(1))])
    with pytest.raises(ModelError, match="instead of"):
        broken.verify()


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ModelError, match="do not fit"):
        TorchModel.load(dataclasses.replace(SPEC, network="resnet18"))


def test_a_taxonomy_of_other_labels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = load_taxonomy(SPEC.taxonomy)
    monkeypatch.setattr(torch_backend, "load_taxonomy", lambda _: dataclasses.replace(real, labels=real.labels[:-1]))
    with pytest.raises(ModelError, match="999 labels"):
        TorchModel.load(SPEC)


def test_the_noise_floor_is_taken_from_every_label_alike(photos: tuple[NDArray[np.uint8], list[int]]) -> None:
    few = photos[0][:8]
    plain = TorchModel.load(dataclasses.replace(SPEC, noise_floor=0.0)).predict(few).astype(np.float64)
    expected = np.maximum(plain - 0.1 / 1000, 0)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(TorchModel.load(SPEC).predict(few), expected, atol=1e-6)


def test_numbers_that_are_not_finite_are_refused() -> None:
    broken = TorchModel.load(SPEC)
    with torch.no_grad():
        broken._head.bias[7] = float("nan")
    with pytest.raises(ModelError, match="finite"):
        broken.predict(np.zeros((1, 224, 224, 3), np.uint8))
