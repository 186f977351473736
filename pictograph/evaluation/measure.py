"""One set of labelled photos, one model: every rule at its natural constants, and at a common target. Pure.

Two questions, two parts of the answer
  What do users see?  `SetResult.default`: the shipped decision with everything the product does, abstaining included.
  Which rule is best? `SetResult.rules`: under the conventions of `pictograph.evaluation.rules`, for a rule that says
                      little is right easily. So each is also calibrated, on one half of the photos, to be right for the
                      same share of them, and measured on the other half; over many random halves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pictograph.evaluation.predict import Probabilities
from pictograph.evaluation.rules import Rule, Said
from taxonomy.ballot import ballot
from taxonomy.calibrate import SLACK, Outcomes, strictest_target
from taxonomy.decide import Decided, Decision, Kept, decide
from taxonomy.graph import Ints, Taxonomy
from taxonomy.metrics import (
    CategoryMetrics,
    HeadlineMetrics,
    Interval,
    Reliability,
    TagMetrics,
    category_metrics,
    haurc_interval,
    headline_metrics,
    reliability,
    tag_metrics,
    top_k,
)
from taxonomy.rollup import WHOLE, Rollup
from taxonomy.truth import Truth, Verdict

RESAMPLES = 1_000  # of the bootstrap; fewer for many photos, which need fewer
RESAMPLED_PHOTOS = 2_000_000  # photos that all resamples draw together, at most: 16 MB

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A rule along its path: what it tells, and the share of photos that it tells nothing wrong."""

    bits: Floats  # [G]
    safe: Floats  # [G]


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """A rule calibrated to a target on one half of the photos and measured on the other, split by split."""

    target: float
    constants: tuple[float, ...]  # chosen
    splits: tuple[HeadlineMetrics, ...]

    def mean(self, measure: str) -> float:
        """Of one measure, over the splits; NaN where it has none."""
        return float(np.mean([getattr(split, measure) for split in self.splits]))

    @property
    def right_sd(self) -> float:
        """Standard deviation of `right` over the splits."""
        return float(np.std([split.right for split in self.splits]))

    @property
    def below_target(self) -> float:
        """Share of splits that were right less often than the target."""
        return float(np.mean([1 - split.wrong < self.target for split in self.splits]))


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """One rule on one set."""

    name: str
    about: str
    natural: float  # its constant
    metrics: HeadlineMetrics  # at that constant
    matched: Matched | None  # None: too few photos for the target
    curve: Curve
    haurc: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A photo with a wrong headline."""

    photo: int  # its place in the set
    shown: int  # node
    mass: float  # 0 to 1
    leaves: tuple[tuple[int, float], ...]  # the largest labels, as nodes, with their probabilities


@dataclass(frozen=True, kw_only=True, slots=True)
class SetResult:
    """Everything about one set of N photos."""

    name: str
    photos: int
    unreadable: int
    top1: float
    top5: float
    confidence: float  # mean probability of the top label
    default: HeadlineMetrics
    tags: TagMetrics
    headlines: (
        Reliability  # of the shown headlines' masses; finer ones, which cannot be checked, left out here as below
    )
    labels: Reliability  # of the top labels' probabilities
    masses: Reliability  # of every stored mass of a category that may be shown
    categories: CategoryMetrics  # of the shown tags
    rules: tuple[RuleResult, ...]
    mistakes: tuple[Mistake, ...]  # the surest first


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How rules are brought to a common target."""

    target: float = 0.95  # share of photos that are told nothing wrong
    splits: int = 20
    mistakes: int = 12  # of them, how many are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledSet:
    """N photos that were classified, and the truth about them."""

    name: str  # clean, or the degradation
    probabilities: Probabilities  # [N, L]
    truth: Truth
    photo: Ints  # [N]: which photo each is a copy of; halves never share a photo
    unreadable: int = 0


def measure_set(
    of: LabelledSet, taxonomy: Taxonomy, decision: Decision, rules: Sequence[Rule], plan: Plan
) -> SetResult:
    """Measure the product and every rule on a set.

    Raises:
        BadScores: a row is no probability distribution over the taxonomy's labels.
        BadTruth: there are no photos, or `truth` is about others.
    """
    probabilities, truth = of.probabilities, of.truth
    decided = decide(Rollup(taxonomy).masses(probabilities), taxonomy, decision)
    top = taxonomy.label_nodes[probabilities.argmax(axis=1)]
    top_mass = probabilities.max(axis=1).astype(np.float64)
    showable = ballot(taxonomy, "expected", decision.vague_share).showable[: taxonomy.nodes]
    return SetResult(
        name=of.name,
        photos=len(truth),
        unreadable=of.unreadable,
        top1=top_k(probabilities, truth, taxonomy, 1),
        top5=top_k(probabilities, truth, taxonomy, 5),
        confidence=float(top_mass.mean()),
        default=headline_metrics(decided.headline, top, truth, taxonomy, decision.vague_share),
        tags=tag_metrics(decided, truth, taxonomy, decision.vague_share),
        headlines=_checked(decided.headline_mass / WHOLE, truth.verdicts(decided.headline)),
        labels=_checked(top_mass, truth.verdicts(top)),
        masses=_masses(decided.kept, truth, showable),
        categories=category_metrics(decided.tag_rows, decided.tags, truth, showable),
        rules=tuple(measure_rule(rule, of, taxonomy, plan) for rule in rules),
        mistakes=_mistakes(decided, probabilities, truth, taxonomy, plan.mistakes),
    )


