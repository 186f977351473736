"""What another model says differently, counted page by page: against a count that does it one by one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model_change import Axis, Pair, PhotoTally, Said, profile_change
from pipeline.profile import CategoryTotal, profile
from pipeline.records import WHOLE, Code
from taxonomy.decide import Decision, decide
from taxonomy.graph import load
from taxonomy.rollup import Rollup

TAXONOMY = load()
NODES = np.arange(TAXONOMY.columns, dtype=np.int16)[::-1] + 1  # ledger ids in an order of their own
DECISION = Decision(threshold=5_000)


def said(label: int, share: float, seed: int) -> Said:
    """A photo that is `share` this label, and the rest anything."""
    chance = np.random.default_rng(seed)
    scores = chance.dirichlet(np.full(TAXONOMY.classes, 0.01))[None] * (1 - share)
    scores[0, label] += share
    (one,) = decide(Rollup(TAXONOMY).masses(scores), TAXONOMY, DECISION)
    return Said(
        outcome=int(Code.ABSTAINED if one.headline is None else Code.TAGGED),
        headline=None if one.headline is None else int(NODES[one.headline]),
        nodes=NODES[one.columns].tolist(),
        masses=one.masses.tolist(),
        tags=NODES[one.tags].tolist(),
    )


FAILED = Said(outcome=int(Code.CORRUPT), headline=None, nodes=(), masses=(), tags=())
SIDES = st.one_of(
    st.just(FAILED), st.builds(said, st.integers(0, 999), st.sampled_from([0.0, 0.4, 0.9]), st.integers(0, 9))
)


def column_of(node: int) -> int:
    return int(np.flatnonzero(node == NODES)[0])


def moved(pair: Pair) -> int:
    """The earth mover's distance, category by category."""
    base, head = (
        {column_of(n): m for n, m in zip(side.nodes, side.masses, strict=True)} for side in (pair.base, pair.head)
    )
    columns = {int(TAXONOMY.area_column[node]) for node in range(1, TAXONOMY.nodes)}
    return sum(abs(base.get(column, 0) - head.get(column, 0)) for column in columns)


@settings(max_examples=25, deadline=None)
@given(sides=st.lists(st.tuples(SIDES, SIDES), max_size=8), page=st.integers(1, 4), most=st.integers(1, 4))
def test_pages_add_up_to_a_count_one_by_one(sides: list[tuple[Said, Said]], page: int, most: int) -> None:
    pairs = [Pair(photo_id=n + 1, base=base, head=head) for n, (base, head) in enumerate(sides)]
    axis = Axis.of(TAXONOMY, NODES, TAXONOMY, NODES)
    tally = PhotoTally(axis, most)
    for at in range(0, len(pairs), page):
        tally.add(pairs[at : at + page])
    gained: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    for pair in pairs:
        gained.update(column_of(tag) for tag in {*pair.head.tags} - {*pair.base.tags})
        lost.update(column_of(tag) for tag in {*pair.base.tags} - {*pair.head.tags})
    assert tally.gained.tolist() == [gained[node] for node in range(TAXONOMY.nodes)]
    assert tally.lost.tolist() == [lost[node] for node in range(TAXONOMY.nodes)]
    assert (tally.base_photos + tally.gained - tally.lost).tolist() == tally.head_photos.tolist()
    seen = [sum(side.outcome in (Code.TAGGED, Code.ABSTAINED) for side in which) for which in zip(*sides, strict=True)]
    assert [int(tally.base_mass[0]), int(tally.head_mass[0])] == [n * WHOLE for n in seen or (0, 0)]
    assert sum(tally.outcomes.values()) == tally.photos == len(pairs)
    both = [pair for pair in pairs if FAILED not in (pair.base, pair.head)]
    far = sorted((-moved(pair), pair.photo_id) for pair in both if moved(pair))[:most]
    assert [(-round(edges * WHOLE), pair.photo_id) for edges, pair in tally.most_moved()] == far


def test_a_sibling_is_two_edges_away_and_a_car_is_further() -> None:
    axis = Axis.of(TAXONOMY, NODES, TAXONOMY, NODES)
    labels = [TAXONOMY.labels.index(wnid) for wnid in ("n02099601", "n02099712", "n04285008")]
    golden, labrador, car = (said(label, 1.0, 0) for label in labels)
    tally = PhotoTally(axis, 2)
    tally.add([Pair(photo_id=1, base=golden, head=labrador), Pair(photo_id=2, base=golden, head=car)])
    (far, second), (near, first) = tally.most_moved()
    assert (second.photo_id, first.photo_id) == (2, 1)
    assert near == pytest.approx(2)
    assert far > 10
    assert tally.retagged == 2


def totals(**masses: int) -> list[CategoryTotal]:
    """Totals of a user with so many photos wholly of each label."""
    found: Counter[int] = Counter()
    for wnid, photos in masses.items():
        for column, labels in enumerate(TAXONOMY.column_sets):
            if TAXONOMY.labels.index(wnid) in labels:
                found[column] += photos
    return [
        CategoryTotal(column=column, photos=photos if column < TAXONOMY.nodes else 0, mass=photos * WHOLE)
        for column, photos in sorted(found.items())
    ]


def test_a_picture_changes_by_what_it_shows_and_how_much() -> None:
    dogs, boats = profile(totals(n02099601=9), TAXONOMY), profile(totals(n02981792=9), TAXONOMY)
    same = profile_change("ann", dogs, dogs)
    assert (same.replaced, same.moved) == (0, 0.0)
    other = profile_change("ann", dogs, boats)
    assert (other.replaced, other.moved) == (1, 1.0)
    assert len(other.base) == len(other.head) == 1
    half = profile_change("ann", dogs, profile(totals(n02099601=9, n02981792=9), TAXONOMY))
    assert (half.replaced, half.moved) == (1, pytest.approx(0.5))
    nothing = profile(totals(), TAXONOMY)
    assert profile_change("ann", nothing, nothing).moved == 0.0
    assert profile_change("ann", nothing, dogs).moved == 1.0
