import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_taxonomies import make, scored, wnid

from taxonomy.ballot import ABSTAINED, NO_HEADLINE
from taxonomy.decide import NO_TAG, Decision, ambiguous, decide, decide_kept, keep
from taxonomy.errors import BadDecision
from taxonomy.graph import load
from taxonomy.rollup import WHOLE, Rollup

decisions = st.builds(
    Decision,
    rule=st.sampled_from(["threshold", "expected"]),
    lam=st.one_of(st.integers(0, 30_000), st.just(NO_HEADLINE)),
    threshold=st.integers(1000, NO_TAG),
    vague_share=st.sampled_from([0.2, 0.4, 0.7, 1.0]),
    ambiguous_mass=st.sampled_from([1000, 3000]),
    keep_mass=st.integers(1, 1000),
)


def competitors(taxonomy, row, decision):
    """Representatives that are stored, the best by the rule first, with their worth."""
    most = math.log2(taxonomy.classes) or 1.0
    found = []
    for node in range(taxonomy.nodes):
        mass, labels = row[node], int(taxonomy.leaf_count[node])
        if mass < decision.keep_mass or taxonomy.shown_as[node] != node:
            continue
        if decision.rule == "threshold":
            eligible, worth = mass >= decision.threshold, -labels
        else:
            utility = round(10_000 * math.sqrt(math.log2(taxonomy.classes / labels) / most))
            eligible, worth = decision.lam < NO_HEADLINE, mass * (utility + decision.lam)
        if eligible:
            found.append((-worth, -mass, labels, taxonomy.synsets[node].wnid, node))
    return [node for *_, node in sorted(found)]


def vague(taxonomy, node, decision):
    return taxonomy.leaf_count[node] >= decision.vague_share * taxonomy.classes


@given(scored(), decisions)
def test_equals_its_definition(case, decision):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    decided = decide(masses, taxonomy, decision)
    assert len(decided) == len(masses)
    for number, (row, photo) in enumerate(zip(masses.tolist(), decided, strict=True)):
        kept = [column for column, mass in enumerate(row) if mass >= decision.keep_mass]
        winner = next(iter(competitors(taxonomy, row, decision)), ABSTAINED)
        headline = None if winner == ABSTAINED or vague(taxonomy, winner, decision) else winner
        tags = [
            node
            for node in kept
            if headline is not None
            and node < taxonomy.nodes
            and taxonomy.shown_as[node] == node
            and not vague(taxonomy, node, decision)
            and (row[node] >= decision.threshold or taxonomy.is_under(headline, node))
        ]
        tags.sort(key=lambda node, row=row: (-taxonomy.bits[node], -row[node], taxonomy.synsets[node].wnid))
        assert photo.columns.tolist() == kept
        assert photo.masses.tolist() == [row[column] for column in kept]
        assert decided.winner[number] == winner
        assert photo.headline == headline
        assert decided.headline_mass[number] == (0 if headline is None else row[headline])
        assert photo.tags.tolist() == tags


@given(scored(), decisions)
def test_the_frontier_is_what_has_no_tag_below(case, decision):
    taxonomy, probabilities = case
    decided = decide(Rollup(taxonomy).masses(probabilities), taxonomy, decision)
    for number, photo in enumerate(decided):
        tags = photo.tags.tolist()
        minimal = [tag for tag in tags if not any(t != tag and taxonomy.is_under(t, tag) for t in tags)]
        assert decided.frontier(number).tolist() == minimal


@given(scored(), decisions)
def test_tags_are_closed_upward_and_hold_the_headline(case, decision):
    taxonomy, probabilities = case
    for photo in decide(Rollup(taxonomy).masses(probabilities), taxonomy, decision):
        tags = set(photo.tags.tolist())
        above = {a for tag in tags for a in taxonomy.ancestors(tag)}
        assert {a for a in above if taxonomy.shown_as[a] == a and not vague(taxonomy, a, decision)} <= tags
        assert (photo.headline in tags) if tags else photo.headline is None


