"""How good decisions are, judged on labelled photos: pure functions of decided nodes and the truth.

Conventions, which every number here follows
  1. One node per photo; -1 is abstaining, which is neither right nor wrong and tells 0 bits.
  2. Ancestor sets hold the node itself and the root. Abstaining says the root, which is always right, and no more.
  3. A finer node counts neither as right nor as wrong, and its bits count as told.
  4. Shares are of all photos unless their name says of what. What has nothing to be a share of is NaN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxonomy.ballot import ballot
from taxonomy.decide import Decided, Lineages, lineages
from taxonomy.errors import BadTruth
from taxonomy.graph import Ints, Taxonomy
from taxonomy.truth import Truth, Verdict

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadlineMetrics:
    """One rule on one set of photos, as shares of 0 to 1 unless another unit is named."""

    photos: int
    right: float
    finer: float
    abstained: float
    wrong: float
    wrong_of_shown: float
    exact: float  # right, and no right category says more
    bits: float  # told per photo
    coverage: float  # bits / log2 L, the hierarchical coverage of Goren et al. (2024)
    correct_bits: float  # bits of the right headlines, per photo
    hp: float  # hierarchical precision, recall and F1 of Kosmopoulos et al. (2013), each the mean over photos
    hr: float
    hf1: float
    information_precision: float  # bits of the best common ancestor, of those told (Valmadre 2022)
    information_recall: float  # the same, of those of the truth
    true_useful: float  # right, and not vague
    rescue: float  # of the photos whose top label is wrong: true and useful
    leaf: float  # says a single label
    vague: float  # says a category that holds `vague_share` of the labels or more


def headline_metrics(
    nodes: Ints, top: Ints, truth: Truth, taxonomy: Taxonomy, vague_share: float = 0.4
) -> HeadlineMetrics:
    """All measures of one decided node per photo.

    Args:
        nodes: [N], decided nodes, -1 for abstained.
        top: [N], the node of each photo's most probable label.
        truth: about the same photos.
        taxonomy: whose nodes they are.
        vague_share: share of the labels from which on a category is vague.

    Raises:
        BadTruth: there are no photos, or not one node per photo.
    """
    _some(nodes)
    verdicts, top_verdicts = truth.verdicts(nodes), truth.verdicts(top)
    right = verdicts == Verdict.RIGHT
    told = np.where(nodes < 0, 0.0, taxonomy.bits[nodes])
    knowable = (truth.right * taxonomy.bits).max(axis=1)[truth.which]
    vague = (nodes >= 0) & (taxonomy.leaf_count[nodes] >= vague_share * taxonomy.classes)
    lost = top_verdicts == Verdict.WRONG
    hp, hr, hf1, shared = _overlap(nodes, truth, taxonomy)
    wrong = float(np.mean(verdicts == Verdict.WRONG))
    shown = float(np.mean(nodes >= 0))
    return HeadlineMetrics(
        photos=len(nodes),
        right=float(right.mean()),
        finer=float(np.mean(verdicts == Verdict.FINER)),
        abstained=1 - shown,
        wrong=wrong,
        wrong_of_shown=wrong / shown if shown else np.nan,
        exact=float(np.mean(right & (told >= knowable))),
        bits=float(told.mean()),
        coverage=float(told.mean() / _whole(taxonomy)),
        correct_bits=float(np.mean(told * right)),
        hp=float(hp.mean()),
        hr=float(hr.mean()),
        hf1=float(hf1.mean()),
        information_precision=float(_ratio(shared, told, empty=1.0).mean()),
        information_recall=float(_ratio(shared, knowable, empty=1.0).mean()),
        true_useful=float(np.mean(right & ~vague)),
        rescue=_mean((right & ~vague)[lost]),
        leaf=float(np.mean((nodes >= 0) & (taxonomy.leaf_count[nodes] == 1))),
        vague=float(vague.mean()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TagMetrics:
    """The sets of shown tags on one set of photos."""

    tags: float  # per photo
    several: float  # share of photos with more than one minimal tag
    precision: float  # right tags, of all tags shown that are not finer
    recall: float  # right tags, of all showable categories that are right for their photo
    wrong: float  # share of photos with a wrong tag


def tag_metrics(decided: Decided, truth: Truth, taxonomy: Taxonomy, vague_share: float = 0.4) -> TagMetrics:
    """Measures of the sets of tags.

    Raises:
        BadTruth: there are no photos, or not as many as in `truth`.
    """
    _some(decided.headline)
    truth.verdicts(decided.headline)  # refuses what does not fit
    rows, photos = decided.tag_rows, len(decided)
    verdicts = truth.judge(rows, decided.tags)
    right, wrong = int(np.sum(verdicts == Verdict.RIGHT)), verdicts == Verdict.WRONG
    showable = ballot(taxonomy, "expected", vague_share).showable[: taxonomy.nodes]
    wanted = int((truth.right & showable).sum(axis=1)[truth.which].sum())
    return TagMetrics(
        tags=len(rows) / photos,
        several=float(np.mean(np.bincount(rows[decided.minimal], minlength=photos) > 1)),
        precision=right / (right + int(wrong.sum())) if right + wrong.sum() else np.nan,
        recall=right / wanted if wanted else np.nan,
        wrong=float(np.mean(np.bincount(rows[wrong], minlength=photos) > 0)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryMetrics:
    """Per category: how often it is true, said and both, over one set of photos. Finer tags are left out."""

    nodes: Ints  # categories that are true of a photo, or said of one, ascending
    true: NDArray[np.int64]  # photos of which it is true
    said: NDArray[np.int64]  # photos of which it was said, finer ones left out
    both: NDArray[np.int64]

    @property
    def precision(self) -> Floats:
        """Of the photos of which it was said, the share of which it is true; NaN where it was never said."""
        return _ratio(self.both, self.said, empty=np.nan)

    @property
    def recall(self) -> Floats:
        """Of the photos of which it is true, the share of which it was said; NaN where it is never true."""
        return _ratio(self.both, self.true, empty=np.nan)

    @property
    def f1(self) -> Floats:
        """The harmonic mean of precision and recall."""
        return _ratio(2 * self.both, self.true + self.said, empty=np.nan)


def category_metrics(photos: NDArray[np.intp], nodes: Ints, truth: Truth, competing: Bools) -> CategoryMetrics:
    """Counts per category.

    Args:
        photos: of each statement, the photo it is about; for tag sets, `Decided.tag_rows`.
        nodes: of each statement, the category; each at most once per photo.
        truth: about the photos.
        competing: [V], the categories to report; for tag sets the showable ones, for labels the labels' nodes.
    """
    verdicts, size = truth.judge(photos, nodes), truth.right.shape[1]
    true = np.bincount(truth.which, minlength=len(truth.wnids)) @ truth.right
    said = np.bincount(nodes[verdicts != Verdict.FINER], minlength=size)
    both = np.bincount(nodes[verdicts == Verdict.RIGHT], minlength=size)
    found = np.flatnonzero(competing & ((true > 0) | (said > 0)))
    return CategoryMetrics(nodes=found.astype(np.int32), true=true[found], said=said[found], both=both[found])


def top_k(probabilities: NDArray[np.floating], truth: Truth, taxonomy: Taxonomy, k: int) -> float:
    """Share of photos of which one of the k most probable labels is right; [N, L] probabilities."""
    _some(probabilities)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(truth.right[truth.which[:, None], taxonomy.label_nodes[best]].any(axis=1).mean())


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How often a stated confidence is right, in bins of equal width over 0 to 1; NaN in empty bins."""

    photos: NDArray[np.int64]
    confidence: Floats  # mean
    right: Floats  # share

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between the two, weighted by photos."""
        filled = self.photos > 0
        gaps = np.abs(self.confidence - self.right)[filled]
        return float(gaps @ self.photos[filled] / self.photos.sum()) if filled.any() else np.nan


def reliability(confidence: Floats, right: Bools, bins: int = 15) -> Reliability:
    """The reliability of statements with a confidence of 0 to 1 each."""
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    photos = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right.astype(float)))
    means = [_ratio(total, photos, empty=np.nan) for total in sums]
    return Reliability(photos=photos, confidence=means[0], right=means[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A number with the range in which resampling the photos leaves it."""

    value: float
    low: float
    high: float


