"""Which constants of a decision keep a promised precision: only what a calibration measured is promised. Pure.

A calibration on labelled photos (`pictograph calibrate`) promises: of the photos that show something, at most
1 - target show a wrong tag. It stores the constants for its own target and, from the same photos, those for a ladder of
others. Whoever asks for a precision gets the constants of the lowest target that is at least as high: those that show
the most.

The laws
  1. No number is made up: between two targets the higher one is taken, and above the highest there is none.
  2. The newest calibration that reaches what is asked counts: somebody who calibrates again means it.
  3. What promises nothing about the photos that show something is left out: constants that ship with a model, those
     whose share is one of all photos, and those that come from verdicts on photos that reviewers chose.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from taxonomy.calibrate import Guarantee
from taxonomy.decide import Decision


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """Constants, and the precision that a calibration promises of them."""

    revision: int  # of the stored decision that the calibration made
    target: float  # share of the photos showing something that show no wrong tag
    guarantee: Guarantee  # how often it holds
    photos: int  # that it was measured on
    decision: Decision  # `revision` is the stored one's, also where the constants are another rung's


def promised(decision: Decision, calibration: Mapping[str, Any]) -> list[Promise]:
    """What a stored decision and its calibration promise, lowest target first; [] if nothing (law 3)."""
    guarantee = next((known for known in get_args(Guarantee) if known == calibration.get("guarantee")), None)
    if calibration.get("of") != "shown" or guarantee is None:
        return []
    own = {"target": calibration["target"], "lam": decision.lam, "threshold": decision.threshold}
    rungs = {float(rung["target"]): rung for rung in (*calibration.get("ladder", ()), own)}
    return [
        Promise(
            revision=decision.revision,
            target=target,
            guarantee=guarantee,
            photos=calibration["photos"],
            decision=replace(decision, lam=rungs[target]["lam"], threshold=rungs[target]["threshold"]),
        )
        for target in sorted(rungs)
    ]


def keeps(promises: Sequence[Promise], asked: float) -> Promise | None:
    """The promise that answers a wish for a precision; None if none is as high."""
    enough = [promise for promise in promises if promise.target >= asked]
    return min(enough, key=lambda promise: (-promise.revision, promise.target), default=None)


def targets(promises: Iterable[Promise]) -> list[float]:
    """Every target that is promised, lowest first."""
    return sorted({promise.target for promise in promises})
