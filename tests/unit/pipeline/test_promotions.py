"""Promotions are a stack: who was active before, and before that."""

import pytest

from pipeline.store.promotions import unwound


@pytest.mark.parametrize(
    ("rows", "stack"),
    [
        ([], []),
        ([(1, False)], [1]),
        ([(1, False), (2, False), (1, True)], [1]),
        ([(1, False), (2, False), (3, False), (2, True), (1, True)], [1]),
        ([(1, False), (2, False), (3, False), (1, True)], [1]),  # 2 was dropped, and passed over
        ([(1, False), (2, False), (1, True), (3, False)], [1, 3]),
        ([(1, False), (2, False), (1, False), (2, True)], [1, 2]),
    ],
)
def test_promotions_are_a_stack(rows, stack):
    assert unwound(rows) == stack
