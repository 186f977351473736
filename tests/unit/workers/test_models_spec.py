"""What a model is, without running one."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import ConfigurationError, ModelError
from taxonomy.build import renamed
from taxonomy.calibrate import path
from taxonomy.codec import decode, encode
from taxonomy.decide import Decision
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy, load
from workers.decode.records import Target
from workers.models import canary, spec
from workers.models.registry import MODELS, get

LITE0 = get("efficientnet-lite0")


def test_an_unknown_model_is_answered_with_the_known_names() -> None:
    with pytest.raises(ConfigurationError, match="efficientnet-lite0"):
        get("efficientnet-lite9")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_goes_by_its_own_name(name: str) -> None:
    assert get(name).name == name


def test_a_model_stays_the_same_to_the_ledger() -> None:
    """A new fingerprint makes every photo be tagged anew: change it only where what a model says has changed."""
    assert LITE0.fingerprint() == "f2117f3a42af3b08f001088a3d6ddfaa2c725d5f8bf831b113e1fccc6a4aa6e9"


def test_how_photos_are_cut_is_part_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    before = LITE0.fingerprint()
    monkeypatch.setattr(spec, "CROP", "elsewhere")
    assert LITE0.fingerprint() != before


def test_the_decoder_gets_the_size_that_the_model_was_trained_for() -> None:
    assert LITE0.target == Target(size=224, resize=round(224 / 0.875))


@pytest.mark.parametrize(
    "change",
    [
        {"network": "timm:resnet50"},
        {"weights": dataclasses.replace(LITE0.weights, sha256="0" * 64)},
        {"weights": dataclasses.replace(LITE0.weights, ordered=False)},
        {"image_size": 240},
        {"resize": 224},
        {"interpolation": "bilinear"},
        {"mean": (127.5, 127.0, 127.0)},
        {"std": (128.0, 128.0, 127.0)},
        {"temperature": 1.1},
        {"noise_floor": 0.2},
    ],
)
def test_each_fact_makes_another_model(change: dict[str, object]) -> None:
    assert dataclasses.replace(LITE0, **change).fingerprint() != LITE0.fingerprint()


def test_another_taxonomy_makes_another_model_and_other_names_make_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before, taxonomy = LITE0.fingerprint(), load()
    called = renamed(taxonomy, {"n02084071": "hound"})
    assert called.synsets[called.node("n02084071")].name == "hound"
    assert Taxonomy.from_stored(decode(encode(called.stored()))).sha256 == taxonomy.sha256
    monkeypatch.setattr(spec, "load", lambda _: called)
    assert LITE0.fingerprint() == before
    parents = list(taxonomy.stored().display_parent)
    several = next(node for node, above in enumerate(taxonomy.parents) if len(above) > 1)
    parents[several] = next(above for above in taxonomy.parents[several] if above != parents[several])
    other = Taxonomy.from_stored(dataclasses.replace(taxonomy.stored(), display_parent=tuple(parents)))
    monkeypatch.setattr(spec, "load", lambda _: other)
    assert LITE0.fingerprint() != before
    with pytest.raises(UnknownSynset):
        renamed(taxonomy, {"n99999999": "nothing"})


def test_names_canaries_and_decisions_make_no_other_model() -> None:
    changed = dataclasses.replace(LITE0, name="mine", canaries=(), decision=Decision(lam=1))
    assert changed.fingerprint() == LITE0.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": float("inf")},
        {"std": (1.0, 0.0, 1.0)},
        {"noise_floor": 1.0},
        {"noise_floor": -0.1},
    ],
)
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


@pytest.mark.parametrize("size", [160, 223, 224, 240, 299])
def test_canaries_are_drawn_in_the_size_asked_for(size: int) -> None:
    for each in LITE0.canaries:
        picture = canary.draw(each.picture, size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8


def test_two_classes_that_are_as_good_as_equal_may_change_places() -> None:
    model = dataclasses.replace(LITE0, canaries=(dataclasses.replace(LITE0.canaries[0], top=1, probability=0.4),))
    for other, fine in ((0.41, True), (0.5, False)):
        answer = np.zeros((1, 1000), np.float32)
        answer[0, :2] = other, 0.4
        if fine:
            canary.check(model, lambda _, answer=answer: answer)
        else:
            with pytest.raises(ModelError, match="for class 0"):
                canary.check(model, lambda _, answer=answer: answer)


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
