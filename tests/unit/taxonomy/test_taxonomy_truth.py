import numpy as np
import pytest
from hypothesis import given
from random_taxonomies import make, taxonomies, wnid

from taxonomy.errors import BadTruth, UnknownSynset
from taxonomy.graph import load
from taxonomy.truth import Place, Truth, Verdict


@given(taxonomies())
def test_each_node_is_right_finer_or_wrong(taxonomy):
    truth = Truth.of(taxonomy, [synset.wnid for synset in taxonomy.synsets])
    for photo, synset in enumerate(taxonomy.synsets):
        true = taxonomy.node(synset.wnid)
        everywhere = truth.judge(np.full(taxonomy.nodes, photo), np.arange(taxonomy.nodes))
        for node, verdict in enumerate(everywhere):
            right, finer = taxonomy.is_under(true, node), taxonomy.is_under(node, true)
            assert verdict == (Verdict.RIGHT if right else Verdict.FINER if finer else Verdict.WRONG)


@given(taxonomies())
def test_a_label_s_representatives_are_judged_by_its_labels(taxonomy):
    truth = Truth.of(taxonomy, taxonomy.labels)
    for photo in range(taxonomy.classes):
        for node in set(taxonomy.shown_as.tolist()):
            right = truth.verdicts(np.full(len(truth), node, dtype=np.int32))[photo] == Verdict.RIGHT
            assert right == (photo in taxonomy.label_sets[node])


def test_what_the_graph_does_not_have_is_judged_by_its_place():
    imagenet = load()
    mammal, bird = (imagenet.node(wnid) for wnid in ("n01861778", "n01503061"))
    okapi = Place(above=frozenset({mammal, *imagenet.ancestors(mammal)}))
    truth = Truth.of(imagenet, ["n02439033"] * 3, {"n02439033": okapi})
    assert truth.verdicts(np.array([mammal, bird, -1])).tolist() == [Verdict.RIGHT, Verdict.WRONG, Verdict.ABSTAINED]


def test_some_of_the_photos():
    taxonomy = make([[], [0], [0]], [1, 2])
    truth = Truth.of(taxonomy, [wnid(2), wnid(1), wnid(2)])
    node = taxonomy.node(wnid(2))
    assert truth.take([1, 2]).verdicts(np.array([node, node])).tolist() == [Verdict.WRONG, Verdict.RIGHT]
    assert len(truth.take(np.array([True, False, True]))) == 2


def test_an_unknown_synset_is_named():
    with pytest.raises(UnknownSynset, match="n00000009"):
        Truth.of(make([[], [0]], [1]), [wnid(9)])


@pytest.mark.parametrize("place", [Place(above=frozenset({1})), Place(above=frozenset({0, 7}))])
def test_a_place_that_is_none_is_refused(place):
    with pytest.raises(BadTruth, match="n00000009"):
        Truth.of(make([[], [0]], [1]), [wnid(9)], {wnid(9): place})


def test_a_decision_too_few_is_refused():
    truth = Truth.of(make([[], [0]], [1]), [wnid(1)] * 2)
    with pytest.raises(BadTruth, match=r"1 decisions .* 2 photos"):
        truth.verdicts(np.array([0]))
