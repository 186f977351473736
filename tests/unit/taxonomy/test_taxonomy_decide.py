import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_taxonomies import make, scored, wnid

from taxonomy.decide import Decision, decide
from taxonomy.errors import BadDecision
from taxonomy.graph import load
from taxonomy.rollup import Rollup

decisions = st.builds(
    Decision,
    threshold=st.integers(1000, 10_000),
    vague_share=st.sampled_from([0.2, 0.4, 0.7, 1.0]),
    keep_mass=st.integers(1, 1000),
)


@given(scored(), decisions)
def test_equals_its_definition(case, decision):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    decided = decide(masses, taxonomy, decision)
    assert len(decided) == len(masses)
    for row, photo in zip(masses.tolist(), decided, strict=True):
        kept = [column for column, mass in enumerate(row) if mass >= decision.keep_mass]
        tags = [
            node
            for node in kept
            if node < taxonomy.nodes
            and row[node] >= decision.threshold
            and taxonomy.shown_as[node] == node
            and taxonomy.leaf_count[node] < decision.vague_share * taxonomy.classes
        ]
        tags.sort(key=lambda node, row=row: (-taxonomy.bits[node], -row[node], taxonomy.synsets[node].wnid))
        assert photo.columns.tolist() == kept
        assert photo.masses.tolist() == [row[column] for column in kept]
        assert photo.tags.tolist() == tags
        assert photo.headline == (tags[0] if tags else None)


@pytest.fixture(scope="module")
def imagenet():
    return load()


def shows(taxonomy, **shares):
    probabilities = np.zeros((1, taxonomy.classes))
    for label, share in shares.items():
        probabilities[0, taxonomy.labels.index(label)] = share
    photo = decide(Rollup(taxonomy).masses(probabilities), taxonomy, Decision())[0]
    return [taxonomy.synsets[node].name for node in photo.tags]


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


def test_of_equally_informative_tags_the_smaller_id_comes_first():
    taxonomy = make([[], [0], [0], [0, 1], [1, 2], [2], [0], [0]], [3, 4, 5, 6, 7])
    both = [taxonomy.node(wnid(n)) for n in (1, 2)]  # two labels of five each, one shared
    photo = decide(Rollup(taxonomy).masses([[0.2, 0.6, 0.2, 0, 0]]), taxonomy, Decision(vague_share=0.5))[0]
    assert photo.tags.tolist()[:2] == both
    photo = decide(Rollup(taxonomy).masses([[0.1, 0.75, 0.15, 0, 0]]), taxonomy, Decision(vague_share=0.5))[0]
    assert photo.tags.tolist()[:2] == both[::-1]  # more mass comes first


def test_no_photos_are_no_decisions(imagenet):
    decided = decide(np.empty((0, imagenet.columns), dtype=np.int16), imagenet, Decision())
    assert list(decided) == []
    with pytest.raises(IndexError):
        decided[0]


@pytest.mark.parametrize(
    "constants",
    [{"threshold": 100}, {"threshold": 10_001}, {"keep_mass": 0}, {"vague_share": 0.0}, {"vague_share": 1.1}],
)
def test_contradictory_constants_are_refused(constants):
    with pytest.raises(BadDecision):
        Decision(**constants)
