"""What new results add to the totals, netted by numpy, is what adding them one by one gives."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import Annotation, Code, ItemState, PhotoResult, PhotoTask
from pipeline.store.packing import HEAD, TAIL, Batch

ROW = np.dtype([("fields", ">i2"), *[(f"f{n}", kind) for n, kind in enumerate(
    (">i4", ">i2", ">i4", ">i8", ">i4", ">i2", ">i4", ">i2", ">i4", ">i8", ">i4", ">i8")
)]])  # fmt: skip
VALUES = [f"f{n}" for n in range(1, 12, 2)]  # model, user, slot, node, photos, mass

NOTES = st.lists(
    st.none()
    | st.dictionaries(st.integers(1, 32_767), st.tuples(st.integers(0, 10_000), st.booleans()), min_size=1, max_size=6),
    min_size=1,
    max_size=8,
)


def result(photo_id, masses=None):
    """`masses`: by node, mass and whether it is a tag; the root is the first node."""
    note = None
    if masses is not None:
        values = [mass for mass, _ in masses.values()]
        note = Annotation(
            nodes=tuple(masses),
            masses=(10_000, *values[1:]),
            tags=tuple(node for node, (_, tag) in masses.items() if tag),
            headline=None,
        )
    task = PhotoTask(
        job_id=1, shard_id=1, photo_id=photo_id, content_rev=1, bucket="", key="", etag="", size=0, version_id=None
    )
    code = Code.CORRUPT if note is None else Code.TAGGED
    return PhotoResult(task=task, state=ItemState.SUCCEEDED, code=code, annotation=note)


def decoded(packed):
    assert packed.startswith(HEAD)
    assert packed.endswith(TAIL)
    rows = np.frombuffer(packed[len(HEAD) : -len(TAIL)], dtype=ROW)
    assert set(rows["fields"].tolist()) <= {6}
    return {tuple(int(row[v]) for v in VALUES[:4]): tuple(int(row[v]) for v in VALUES[4:]) for row in rows}


@settings(deadline=None)
@given(notes=NOTES, data=st.data())
def test_what_is_added_is_the_sum_of_all_that_is_new(notes, data):
    owners = st.one_of(st.none(), st.tuples(st.integers(1, 2**62), st.integers(0, 63)))
    stored = {n: owner for n in range(len(notes)) if (owner := data.draw(owners)) is not None}
    results = [result(n, masses) for n, masses in enumerate(notes)]
    photos, mass = Counter(), Counter()
    for n, (user, slot) in stored.items():
        note = results[n].annotation
        if note is None:
            mass[7, user, slot, 0] += 0  # something has changed, and no total
            continue
        for node, part in zip(note.nodes, note.masses, strict=True):
            mass[7, user, slot, node] += part
            photos[7, user, slot, node] += node in note.tags
    assert decoded(Batch(results).added(7, stored)) == {key: (photos[key], mass[key]) for key in mass}


def test_failures_add_nothing_and_are_told():
    assert decoded(Batch([result(1), result(2)]).added(7, {1: (5, 3), 2: (5, 3)})) == {(7, 5, 3, 0): (0, 0)}


def test_a_root_that_is_not_the_whole_photo_is_refused():
    broken = result(3, {1: (10_000, False)})
    note = Annotation(nodes=(1,), masses=(9_999,), tags=(), headline=None)
    with pytest.raises(ValueError, match="photo 3: the root's mass must be 10000"):
        Batch([PhotoResult(task=broken.task, state=broken.state, code=broken.code, annotation=note)])


def test_whether_a_photo_is_in_it_twice():
    assert Batch([result(1), result(2)]).photos_differ
    assert not Batch([result(1), result(1)]).photos_differ
