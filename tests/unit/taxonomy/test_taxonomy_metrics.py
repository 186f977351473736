"""Each number is worked out by hand on this graph of four labels; L = 4, so a label is worth 2 bits.

root (4 labels, 0 bits) ─┬─ animal (2 labels, 1 bit) ─┬─ cat
                         │                            └─ dog
                         └─ thing  (2 labels, 1 bit) ─┬─ car
                                                      └─ bus
"""

import numpy as np
import pytest
from hypothesis import given
from random_taxonomies import make, scored, wnid

from taxonomy.ballot import ballot
from taxonomy.decide import Decision, decide
from taxonomy.errors import BadTruth
from taxonomy.metrics import category_metrics, haurc, haurc_interval, headline_metrics, reliability, tag_metrics, top_k
from taxonomy.rollup import Rollup
from taxonomy.truth import Truth

ROOT, ANIMAL, THING, CAT, DOG, CAR, BUS = range(7)
ABSTAINED = -1


@pytest.fixture(scope="module")
def pets():
    return make([[], [0], [0], [1], [1], [2], [2]], [CAT, DOG, CAR, BUS])


def measured(pets, said, true, top, vague_share=0.5):
    """The metrics of photos given by what is said of each, what it shows, and its most probable label."""
    nodes, tops = (
        np.array([n if n < 0 else pets.node(wnid(n)) for n in found], dtype=np.int32) for found in (said, top)
    )
    return headline_metrics(nodes, tops, Truth.of(pets, [wnid(n) for n in true]), pets, vague_share)


def test_the_four_verdicts_and_what_they_tell(pets):
    #                    right, exact; right parent; wrong; abstained; finer
    found = measured(
        pets, [DOG, ANIMAL, CAR, ABSTAINED, CAT], [DOG, DOG, CAT, BUS, ANIMAL], [DOG, CAT, CAR, BUS, CAT], 0.6
    )
    assert found.photos == 5
    assert (found.right, found.finer, found.abstained, found.wrong) == pytest.approx((2 / 5, 1 / 5, 1 / 5, 1 / 5))
    assert found.wrong_of_shown == pytest.approx(1 / 4)
    assert found.exact == pytest.approx(1 / 5)
    assert found.bits == pytest.approx((2 + 1 + 2 + 0 + 2) / 5)
    assert found.coverage == pytest.approx(found.bits / 2)
    assert found.correct_bits == pytest.approx((2 + 1) / 5)
    assert found.true_useful == pytest.approx(2 / 5)
    assert found.rescue == pytest.approx(1 / 2)  # wrong labels: the second photo, rescued, and the third
    assert found.leaf == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("said", "true", "precision", "recall", "f1"),
    [
        (DOG, DOG, 1, 1, 1),
        (ANIMAL, DOG, 1, 2 / 3, 4 / 5),  # {root, animal} of {root, animal, dog}
        (CAT, DOG, 2 / 3, 2 / 3, 2 / 3),
        (CAR, DOG, 1 / 3, 1 / 3, 1 / 3),  # the root alone
        (ABSTAINED, DOG, 1, 1 / 3, 1 / 2),  # as if the root were said
        (CAT, ANIMAL, 2 / 3, 1, 4 / 5),
    ],
)
def test_ancestor_sets(pets, said, true, precision, recall, f1):
    found = measured(pets, [said], [true], [DOG])
    assert (found.hp, found.hr, found.hf1) == pytest.approx((precision, recall, f1))


@pytest.mark.parametrize(
    ("said", "precision", "recall"),
    [(DOG, 1, 1), (ANIMAL, 1, 1 / 2), (CAT, 1 / 2, 1 / 2), (CAR, 0, 0), (ABSTAINED, 1, 0)],
)
def test_information_at_the_best_common_ancestor(pets, said, precision, recall):
    found = measured(pets, [said], [DOG], [DOG])
    assert (found.information_precision, found.information_recall) == pytest.approx((precision, recall))


def test_a_vague_headline_is_right_and_not_useful(pets):
    found = measured(pets, [ANIMAL], [DOG], [CAT], vague_share=0.5)
    assert (found.right, found.vague, found.true_useful, found.rescue) == (1, 1, 0, 0)


def test_the_most_exact_that_the_graph_can_say_is_exact(pets):
    assert measured(pets, [ANIMAL], [ANIMAL], [DOG]).exact == 1


def test_nothing_to_be_a_share_of_is_not_a_number(pets):
    found = measured(pets, [ABSTAINED], [DOG], [DOG])
    assert np.isnan([found.wrong_of_shown, found.rescue]).all()


def test_no_photos_are_refused(pets):
    with pytest.raises(BadTruth, match="no photos"):
        measured(pets, [], [], [])


# ---- tag sets and categories


