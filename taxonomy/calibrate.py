"""From labelled photos to the constants of a decision that keeps a promise on photos like them.

The promise: at most 1 - target of the photos show a wrong tag. A photo's loss is 1 if any of its tags, the headline
included, is wrong, else 0; abstaining is never wrong.

The laws
  1. One dial. Every rule has a path of constants from the least to the most conservative, fixed before any photo is
     seen; its last row shows nothing. On the path of "expected", lam grows, and the mass that a tag beside the headline
     needs grows with it: it must be worth saying even if it tells little (`TAG_UTILITY`), and never be below
     `TAG_MASS`. Both are chosen at once, by the loss of everything shown, so the promise is about everything shown, and
     no second choice made on the same photos weakens it.
  2. "average": conformal risk control (Angelopoulos et al. 2022). A photo's loss is replaced by its largest on any more
     conservative row, which makes it monotone; the first row with (errors + 1) / (n + 1) <= 1 - target is taken. Then
     the expected share of wrong photos, over calibration sets and photos, is at most 1 - target. Single calibrations
     fall on either side.
  3. "high-probability": fixed-sequence testing. From the most conservative row on, rows are accepted while the
     Clopper-Pearson upper bound of their error share stays at or below 1 - target; the last accepted one is taken. It
     then breaks the promise in at most `DELTA` of all calibrations.
  4. With `of="shown"` the errors are counted among the photos that show something; the promise is about them alone.
     "high-probability" starts at the most conservative row that shows enough photos to accept anything, which makes it
     costly. "average" starts there too, and goes on for as long as (errors + 1) / (shown + 1) <= 1 - target: the share
     rises and falls along the path, and a laxer row that is under the bound although a stricter one is above it is a
     lucky dip. It is an estimate without a theorem, for a share of the shown is no mean loss.
  5. Too few photos cannot promise anything, however few errors they have: that is refused, with what they can promise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from taxonomy.ballot import NO_HEADLINE, UNIT, Rule
from taxonomy.decide import NO_TAG, Decision, Kept, decide_kept
from taxonomy.errors import BadCalibration, TooFewPhotos
from taxonomy.graph import Ints, Taxonomy
from taxonomy.rollup import WHOLE
from taxonomy.truth import Truth, Verdict

DELTA = 0.05  # how often a high-probability calibration may break its promise
TAG_UTILITY = 0.1  # a tag beside the headline must beat saying nothing even if it told a label's tenth
TAG_MASS = 0.85  # and never have less mass; such tags were wrong beside a right headline on 0.3 % of degraded photos
TEMPERATURES = (0.05, 20.0)  # where the temperature is looked for
SLACK = 1e-9  # so that 1 - 0.95 allows one error in 20

Guarantee = Literal["average", "high-probability"]
Among = Literal["photos", "shown"]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """G rows of constants of one rule, least conservative first; the last shows nothing."""

    rule: Rule
    lam: Ints  # [G], ten-thousandths
    threshold: Ints  # [G], ten-thousandths of a photo

    def __len__(self) -> int:
        return len(self.lam)

    def decision(self, row: int, base: Decision) -> Decision:
        """`base` with a row's constants."""
        return replace(base, rule=self.rule, lam=int(self.lam[row]), threshold=int(self.threshold[row]))


def path(rule: Rule) -> Path:
    """The rows that are tried for a rule (law 1)."""
    if rule == "threshold":
        masses = [*range(3_000, 9_000, 50), *range(9_000, 9_900, 20), *range(9_900, WHOLE + 1, 5), NO_TAG]
        return Path(rule=rule, lam=np.zeros(len(masses), dtype=np.int32), threshold=np.array(masses, dtype=np.int32))
    bounds, steps = (0, 1, 4, 20, 100, 1_000, 10_000), (0.01, 0.05, 0.5, 5, 100, 1_000)
    spans = zip(bounds[:-1], bounds[1:], steps, strict=True)
    lams = [lam for low, high, step in spans for lam in range(low * UNIT, high * UNIT, round(step * UNIT))]
    lams.append(NO_HEADLINE)
    beside = [_beside(lam) for lam in lams]
    return Path(rule=rule, lam=np.array(lams, dtype=np.int32), threshold=np.array(beside, dtype=np.int32))


