import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_taxonomies import scored

from taxonomy.ballot import NO_HEADLINE
from taxonomy.calibrate import (
    TEMPERATURES,
    Outcomes,
    binomial_cdf,
    calibrate,
    choose,
    clopper_pearson_upper,
    fewest_photos,
    fit_temperature,
    outcomes,
    path,
    strictest_target,
)
from taxonomy.decide import NO_TAG, Decision, decide_kept, keep
from taxonomy.errors import BadCalibration, TooFewPhotos
from taxonomy.graph import load
from taxonomy.rollup import Rollup
from taxonomy.truth import Truth, Verdict

GUARANTEES = ["average", "high-probability"]


def table(*rows):
    """Outcomes from a row per photo: x a wrong tag, o right ones, . nothing shown."""
    letters = np.array([list(row) for row in rows])
    return Outcomes(wrong=letters == "x", shown=letters != ".")


# ---- bounds


@pytest.mark.parametrize(
    ("errors", "photos", "upper"),  # quantiles of Beta(errors + 1, photos - errors) at 0.95
    [
        (0, 10, 0.25886555),  # 1 - 0.05^(1/10)
        (1, 10, 0.3941633),
        (5, 10, 0.7775589),
        (0, 59, 0.04950761),
        (3, 250, 0.03072086),
        (7, 500, 0.02613471),
        (2_500, 50_000, 0.05163263),
        (10, 10, 1.0),
    ],
)
def test_clopper_pearson(errors, photos, upper):
    assert clopper_pearson_upper(errors, photos) == pytest.approx(upper, abs=1e-8)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(0, 100))
def test_the_binomial_is_exact(case, percent):
    successes, trials = case
    share = Fraction(percent, 100)
    exact = sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(successes + 1))
    assert binomial_cdf(successes, trials, percent / 100) == pytest.approx(float(exact), rel=1e-10, abs=1e-300)


@pytest.mark.parametrize(("errors", "photos", "delta"), [(-1, 10, 0.05), (11, 10, 0.05), (0, 0, 0.05), (1, 10, 0.0)])
def test_impossible_counts_have_no_bound(errors, photos, delta):
    with pytest.raises(BadCalibration):
        clopper_pearson_upper(errors, photos, delta)


@pytest.mark.parametrize(
    ("target", "guarantee", "photos"),
    [
        (0.95, "average", 19),  # 1 / 20
        (0.99, "average", 99),
        (0.9, "average", 9),
        (0.95, "high-probability", 59),  # 0.95^59 = 0.0485
        (0.99, "high-probability", 299),
    ],
)
def test_the_fewest_photos(target, guarantee, photos):
    assert fewest_photos(target, guarantee) == photos
    assert strictest_target(photos, guarantee) >= target - 1e-9
    assert strictest_target(photos - 1, guarantee) < target


# ---- choosing a row


@pytest.mark.parametrize("rule", ["threshold", "expected"])
def test_a_path_grows_more_conservative_and_ends_in_silence(rule):
    rows = path(rule)
    assert (np.diff(rows.lam) >= 0).all()
    assert (np.diff(rows.threshold) >= 0).all()
    assert ((np.diff(rows.lam) > 0) | (np.diff(rows.threshold) > 0)).all()
    assert rows.threshold[-1] == NO_TAG
    assert rows.lam[-1] == (NO_HEADLINE if rule == "expected" else 0)
    assert all(rows.decision(row, Decision()).rule == rule for row in range(len(rows)))


@pytest.mark.parametrize(
    ("photos", "row"),
    [
        (["xoo."] + ["ooo."] * 18, 1),  # 19 photos allow no error at 0.95: (0 + 1) / 20
        (["xoo."] + ["ooo."] * 38, 0),  # 39 allow one: (1 + 1) / 40
        (["oxo."] + ["ooo."] * 18, 2),  # right again below a wrong row counts as wrong: the running maximum
        (["xxx."] * 19, 3),  # nothing but silence
    ],
)
def test_the_average_promise(photos, row):
    assert choose(table(*photos), 0.95) == row


@pytest.mark.parametrize(
    ("photos", "row"),
    [
        (["xo."] + ["oo."] * 58, 1),  # 59 photos allow no error
        (["xo."] + ["oo."] * 92, 0),  # 93 allow one
        (["oxo."] + ["ooo."] * 58, 2),  # the walk from the end stops at the first row that fails
    ],
)
def test_the_promise_of_high_probability(photos, row):
    assert choose(table(*photos), 0.95, "high-probability") == row


