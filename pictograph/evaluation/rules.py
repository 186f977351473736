"""The shipped rule and the rules that it is measured against. Only the evaluation has the others.

A rule has a path of constants from the least to the most conservative, as in `taxonomy.calibrate`; its last row says
nothing, that is, the root. What it says where no labelled photos are at hand is its natural choice.

Conventions, alike for all rules so that they can be compared
  1. Every photo is said something. Vague categories may be said, as in the literature; the root is always right and
     tells 0 bits. Abstaining is left to the product, whose numbers stand apart.
  2. Of categories with the same labels the one that the taxonomy shows is said.
  3. `climb-tree` knows one path upward for each label, as HSC does. That path is our display tree's, and its masses are
     those of that tree; what it says is judged, as everything is, on the whole graph.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pictograph.evaluation.predict import Probabilities
from taxonomy import calibrate
from taxonomy.decide import Decision, keep, winners
from taxonomy.graph import Ints, Taxonomy
from taxonomy.rollup import Rollup

BLOCK = 256  # photos at a time, so that their masses stay small
NATURAL_MASS = 0.8  # of the threshold rules; the uncalibrated default's
MAJORITY = 0.5  # of the climbing rules: more likely right than wrong (Valmadre 2022)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Said = Ints  # nodes
Rollup_ = Callable[[Floats], Floats]  # [B, L] probabilities to [B, K] scores of the candidates
Worth = Callable[
    [Floats, Floats, float], Floats
]  # scores [B, K], probabilities [B, L], constant: worths; < 0 for never


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What one rule says about N photos."""

    natural: Said  # [N]
    rows: Said  # [N, G], along its path


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule that can be run at every constant of its path."""

    name: str
    about: str  # one line, with its source
    constants: tuple[float, ...]  # [G], least conservative first; the last says nothing
    natural: float  # the constant that needs no labelled photos
    block: Callable[[Probabilities], Answers]  # answers for a few photos

    def answers(self, probabilities: Probabilities) -> Answers:
        """What the rule says, from probabilities [N, L]."""
        found = [self.block(probabilities[at : at + BLOCK]) for at in range(0, len(probabilities), BLOCK)]
        return Answers(
            natural=np.concatenate([answers.natural for answers in found]),
            rows=np.concatenate([answers.rows for answers in found]),
        )


def all_rules(taxonomy: Taxonomy, decision: Decision) -> tuple[Rule, ...]:
    """The shipped rule first, under its decision; then the baselines, over one taxonomy."""
    return (shipped(taxonomy, decision), *_Baselines.over(taxonomy).rules())


# ---- the shipped rule


def shipped(taxonomy: Taxonomy, decision: Decision) -> Rule:
    """The rule of the product, by the code of the product."""
    path = calibrate.path(decision.rule)
    expected = decision.rule == "expected"
    return Rule(
        name="shipped",
        about="largest mass x (sqrt of the information + lam)" if expected else "most informative with enough mass",
        constants=tuple(float(constant) / 10_000 for constant in (path.lam if expected else path.threshold)),
        natural=(decision.lam if expected else decision.threshold) / 10_000,
        block=partial(_shipped, taxonomy, Rollup(taxonomy), path, decision),
    )


def _shipped(
    taxonomy: Taxonomy, rollup: Rollup, path: calibrate.Path, decision: Decision, probabilities: Probabilities
) -> Answers:
    kept = keep(rollup.masses(probabilities), decision.keep_mass)
    rows = [winners(kept, taxonomy, path.decision(row, decision)) for row in range(len(path))]
    said = partial(_as_said, taxonomy)
    return Answers(natural=said(winners(kept, taxonomy, decision)), rows=said(np.stack(rows, axis=1)))


def _as_said(taxonomy: Taxonomy, nodes: Ints) -> Said:
    """Conventions 1 and 2; -1 is nothing said."""
    represented = taxonomy.shown_as[np.maximum(nodes, 0)]
    nothing = (nodes < 0) | (taxonomy.leaf_count[represented] == taxonomy.classes)
    return np.where(nothing, 0, represented).astype(np.int32)


# ---- the baselines


@dataclass(frozen=True, kw_only=True, eq=False)
class _Baselines:
    taxonomy: Taxonomy
    candidates: Ints  # [K], one node for each set of labels
    bits: Floats  # [K]

    @classmethod
    def over(cls, taxonomy: Taxonomy) -> "_Baselines":
        candidates = np.flatnonzero(taxonomy.shown_as == np.arange(taxonomy.nodes)).astype(np.int32)
        return cls(taxonomy=taxonomy, candidates=candidates, bits=taxonomy.bits[candidates])

    def rules(self) -> Iterator[Rule]:
        thresholds, lams, mus = _thresholds(), _lams(), _mus()
        graph = self.taxonomy
        total = partial(_matmul, graph.membership[:, self.candidates].astype(np.float64))
        yield self._rule("leaf", "the top label, or nothing if it is not sure enough", self._leaves(), thresholds, 0.0)
        about = "up from the top label until sure enough, one path (HSC, Goren et al. 2024)"
        yield self._rule("climb-tree", about, self._one_path(), thresholds, MAJORITY)
        climb = partial(_climb, _lineage(graph, self.candidates), self.bits)
        about = "up from the top label until sure enough, any path"
        yield self._rule("climb-dag", about, (total, climb, self.candidates), thresholds, MAJORITY)
        about = "largest mass x (information + lam) (DARTS, Deng et al. 2012)"
        yield self._rule("darts", about, (total, partial(_darts, self.bits), self.candidates), lams, 0.0)
        about = "largest mass + mu x information"
        share = self.bits / (math.log2(graph.classes) or 1.0)
        yield self._rule("additive", about, (total, partial(_additive, share), self.candidates), mus, 1.0)
        informative = partial(_informative, self.bits)
        for name, rollup, about in (
            ("threshold", total, "most informative with enough mass"),
            ("noisy_or", partial(_noisy_or, total), "the same, rolled up as if labels were independent"),
            ("max", partial(_largest, self._label_runs()), "the same, rolled up by the strongest label"),
            ("mean", partial(_matmul, _means(graph)[:, self.candidates]), "the same, rolled up by means of children"),
        ):
            yield self._rule(name, about, (rollup, informative, self.candidates), thresholds, NATURAL_MASS)

    def _rule(
        self,
        name: str,
        about: str,
        how: tuple[Rollup_, Worth, Ints],
        constants: tuple[float, ...],
        natural: float,
    ) -> Rule:
        rollup, worth, candidates = how

        def block(probabilities: Probabilities) -> Answers:
            leaves = probabilities.astype(np.float64)
            scores = rollup(leaves)

            def said(constant: float) -> Said:
                worths = worth(scores, leaves, constant)
                best = worths.argmax(axis=1)
                some = worths[np.arange(len(best)), best] >= 0
                return _as_said(self.taxonomy, np.where(some, candidates[best], -1))

            return Answers(natural=said(natural), rows=np.stack([said(constant) for constant in constants], axis=1))

        return Rule(name=name, about=about, constants=constants, natural=natural, block=block)

    def _leaves(self) -> tuple[Rollup_, Worth, Ints]:
        return _unchanged, _sure, self.taxonomy.label_nodes

    def _one_path(self) -> tuple[Rollup_, Worth, Ints]:
        graph = self.taxonomy
        above = np.zeros((graph.classes, graph.nodes), dtype=bool)
        for label, node in enumerate(graph.label_nodes.tolist()):
            up = node
            while up >= 0:
                above[label, up] = True
                up = int(graph.display_parent[up])
        areas = partial(_matmul, graph.membership[:, graph.area_column].astype(np.float64))
        return areas, partial(_climb, above, graph.depth.astype(np.float64)), np.arange(graph.nodes, dtype=np.int32)

    def _label_runs(self) -> tuple[Ints, Ints]:
        """The labels of each candidate laid end to end, and where each candidate's start."""
        sets = [sorted(self.taxonomy.label_sets[node]) for node in self.candidates.tolist()]
        sizes = np.array([len(labels) for labels in sets], dtype=np.int32)
        return np.concatenate([np.array(labels, dtype=np.int32) for labels in sets]), np.cumsum(sizes) - sizes


