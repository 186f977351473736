"""What was decided about a batch, as annotations with the ledger's ids."""

from dataclasses import replace

import numpy as np

from pipeline.annotate import annotate, annotate_again
from pipeline.records import Annotation
from taxonomy.ballot import ABSTAINED
from taxonomy.decide import Decided, Decision, Kept, decide
from taxonomy.graph import load
from taxonomy.rollup import Rollup

NODES = np.array([100, 110, 120, 130], np.int16)


def test_columns_become_the_ledgers_ids():
    decided = Decided(
        kept=Kept(
            columns=np.array([0, 2, 3, 0], np.int32),
            masses=np.array([10_000, 9_000, 800, 10_000], np.int16),
            ends=np.array([0, 3, 4]),
        ),
        tags=np.array([2], np.int32),
        tag_ends=np.array([0, 1, 1]),
        minimal=np.array([True]),
        headline=np.array([2, ABSTAINED], np.int32),
        winner=np.array([2, 0], np.int32),
    )
    assert annotate(decided, NODES) == [
        Annotation(nodes=(100, 120, 130), masses=(10_000, 9_000, 800), tags=(120,), headline=120),
        Annotation(nodes=(100,), masses=(10_000,), tags=(), headline=None),
    ]


def test_no_photos_have_no_annotations():
    taxonomy = load()
    decided = decide(Rollup(taxonomy).masses(np.empty((0, 1000))), taxonomy, Decision())
    assert annotate(decided, np.arange(taxonomy.columns, dtype=np.int16)) == []


def test_a_batch_says_what_its_photos_say():
    taxonomy = load()
    scores = np.random.default_rng(3).dirichlet(np.full(1000, 0.003), size=20)
    decided = decide(Rollup(taxonomy).masses(scores), taxonomy, Decision())
    nodes = np.arange(taxonomy.columns, dtype=np.int16)[::-1].copy()
    notes = annotate(decided, nodes)
    assert len(notes) == 20
    assert {note.headline is None for note in notes} == {True, False}
    for note, photo in zip(notes, decided, strict=True):
        assert note.nodes == tuple(nodes[photo.columns].tolist())
        assert note.masses == tuple(photo.masses.tolist())
        assert note.tags == tuple(nodes[photo.tags].tolist())
        assert note.headline == (None if photo.headline is None else nodes[photo.headline])
        assert all(type(node) is int for node in note.nodes)


def test_under_another_decision_what_is_stored_says_what_the_photo_would():
    taxonomy = load()
    masses = Rollup(taxonomy).masses(np.random.default_rng(4).dirichlet(np.full(1000, 0.003), size=30))
    nodes = np.random.default_rng(5).permutation(taxonomy.columns).astype(np.int16) + 7
    first = Decision()
    stored = annotate(decide(masses, taxonomy, first), nodes)
    for other in (
        first,
        replace(first, revision=2, threshold=4_000, ambiguous_mass=3_000),
        replace(first, revision=3, rule="expected", lam=2_000),
        replace(first, revision=4, keep_mass=700),
    ):
        assert annotate_again(stored, nodes, taxonomy, other) == annotate(decide(masses, taxonomy, other), nodes)
    assert annotate_again([], nodes, taxonomy, first) == []
