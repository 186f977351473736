"""Categories by what people type, and what lies around them."""

import pytest
from hypothesis import given
from random_taxonomies import taxonomies

from taxonomy import kin
from taxonomy.graph import load
from taxonomy.search import beginning, folded, near, senses


@pytest.fixture(scope="module")
def imagenet():
    return load()


def names(nodes, taxonomy):
    return [taxonomy.synsets[node].name for node in nodes]


@pytest.mark.parametrize("word", ["crane", "CRANE", " crane ", "Crane"])
def test_a_word_has_all_its_senses(imagenet, word):
    found = senses(word, imagenet, kin.standing(imagenet))
    assert names(found, imagenet) == ["crane", "crane"]
    assert senses(word, imagenet, frozenset(found[:1])) == found[:1]


def test_words_begin_so_whole_names_first(imagenet):
    shown, nothing = kin.standing(imagenet), lambda _: (0,)
    found = names(beginning("retr", imagenet, shown, nothing, 50), imagenet)
    assert found[0] == "retriever"
    assert "golden retriever" in found
    pug, *_ = senses("pug", imagenet, shown)
    by_photos = beginning("p", imagenet, shown, lambda v: (v == pug,), 3)
    assert (by_photos[0], len(by_photos)) == (pug, 3)
    assert beginning("retr", imagenet, frozenset(), nothing, 50) == []
    assert beginning(" ", imagenet, shown, nothing, 50) == []


def test_every_name_is_found_by_each_of_its_beginnings(imagenet):
    shown = kin.standing(imagenet)
    for node in range(0, imagenet.nodes, 97):
        for lemma in imagenet.synsets[node].lemmas:
            found = beginning(folded(lemma)[:4], imagenet, shown, lambda _: (0,), imagenet.nodes)
            assert imagenet.shown_as[node] in found


def test_near_names(imagenet):
    shown = kin.standing(imagenet)
    assert near("dogg", imagenet, shown)[0] == "dog"
    assert near("qqqq", imagenet, shown) == []
    assert "dog" not in near("dogg", imagenet, shown - set(senses("dog", imagenet, shown)))


@given(taxonomies())
def test_kin_are_the_graph_with_same_labels_taken_together(taxonomy):
    sets, below, above = taxonomy.label_sets, kin.below(taxonomy), kin.above(taxonomy)
    assert set(below) == set(above) == kin.standing(taxonomy)
    for node in range(taxonomy.nodes):
        for parent in taxonomy.parents[node]:
            over, under = int(taxonomy.shown_as[parent]), int(taxonomy.shown_as[node])
            assert over == under or (under in below[over] and over in above[under])
    for node, inside in below.items():
        assert all(sets[v] < sets[node] for v in inside)
        path = kin.path(node, taxonomy)
        assert list(path) == sorted(path, key=lambda v: -len(sets[v]))
        assert above[node][:1] == path[-1:]