def _beside(lam: int) -> int:
    """The least mass of a tag beside the headline: mass (utility + lam) >= lam, for a utility of `TAG_UTILITY`."""
    if lam == NO_HEADLINE:
        return NO_TAG
    return max(round(TAG_MASS * WHOLE), math.ceil(WHOLE * lam / (lam + TAG_UTILITY * UNIT)))


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What becomes of N photos on each of the G rows of a path."""

    wrong: Bools  # [N, G]: a tag is wrong
    shown: Bools  # [N, G]: there is a tag

    @cached_property
    def errors(self) -> Bools:
        """[N, G]: whether the photo has a wrong tag on this row or on a more conservative one."""
        return np.logical_or.accumulate(self.wrong[:, ::-1], axis=1)[:, ::-1]

    def take(self, photos: NDArray[np.intp]) -> "Outcomes":
        """Those of some of the photos."""
        return Outcomes(wrong=self.wrong[photos], shown=self.shown[photos])


def outcomes(kept: Kept, truth: Truth, taxonomy: Taxonomy, rows: Path, base: Decision) -> Outcomes:
    """Every photo decided by every row.

    Raises:
        BadCalibration: there are no photos, or not as many as in `truth`.
    """
    if len(kept) == 0 or len(kept) != len(truth):
        raise BadCalibration(f"{len(kept)} photos with {len(truth)} true synsets cannot be calibrated on; pass pairs.")
    wrong, shown = (np.zeros((len(kept), len(rows)), dtype=bool) for _ in range(2))
    for row in range(len(rows)):
        decided = decide_kept(kept, taxonomy, rows.decision(row, base))
        false = truth.judge(decided.tag_rows, decided.tags) == Verdict.WRONG
        wrong[decided.tag_rows[false], row] = True
        shown[:, row] = decided.headline >= 0
    return Outcomes(wrong=wrong, shown=shown)


def choose(found: Outcomes, target: float, guarantee: Guarantee = "average", of: Among = "photos") -> int:
    """The least conservative row that keeps the promise; the last, which shows nothing, if no other does.

    Raises:
        BadCalibration: the target is not between 0 and 1.
        TooFewPhotos: however few errors they made, these photos could not promise the target.
    """
    if not 0 < target < 1:
        raise BadCalibration(
            f"A target of {target} cannot be calibrated for; choose one between 0 and 1, such as 0.95."
        )
    photos, rows = len(found.wrong), int(found.wrong.shape[1])
    possible = strictest_target(photos, guarantee)
    if target > possible + SLACK:
        raise TooFewPhotos(
            f"{photos} photos can promise {possible:.1%} at best, not {target:.1%}; "
            f"use {fewest_photos(target, guarantee)} or more.",
            possible=possible,
        )
    errors, counted = _counts(found, guarantee, of)
    row, enough = rows - 1, fewest_photos(target, guarantee)
    for tried in range(rows - 1, -1, -1):
        if counted[tried] < enough:
            continue
        if not _keeps(int(errors[tried]), int(counted[tried]), target, guarantee):
            break
        row = tried
    return row


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """Constants for one of several targets that the same photos can promise."""

    target: float
    lam: int  # ten-thousandths
    threshold: int  # ten-thousandths of a photo
    bound: float  # as in `Calibrated`


def ladder(
    found: Outcomes, rows: Path, targets: Sequence[float], guarantee: Guarantee = "average", of: Among = "photos"
) -> tuple[Rung, ...]:
    """For each target, lowest first, what `choose` takes; without those that cannot be promised, or by silence alone.

    Each promise holds by itself, as that of a single calibration does; that all of them hold at once is another one.
    """
    rungs = []
    for target in sorted(targets):
        try:
            row = choose(found, target, guarantee, of)
        except TooFewPhotos:
            break
        if found.shown[:, row].any():
            lam, threshold = int(rows.lam[row]), int(rows.threshold[row])
            rungs.append(Rung(target=target, lam=lam, threshold=threshold, bound=_bound(found, row, guarantee, of)))
    return tuple(rungs)


def _keeps(errors: int, counted: int, target: float, guarantee: Guarantee) -> bool:
    if guarantee == "average":
        return (errors + 1) / (counted + 1) <= 1 - target + SLACK
    # The Clopper-Pearson bound is at most 1 - target just when so few errors are that unlikely at 1 - target.
    return binomial_cdf(errors, counted, 1 - target + SLACK) <= DELTA


def _counts(found: Outcomes, guarantee: Guarantee, of: Among) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """By row, the errors and the photos among which they are counted."""
    if of == "shown":
        return found.wrong.sum(axis=0), found.shown.sum(axis=0)
    errors = (found.errors if guarantee == "average" else found.wrong).sum(axis=0)
    return errors, np.full_like(errors, len(found.wrong))


def strictest_target(photos: int, guarantee: Guarantee = "average") -> float:
    """The highest target that so many photos could promise if they made no error."""
    if photos <= 0:
        return 0.0
    return 1 - 1 / (photos + 1) if guarantee == "average" else 1 - clopper_pearson_upper(0, photos)


def fewest_photos(target: float, guarantee: Guarantee = "average") -> int:
    """How many photos without an error are needed to promise a target."""
    if guarantee == "average":
        return math.ceil(1 / (1 - target) - 1 - SLACK)
    return math.ceil(math.log(DELTA) / math.log(target) - SLACK)


def clopper_pearson_upper(errors: int, photos: int, delta: float = DELTA) -> float:
    """The one-sided Clopper-Pearson upper bound of an error share: where P(Binomial(n, share) <= errors) is delta.

    Raises:
        BadCalibration: not 0 <= errors <= photos with 0 < photos, or delta is not between 0 and 1.
    """
    if not 0 <= errors <= photos or photos == 0 or not 0 < delta < 1:
        raise BadCalibration(f"{errors} errors of {photos} with delta {delta} have no upper bound; check the counts.")
    if errors == photos:
        return 1.0
    low, high = errors / photos, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_cdf(errors, photos, middle) > delta else (low, middle)
    return high


def binomial_cdf(successes: int, trials: int, share: float) -> float:
    """P(Binomial(trials, share) <= successes), for a share of 0 to 1, as the sum of its terms in log space."""
    if successes >= trials or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    k = np.arange(successes + 1)
    logs = _log_factorials(trials)
    terms = logs[trials] - logs[k] - logs[trials - k] + k * math.log(share) + (trials - k) * math.log1p(-share)
    top = float(terms.max())
    return min(1.0, math.exp(top) * float(np.exp(terms - top).sum()))


def _log_factorials(most: int) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrated:
    """Constants, the promise they make, and how they did on the photos they were chosen on."""

    decision: Decision  # ready to be stored; raise its revision
    target: float
    guarantee: Guarantee
    of: Among
    photos: int
    bound: float  # what the promise rests on: the corrected (average) or bounded (high-probability) share of errors
    right: float  # shares of the photos, for the headline
    finer: float
    abstained: float
    wrong: float
    wrong_of_shown: float  # NaN where nothing is shown
    wrong_tag: float  # share of photos with any wrong tag: what was calibrated
    bits: float  # told per photo, abstained ones 0

    @property
    def nothing_shown(self) -> bool:
        """Whether the only way to keep the promise on these photos is to abstain on all of them."""
        return self.abstained == 1


def calibrate(
    kept: Kept,
    truth: Truth,
    taxonomy: Taxonomy,
    *,
    target: float,
    rule: Rule = "expected",
    guarantee: Guarantee = "average",
    of: Among = "photos",
    base: Decision | None = None,
) -> Calibrated:
    """The constants of a rule that keep the promise, chosen on labelled photos.

    Args:
        kept: the photos' masses, from `taxonomy.decide.keep`.
        truth: about the same photos.
        taxonomy: whose columns they are.
        target: 1 minus the share of photos that may show a wrong tag.
        rule: which rule to calibrate.
        guarantee: of what kind the promise is (laws 2 and 3).
        of: whether that share is one of all photos, or of those that show something (law 4).
        base: the other constants; Decision() if left out.

    Raises:
        TooFewPhotos: these photos could not promise the target, however few errors they made.
        BadCalibration: there are no photos, not as many as in `truth`, or the target is not between 0 and 1.
    """
    rows, plain = path(rule), base or Decision()
    found = outcomes(kept, truth, taxonomy, rows, plain)
    row = choose(found, target, guarantee, of)
    decision = rows.decision(row, plain)
    headline = decide_kept(kept, taxonomy, decision).headline
    verdicts = truth.verdicts(headline)
    share = {verdict: float(np.mean(verdicts == verdict)) for verdict in Verdict}
    shown = 1 - share[Verdict.ABSTAINED]
    return Calibrated(
        decision=decision,
        target=target,
        guarantee=guarantee,
        of=of,
        photos=len(kept),
        bound=_bound(found, row, guarantee, of),
        right=share[Verdict.RIGHT],
        finer=share[Verdict.FINER],
        abstained=share[Verdict.ABSTAINED],
        wrong=share[Verdict.WRONG],
        wrong_of_shown=share[Verdict.WRONG] / shown if shown else math.nan,
        wrong_tag=float(found.wrong[:, row].mean()),
        bits=float(np.where(headline < 0, 0.0, taxonomy.bits[headline]).mean()),
    )


def _bound(found: Outcomes, row: int, guarantee: Guarantee, of: Among) -> float:
    errors, counted = _counts(found, guarantee, of)
    if counted[row] == 0:
        return 0.0
    if guarantee == "average":
        return float((errors[row] + 1) / (counted[row] + 1))
    return clopper_pearson_upper(int(errors[row]), int(counted[row]))


def fit_temperature(logits: NDArray[np.floating], classes: Sequence[int] | NDArray[np.integer]) -> float:
    """The temperature that makes softmax(logits / T) most likely (Guo et al. 2017), within `TEMPERATURES`.

    Logarithms of probabilities do as well as logits [N, L]: softmax does not see a constant. The likelihood is concave
    in 1 / T; so its slope is followed to zero by bisection, and an end of the range is returned where it has no zero.
    The 0.75 that ships with EfficientNet-Lite0 came from it, on degraded photographs.

    Raises:
        BadCalibration: there are no photos, a class is no label, or a score is not finite.
    """
    scores, labels = np.asarray(logits, dtype=np.float64), np.asarray(classes)
    if scores.ndim != 2 or len(scores) == 0 or labels.shape != (len(scores),):
        raise BadCalibration(f"Logits of shape {scores.shape} do not fit {len(labels)} classes; pass one row for each.")
    if not np.isfinite(scores).all() or not ((labels >= 0) & (labels < scores.shape[1])).all():
        raise BadCalibration("A logit is not finite or a class is no label; no temperature can be fitted to them.")
    centred = scores - scores.max(axis=1, keepdims=True)
    wanted = float(centred[np.arange(len(labels)), labels].mean())

    def slope(log_inverse: float) -> float:
        weights = np.exp(centred * math.exp(log_inverse))
        return wanted - float(((weights * centred).sum(axis=1) / weights.sum(axis=1)).mean())

    low, high = (-math.log(temperature) for temperature in reversed(TEMPERATURES))
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.exp(-(low + high) / 2)