@given(scored(), decisions)
def test_stored_arrays_are_decided_alike(case, decision):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    now, again = decide(masses, taxonomy, decision), decide_kept(keep(masses, decision.keep_mass), taxonomy, decision)
    assert now.tags.tolist() == again.tags.tolist()
    assert now.headline.tolist() == again.headline.tolist()


@given(scored(), st.integers(200, WHOLE), st.integers(0, 3000))
def test_a_higher_threshold_never_tells_more(case, threshold, step):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    loose, strict = (decide(masses, taxonomy, Decision(threshold=t)) for t in (threshold, min(threshold + step, WHOLE)))
    photos = np.arange(len(masses))
    assert (masses[photos, loose.winner] >= threshold).all()
    assert (taxonomy.bits[loose.winner] >= taxonomy.bits[strict.winner]).all()
    for one, other in zip(loose, strict, strict=True):
        assert set(other.tags.tolist()) <= set(one.tags.tolist())


@given(scored(), st.integers(0, 30_000), st.integers(1, 100_000))
def test_a_higher_lam_is_surer_and_tells_less(case, lam, step):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    bold, careful = (
        decide(masses, taxonomy, Decision(rule="expected", lam=value)).winner for value in (lam, lam + step)
    )
    photos = np.arange(len(masses))
    assert (masses[photos, bold] <= masses[photos, careful]).all()
    assert (taxonomy.bits[bold] >= taxonomy.bits[careful]).all()


@given(scored())
def test_the_largest_lams_are_sure_and_then_silent(case):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    winner = decide(masses, taxonomy, Decision(rule="expected", lam=NO_HEADLINE - 1)).winner
    assert (masses[np.arange(len(masses)), winner] == WHOLE).all()
    silent = decide(masses, taxonomy, Decision(rule="expected", lam=NO_HEADLINE, threshold=1_000))
    assert (silent.headline == ABSTAINED).all()
    assert len(silent.tags) == 0


@given(scored(), decisions)
def test_ambiguity_equals_its_definition(case, decision):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    undecided = ambiguous(keep(masses, decision.keep_mass), taxonomy, decision)
    by_utility = Decision(rule="expected", lam=decision.lam, keep_mass=decision.ambiguous_mass)
    for number, row in enumerate(masses.tolist()):
        able = [n for n in competitors(taxonomy, row, by_utility) if not vague(taxonomy, n, decision)]
        pairs = [(able[0], other) for other in able if far_apart(taxonomy, able[0], other, decision)] if able else []
        assert undecided[number] == (pairs[0] if pairs else None)


def far_apart(taxonomy, one, other, decision):
    if taxonomy.label_sets[one] & taxonomy.label_sets[other]:
        return False
    above = {one, *taxonomy.ancestors(one)} & {other, *taxonomy.ancestors(other)}
    return all(vague(taxonomy, node, decision) for node in above)


@pytest.fixture(scope="module")
def imagenet():
    return load()


def decided_from(taxonomy, shares, decision):
    probabilities = np.zeros((1, taxonomy.classes))
    for label, share in shares.items():
        probabilities[0, taxonomy.labels.index(label)] = share
    return decide(Rollup(taxonomy).masses(probabilities), taxonomy, decision)


def shows(taxonomy, **shares):
    return [taxonomy.synsets[node].name for node in decided_from(taxonomy, shares, Decision())[0].tags]


def test_an_uncertain_breed_is_surely_a_dog(imagenet):
    tags = shows(imagenet, n02088364=0.3, n02110806=0.3, n02085620=0.3, n03793489=0.1)  # three breeds, and a mouse
    assert tags[0] == "dog"
    assert "animal" in tags  # 398 labels: just informative enough
    assert not {"entity", "object", "artifact", "whole"} & set(tags)


def test_an_uncertain_photo_is_abstained(imagenet):
    # dog, computer mouse, volcano: only the vague ones are sure
    assert shows(imagenet, n02088364=0.4, n03793489=0.3, n09472597=0.3) == []


def test_a_shared_category_is_a_tag_and_an_area_is_not(imagenet):
    # a beagle and an Egyptian cat meet in carnivore and in domestic animal, whose area is empty
    tags = shows(imagenet, n02088364=0.5, n02124075=0.5)
    assert {"carnivore", "domestic animal"} <= set(tags)
    assert tags[0] == "domestic animal"  # 123 labels, carnivore has 158


