"""Adding models: real networks of torchvision and timm with weights that a test drew, in files of both formats.

No published weights are to be had here, so these prove that photos, tensors and labels go the published way; not how
right such a network is.
"""

import dataclasses
import io
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigurationError, ModelError
from pipeline.settings import Settings
from taxonomy.graph import load as load_taxonomy
from taxonomy.labels import format_labels

torch = pytest.importorskip("torch", reason="torch is not installed")

import timm  # noqa: E402  (after the skip)
import torchvision  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save, save_file  # noqa: E402
from torch import nn  # noqa: E402

from workers.models import canary, networks, reference, registry, weights  # noqa: E402
from workers.models.adding import Addition, add, faults  # noqa: E402
from workers.models.sources import Published, check_labels, published  # noqa: E402
from workers.models.spec import ModelSpec  # noqa: E402

TINY = "timm:test_efficientnet"  # a network for tests: 1,000 labels of 160 pixels, in less than half a million numbers
LABELS = load_taxonomy().labels

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:Validating sparse tensor"),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small networks gain nothing by more, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Weights of the tiny network."""
    return networks.seeded(TINY, "random:1").state_dict()


@pytest.fixture
def file(tensors: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    save_file(tensors, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def added(file: Path, settings: Settings, **other: Any) -> ModelSpec:
    return add(Addition(**{"name": "tiny", "uri": str(file), "network": TINY} | other), settings)


# ---- networks of both sources


def as_torchvision_has_it(name: str, tensors: dict[str, torch.Tensor]) -> tuple[nn.Module, Callable[..., torch.Tensor]]:
    """The network and the preprocessing as a user of torchvision has them with its weights."""
    # With weights, googlenet's builder sets these three; without, they must be given.
    options = {"transform_input": True, "aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    network = torchvision.models.get_model(name, weights=None, **options).eval()
    network.load_state_dict(tensors)
    return network, torchvision.models.get_model_weights(name).DEFAULT.transforms()


def as_timm_has_it(name: str, tensors: dict[str, torch.Tensor]) -> tuple[nn.Module, Callable[..., torch.Tensor]]:
    network = timm.create_model(name).eval()
    network.load_state_dict(tensors)
    return network, timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))


def prepared(photo: Image.Image, spec: ModelSpec) -> np.ndarray:
    """What a decoder delivers: the short side scaled, then the centre."""
    scale = spec.resize / min(photo.size)
    how = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[spec.interpolation]
    photo = photo.resize((int(photo.width * scale), int(photo.height * scale)), how)
    left, top = (round((side - spec.image_size) / 2) for side in photo.size)
    return np.asarray(photo.crop((left, top, left + spec.image_size, top + spec.image_size)))


def lively(name: str) -> dict[str, torch.Tensor]:
    """Random weights with which pictures make a difference; as they are drawn, one answer fits all."""
    network = networks.seeded(name, "random:3").train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # one pass is enough
    tiles = torch.randn(8, 3, 22, 22, generator=torch.Generator().manual_seed(3))
    pictures = nn.functional.interpolate(tiles, 224)
    with torch.random.fork_rng(), torch.no_grad():
        network(pictures)  # batch norms learn what they have to norm
        spread = network.eval()(pictures).std()
    tensors = network.state_dict()
    tensors[list(tensors)[-2]] *= 2 / spread  # the last layer's: sure of something, and of nothing too much
    return tensors


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("torchvision:googlenet", "safetensors"),
        ("torchvision:resnet18", "pth"),
        ("timm:resnet18", "pth"),
        ("timm:vit_tiny_patch16_224", "safetensors"),
    ],
)
def test_an_added_network_says_what_its_source_says(name: str, suffix: str, tmp_path: Path, settings: Settings) -> None:
    tensors = lively(name)
    file = tmp_path / f"weights.{suffix}"
    save_file(tensors, file) if suffix == "safetensors" else torch.save(tensors, file)
    add(Addition(name=name, uri=str(file)), settings)

    spec = registry.get(name, registry.folder_of(settings))
    assert spec.weights.sha256 == weights.sha256_of(file)
    tiles = np.random.default_rng(0).integers(0, 256, (48, 42, 3), dtype=np.uint8)
    photo = Image.fromarray(tiles).resize((420, 480), Image.Resampling.NEAREST)  # its edges tell bicubic from bilinear
    source, _, plain = name.partition(":")
    network, transform = (as_torchvision_has_it if source == "torchvision" else as_timm_has_it)(plain, tensors)
    with torch.inference_mode():
        expected = torch.softmax(network(transform(photo)[None]), dim=1).numpy()
    said = reference.predict(spec, networks.build(spec), prepared(photo, spec)[None])
    np.testing.assert_allclose(said, expected, rtol=1e-3, atol=1e-6)
    assert np.ptp(expected) > 0.002  # of random weights, but no constant
    otherwise = dataclasses.replace(spec, interpolation="bicubic" if spec.interpolation == "bilinear" else "bilinear")
    assert not np.allclose(reference.predict(spec, network, prepared(photo, otherwise)[None]), expected, rtol=1e-3)


