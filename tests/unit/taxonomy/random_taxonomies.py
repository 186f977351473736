"""Small random taxonomies and scores for property tests."""

import numpy as np
from hypothesis import strategies as st

from taxonomy.build import from_hypernyms
from taxonomy.synset import Synset


def wnid(number):
    return f"n{number:08d}"


def make(parents, labels, subjects=None, uses=None):
    """A taxonomy of nodes 0..n-1 whose parents are given by number; the same numbers are its synset ids."""
    count = len(parents)
    synsets = {
        wnid(node): Synset(
            wnid=wnid(node),
            lemmas=(f"thing_{node}",),
            name=f"thing {node}",
            gloss="",
            subject=f"noun.{subjects[node] if subjects else 0}",
            uses=uses[node] if uses else 0,
        )
        for node in range(count)
    }
    hypernyms = {wnid(node): [wnid(parent) for parent in above] for node, above in enumerate(parents)}
    return from_hypernyms(name="random", labels=[wnid(n) for n in labels], synsets=synsets, hypernyms=hypernyms)


@st.composite
def graphs(draw, most=14):
    """Parents by node and labels: a rooted acyclic graph in which every node without children is a label."""
    count = draw(st.integers(1, most))
    parents = [[]] + [
        draw(st.lists(st.integers(0, node - 1), min_size=1, max_size=3, unique=True)) for node in range(1, count)
    ]
    inner = {parent for above in parents for parent in above}
    leaves = [node for node in range(count) if node not in inner]
    extra = draw(st.sets(st.sampled_from(sorted(inner)), max_size=3)) if inner else set()
    return parents, draw(st.permutations([*leaves, *extra]))


@st.composite
def taxonomies(draw, most=14):
    parents, labels = draw(graphs(most))
    subjects = draw(st.lists(st.integers(0, 2), min_size=len(parents), max_size=len(parents)))
    uses = draw(st.lists(st.integers(0, 3), min_size=len(parents), max_size=len(parents)))
    return make(parents, labels, subjects, uses)


@st.composite
def scores(draw, classes, photos=3):
    """Rows of probabilities, often with zeros and ties."""
    rows = draw(
        st.lists(
            st.lists(st.integers(0, 1000), min_size=classes, max_size=classes).filter(any),
            min_size=1,
            max_size=photos,
        )
    )
    weights = np.array(rows, dtype=np.float64)
    return weights / weights.sum(axis=1, keepdims=True)


@st.composite
def scored(draw, most=14):
    """A taxonomy, and probabilities over its labels."""
    taxonomy = draw(taxonomies(most))
    return taxonomy, draw(scores(taxonomy.classes))
