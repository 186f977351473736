"""The parts add up exactly to the number shown, whatever the photo, the node and the policy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.explain import Coarsened, explain
from pipeline.store.evidence import Evidence
from taxonomy.decide import Decision, PhotoDecision, decide
from taxonomy.graph import Taxonomy, load
from taxonomy.lookup import one_node
from taxonomy.policy import parse_rule, work_out
from taxonomy.rollup import Rollup

KEEP, THRESHOLD = 200, 8_000


@pytest.fixture(scope="module")
def imagenet() -> Taxonomy:
    return load()


@pytest.fixture(scope="module")
def rollup(imagenet: Taxonomy) -> Rollup:
    return Rollup(imagenet)


def evidence_of(taxonomy: Taxonomy, rollup: Rollup, **shares: float) -> Evidence:
    """A photo with these probabilities by label (spaces as underscores); the rest is spread over all labels."""
    probabilities = np.full(taxonomy.classes, (1 - sum(shares.values())) / taxonomy.classes)
    labels = taxonomy.label_nodes.tolist()
    for name, share in shares.items():
        probabilities[next(labels.index(node) for node in taxonomy.find(name) if node in labels)] += share
    return evidence(taxonomy, rollup, probabilities)


def evidence(taxonomy: Taxonomy, rollup: Rollup, probabilities: np.ndarray) -> Evidence:
    masses = rollup.masses(probabilities[None])[0]
    columns = np.flatnonzero(masses >= KEEP).astype(np.int32)
    small = taxonomy.leaf_count < 0.4 * taxonomy.classes
    tags = [c for c in columns if c < taxonomy.nodes and masses[c] >= THRESHOLD and small[c]]
    tags = sorted((c for c in tags if taxonomy.shown_as[c] == c), key=lambda c: taxonomy.leaf_count[c])
    found = PhotoDecision(
        columns=columns,
        masses=masses[columns],
        tags=np.array(tags, dtype=np.int32),
        headline=int(tags[0]) if tags else None,
    )
    return Evidence(photo_id=7, key="k", user="ann", decision=Decision(threshold=THRESHOLD), found=found)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.1, 1.0]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_parts_add_up(imagenet: Taxonomy, rollup: Rollup, seed: int, peak: float, limited: bool) -> None:
    generator = np.random.default_rng(seed)
    seen = evidence(imagenet, rollup, generator.dirichlet(np.full(imagenet.classes, peak * 0.05)))
    rules = ("coarsen dog to carnivore", "hide gorilla", "hide weapon") if limited else ()
    policy = work_out(tuple(parse_rule(rule, imagenet) for rule in rules), imagenet)
    nodes = [c for c in seen.found.columns.tolist() if c < imagenet.nodes and c not in policy.hidden]
    for node in nodes:
        made = explain(seen, node, imagenet, policy)
        assert made.mass == sum(part.mass for part in made.parts) + made.withheld + made.rest
        assert min(made.withheld, made.rest) >= 0
        assert all(part.mass >= KEEP for part in made.parts)
        if not limited:
            assert made.mass == seen.found.masses[seen.found.columns.tolist().index(node)]
            assert made.withheld == 0


def test_three_uncertain_dogs_are_a_dog(imagenet: Taxonomy, rollup: Rollup) -> None:
    seen = evidence_of(imagenet, rollup, beagle=0.5, pug=0.2, komondor=0.15, pizza=0.1)
    made = explain(seen, one_node("dog", imagenet), imagenet, work_out((), imagenet))
    assert [part.name for part in made.parts] == ["beagle", "pug", "komondor"]
    assert (made.tag, made.headline) == (True, True)
    assert made.rest > 0
    assert made.steps[0].startswith("dog 0.85")
    assert made.steps[1] == "It is the headline, by decision 1 (threshold, threshold 0.8000)."
    beagle = explain(seen, one_node("beagle", imagenet), imagenet, work_out((), imagenet))
    assert (beagle.tag, beagle.steps[1]) == (
        False,
        "It is no tag, by decision 1 (threshold, threshold 0.8000): its mass is below that.",
    )


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("entity", "It is never a tag: it holds 1000 of 1000 labels"),
        ("anthropoid ape", "stands for all categories with the same labels"),
        ("banana", "holds less than 0.02 of the photo"),
    ],
)
def test_why_something_is_no_tag(imagenet: Taxonomy, rollup: Rollup, word: str, says: str) -> None:
    seen = evidence_of(imagenet, rollup, gorilla=0.9, pizza=0.1)
    made = explain(seen, one_node(word, imagenet), imagenet, work_out((), imagenet))
    assert not made.tag
    assert any(says in step for step in made.steps)


def test_what_the_policy_hides_is_not_named(imagenet: Taxonomy, rollup: Rollup) -> None:
    seen = evidence_of(imagenet, rollup, gorilla=0.9, chimpanzee=0.05)
    policy = work_out((parse_rule("coarsen gorilla to ape", imagenet),), imagenet, 3)
    made = explain(seen, one_node("ape", imagenet), imagenet, policy)
    assert "gorilla" not in str(made)
    assert (made.withheld >= 9_000, made.headline, made.policy_version) == (True, True, 3)
    great = explain(seen, one_node("great ape", imagenet), imagenet, policy)
    assert great.mass < 600
    assert [part.name for part in great.parts] == ["chimpanzee"]
    assert (great.withheld, great.tag) == (0, False)
    with pytest.raises(Coarsened, match="only as ape"):
        explain(seen, one_node("gorilla", imagenet), imagenet, policy)


def decided(taxonomy: Taxonomy, rollup: Rollup, decision: Decision, **shares: float) -> Evidence:
    """As `evidence_of`, decided by the rule itself."""
    seen = evidence_of(taxonomy, rollup, **shares)
    masses = np.zeros((1, taxonomy.columns), dtype=np.int16)
    masses[0, seen.found.columns] = seen.found.masses
    return replace(seen, decision=decision, found=decide(masses, taxonomy, decision)[0])


def test_the_expected_rule_says_what_the_headline_is_worth(imagenet: Taxonomy, rollup: Rollup) -> None:
    decision = Decision(rule="expected", lam=5_000)
    seen = decided(imagenet, rollup, decision, beagle=0.45, pug=0.3, komondor=0.2)
    made = explain(seen, one_node("beagle", imagenet), imagenet, work_out((), imagenet))
    assert (made.lam, made.headline, made.winner) == (5_000, False, imagenet.synsets[seen.found.headline].name)
    worths = [float(word.rstrip(",.")) for word in made.steps[2].split("= ")[1:] for word in word.split()[:1]]
    assert len(worths) == 2
    assert worths[0] > worths[1] == pytest.approx(made.mass * 1.5e-4, abs=1e-4)  # a label's utility is 1
    assert "lambda 0.5000" in made.steps[1]
    assert "against" not in str(explain(seen, seen.found.headline, imagenet, work_out((), imagenet)).steps)


def test_an_abstained_photo_names_the_choice_that_says_too_little(imagenet: Taxonomy, rollup: Rollup) -> None:
    seen = decided(imagenet, rollup, Decision(), gorilla=0.45, pizza=0.4)
    assert seen.found.headline is None
    made = explain(seen, one_node("gorilla", imagenet), imagenet, work_out((), imagenet))
    assert made.steps[1].endswith(f"for the surest choice was {made.winner}, which says too little.")
    assert {"gorilla", "pizza"} & set(made.torn or ())
    assert made.steps[2].startswith(f"The photo is undecided between {made.torn[0]} (0.4")
    limited = work_out((parse_rule("coarsen gorilla to entity", imagenet),), imagenet, 1)
    hushed = explain(seen, one_node("pizza", imagenet), imagenet, limited)
    assert hushed.torn is None
    assert "gorilla" not in str(hushed)