def test_the_auxiliary_heads_of_a_training_are_left_out(tmp_path: Path, settings: Settings) -> None:
    whole = torchvision.models.get_model("googlenet", weights=None, aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    spec = add(Addition(name="torchvision:googlenet", uri=str(tmp_path / "whole.pth")), settings)
    assert not any("aux" in name for name, _ in networks.build(spec).named_parameters())


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_of_a_training_is_opened(
    key: str, tensors: dict[str, torch.Tensor], tmp_path: Path, settings: Settings
) -> None:
    torch.save({"epoch": 3, key: tensors}, tmp_path / "checkpoint.pth")
    spec = added(tmp_path / "checkpoint.pth", settings)
    assert networks.hash_of(networks.build(spec)) == networks.hash_of(networks.seeded(TINY, "random:1"))


def test_old_names_of_densenet_s_layers_are_understood() -> None:
    old = "features.denseblock1.denselayer2.norm.1.running_mean"
    assert networks._renamed(old) == "features.denseblock1.denselayer2.norm1.running_mean"
    assert networks._renamed("features.norm5.weight") == "features.norm5.weight"


@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_bundled_models_have_no_faults(name: str, settings: Settings) -> None:
    assert faults(registry.get(name), settings) == []


def test_the_larger_bundled_models_recognise_photographs(shared_photos: Path) -> None:
    """Twenty photographs, prepared by Pillow; of all 500 they recognise 437 and 455."""
    files = sorted((shared_photos / "imagenet").glob("*.JPEG"))[::25]
    classes = [LABELS.index(path.name.split("_")[0]) for path in files]
    for name in ("efficientnet-lite1", "efficientnet-lite2"):
        spec = registry.get(name)
        pixels = np.stack([prepared(Image.open(path).convert("RGB"), spec) for path in files])
        said = reference.predict(spec, networks.build(spec), pixels).argmax(axis=1)
        assert (said == classes).mean() >= 0.8, name


# ---- weights that are refused


def test_a_pinned_hash_that_differs_is_refused(file: Path, settings: Settings) -> None:
    with pytest.raises(ModelError, match="not the one that was asked for"):
        added(file, settings, sha256="0" * 64)
    assert registry.names(registry.folder_of(settings)) == tuple(registry.MODELS)
    assert added(file, settings, sha256=weights.sha256_of(file).upper()).weights.sha256 == weights.sha256_of(file)


def _without(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {each: tensor for each, tensor in tensors.items() if each != name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: _without(t, "classifier.bias"), "classifier.bias is missing"),
        (lambda t: t | {"stem.weight": torch.zeros(3)}, "stem.weight is not of this network"),
        (lambda t: t | {"classifier.bias": torch.zeros(1001)}, r"classifier.bias is \[1001\] instead of \[1000\]"),
        (lambda t: t | {"classifier.bias": torch.zeros(1000, dtype=torch.int64)}, "holds torch.int64"),
        (lambda t: {f"module.{name}": tensor for name, tensor in t.items()}, r"and \d+ more"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    told: str,
    tensors: dict[str, torch.Tensor],
    tmp_path: Path,
    settings: Settings,
) -> None:
    save_file(change(dict(tensors)), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=told):
        added(tmp_path / "other.safetensors", settings)


def test_counters_of_batches_may_be_missing(
    tensors: dict[str, torch.Tensor], tmp_path: Path, settings: Settings
) -> None:
    fewer = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    assert len(fewer) < len(tensors)
    save_file(fewer, tmp_path / "fewer.safetensors")
    added(tmp_path / "fewer.safetensors", settings)


def test_weights_that_are_no_numbers_are_refused(
    tensors: dict[str, torch.Tensor], tmp_path: Path, settings: Settings
) -> None:
    save_file(tensors | {"classifier.bias": torch.full((1000,), torch.nan)}, tmp_path / "nan.safetensors")
    with pytest.raises(ModelError, match="not finite"):
        added(tmp_path / "nan.safetensors", settings)


class Bomb:
    """What a pickle can do: touch a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_file_that_would_run_code_is_refused_unopened(form: str, tmp_path: Path, settings: Settings) -> None:
    bomb, file, mark = Bomb(tmp_path / "exploded"), tmp_path / "bomb.pth", tmp_path / "exploded"
    if form == "plain pickle":
        file.write_bytes(pickle.dumps({"weight": bomb}))
    else:
        torch.save({"weight": bomb}, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError, match="might run code"):
        added(file, settings)
    assert not mark.exists()
    pickle.loads(pickle.dumps(bomb))
    assert mark.exists()  # so the bomb would have worked


@pytest.mark.parametrize("data", [b"", b"not weights at all", b"PK\x03\x04" + bytes(40), b"\xff" * 8 + b"{}", bytes(9)])
def test_a_file_of_something_else_is_refused(data: bytes, tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(ModelError, match="The weights of tiny"):
        added(tmp_path / "x.pth", settings)


def test_half_a_file_is_refused(file: Path, settings: Settings) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged safetensors"):
        added(file, settings)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_whatever_is_wrong_with_a_file_it_is_one_kind_of_error(form: str) -> None:
    tensors, buffer = {"a": torch.ones(3), "b": torch.zeros(2, 2)}, io.BytesIO()
    if form == "safetensors":
        buffer.write(save(tensors))
    else:
        torch.save(tensors, buffer, _use_new_zipfile_serialization=form == "zip")
    rng, refused = np.random.default_rng(1), 0
    for _ in range(300):
        data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        data[rng.integers(0, min(len(data), 200), size=3)] = rng.integers(0, 256, size=3)
        try:
            networks.tensors(data.tobytes(), "tiny")
        except ModelError:
            refused += 1
    assert refused > 50


def test_tensors_of_another_kind_are_refused(
    tensors: dict[str, torch.Tensor], tmp_path: Path, settings: Settings
) -> None:
    sparse = tensors["classifier.weight"].to_sparse()
    torch.save(tensors | {"classifier.weight": sparse}, tmp_path / "sparse.pth")
    with pytest.raises(ModelError, match="cannot take"):
        added(tmp_path / "sparse.pth", settings)


@pytest.mark.parametrize("value", [{"a": 1}, {1: torch.ones(1)}, [1, 2], {"state_dict": {"a": "b"}}])
def test_a_torch_file_without_tensors_is_refused(value: object, tmp_path: Path, settings: Settings) -> None:
    torch.save(value, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="no table of named tensors"):
        added(tmp_path / "x.pth", settings)


# ---- labels


def test_labels_in_another_order_are_refused(file: Path, tmp_path: Path, settings: Settings) -> None:
    swapped = (LABELS[1], LABELS[0], *LABELS[2:])
    (tmp_path / "labels.tsv").write_text(format_labels(swapped))
    with pytest.raises(ModelError, match=r"class 0 is n01443537, not n01440764.*2 of 1000 differ"):
        added(file, settings, labels=tmp_path / "labels.tsv")
    (tmp_path / "labels.tsv").write_text(format_labels(LABELS))
    added(file, settings, labels=tmp_path / "labels.tsv")


def test_every_classifier_of_torchvision_has_our_labels() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        check_labels(published(f"torchvision:{name}"), load_taxonomy())


def test_labels_in_words_in_another_order_are_refused() -> None:
    found = published("torchvision:googlenet")
    names = (*found.names[:517], "crane bird", *found.names[518:])  # 517 is the machine; both are "crane" in WordNet
    check_labels(dataclasses.replace(found, names=names), load_taxonomy())
    for wrong in (found.names[::-1], ("tench", "shark", *found.names[2:])):
        with pytest.raises(ModelError, match="not those of the taxonomy"):
            check_labels(dataclasses.replace(found, names=wrong), load_taxonomy())


def test_another_number_of_labels_is_refused(file: Path, settings: Settings) -> None:
    found = published("torchvision:googlenet")
    with pytest.raises(ModelError, match="1001 labels"):
        check_labels(Published(preparation=found.preparation, names=("background", *found.names)), load_taxonomy())
    with pytest.raises(ModelError, match="21843 labels"):
        added(file, settings, network="timm:resnetv2_50x1_bit.goog_in21k")
    lite0 = registry.get("efficientnet-lite0")
    with pytest.raises(ModelError, match="gives 3 numbers for a photo"):
        networks._check_labels(nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 3)), lite0)


# ---- what cannot be prepared or named


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("torchvision:google", "did you mean torchvision:googlenet"),
        ("torchvision:fcn_resnet50", "There is no network"),
        ("timm:hf-hub:someone/model", "There is no network"),
        ("timm:../resnet18", "There is no network"),
        ("hub:resnet18", "There is no network"),
        ("resnet18", "There is no network"),
        ("timm:vit_base_patch16_siglip_224.webli", "was not published as a classifier"),
    ],
)
def test_networks_that_we_do_not_have_are_refused(network: str, told: str, file: Path, settings: Settings) -> None:
    with pytest.raises((ConfigurationError, ModelError), match=told):
        added(file, settings, network=network)


def test_each_of_several_weights_brings_its_own_preparation() -> None:
    v1, v2 = (published("torchvision:resnet50", variant).preparation for variant in ("IMAGENET1K_V1", None))
    assert (v1.resize, v2.resize, v1.interpolation) == (256, 232, "bilinear")
    assert published("torchvision:vit_b_16", "IMAGENET1K_SWAG_E2E_V1").preparation.image_size == 384
    with pytest.raises(ConfigurationError, match="choose one of: IMAGENET1K_V1, IMAGENET1K_V2"):
        published("torchvision:resnet50", "IMAGENET1K_V3")
    with pytest.raises(ConfigurationError, match=r"write timm:resnet50\.a1_in1k"):
        published("timm:resnet50", "a1_in1k")


def test_a_network_that_squashes_photos_is_taken_only_when_told_how() -> None:
    squashing = next(
        f"timm:{name}"
        for name in timm.list_pretrained()
        if (facts := timm.get_pretrained_cfg(name)).crop_mode == "squash" and facts.num_classes == 1000
    )
    with pytest.raises(ConfigurationError, match=r"squash.*--resize"):
        published(squashing)
    assert published(squashing, resize=600).preparation.resize == 600
    with pytest.raises(ConfigurationError, match="never more than they were scaled to"):
        published(squashing, resize=32)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"name": "efficientnet-lite0"}, "already"),
        ({"name": "../tiny"}, "is no model's name"),
        ({"network": None}, "Say what tiny is"),
        ({"uri": "/nowhere/x.pth"}, "cannot be read"),
        ({"uri": "package:nothing/x.pth"}, "not installed"),
        ({"uri": "random:1"}, "begins with random-"),
        ({"name": "random-tiny"}, "begins with random-"),
        ({"uri": "random:one", "name": "random-tiny"}, "has no seed"),
        ({"temperature": 0.0}, "temperature"),
        ({"noise_floor": 1.0}, "noise_floor"),
    ],
)
def test_an_addition_that_makes_no_sense_is_refused(
    other: dict[str, Any], told: str, file: Path, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        added(file, settings, **other)


def test_a_model_is_added_once(file: Path, settings: Settings) -> None:
    added(file, settings)
    with pytest.raises(ConfigurationError, match="already"):
        added(file, settings)


# ---- random weights


def test_random_weights_are_the_same_for_the_same_seed(settings: Settings) -> None:
    state = torch.random.get_rng_state()
    specs = [
        add(Addition(name=f"random-{n}", network=TINY, uri=f"random:{seed}"), settings)
        for n, seed in enumerate((5, 5, 6))
    ]
    assert specs[0].weights.sha256 == specs[1].weights.sha256 != specs[2].weights.sha256
    assert all(spec.weights.random for spec in specs)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's numbers are disturbed
    drawn_otherwise = dataclasses.replace(specs[0], weights=dataclasses.replace(specs[0].weights, uri="random:6"))
    with pytest.raises(ModelError, match="other random weights"):
        networks.build(drawn_otherwise)


# ---- looking after them


def test_every_fault_is_a_sentence(file: Path, settings: Settings, tensors: dict[str, torch.Tensor]) -> None:
    spec = added(file, settings)
    assert faults(spec, settings) == []

    for change, told in (
        ({"canaries": (dataclasses.replace(spec.canaries[0], probability=0.9),)}, "instead of 0.900"),
        ({"network": "timm:resnet18"}, "do not fit timm:resnet18"),
        ({"network": "timm:no_such"}, "There is no network"),
    ):
        assert any(told in sentence for sentence in faults(dataclasses.replace(spec, **change), settings))

    save_file(dict(tensors) | {"classifier.bias": torch.ones(1000)}, file)
    (sentence,) = faults(spec, settings)
    assert "not the weights file that was pinned" in sentence
    file.unlink()
    (sentence,) = faults(spec, settings)
    assert "There is no weights file" in sentence


def test_the_description_is_plain_json(file: Path, settings: Settings) -> None:
    spec = added(file, settings, temperature=1.5, noise_floor=0.1)
    stored = json.loads(registry.file_of("tiny", registry.folder_of(settings)).read_text())
    assert stored["weights"] == {"uri": str(file), "sha256": spec.weights.sha256, "distribution": "", "ordered": False}
    assert (stored["temperature"], stored["noise_floor"], stored["image_size"]) == (1.5, 0.1, 160)
    assert [each["picture"] for each in stored["canaries"]] == list(canary.PICTURES)
