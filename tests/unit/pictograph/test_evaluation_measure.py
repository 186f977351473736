"""A set of photos measured: what users see, rules at a common target, what is printed for machines."""

import json
import math

import numpy as np
import pytest

from pictograph.evaluation.answer import as_json
from pictograph.evaluation.charts import reliability_diagram, right_against_bits
from pictograph.evaluation.constants import Goal, choose_constants
from pictograph.evaluation.measure import LabelledSet, Plan, measure_set
from pictograph.evaluation.report import Card, Section, html
from pictograph.evaluation.rules import all_rules
from taxonomy.decide import Decision
from taxonomy.errors import BadCalibration, BadScores, TooFewPhotos
from taxonomy.graph import load
from taxonomy.truth import Truth

TAXONOMY = load()
DECISION = Decision(rule="expected", lam=1_000, threshold=8_500)


def labelled(photos=120, seed=0, copies=1):
    """Photos of random labels, of which the model is sure for one half and torn between neighbours for the other."""
    rng = np.random.default_rng(seed)
    which = np.tile(rng.integers(0, 1000, photos), copies)
    scores = np.full((photos * copies, 1000), 1e-5)
    for row, label in enumerate(which.tolist()):
        sure = rng.uniform(0.2, 1.0)
        scores[row, label] += sure
        scores[row, min(999, label + 1)] += 0.6 * (1 - sure)
        scores[row, rng.integers(0, 1000)] += rng.uniform(0, 1.5) * (1 - sure)
    scores /= scores.sum(axis=1, keepdims=True)
    return LabelledSet(
        name="clean",
        probabilities=scores.astype(np.float32),
        truth=Truth.of(TAXONOMY, [TAXONOMY.labels[label] for label in which]),
        photo=np.tile(np.arange(photos, dtype=np.int32), copies),
    )


@pytest.fixture(scope="module")
def measured():
    return measure_set(labelled(), TAXONOMY, DECISION, all_rules(TAXONOMY, DECISION)[:3], Plan(splits=5))


def test_the_shares_of_what_users_see_add_up(measured):
    seen = measured.default
    assert seen.right + seen.finer + seen.abstained + seen.wrong == pytest.approx(1)
    assert 0 < seen.wrong < seen.right < 1
    assert seen.vague == 0


def test_rules_are_never_silent_and_the_root_is_right(measured):
    for rule in measured.rules:
        assert rule.metrics.abstained == 0
        assert rule.curve.safe[-1] == 1
        assert rule.curve.bits[-1] == 0


def test_calibrated_rules_keep_their_target_on_the_other_half(measured):
    for rule in measured.rules:
        assert len(rule.matched.splits) == 5
        assert rule.matched.mean("wrong") <= 0.05 + 0.03
        assert rule.matched.mean("bits") > 1


def test_copies_of_a_photo_stay_on_one_side_and_count_as_one():
    few = measure_set(
        labelled(photos=36, copies=6), TAXONOMY, DECISION, all_rules(TAXONOMY, DECISION)[:1], Plan(splits=2)
    )
    assert few.photos == 216
    assert few.rules[0].matched is None  # 18 photos can promise 94.7 %, however many copies of them there are
    enough = measure_set(
        labelled(photos=38, copies=2), TAXONOMY, DECISION, all_rules(TAXONOMY, DECISION)[:1], Plan(splits=2)
    )
    assert [split.photos for split in enough.rules[0].matched.splits] == [38, 38]


def test_the_surest_mistakes_come_first(measured):
    masses = [mistake.mass for mistake in measured.mistakes]
    assert masses
    assert masses == sorted(masses, reverse=True)


def test_the_json_has_no_nan(measured):
    found = as_json(measured, TAXONOMY)
    text = json.dumps(found, allow_nan=False)
    assert {"right", "finer", "abstained", "wrong", "wrong_of_shown", "bits", "hf1"} <= json.loads(text)[
        "default"
    ].keys()
    assert found["rules"]["shipped"]["calibrated"]["splits"] == 5
    dog = next(category for category in found["categories"] if category["name"] == "animal")
    assert dog["both"] <= min(dog["true"], dog["said"])


@pytest.mark.parametrize(
    ("score", "what"), [(math.nan, "finite"), (math.inf, "finite"), (-0.5, "negative"), (0.9, "sum")]
)
def test_scores_that_are_none_are_refused(score, what):
    broken = labelled(photos=40)
    broken.probabilities[7, 3] = score
    with pytest.raises(BadScores, match=f"Row 7 .*{what}"):
        measure_set(broken, TAXONOMY, DECISION, (), Plan())


def test_scores_of_another_model_are_refused():
    broken = labelled(photos=40)
    short = LabelledSet(
        name="clean", probabilities=broken.probabilities[:, :999], truth=broken.truth, photo=broken.photo
    )
    with pytest.raises(BadScores, match="999 scores"):
        measure_set(short, TAXONOMY, DECISION, (), Plan())


def test_the_page_needs_nothing_else_and_escapes_names(measured):
    card = Card(jpeg=b"\xff\xd8", file="<b>.jpg", true="x", said="y", mass=0.9, leaves=(("a & b", 0.5),))
    page = html("t", "a", [Section(result=measured, cards=(card,))], TAXONOMY)
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "&lt;b&gt;.jpg" in page
    assert "a &amp; b" in page
    assert page.count("<svg") == 2


def test_diagrams_stay_within_their_frame(measured):
    for svg in (
        right_against_bits(measured.rules, measured.default, math.log2(1000)),
        reliability_diagram(measured.masses, measured.labels),
    ):
        assert "nan" not in svg
        assert "inf" not in svg


# ---- constants


def test_constants_are_better_for_more_photos_and_lower_targets():
    of = labelled(photos=300)
    low, high = (choose_constants(of, TAXONOMY, Decision(), Goal(target=target)) for target in (0.8, 0.95))
    assert low.calibrated.decision.lam < high.calibrated.decision.lam
    assert low.achieved >= 0.8
    assert high.achieved >= 0.95
    assert high.held_out.splits == 20
    assert high.held_out.achieved > 0.92


def test_too_few_photos_are_told_what_they_can_promise():
    with pytest.raises(TooFewPhotos, match=r"10 photos can promise 90\.9% at best"):
        choose_constants(labelled(photos=10), TAXONOMY, Decision(), Goal())
    halves = choose_constants(labelled(photos=30), TAXONOMY, Decision(), Goal())
    assert halves.held_out is None
    assert choose_constants(labelled(photos=1), TAXONOMY, Decision(), Goal(target=0.3)).held_out is None


def test_copies_of_a_photo_do_not_stand_in_for_it_in_the_other_half():
    copied = labelled(photos=18, copies=2)
    halves = choose_constants(copied, TAXONOMY, Decision(), Goal(target=0.9)).held_out
    swapped = LabelledSet(
        name="clean",
        probabilities=np.roll(copied.probabilities, 18, axis=0),
        truth=copied.truth,
        photo=copied.photo,
    )
    assert choose_constants(swapped, TAXONOMY, Decision(), Goal(target=0.9)).held_out == halves


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, math.nan])
def test_targets_that_are_none_are_refused(target):
    with pytest.raises(BadCalibration):
        choose_constants(labelled(photos=40), TAXONOMY, Decision(), Goal(target=target))