@pytest.mark.parametrize(
    ("guarantee", "photos", "row"),
    [
        ("average", ["xo."] + ["o.."] * 20 + ["oo."] * 18, 0),  # row 0: 2 / 40
        ("average", ["xo."] + ["..."] * 20 + ["oo."] * 18, 1),  # row 0: 2 / 20; row 1: 1 / 20
        # row 0 is under the bound, 2 / 41, but only by the photos it adds to row 1, 2 / 31: a lucky dip
        ("average", ["xxo."] + ["ooo."] * 19 + ["oo.."] * 10 + ["o..."] * 10, 2),
        # a row that shows too few photos for any promise says nothing about the laxer ones
        ("average", ["xx."] + ["oo."] * 5 + ["o.."] * 34, 0),
        ("high-probability", ["xo."] + ["oo."] * 58, 1),
        (
            "high-probability",
            ["x.."] + ["oo."] * 58 + ["..."] * 40,
            2,
        ),  # 58 shown are too few for row 1, row 0 has an error
    ],
)
def test_promises_about_the_shown(guarantee, photos, row):
    assert choose(table(*photos), 0.95, guarantee, "shown") == row


def test_a_lower_target_is_never_more_conservative():
    wrong = np.random.default_rng(2).random((200, 30)) < np.linspace(0.6, 0, 30)
    found = Outcomes(wrong=wrong, shown=np.ones_like(wrong))
    for guarantee in GUARANTEES:
        rows = [choose(found, target, guarantee) for target in (0.7, 0.8, 0.9, 0.95)]
        assert rows == sorted(rows)
    assert choose(found, 0.9, "high-probability") >= choose(found, 0.9)


@pytest.mark.parametrize(("guarantee", "possible"), [("average", 1 - 1 / 11), ("high-probability", 0.05**0.1)])
def test_too_few_photos_are_told_what_is_possible(guarantee, possible):
    with pytest.raises(TooFewPhotos, match="10 photos") as refused:
        choose(table(*["o."] * 10), 0.99, guarantee)
    assert refused.value.possible == pytest.approx(possible)
    assert choose(table(*["o."] * 10), refused.value.possible, guarantee) == 0


@pytest.mark.parametrize("of", ["photos", "shown"])
@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_no_photos_can_promise_nothing(guarantee, of):
    none = table("xo.").take(np.array([], dtype=np.intp))
    with pytest.raises(TooFewPhotos, match=r"^0 photos can promise 0\.0% at best"):
        choose(none, 0.3, guarantee, of)


@pytest.mark.parametrize("target", [0, 1, 95, -0.5, math.nan])
def test_a_target_that_is_no_share_is_refused(target):
    with pytest.raises(BadCalibration, match="target"):
        choose(table(*["o."] * 100), target)


def world(photos, rng):
    """Photos that turn right, or silent, at some row of 40, some of them wrong again on a stricter row."""
    turns = rng.beta(0.6, 2.0, photos) * 40
    wrong = np.arange(40) < turns[:, None]
    wrong[:, :-1] |= rng.random((photos, 39)) < 0.002
    wrong[:, -1] = False
    return Outcomes(wrong=wrong, shown=np.ones_like(wrong))


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("photos", [60, 200])
def test_promises_hold_on_new_photos(target, photos):
    rng = np.random.default_rng(11)
    risk = world(40_000, rng).wrong.mean(axis=0)  # of each row, as good as known
    risks = {g: np.array([risk[choose(world(photos, rng), target, g)] for _ in range(400)]) for g in GUARANTEES}
    assert risks["average"].mean() <= 1 - target + 0.004  # two standard errors of 400 calibrations
    assert risks["average"].mean() >= (1 - target) / 2  # and not by abstaining
    assert (risks["high-probability"] > 1 - target).mean() <= 0.05 + 0.025


def test_without_the_correction_the_promise_breaks():
    rng = np.random.default_rng(11)
    risk = world(40_000, rng).wrong.mean(axis=0)
    naive = [risk[int(np.argmax(world(30, rng).wrong.mean(axis=0) <= 0.1))] for _ in range(400)]
    assert np.mean(naive) > 0.1 + 0.004


# ---- calibrating a taxonomy's decision


