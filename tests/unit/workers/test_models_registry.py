"""The descriptions of added models: what is written comes back, and nothing else is believed."""

import dataclasses
import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from workers.models import registry
from workers.models.spec import Canary, ModelSpec, Weights

MINE = ModelSpec(
    name="mine",
    network="timm:resnet18",
    weights=Weights(uri="s3://models/mine.safetensors", sha256="ab" * 32),
    image_size=224,
    resize=235,
    interpolation="bilinear",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    canaries=(Canary(picture="rings", top=506, probability=0.25),),
    temperature=1.5,
)


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, object]:
    """What the file of MINE holds."""
    return json.loads(registry.write(MINE, tmp_path).read_text())


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    registry.write(MINE, tmp_path)
    assert registry.get("mine", tmp_path) == MINE
    assert registry.get("mine", tmp_path).fingerprint() == MINE.fingerprint()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


def test_added_models_are_named_after_the_bundled_ones(tmp_path: Path) -> None:
    registry.write(MINE, tmp_path)
    assert registry.names(tmp_path) == (*registry.MODELS, "mine")
    assert registry.names(tmp_path / "nowhere") == tuple(registry.MODELS)


def test_a_description_replaces_none(tmp_path: Path) -> None:
    registry.write(MINE, tmp_path)
    with pytest.raises(ConfigurationError, match="There is a model mine already"):
        registry.write(dataclasses.replace(MINE, temperature=2.0), tmp_path)
    assert registry.get("mine", tmp_path) == MINE


def test_a_removed_model_is_gone(tmp_path: Path) -> None:
    registry.write(MINE, tmp_path)
    registry.remove("mine", tmp_path)
    with pytest.raises(ConfigurationError, match="There is no model 'mine'"):
        registry.remove("mine", tmp_path)
    with pytest.raises(ConfigurationError, match="bundled"):
        registry.remove("efficientnet-lite0", tmp_path)


def test_an_unknown_model_is_answered_with_close_and_known_names_and_how_to_add_it(tmp_path: Path) -> None:
    registry.write(MINE, tmp_path)
    with pytest.raises(ConfigurationError, match=r"did you mean efficientnet-lite2 .*mine.*pictograph models add"):
        registry.get("efficientnet-lite22", tmp_path)


@pytest.mark.parametrize("name", ["../mine", "a/b", "/etc/passwd", "", ".", "..", ".hidden", "a\0b", "mine\n", "hub:x"])
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "mine.json").write_text("{}")
    for ask in (registry.get, registry.remove):
        with pytest.raises(ConfigurationError, match="is no model's name"):
            ask(name, tmp_path / "models")
    with pytest.raises(ConfigurationError, match="is no model's name"):
        registry.write(dataclasses.replace(MINE, name=name), tmp_path / "models")
    assert (tmp_path / "mine.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"mine"', "\ud800", "[" * 100_000, "{}", '{"format": 1}'])
def test_a_damaged_description_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigurationError, match=r"mine\.json cannot be used"):
        registry.get("mine", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"name": "other"},
        {"surprise": 1},
        {"image_size": "224"},
        {"image_size": 2048, "resize": 2048},
        {"resize": 200},
        {"interpolation": "nearest"},
        {"mean": [1.0, 2.0]},
        {"std": [0.0, 1.0, 1.0]},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"noise_floor": 1.0},
        {"taxonomy": "../secret"},
        {"taxonomy": "none"},
        {"canaries": []},
        {"canaries": [{"picture": "cat", "top": 1, "probability": 0.5}]},
        {"canaries": [{"picture": "rings", "top": 1000, "probability": 0.5}]},
        {"weights": {"uri": "/x", "sha256": "ab", "surprise": True}},
        {"decision": {"rule": "best"}},
        {"decision": {"threshold": 1}},
    ],
)
def test_a_description_that_says_something_else_is_refused(
    change: dict[str, object], stored: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(stored | change))
    with pytest.raises(ConfigurationError, match=r"mine\.json cannot be used"):
        registry.get("mine", tmp_path)


def test_the_folder_is_the_setting_or_lies_in_the_data_folder(tmp_path: Path) -> None:
    assert registry.folder_of(Settings(home=tmp_path)) == tmp_path / "models"
    assert registry.folder_of(Settings(home=tmp_path, models=tmp_path / "mine")) == tmp_path / "mine"
    registry.write(MINE, tmp_path / "models")
    assert registry.chosen(Settings(home=tmp_path, model="mine")) == MINE


def test_a_bundled_model_cannot_be_shadowed(tmp_path: Path) -> None:
    other = dataclasses.replace(MINE, name="efficientnet-lite0")
    registry.write(other, tmp_path)
    assert registry.get("efficientnet-lite0", tmp_path) == registry.MODELS["efficientnet-lite0"]
    assert registry.names(tmp_path) == tuple(registry.MODELS)