def test_two_cats_of_the_graph_are_two_minimal_tags(imagenet):
    decided = decided_from(imagenet, {"n02088364": 0.5, "n02124075": 0.5}, Decision())
    assert [imagenet.synsets[node].name for node in decided.frontier(0)] == ["domestic animal", "carnivore"]


@pytest.mark.parametrize("decision", [Decision(), Decision(rule="expected", lam=7_840)])
def test_a_dog_or_a_car_is_ambiguous_and_not_a_whole(imagenet, decision):
    shares = {"n02088364": 0.25, "n02110806": 0.25, "n02930766": 0.25, "n04285008": 0.2, "n07747607": 0.05}
    decided = decided_from(imagenet, shares, decision)  # two breeds, a cab and a sports car, an orange
    (pair,) = ambiguous(decided.kept, imagenet, decision)
    assert {imagenet.synsets[node].name for node in pair} == {"dog", "car"}
    assert "whole" not in [imagenet.synsets[node].name for node in decided[0].tags]


def test_two_breeds_are_not_ambiguous(imagenet):
    decided = decided_from(imagenet, {"n02088364": 0.5, "n02110806": 0.5}, Decision())
    assert ambiguous(decided.kept, imagenet, Decision()) == [None]


def test_lam_trades_a_breed_for_a_dog(imagenet):
    shares = {
        "n02088364": 0.6,
        "n02110806": 0.39,
        "n03793489": 0.01,
    }  # dog 0.99, its utility sqrt(3.083 / 9.966) = 0.556
    names = []
    for lam in (0, 7_840):  # 0.6 x 1 > 0.99 x 0.556; but 0.6 x 1.784 < 0.99 x 1.340
        headline = decided_from(imagenet, shares, Decision(rule="expected", lam=lam))[0].headline
        names.append(imagenet.synsets[headline].name)
    assert names == ["beagle", "dog"]


def test_of_equally_informative_tags_the_smaller_id_comes_first():
    taxonomy = make([[], [0], [0], [0, 1], [1, 2], [2], [0], [0]], [3, 4, 5, 6, 7])
    both = [taxonomy.node(wnid(n)) for n in (1, 2)]  # two labels of five each, one shared
    photo = decide(Rollup(taxonomy).masses([[0.2, 0.6, 0.2, 0, 0]]), taxonomy, Decision(vague_share=0.5))[0]
    assert photo.tags.tolist()[:2] == both
    photo = decide(Rollup(taxonomy).masses([[0.1, 0.75, 0.15, 0, 0]]), taxonomy, Decision(vague_share=0.5))[0]
    assert photo.tags.tolist()[:2] == both[::-1]  # more mass comes first


def test_what_is_not_stored_does_not_compete():
    taxonomy = make([[], *[[0]] * 20], range(1, 21))
    masses = Rollup(taxonomy).masses(np.full((1, 20), 0.05))
    label = decide(masses, taxonomy, Decision(rule="expected", keep_mass=500)).winner
    root = decide(masses, taxonomy, Decision(rule="expected", keep_mass=501)).winner
    assert (taxonomy.leaf_count[label], taxonomy.leaf_count[root]) == (1, 20)


def test_no_photos_are_no_decisions(imagenet):
    decided = decide(np.empty((0, imagenet.columns), dtype=np.int16), imagenet, Decision())
    assert list(decided) == []
    with pytest.raises(IndexError):
        decided[0]


@pytest.mark.parametrize(
    "constants",
    [
        {"threshold": 100},
        {"threshold": NO_TAG + 1},
        {"ambiguous_mass": 100},
        {"keep_mass": 0},
        {"vague_share": 0.0},
        {"vague_share": 1.1},
        {"lam": -1},
        {"lam": NO_HEADLINE + 1},
        {"rule": "climb"},
    ],
)
def test_contradictory_constants_are_refused(constants):
    with pytest.raises(BadDecision):
        Decision(**constants)