def _matmul(matrix: Floats, leaves: Floats) -> Floats:
    return leaves @ matrix


def _unchanged(leaves: Floats) -> Floats:
    return leaves


def _noisy_or(total: Rollup_, leaves: Floats) -> Floats:
    return 1 - np.exp(total(np.log1p(-np.minimum(leaves, 1 - 1e-12))))


def _largest(runs: tuple[Ints, Ints], leaves: Floats) -> Floats:
    labels, starts = runs
    largest: Floats = np.maximum.reduceat(leaves[:, labels], starts, axis=1)
    return largest


def _means(taxonomy: Taxonomy) -> Floats:
    """[L, V]: what each label adds to the mean of a node's children, a label's own score counting as a child's."""
    parts: list[list[Floats]] = [[] for _ in range(taxonomy.nodes)]
    for label, node in enumerate(taxonomy.label_nodes.tolist()):
        parts[node].append(np.eye(1, taxonomy.classes, label)[0])
    means = np.zeros((taxonomy.nodes, taxonomy.classes))
    for node in range(taxonomy.nodes - 1, -1, -1):  # children come after their parents
        means[node] = np.mean(parts[node], axis=0)
        for parent in taxonomy.parents[node]:
            parts[parent].append(means[node])
    return means.T


def _lineage(taxonomy: Taxonomy, candidates: Ints) -> Bools:
    """[L, K]: whether a candidate holds the label."""
    return taxonomy.membership[:, candidates] > 0


def _sure(scores: Floats, _leaves: Floats, least: float) -> Floats:
    return np.where(scores >= least, scores, -1.0)


def _climb(above: Bools, height: Floats, scores: Floats, leaves: Floats, least: float) -> Floats:
    return np.where(above[leaves.argmax(axis=1)] & (scores >= least), _ordered(height, scores), -1.0)


def _informative(bits: Floats, scores: Floats, _leaves: Floats, least: float) -> Floats:
    return np.where(scores >= least, _ordered(bits, scores), -1.0)


def _ordered(first: Floats, scores: Floats) -> Floats:
    """By `first`, ties by score."""
    return first + 1e-6 * scores


def _darts(bits: Floats, scores: Floats, _leaves: Floats, lam: float) -> Floats:
    return np.full_like(scores, -1.0) if math.isinf(lam) else scores * (bits + lam)


def _additive(share: Floats, scores: Floats, _leaves: Floats, mu: float) -> Floats:
    return np.full_like(scores, -1.0) if mu == 0 else scores + mu * share


def _thresholds() -> tuple[float, ...]:
    spans = (np.geomspace(1e-5, 0.2, 40), np.arange(0.2, 0.9, 0.01), np.arange(0.9, 0.99, 0.002))
    near = np.arange(0.99, 1.0001, 0.0005)
    return (0.0, *np.concatenate([*spans, near]).tolist(), math.inf)


def _lams() -> tuple[float, ...]:
    return (0.0, *np.geomspace(0.01, 1e5, 140).tolist(), math.inf)


def _mus() -> tuple[float, ...]:
    return (*np.geomspace(10, 1e-5, 160).tolist(), 0.0)
