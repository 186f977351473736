"""Which constants answer a wish for a precision."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.precision import keeps, promised, targets
from taxonomy.decide import Decision

BASE = Decision(revision=3, rule="expected", lam=50_000, threshold=9_000)
CALIBRATED = {
    "target": 0.95,
    "of": "shown",
    "guarantee": "average",
    "photos": 500,
    "ladder": [
        {"target": 0.8, "lam": 10_000, "threshold": 8_500, "bound": 0.81},
        {"target": 0.95, "lam": 1, "threshold": 8_500, "bound": 0.951},
    ],
}


def test_every_rung_is_promised_and_the_calibrations_own_target_by_its_own_constants():
    found = promised(BASE, CALIBRATED)
    assert [(p.target, p.decision.lam, p.photos, p.revision) for p in found] == [
        (0.8, 10_000, 500, 3),
        (0.95, 50_000, 500, 3),
    ]
    without = promised(BASE, {k: v for k, v in CALIBRATED.items() if k != "ladder"})
    assert [p.target for p in without] == [0.95]


@pytest.mark.parametrize("changed", [{"of": "photos"}, {"guarantee": None}, {"guarantee": "perhaps"}])
def test_what_promises_nothing_about_what_is_shown_is_left_out(changed):
    assert promised(BASE, {**CALIBRATED, **changed}) == []
    assert promised(BASE, {"photos": 12}) == []


@pytest.mark.parametrize(
    ("asked", "revision", "target"), [(0.7, 4, 0.9), (0.9, 4, 0.9), (0.91, 3, 0.95), (0.95, 3, 0.95)]
)
def test_the_newest_calibration_that_is_high_enough_answers(asked, revision, target):
    newer = promised(replace(BASE, revision=4), {**CALIBRATED, "target": 0.9, "ladder": []})
    found = keeps([*newer, *promised(BASE, CALIBRATED)], asked)
    assert found is not None
    assert (found.revision, found.target) == (revision, target)


@given(st.lists(st.sampled_from([0.5, 0.8, 0.9, 0.99]), unique=True), st.floats(0.01, 0.999))
def test_no_number_is_made_up(there, asked):
    rungs = [{"target": target, "lam": 1, "threshold": 8_000} for target in there]
    known = promised(BASE, {**CALIBRATED, "ladder": rungs})
    found = keeps(known, asked)
    high = [target for target in targets(known) if target >= asked]
    assert (found.target if found else None) == (min(high) if high else None)
    assert targets(known) == sorted({*there, 0.95})
