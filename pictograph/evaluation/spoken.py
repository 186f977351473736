"""Constants of a decision from what people said of photos, instead of labels. Pure; works on stored masses.

What this can and cannot say
  A tag counts as right if it follows from what somebody said of the photo, and as wrong otherwise: what nobody spoke of
  is not known to be right. So the constants show no more than people vouched for, and can only be too careful.
  Reviewers choose what they look at, mostly what is unsure: these photos are no random draw, and what holds of them
  need not hold of others. Hence no promise: neither theorem of `taxonomy.calibrate` covers photos that were chosen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pictograph.evaluation.constants import Goal, achieved
from pipeline.errors import ConfigurationError
from pipeline.store.verdicts import JudgedPhoto
from pipeline.verdicts import all_said
from taxonomy.calibrate import Calibrated, calibrate
from taxonomy.decide import Decision, Kept
from taxonomy.graph import Taxonomy
from taxonomy.truth import Truth

FEWEST = 100  # photos with verdicts; with fewer, chance chooses the constants


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoken:
    """Constants that keep to a target on the photos that people said something of."""

    calibrated: Calibrated
    achieved: float  # as in `pictograph.evaluation.constants.Chosen`
    words: int  # verdicts
    rejected: int  # of them, those that say no


def constants_from(photos: Iterable[JudgedPhoto], taxonomy: Taxonomy, base: Decision, goal: Goal) -> Spoken:
    """The least conservative constants of the expected rule that keep to the goal on these photos.

    Raises:
        ConfigurationError: people have said something of too few photos.
        TooFewPhotos: these photos could not show that the target is met, however few errors they made.
        BadCalibration: the target is not between 0 and 1.
    """
    judged = list(photos)
    if len(judged) < FEWEST:
        raise ConfigurationError(
            f"People have said something of {len(judged)} photos that the model has seen, and {FEWEST} are needed to "
            "calibrate; give verdicts at /review, or calibrate on a folder of labelled photos."
        )
    kept = _kept(judged, base.keep_mass)
    found = calibrate(
        kept, _truth(judged, taxonomy), taxonomy, target=goal.target, guarantee=goal.guarantee, of=goal.of, base=base
    )
    words = [word for photo in judged for word in photo.words]
    return Spoken(
        calibrated=found,
        achieved=achieved(found, goal.of),
        words=len(words),
        rejected=sum(word.kind == "reject" for word in words),
    )


def _kept(judged: Sequence[JudgedPhoto], least: int) -> Kept:
    enough = [photo.masses >= least for photo in judged]
    return Kept(
        columns=np.concatenate([photo.columns[mask] for photo, mask in zip(judged, enough, strict=True)]),
        masses=np.concatenate([photo.masses[mask] for photo, mask in zip(judged, enough, strict=True)]),
        ends=np.cumsum([0, *(int(mask.sum()) for mask in enough)], dtype=np.int64),
    )


def _truth(judged: Sequence[JudgedPhoto], taxonomy: Taxonomy) -> Truth:
    right = np.zeros((len(judged), taxonomy.nodes), dtype=bool)
    for row, photo in enumerate(judged):
        right[row, list(all_said(photo.words, taxonomy).yes)] = True
    return Truth.known(right)
