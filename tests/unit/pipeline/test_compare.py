"""Two profiles side by side: the parts add up, few photos say little, and dogs are dogs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_profile import taxonomies

from pipeline.compare import PRIOR, NothingToCompare, apart, compare
from pipeline.profile import CategoryTotal
from pipeline.records import WHOLE
from taxonomy.graph import Taxonomy, load


@pytest.fixture(scope="module")
def imagenet() -> Taxonomy:
    return load()


def totals_of(taxonomy: Taxonomy, masses: list[int]) -> list[CategoryTotal]:
    """Totals of a library with these masses by class."""
    rolled = np.array(masses, dtype=np.int64) @ np.array(taxonomy.membership, dtype=np.int64)
    return [CategoryTotal(column=c, photos=0, mass=int(m)) for c, m in enumerate(rolled) if m]


def library(taxonomy: Taxonomy, **photos: int) -> list[CategoryTotal]:
    """So many photos of each label, by its name (spaces as underscores), each certain."""
    masses = [0] * taxonomy.classes
    labels = taxonomy.label_nodes.tolist()
    for name, n in photos.items():
        masses[next(labels.index(node) for node in taxonomy.find(name) if node in labels)] = n * WHOLE
    return totals_of(taxonomy, masses)


@st.composite
def pairs(draw):
    """A taxonomy, and the masses by class of two libraries and of everybody."""
    taxonomy = draw(taxonomies())
    masses = st.lists(st.integers(0, 20 * WHOLE), min_size=taxonomy.classes, max_size=taxonomy.classes)
    return taxonomy, draw(masses.filter(any)), draw(masses.filter(any)), draw(masses)


def jensen_shannon(a: list[int], b: list[int], everybody: list[int]) -> float:
    """Directly from the labels, in bits, with both shrunk as the smaller library is."""
    classes = len(a)
    usual = (np.array(everybody) + WHOLE / classes) / (sum(everybody) + WHOLE)
    smaller = min(sum(a), sum(b)) / WHOLE
    belief = smaller / (smaller + PRIOR)
    p, q = (belief * np.array(x) / sum(x) + (1 - belief) * usual for x in (a, b))
    m = (p + q) / 2
    return float((p * np.log2(p / m) + q * np.log2(q / m)).sum() / 2)


@given(pairs())
@settings(deadline=None, max_examples=200)
def test_the_parts_add_up_to_the_divergence_of_the_labels(pair) -> None:
    taxonomy, a, b, everybody = pair
    made = compare(totals_of(taxonomy, a), totals_of(taxonomy, b), totals_of(taxonomy, everybody), taxonomy)
    assert made.divergence == math.fsum(part for _, part in made.parts)
    assert all(part > 0 for _, part in made.parts)
    assert made.similarity + made.divergence == pytest.approx(1, abs=1e-15)
    assert made.divergence == pytest.approx(jensen_shannon(a, b, everybody), abs=1e-12)
    assert 0 <= made.divergence <= 1


@given(pairs())
@settings(deadline=None, max_examples=200)
def test_the_other_way_round_is_the_mirror_image(pair) -> None:
    taxonomy, *masses = pair
    a, b, everybody = (totals_of(taxonomy, m) for m in masses)
    there, back = compare(a, b, everybody, taxonomy), compare(b, a, everybody, taxonomy)
    assert there.divergence == pytest.approx(back.divergence, abs=1e-15)
    for x, y in zip(there.categories, back.categories, strict=True):
        assert (x.shared, x.only_a, x.only_b) == (y.shared, y.only_b, y.only_a)
        assert (x.difference, x.extreme_a) == (-y.difference, y.extreme_b)
        assert min(x.only_a, x.only_b) == 0


@given(pairs(), st.integers(1, 50))
@settings(deadline=None, max_examples=200)
def test_equal_shares_have_no_divergence_and_different_ones_have_some(pair, times: int) -> None:
    taxonomy, a, b, everybody = pair
    one, other, usual = (totals_of(taxonomy, m) for m in (a, b, everybody))
    more = totals_of(taxonomy, [times * m for m in a])
    assert compare(one, more, usual, taxonomy).divergence == pytest.approx(0, abs=1e-12)
    apart_by = np.abs(np.array(a) / sum(a) - np.array(b) / sum(b)).max()
    if apart_by > 0.01 and min(sum(a), sum(b)) > WHOLE:
        assert compare(one, other, usual, taxonomy).divergence > 1e-7


EVERYBODY = {"pug": 300, "beagle": 200, "pizza": 30, "espresso": 470, "catamaran": 100, "volcano": 400}


def test_different_breeds_are_dogs_in_common(imagenet: Taxonomy) -> None:
    usual = library(imagenet, **EVERYBODY)
    a, b = library(imagenet, pug=40, pizza=5), library(imagenet, beagle=40, catamaran=5)
    rolled, leaf = compare(a, b, usual, imagenet), compare(a, b, usual, imagenet, level="leaf")
    assert apart(rolled.both(100), imagenet)[0].name in {"dog", "domestic animal"}
    assert not leaf.both()  # no photo of the same breed
    assert [c.name for c in apart(rolled.only_a(100), imagenet)][:2] == ["pug", "pizza"]
    assert "catamaran" in [c.name for c in apart(rolled.only_b(100), imagenet)]
    assert leaf.divergence == rolled.divergence


def test_nobody_with_nine_photos_never_photographs_boats(imagenet: Taxonomy) -> None:
    """The fewer photos A has, the less it tells that none of them is a boat."""
    usual = library(imagenet, **EVERYBODY)
    boats = library(imagenet, catamaran=60, volcano=340)
    node = next(n for n in imagenet.find("catamaran"))

    def seen(photos: int) -> float:
        made = compare(library(imagenet, volcano=photos), boats, usual, imagenet)
        (boat,) = (c for c in made.categories if c.node == imagenet.shown_as[node])
        return boat.extreme_a

    assert seen(1000) < 3 * seen(9) < 0
    assert seen(9) > -0.02  # bits


def test_only_what_may_be_shown_is_compared(imagenet: Taxonomy) -> None:
    made = compare(library(imagenet, pug=3), library(imagenet, pizza=3), [], imagenet)
    assert {"dog", "pizza"} <= {c.name for c in made.categories}
    for category in made.categories:
        assert imagenet.leaf_count[category.node] < 0.4 * imagenet.classes
        assert imagenet.shown_as[category.node] == category.node


@pytest.mark.parametrize(("first", "second", "which"), [([], {"pug": 1}, "first"), ({"pug": 1}, [], "second")])
def test_an_empty_library_is_refused(imagenet: Taxonomy, first, second, which: str) -> None:
    a, b = (library(imagenet, **photos) if photos else [] for photos in (first, second))
    with pytest.raises(NothingToCompare, match=f"The {which} profile has no analysed photos"):
        compare(a, b, [], imagenet)


def test_extremes_and_the_dissimilar_go_both_ways(imagenet: Taxonomy) -> None:
    usual = library(imagenet, **EVERYBODY)
    a, b = library(imagenet, pug=40, pizza=5), library(imagenet, espresso=40, pug=5)
    made = compare(a, b, usual, imagenet)
    scores = [c.extreme_a for c in made.extremes_a(100)]
    assert [abs(s) for s in scores] == sorted((abs(s) for s in scores), reverse=True)
    assert min(scores) < 0 < max(scores)
    assert "coffee" in [c.name for c in made.extremes_b(100) if c.extreme_b > 0]
    furthest = made.dissimilar(100)
    assert abs(furthest[0].difference) == max(abs(c.difference) for c in made.categories)
    assert {c.difference > 0 for c in furthest} == {True, False}
    assert [part for _, part in made.widest()] == sorted((part for _, part in made.parts), reverse=True)[:3]
