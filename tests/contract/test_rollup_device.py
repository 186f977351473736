"""The roll-up and the decision on the model's device say, integer for integer, what numpy says."""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxonomy.ballot import NO_HEADLINE
from taxonomy.decide import NO_TAG, Decision, decide
from taxonomy.errors import BadScores
from taxonomy.graph import load
from taxonomy.rollup import Rollup
from workers.decode.pool import DecodePool
from workers.models.load import load as load_model
from workers.models.registry import get

torch = pytest.importorskip("torch", reason="torch is not installed")

from workers.models.rollup import DeviceRollup  # noqa: E402  (after the skip)

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "taxonomy"))
from random_taxonomies import make, scored  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

decisions = st.builds(
    Decision,
    rule=st.sampled_from(["threshold", "expected"]),
    lam=st.sampled_from([0, 1, 2_500, 7_840, 200_000, NO_HEADLINE]),
    threshold=st.integers(1_000, NO_TAG),
    vague_share=st.sampled_from([0.2, 0.4, 1.0]),
    keep_mass=st.sampled_from([1, 200, 1_000]),
)


def assert_equal(device, host):
    """Two outcomes are the same, down to the types of their arrays."""
    for mine, its in ((device, host), (device.kept, host.kept)):
        for field in fields(its):
            expected, found = getattr(its, field.name), getattr(mine, field.name)
            if isinstance(expected, np.ndarray):
                assert found.dtype == expected.dtype, field.name
                np.testing.assert_array_equal(found, expected, err_msg=field.name)


@settings(deadline=None)
@given(scored(), decisions, st.sampled_from([np.float32, np.float64]))
def test_any_scores_on_any_graph(case, decision, kind):
    taxonomy, probabilities = case
    scores = probabilities.astype(kind)
    twin, masses = DeviceRollup(taxonomy, DEVICE), Rollup(taxonomy).masses(scores)
    np.testing.assert_array_equal(twin.masses(torch.from_numpy(scores)).cpu().numpy(), masses)
    assert_equal(twin.decide(torch.from_numpy(scores), decision), decide(masses, taxonomy, decision))


@pytest.fixture(scope="module")
def both():
    taxonomy = load()
    return taxonomy, Rollup(taxonomy), DeviceRollup(taxonomy, DEVICE)


DECISIONS = [
    Decision(),
    Decision(threshold=3_000),
    Decision(rule="expected", lam=0),
    Decision(rule="expected", lam=6_500, threshold=8_667),
    Decision(rule="expected", lam=NO_HEADLINE, threshold=NO_TAG),
]


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 3.0, 30.0])
def test_random_scores_on_imagenet(both, decision, sharpness):
    taxonomy, host, twin = both
    logits = torch.randn((150, 1000), generator=torch.Generator().manual_seed(7)) * sharpness
    scores = torch.softmax(logits, dim=1)
    assert_equal(twin.decide(scores, decision), decide(host.masses(scores.numpy()), taxonomy, decision))


def test_tied_scores_on_imagenet(both):
    _, host, twin = both
    scores = np.zeros((1000, 1000))
    for photo in range(1000):  # 1 to 1000 labels alike: sums and floors meet their edges
        scores[photo, : photo + 1] = 1 / (photo + 1)
    np.testing.assert_array_equal(twin.masses(torch.from_numpy(scores)).cpu().numpy(), host.masses(scores))


@pytest.mark.parametrize("keep_mass", [500, 501])
def test_what_is_not_stored_does_not_compete(keep_mass):
    taxonomy, scores = make([[], *[[0]] * 20], range(1, 21)), np.full((1, 20), 0.05)
    decision = Decision(rule="expected", keep_mass=keep_mass)
    host = decide(Rollup(taxonomy).masses(scores), taxonomy, decision)
    assert_equal(DeviceRollup(taxonomy, DEVICE).decide(torch.from_numpy(scores), decision), host)


def test_real_scores(both, shared_photos):
    taxonomy, host, twin = both
    spec = get("efficientnet-lite0")
    files = sorted((shared_photos / "imagenet").glob("*.JPEG"))[::10]
    with DecodePool(2, spec.target) as decoders:
        pixels = np.stack([decoders.decode(path.read_bytes()).pixels for path in files])
    scores = torch.from_numpy(load_model(spec, spec.decision).predict(pixels)).to(DEVICE)
    for decision in DECISIONS:
        masses = host.masses(scores.cpu().numpy())
        assert_equal(twin.decide(scores, decision), decide(masses, taxonomy, decision))


def test_no_photos_are_no_decisions(both):
    assert len(both[2].decide(torch.empty((0, 1000)), Decision())) == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, float("nan"), 0.5], "Row 1 .*finite"),
        ([0.5, float("inf"), 0.5], "Row 1 .*finite"),
        ([1.5, -0.5, 0.0], "Row 1 .*negative"),
        ([0.5, 0.4, 0.0], "Row 1 .*sum to 1"),
    ],
)
def test_no_distribution_is_refused_by_row(both, row, message):
    scores = torch.zeros((3, 1000))
    scores[:, 0] = 1
    scores[1, :3] = torch.tensor(row)
    with pytest.raises(BadScores, match=message):
        both[2].masses(scores)


@pytest.mark.parametrize("shape", [(1000,), (2, 0), (2, 999)])
def test_scores_of_another_shape_are_refused(both, shape):
    with pytest.raises(BadScores):
        both[2].masses(torch.ones(shape))
