"""What the baselines say, on graphs small enough to work out by hand."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from pictograph.evaluation.rules import all_rules
from taxonomy.decide import Decision, decide
from taxonomy.graph import load
from taxonomy.rollup import Rollup

sys.path.insert(0, str(Path(__file__).parents[1] / "taxonomy"))
from random_taxonomies import make

# 0 root; 1 animal and 2 artifact under it; 3 dog and 4 bird under animal; 5, 6 breeds of dog.
ROOT, ANIMAL, ARTIFACT, DOG, BIRD, POODLE, BEAGLE = range(7)
GRAPH = make([[], [0], [0], [1], [1], [3], [3]], [POODLE, BEAGLE, BIRD, ARTIFACT])
MEDIUM = [0.45, 0.40, 0.10, 0.05]  # dog 0.85, animal 0.95


def rules(taxonomy=GRAPH, decision=None):
    return {rule.name: rule for rule in all_rules(taxonomy, decision or Decision())}


def said(name, scores, constant, taxonomy=GRAPH):
    """What a rule says at the constant of its path that is nearest to the one given."""
    rule = rules(taxonomy)[name]
    row = int(np.argmin([abs(known - constant) for known in rule.constants]))
    return rule.answers(np.array([scores], dtype=np.float32)).rows[0, row]


@pytest.mark.parametrize(
    ("name", "constant", "expected"),
    [
        ("leaf", 0.0, POODLE),
        ("leaf", 0.5, ROOT),  # 0.45 is not enough
        ("climb-tree", 0.3, POODLE),
        ("climb-tree", 0.8, DOG),
        ("climb-tree", 0.9, ANIMAL),
        ("climb-tree", 0.98, ROOT),
        ("climb-dag", 0.8, DOG),
        ("threshold", 0.8, DOG),
        ("darts", 0.0, POODLE),  # 0.45 x 2 bits; dog 0.85 x 1, animal 0.95 x 0.41
        ("darts", 2.0, DOG),  # 0.85 x 3; poodle 0.45 x 4, animal 0.95 x 2.41
        ("additive", 10.0, POODLE),
        ("additive", 0.5, DOG),  # 0.85 + 0.5 x 0.5; poodle 0.45 + 0.5, animal 0.95 + 0.5 x 0.21
        ("noisy_or", 0.66, DOG),  # 1 - 0.55 x 0.60 = 0.67
        ("noisy_or", 0.69, ANIMAL),  # 1 - 0.55 x 0.60 x 0.90 = 0.70
        ("max", 0.44, POODLE),
        ("max", 0.5, ROOT),  # no category is surer than its surest label
        ("mean", 0.42, POODLE),  # dog is 0.425, animal (0.425 + 0.10) / 2
    ],
)
def test_a_medium_sure_dog(name, constant, expected):
    assert said(name, MEDIUM, constant) == expected


def test_one_path_misses_what_the_other_path_adds_up():
    # 4 lies under 1 and 2; drawn under one of them only, the other's area lacks it.
    graph = make([[], [0], [0], [1], [1, 2], [2]], [3, 4, 5])
    drawn, other = int(graph.display_parent[4]), 3 - int(graph.display_parent[4])
    sibling = {1: 0, 2: 2}[other]  # the class under the other parent
    scores = [0.02, 0.02, 0.02]
    scores[1], scores[sibling] = 0.50, 0.48
    assert said("climb-dag", scores, 0.9, graph) == other
    assert said("climb-tree", scores, 0.9, graph) == ROOT
    assert drawn != other


@pytest.mark.parametrize("name", sorted(rules()))
def test_every_path_ends_in_silence_and_grows_no_bolder(name):
    rng = np.random.default_rng(3)
    scores = rng.dirichlet(np.full(4, 0.4), size=50).astype(np.float32)
    rows = rules()[name].answers(scores).rows
    assert (rows[:, -1] == ROOT).all()
    told = GRAPH.bits[rows].mean(axis=0)
    assert told[0] > 1
    assert (np.diff(told) <= 0.02).all()  # per photo it may rise where a rule swaps branches, over many it does not


def test_the_shipped_rule_is_the_product_s():
    taxonomy = load()
    scores = np.random.default_rng(5).dirichlet(np.full(1000, 0.0008), size=40).astype(np.float32)
    decision = Decision(rule="expected", lam=20_000, threshold=9_525)
    answers = rules(taxonomy, decision)["shipped"].answers(scores)
    decided = decide(Rollup(taxonomy).masses(scores), taxonomy, decision)
    shown = decided.headline >= 0
    assert 5 < shown.sum() < 40
    np.testing.assert_array_equal(answers.natural[shown], decided.headline[shown])
    vague = taxonomy.leaf_count[answers.natural[~shown]]
    assert (vague >= 0.4 * taxonomy.classes).all()


def test_blocks_do_not_show():
    scores = np.random.default_rng(7).dirichlet(np.ones(4), size=600).astype(np.float32)
    rule = rules()["darts"]
    np.testing.assert_array_equal(rule.answers(scores).rows[590:], rule.answers(scores[590:]).rows)


def test_the_natural_constants_are_on_the_side_that_speaks():
    for rule in rules().values():
        assert math.isfinite(rule.natural)
        assert (rule.answers(np.eye(4, dtype=np.float32)).natural == GRAPH.label_nodes).all(), rule.name
