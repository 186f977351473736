"""Constants of a decision from labelled photos, and how they do on photos that they were not chosen on. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pictograph.evaluation.measure import LabelledSet
from taxonomy.calibrate import (
    Among,
    Calibrated,
    Guarantee,
    Outcomes,
    Path,
    Rung,
    calibrate,
    choose,
    ladder,
    outcomes,
    path,
)
from taxonomy.decide import Decision, Kept, decide_kept, keep
from taxonomy.errors import TooFewPhotos
from taxonomy.graph import Taxonomy
from taxonomy.metrics import HeadlineMetrics, headline_metrics
from taxonomy.rollup import Rollup

SPLITS = 20  # random halves
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)  # also promised, for who asks for a precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What the constants are to promise."""

    target: float = 0.95  # 1 minus the share of wrong ones
    guarantee: Guarantee = "average"
    of: Among = "shown"  # the share is one of the photos that show something, or of all photos


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Constants chosen on one half of the photos, measured on the other; means over the splits."""

    splits: int
    achieved: float  # 1 minus the share of photos with a wrong tag, among what the goal is about
    below_target: float  # share of splits in which that was missed
    right: float
    wrong: float
    abstained: float
    bits: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Constants, and what is to be expected of them."""

    calibrated: Calibrated  # on all photos
    achieved: float  # 1 minus the share of photos with a wrong tag, among what the goal is about; on these same photos
    held_out: HeldOut | None  # None: half of the photos are too few for the target
    ladder: tuple[Rung, ...]  # constants for other targets, and for this one, by the same photos


def choose_constants(of: LabelledSet, taxonomy: Taxonomy, base: Decision, goal: Goal) -> Chosen:
    """The least conservative constants of the expected rule that keep the goal on a set.

    Raises:
        TooFewPhotos: these photos could not promise the target, however few errors they made.
        BadCalibration: the target is not between 0 and 1.
        BadScores: a row is no probability distribution over the taxonomy's labels.
    """
    kept = keep(Rollup(taxonomy).masses(of.probabilities), base.keep_mass)
    found = calibrate(kept, of.truth, taxonomy, target=goal.target, guarantee=goal.guarantee, of=goal.of, base=base)
    rows = path("expected")
    all_rows = outcomes(kept, of.truth, taxonomy, rows, base)
    return Chosen(
        calibrated=found,
        achieved=achieved(found, goal.of),
        held_out=_held_out(of, kept, taxonomy, base, goal, rows, all_rows),
        ladder=ladder(all_rows, rows, sorted({*TARGETS, goal.target}), goal.guarantee, goal.of),
    )


def achieved(found: Calibrated, of: Among) -> float:
    """1 minus the share of photos with a wrong tag, among all photos or those that show something."""
    shown = 1 - found.abstained
    return 1 - (found.wrong_tag / shown if of == "shown" and shown else found.wrong_tag)


def _held_out(
    of: LabelledSet, kept: Kept, taxonomy: Taxonomy, base: Decision, goal: Goal, rows: Path, found: Outcomes
) -> HeldOut | None:
    top = taxonomy.label_nodes[of.probabilities.argmax(axis=1)]
    kept_to, measured, photos = [], [], np.unique(of.photo)
    for seed in range(SPLITS):
        shuffled = np.random.default_rng(seed).permutation(photos)
        in_first = np.isin(of.photo, shuffled[: len(photos) // 2])
        first, second = np.flatnonzero(in_first), np.flatnonzero(~in_first)
        try:
            row = choose(found.take(first), goal.target, goal.guarantee, goal.of)
        except TooFewPhotos:
            return None
        headline = decide_kept(kept, taxonomy, rows.decision(row, base)).headline[second]
        kept_to.append(_achieved(found, second, row, goal.of))
        measured.append(headline_metrics(headline, top[second], of.truth.take(second), taxonomy))
    return _means(kept_to, measured, goal.target)


def _achieved(found: Outcomes, photos: NDArray[np.intp], row: int, of: Among) -> float:
    wrong, shown = found.wrong[photos, row], found.shown[photos, row]
    return 1 - float(wrong.sum()) / max(1, int(shown.sum()) if of == "shown" else len(photos))


def _means(achieved: list[float], measured: list[HeadlineMetrics], target: float) -> HeldOut:
    return HeldOut(
        splits=len(achieved),
        achieved=float(np.mean(achieved)),
        below_target=float(np.mean(np.array(achieved) < target)),
        right=float(np.mean([split.right for split in measured])),
        wrong=float(np.mean([split.wrong for split in measured])),
        abstained=float(np.mean([split.abstained for split in measured])),
        bits=float(np.mean([split.bits for split in measured])),
    )
