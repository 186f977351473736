"""What follows from what people say, after any sequence of words, over random graphs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tags import Wishes, listed
from pipeline.verdicts import Word, above, add, all_said, coarse, contradict, follows, shown
from taxonomy.decide import Decision, Kept, PhotoDecision, decide_kept
from taxonomy.graph import Taxonomy, load
from taxonomy.policy import BadPolicy, Rule, coarsen_photo, work_out

sys.path.insert(0, str(Path(__file__).parents[1] / "taxonomy"))
from random_taxonomies import taxonomies


@pytest.fixture(scope="module")
def imagenet() -> Taxonomy:
    return load()


@st.composite
def said_over(draw, most=8):
    """A graph, and words about it as they were said; each names the node that stands for its like."""
    taxonomy = draw(taxonomies())
    nodes = st.integers(0, taxonomy.nodes - 1).map(lambda node: int(taxonomy.shown_as[node]))
    word = st.builds(
        Word, node=nodes, kind=st.sampled_from(["confirm", "reject", "generalise"]), headline=st.none() | nodes
    )
    return taxonomy, draw(st.lists(word, max_size=most))


def told(words, taxonomy):
    found = ()
    for word in words:
        found = add(found, word, taxonomy)
    return found


@given(said_over())
def test_no_category_is_both_confirmed_and_rejected_after_any_words(case):
    taxonomy, words = case
    for n in range(len(words) + 1):
        holds = told(words[:n], taxonomy)
        said = all_said(holds, taxonomy)
        assert said.yes.isdisjoint(said.no)
        assert len({word.node for word in holds}) == len(holds)
        for node in said.yes:  # confirming says yes to all above, along every path
            assert set(taxonomy.ancestors(node)) <= said.yes
        for node in range(taxonomy.nodes):  # rejecting says no to all below
            if not said.no.isdisjoint(taxonomy.ancestors(node)):
                assert node in said.no


@given(said_over())
def test_the_last_word_holds_and_only_what_contradicts_it_or_names_the_same_goes(case):
    taxonomy, words = case
    for n, word in enumerate(words, start=1):
        before, after = told(words[: n - 1], taxonomy), told(words[:n], taxonomy)
        assert after[-1] == word
        said = all_said(after, taxonomy)
        assert follows(word, taxonomy).yes <= said.yes
        assert follows(word, taxonomy).no <= said.no
        assert said.of(word.node) == ("rejected" if word.kind == "reject" else "confirmed")
        for other in before:
            gone = contradict(other, word, taxonomy) or other.node == word.node
            assert (other in after[:-1]) != gone


@given(said_over(most=1))
def test_no_word_contradicts_itself_and_categories_with_the_same_labels_are_one(case):
    taxonomy, words = case
    for word in words:
        said = follows(word, taxonomy)
        assert said.yes.isdisjoint(said.no)
        for node in range(taxonomy.nodes):
            assert said.of(node) == said.of(int(taxonomy.shown_as[node]))
            if taxonomy.shown_as[node] == word.node:
                assert said.of(node) is not None


@given(said_over(), st.data())
def test_what_a_policy_hides_is_in_no_word_that_is_shown(case, data):
    taxonomy, words = case
    node = data.draw(st.integers(0, taxonomy.nodes - 1))
    try:
        policy = work_out((Rule(wnid=taxonomy.synsets[node].wnid),), taxonomy, 1)
    except BadPolicy:  # nothing broader is left: no rule
        return
    holds = told(words, taxonomy)
    seen = shown(holds, policy, taxonomy)
    assert not policy.hidden & {word.node for word in seen}
    assert not policy.hidden & {word.headline for word in seen if word.headline is not None}
    said = all_said(seen, taxonomy)
    assert said.yes.isdisjoint(said.no)
    assert said.yes.isdisjoint(policy.hidden)
    assert set(seen) <= {coarse(word, policy) for word in holds}


@given(said_over(), st.data())
def test_lists_hold_their_laws_whatever_is_said_and_wished(case, data):
    taxonomy, words = case
    labels = data.draw(st.lists(st.integers(0, taxonomy.classes - 1), min_size=1, max_size=3, unique=True))
    masses = np.zeros(taxonomy.columns, dtype=np.int64)
    for label in labels:
        masses[[label in held for held in taxonomy.column_sets]] += 10_000 // len(labels)
    columns = np.flatnonzero(masses).astype(np.int32)
    kept = Kept(columns=columns, masses=masses[columns].astype(np.int16), ends=np.array([0, len(columns)]))
    photo = decide_kept(kept, taxonomy, Decision())[0]
    holds, said = told(words, taxonomy), all_said(told(words, taxonomy), taxonomy)
    wishes = Wishes(
        least_mass=data.draw(st.sampled_from([0, 5_000, 10_000])),
        under=frozenset(data.draw(st.lists(st.integers(0, taxonomy.nodes - 1), max_size=2))),
        not_under=frozenset(data.draw(st.lists(st.integers(0, taxonomy.nodes - 1), max_size=2))),
        ancestors=data.draw(st.booleans()),
        leaves=data.draw(st.booleans()),
        most=data.draw(st.none() | st.integers(1, 5)),
    )
    found = listed(photo, holds, wishes, taxonomy, 0.4)
    assert len({entry.node for entry in found}) == len(found)
    assert wishes.most is None or len(found) <= wishes.most
    for entry in found:
        lineage = taxonomy.distances[entry.node].keys()
        assert entry.standing == said.of(entry.node)
        assert not wishes.under or not wishes.under.isdisjoint(above(entry.node, taxonomy))
        assert wishes.not_under.isdisjoint(lineage)
        assert (entry.mass or 0) >= wishes.least_mass or entry.standing == "confirmed"
        assert entry.source == "model" or entry.standing == "confirmed"
        assert entry.kind != "ancestor" or wishes.ancestors
        if entry.kind == "tag":  # nothing narrower of the same standing is listed
            below = [e for e in found if e.kind == "tag" and e is not entry and taxonomy.is_under(e.node, entry.node)]
            assert all((e.standing == "rejected") != (entry.standing == "rejected") for e in below)
    if not (wishes.under or wishes.not_under or wishes.least_mass or wishes.most) and wishes.ancestors:
        tags = {entry.node for entry in found if entry.kind != "leaf"}
        assert set(photo.tags.tolist()) <= tags  # people's words take no tag of the model's away


# ---- by example


def node(taxonomy, name):
    return int(taxonomy.shown_as[taxonomy.find(name)[0]])


def word(taxonomy, kind, name, headline=None):
    shown_then = None if headline is None else node(taxonomy, headline)
    return Word(node=node(taxonomy, name), kind=kind, headline=shown_then)


def test_confirming_a_pug_confirms_all_above_it_along_both_paths(imagenet):
    said = all_said([word(imagenet, "confirm", "pug")], imagenet)
    assert {said.of(node(imagenet, name)) for name in ("dog", "canine", "domestic animal", "animal")} == {"confirmed"}
    assert said.of(node(imagenet, "beagle")) is None


def test_rejecting_dogs_takes_back_a_pug_and_leaves_the_animal(imagenet):
    pug, animal, no_dog = (
        word(imagenet, "confirm", "pug"),
        word(imagenet, "confirm", "animal"),
        word(imagenet, "reject", "dog"),
    )
    assert told([pug, animal, no_dog], imagenet) == (animal, no_dog)
    assert told([no_dog, pug], imagenet) == (pug,)


def test_some_kind_of_dog_rejects_the_breed_that_was_shown_and_nothing_else(imagenet):
    said = all_said([word(imagenet, "generalise", "dog", headline="pug")], imagenet)
    standing = {name: said.of(node(imagenet, name)) for name in ("dog", "canine", "pug", "beagle")}
    assert standing == {"dog": "confirmed", "canine": "confirmed", "pug": "rejected", "beagle": None}
    elsewhere = all_said([word(imagenet, "generalise", "dog", headline="espresso")], imagenet)
    assert not elsewhere.no


def test_a_rejected_headline_leaves_the_narrowest_that_is_not(imagenet):
    columns = np.array([0, node(imagenet, "dog"), node(imagenet, "pug")], dtype=np.int32)
    order = np.argsort(columns)
    photo = PhotoDecision(
        columns=columns[order],
        masses=np.array([10_000, 9_000, 8_000], dtype=np.int16)[order],
        tags=np.array([node(imagenet, "pug"), node(imagenet, "dog")], dtype=np.int32),
        headline=node(imagenet, "pug"),
    )
    entries = listed(photo, [word(imagenet, "reject", "pug")], Wishes(), imagenet, 0.4)
    assert [(e.node, e.standing, e.kind) for e in entries] == [
        (node(imagenet, "pug"), "rejected", "tag"),
        (node(imagenet, "dog"), None, "tag"),
    ]


def test_a_hidden_breed_is_confirmed_as_what_stands_for_it(imagenet):
    policy = work_out((Rule(wnid=imagenet.synsets[node(imagenet, "dog")].wnid, target=None),), imagenet, 1)
    instead = policy.show(node(imagenet, "pug"))
    pug, no_beagle = word(imagenet, "confirm", "pug"), word(imagenet, "reject", "beagle")
    assert shown([pug, no_beagle], policy, imagenet) == (Word(node=instead, kind="confirm", headline=None),)
    assert shown([no_beagle], policy, imagenet) == ()
    some_animal = word(imagenet, "generalise", "animal", headline="pug")
    assert [w.headline for w in shown([some_animal], policy, imagenet)] == [None]
    nothing = PhotoDecision(
        columns=np.array([], dtype=np.int32),
        masses=np.array([], dtype=np.int16),
        tags=np.array([], dtype=np.int32),
        headline=None,
    )
    entries = listed(
        coarsen_photo(nothing, policy, imagenet),
        shown([pug], policy, imagenet),
        Wishes(ancestors=True),
        imagenet,
        0.4,
    )
    assert not policy.hidden & {e.node for e in entries}
    assert entries[0].node == instead