@given(scored(), st.sampled_from(["threshold", "expected"]))
def test_outcomes_are_those_of_the_decisions(case, rule):
    taxonomy, probabilities = case
    kept, rows = keep(Rollup(taxonomy).masses(probabilities), 200), path(rule)
    truth = Truth.of(taxonomy, [taxonomy.labels[0]] * len(kept))
    found = outcomes(kept, truth, taxonomy, rows, Decision())
    assert not found.shown[:, -1].any()
    assert not (found.wrong & ~found.shown).any()
    for row in (0, len(rows) // 2):
        decided = decide_kept(kept, taxonomy, rows.decision(row, Decision()))
        for number, photo in enumerate(decided):
            false = truth.judge(np.full(len(photo.tags), number), photo.tags) == Verdict.WRONG
            assert found.wrong[number, row] == false.any()


@pytest.fixture(scope="module")
def uncertain():
    """300 photos of an uncertain classifier, whose evidence lies on the true label and on its neighbours."""
    taxonomy, rng = load(), np.random.default_rng(3)
    labels = rng.integers(0, 1000, 300)
    near = np.clip(labels[:, None] + rng.integers(-3, 4, (300, 4)), 0, 999)
    logits = rng.normal(size=(300, 1000))
    logits[np.arange(300)[:, None], near] += rng.uniform(0, 8, (300, 4))
    logits[np.arange(300), labels] += rng.uniform(0, 12, 300)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = Truth.of(taxonomy, [taxonomy.labels[label] for label in labels])
    return taxonomy, keep(Rollup(taxonomy).masses(scores), 200), truth


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("rule", ["threshold", "expected"])
def test_the_result_says_what_it_does(uncertain, rule, guarantee):
    taxonomy, kept, truth = uncertain
    found = calibrate(kept, truth, taxonomy, target=0.9, rule=rule, guarantee=guarantee, base=Decision(revision=7))
    assert (found.decision.rule, found.decision.revision, found.photos) == (rule, 7, 300)
    assert found.wrong <= found.wrong_tag <= found.bound <= 0.1 + 1e-9
    assert found.right + found.finer + found.abstained + found.wrong == pytest.approx(1)
    assert found.wrong_of_shown == pytest.approx(found.wrong / (1 - found.abstained))
    decided = decide_kept(kept, taxonomy, found.decision)
    assert found.bits == pytest.approx(taxonomy.bits[decided.headline[decided.headline >= 0]].sum() / 300)
    assert not found.nothing_shown


def test_the_share_of_the_shown_is_kept_too(uncertain):
    taxonomy, kept, truth = uncertain
    found = calibrate(kept, truth, taxonomy, target=0.9, of="shown")
    assert found.wrong_of_shown <= 0.1
    assert found.abstained >= calibrate(kept, truth, taxonomy, target=0.9).abstained


def test_where_nothing_can_be_promised_nothing_is_shown():
    taxonomy = load()
    kept = keep(Rollup(taxonomy).masses(np.eye(1000)[:40]), 200)  # sure of fish and birds
    found = calibrate(kept, Truth.of(taxonomy, [taxonomy.labels[900]] * 40), taxonomy, target=0.95)
    assert found.nothing_shown
    assert (found.wrong_tag, found.bits, found.decision.lam) == (0, 0, NO_HEADLINE)
    assert math.isnan(found.wrong_of_shown)


def test_photos_without_their_truth_are_refused(uncertain):
    taxonomy, kept, truth = uncertain
    with pytest.raises(BadCalibration, match="300 photos with 299"):
        calibrate(kept, truth.take(np.arange(299)), taxonomy, target=0.9)
    none = keep(np.empty((0, taxonomy.columns), dtype=np.int16), 200)
    with pytest.raises(BadCalibration, match="0 photos"):
        calibrate(none, truth.take(np.arange(0)), taxonomy, target=0.9)


# ---- temperature


@pytest.fixture(scope="module")
def logits():
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(4000, 20)) * 3
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    classes = (chances.cumsum(axis=1) / chances.sum(axis=1, keepdims=True) > rng.random((4000, 1))).argmax(axis=1)
    return scores, classes


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found(logits, temperature):
    scores, classes = logits
    assert fit_temperature(scores * temperature, classes) == pytest.approx(temperature, rel=0.05)


def test_logarithms_of_probabilities_do_as_well(logits):
    scores, classes = logits
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    assert fit_temperature(logs, classes) == pytest.approx(fit_temperature(scores, classes), rel=1e-5)


def test_it_is_the_most_likely(logits):
    scores, classes = logits[0] * 1.7, logits[1]

    def likelihood(temperature):
        logs = scores / temperature
        logs = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
        return logs[np.arange(len(classes)), classes].mean()

    best = fit_temperature(scores, classes)
    assert all(likelihood(best) >= likelihood(best * factor) for factor in (0.9, 0.99, 1.01, 1.1))


def test_what_is_always_right_or_wrong_has_a_temperature_at_the_end():
    scores = np.eye(3) * 5
    assert fit_temperature(scores, [0, 1, 2]) == pytest.approx(TEMPERATURES[0], rel=1e-5)
    assert fit_temperature(scores, [1, 2, 0]) == pytest.approx(TEMPERATURES[1], rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "classes"),
    [
        (np.zeros((0, 3)), []),
        (np.zeros((2, 3)), [0]),
        (np.zeros(3), [0, 1, 2]),
        (np.zeros((1, 3)), [3]),
        (np.zeros((1, 3)), [-1]),
        (np.array([[0.0, np.nan]]), [0]),
        (np.array([[0.0, -np.inf]]), [0]),
    ],
)
def test_logits_that_cannot_be_fitted_are_refused(scores, classes):
    with pytest.raises(BadCalibration):
        fit_temperature(scores, classes)