def haurc(wrong: Bools, bits: Floats, leaf_wrong: Bools, whole: float, weights: Floats | None = None) -> Floats:
    """Area under the curve of risk against coverage, of a rule along its path of G constants (Goren et al. 2024).

    Coverage is the mean of bits / whole, risk the share of wrong photos. Every curve begins with saying nothing, which
    is never wrong, and ends with saying each photo's most probable label.

    Args:
        wrong: [N, G], whether what is said of a photo is wrong.
        bits: [N, G], what it tells.
        leaf_wrong: [N], whether the photo's most probable label is wrong.
        whole: bits of a single label.
        weights: [R, N], how often each photo is counted; once, if left out.

    Returns:
        [R] areas, or [1].
    """
    counted = np.ones((1, len(wrong))) if weights is None else weights
    share = counted / counted.sum(axis=1, keepdims=True)
    curves = zip(share @ (bits / whole), share @ wrong, share @ leaf_wrong, strict=True)
    return np.array([_area(coverage, risk, float(last)) for coverage, risk, last in curves])


def haurc_interval(
    wrong: Bools,
    bits: Floats,
    leaf_wrong: Bools,
    whole: float,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    photo: NDArray[np.integer] | None = None,
) -> Interval:
    """`haurc` with its bootstrap percentile interval over photos.

    `photo` [N] says which photo each row is a copy of: copies of one photo are drawn together, for they are no
    independent evidence. Left out, each row is a photo of its own.
    """
    _, group = np.unique(np.arange(len(wrong)) if photo is None else photo, return_inverse=True)
    photos = int(group.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(photos, np.full(photos, 1 / photos), size=resamples)
    areas = haurc(wrong, bits, leaf_wrong, whole, drawn[:, group].astype(np.float64))
    low, high = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(haurc(wrong, bits, leaf_wrong, whole)[0]), low=float(low), high=float(high))