def _checked(confidence: Floats, verdicts: NDArray[np.int8]) -> Reliability:
    known = np.isin(verdicts, (Verdict.RIGHT, Verdict.WRONG))
    return reliability(confidence[known], verdicts[known] == Verdict.RIGHT)


def _masses(kept: Kept, truth: Truth, showable: NDArray[np.bool_]) -> Reliability:
    able = np.isin(kept.columns, np.flatnonzero(showable))
    masses, verdicts = kept.masses[able] / WHOLE, truth.judge(kept.rows[able], kept.columns[able])
    return _checked(masses, verdicts)


def measure_rule(rule: Rule, of: LabelledSet, taxonomy: Taxonomy, plan: Plan) -> RuleResult:
    """One rule on one set; errors as `measure_set`."""
    probabilities, truth = of.probabilities, of.truth
    answers = rule.answers(probabilities)
    top = taxonomy.label_nodes[probabilities.argmax(axis=1)]
    photos = np.arange(len(truth))
    wrong = truth.judge(photos[:, None], answers.rows) == Verdict.WRONG
    bits = taxonomy.bits[answers.rows]
    return RuleResult(
        name=rule.name,
        about=rule.about,
        natural=rule.natural,
        metrics=headline_metrics(answers.natural, top, truth, taxonomy),
        matched=_matched(rule, answers.rows, wrong, top, of, taxonomy, plan),
        curve=Curve(bits=bits.mean(axis=0), safe=1 - wrong.mean(axis=0)),
        haurc=haurc_interval(
            wrong,
            bits,
            truth.verdicts(top) == Verdict.WRONG,
            math.log2(taxonomy.classes) or 1.0,
            resamples=max(100, min(RESAMPLES, RESAMPLED_PHOTOS // len(truth))),
            photo=of.photo,
        ),
    )


def _matched(
    rule: Rule,
    rows: Said,
    wrong: NDArray[np.bool_],
    top: Ints,
    of: LabelledSet,
    taxonomy: Taxonomy,
    plan: Plan,
) -> Matched | None:
    """Calibrate on halves of the photos; None where half of them could not promise the target."""
    photos = np.unique(of.photo)
    if plan.target > strictest_target(len(photos) // 2) + SLACK:
        return None
    errors = Outcomes(wrong=wrong, shown=np.ones_like(wrong)).errors
    constants, measured = [], []
    for seed in range(plan.splits):
        shuffled = np.random.default_rng(seed).permutation(photos)
        first = np.isin(of.photo, shuffled[: len(photos) // 2])
        row = _row(errors[first], len(photos) // 2, plan.target)
        constants.append(rule.constants[row])
        measured.append(headline_metrics(rows[~first, row], top[~first], of.truth.take(~first), taxonomy))
    return Matched(target=plan.target, constants=tuple(constants), splits=tuple(measured))


def _row(errors: NDArray[np.bool_], photos: int, target: float) -> int:
    """Conformal risk control as in `taxonomy.calibrate`, law 2; a photo's loss is the mean over its copies."""
    losses = errors.mean(axis=0) * photos
    return int(np.flatnonzero((losses + 1) / (photos + 1) <= 1 - target + SLACK)[0])


def _mistakes(
    decided: Decided, probabilities: Probabilities, truth: Truth, taxonomy: Taxonomy, most: int
) -> tuple[Mistake, ...]:
    """The wrong headlines with the largest masses; among equals, those that claim most."""
    wrong = np.flatnonzero(truth.verdicts(decided.headline) == Verdict.WRONG)
    mass = decided.headline_mass / WHOLE
    order = np.lexsort((-taxonomy.bits[decided.headline[wrong]], -mass[wrong]))
    return tuple(
        Mistake(
            photo=photo,
            shown=int(decided.headline[photo]),
            mass=float(mass[photo]),
            leaves=_largest(probabilities[photo], taxonomy),
        )
        for photo in wrong[order][:most].tolist()
    )


def _largest(probabilities: NDArray[np.float32], taxonomy: Taxonomy, most: int = 4) -> tuple[tuple[int, float], ...]:
    best = np.argsort(-probabilities, kind="stable")[:most]
    return tuple((int(taxonomy.label_nodes[label]), float(probabilities[label])) for label in best)