@pytest.fixture(scope="module")
def three(pets):
    """A sure dog, a sure animal that is a cat or a dog, and a bus taken for a car; with everything that is true."""
    scores = [[0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    decided = decide(Rollup(pets).masses(scores), pets, Decision(vague_share=0.6))
    return decided, Truth.of(pets, [wnid(DOG), wnid(DOG), wnid(BUS)])


def test_tag_sets(pets, three):
    found = tag_metrics(*three, pets, vague_share=0.6)
    # tags: {dog, animal}, {animal}, {car, thing}; true: {dog, animal} twice, {bus, thing}
    assert found.tags == pytest.approx(5 / 3)
    assert found.precision == pytest.approx(4 / 5)
    assert found.recall == pytest.approx(4 / 6)
    assert found.wrong == pytest.approx(1 / 3)
    assert found.several == 0


def test_each_category(pets, three):
    decided, truth = three
    competing = ballot(pets, "expected", 0.6).showable[: pets.nodes]
    found = category_metrics(decided.tag_rows, decided.tags, truth, competing)
    rows = dict(zip(found.nodes.tolist(), zip(found.precision, found.recall, found.f1, strict=True), strict=True))
    node = {number: pets.node(wnid(number)) for number in (ANIMAL, THING, DOG, CAR, BUS)}
    assert rows.keys() == set(node.values())  # no cat: never true and never said
    assert rows[node[ANIMAL]] == pytest.approx((1, 1, 1))
    assert rows[node[DOG]] == pytest.approx((1, 1 / 2, 2 / 3))
    assert rows[node[CAR]] == pytest.approx((0, np.nan, 0), nan_ok=True)
    assert rows[node[BUS]] == pytest.approx((np.nan, 0, 0), nan_ok=True)


def test_finer_tags_count_nowhere(pets):
    decided = decide(Rollup(pets).masses([[0.0, 1.0, 0.0, 0.0]]), pets, Decision(vague_share=0.6))
    truth = Truth.of(pets, [wnid(ANIMAL)])
    assert tag_metrics(decided, truth, pets, vague_share=0.6).precision == 1
    everything = np.ones(pets.nodes, dtype=bool)
    found = category_metrics(decided.tag_rows, decided.tags, truth, everything)
    assert pets.node(wnid(DOG)) not in found.nodes.tolist()


@given(scored())
def test_counts_of_categories_add_up_to_the_tags(case):
    taxonomy, probabilities = case
    decided = decide(Rollup(taxonomy).masses(probabilities), taxonomy, Decision(threshold=3_000, vague_share=1.0))
    truth = Truth.of(taxonomy, [taxonomy.labels[int(row.argmin())] for row in probabilities])
    found = category_metrics(decided.tag_rows, decided.tags, truth, np.ones(taxonomy.nodes, dtype=bool))
    sets = tag_metrics(decided, truth, taxonomy)
    assert found.said.sum() <= len(decided.tags)
    assert (found.both <= np.minimum(found.said, found.true)).all()
    if found.said.sum():
        assert sets.precision == pytest.approx(found.both.sum() / found.said.sum())


def test_top_labels(pets):
    scores = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    truth = Truth.of(pets, [wnid(CAT), wnid(DOG), wnid(CAT)])
    assert [top_k(scores, truth, pets, k) for k in (1, 2, 4)] == pytest.approx([1 / 3, 2 / 3, 1])


# ---- curves


def test_reliability():
    found = reliability(np.array([0.1, 0.3, 0.9, 1.0]), np.array([False, True, True, True]), bins=2)
    assert found.photos.tolist() == [2, 2]
    assert found.confidence == pytest.approx([0.2, 0.95])
    assert found.right == pytest.approx([0.5, 1.0])
    assert found.error == pytest.approx(0.5 * 0.3 + 0.5 * 0.05)


def test_area_under_risk_and_coverage():
    # two photos; one constant at which one is wrong, both telling half of 2 bits: the curve (0, 0) (1/2, 1/2) (1, 1)
    area = haurc(np.array([[True], [False]]), np.array([[1.0], [1.0]]), np.array([True, True]), whole=2.0)
    assert area == pytest.approx([0.5])
    # a rule that is never wrong until it says the labels: only the last triangle remains
    area = haurc(np.zeros((2, 1), dtype=bool), np.array([[1.0], [1.0]]), np.array([True, False]), whole=2.0)
    assert area == pytest.approx([0.5 * 0.5 * 0.5])


def test_the_interval_holds_the_value_and_narrows_with_photos():
    rng = np.random.default_rng(5)
    wrong = rng.random((400, 6)) < np.linspace(0.5, 0.1, 6)
    bits = np.broadcast_to(np.linspace(2.0, 0.5, 6), (400, 6))
    leaf = rng.random(400) < 0.6
    few, many = (haurc_interval(wrong[:n], bits[:n], leaf[:n], 2.0, resamples=200) for n in (40, 400))
    for found in (few, many):
        assert found.low <= found.value <= found.high
    assert many.high - many.low < few.high - few.low
    assert haurc_interval(wrong, bits, leaf, 2.0, resamples=200) == many


def test_copies_of_a_photo_do_not_narrow_the_interval():
    rng = np.random.default_rng(5)
    wrong, bits, leaf = rng.random((100, 6)) < 0.3, rng.uniform(0, 2, (100, 6)), rng.random(100) < 0.6
    once = haurc_interval(wrong, bits, leaf, 2.0)
    tiled = (np.tile(wrong, (4, 1)), np.tile(bits, (4, 1)), np.tile(leaf, 4))
    together = haurc_interval(*tiled, 2.0, photo=np.tile(np.arange(100), 4))
    assert (together.low, together.value, together.high) == pytest.approx((once.low, once.value, once.high))
    apart = haurc_interval(*tiled, 2.0)
    assert apart.high - apart.low < 0.7 * (together.high - together.low)