def _area(coverage: Floats, risk: Floats, last: float) -> float:
    order = np.argsort(coverage, kind="stable")
    x, y = np.concatenate([[0.0], coverage[order], [1.0]]), np.concatenate([[0.0], risk[order], [last]])
    return float(np.trapezoid(y, x))


def _overlap(nodes: Ints, truth: Truth, taxonomy: Taxonomy) -> tuple[Floats, Floats, Floats, Floats]:
    """By photo: hierarchical precision, recall and F1, and the bits of the best common ancestor."""
    line: Lineages = lineages(taxonomy)
    said = np.maximum(nodes, 0)  # abstaining says the root
    rows, above = line.of(np.arange(len(said)), said)
    common = truth.right[truth.which[rows], above]
    both = np.bincount(rows, weights=common, minlength=len(said))
    sizes, true_sizes = line.sizes[said], truth.right.sum(axis=1)[truth.which]
    shared = np.zeros(len(said))
    np.maximum.at(shared, rows, taxonomy.bits[above] * common)
    return both / sizes, both / true_sizes, 2 * both / (sizes + true_sizes), shared


def _ratio(part: NDArray[np.number], whole: NDArray[np.number], empty: float) -> Floats:
    """part / whole, and `empty` where whole is 0."""
    result = np.full(np.shape(whole), empty, dtype=np.float64)
    np.divide(part, whole, out=result, where=np.asarray(whole) != 0)
    return result


def _mean(values: Bools) -> float:
    return float(values.mean()) if len(values) else np.nan


def _whole(taxonomy: Taxonomy) -> float:
    return float(np.log2(taxonomy.classes)) or 1.0


def _some(values: NDArray[np.generic]) -> None:
    if len(values) == 0:
        raise BadTruth("There are no photos to measure on; name a folder with labelled photos.")
