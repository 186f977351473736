"""The drawn library: as many photos as asked for, by a heavy tail, the same from the same seed."""

import numpy as np
import pytest

from benchmarks.library.drawing import DAY_SECONDS, DAYS, sizes, stretches


@pytest.mark.parametrize(("photos", "users"), [(10, 10), (1_000, 7), (20_000, 100)])
def test_everybody_has_photos_and_they_add_up(photos, users):
    found = sizes(photos, users, np.random.default_rng(1))
    assert (len(found), found.sum()) == (users, photos)
    assert found.min() >= 1


def test_one_has_a_fifth_and_the_median_is_far_below_the_mean():
    found = sizes(200_000, 1_000, np.random.default_rng(1))
    assert 0.19 < found.max() / found.sum() < 0.22
    assert np.median(found) < found.mean() / 2


def test_stretches_are_the_photos_of_each_user_in_turn():
    drawn = list(stretches(5_000, 20, 1_000, seed=3, longest=500))
    users = [piece.user for piece in drawn]
    assert users == sorted(users)
    assert set(users) == set(range(20))
    assert sum(len(piece.labels) for piece in drawn) == 5_000
    assert max(len(piece.labels) for piece in drawn) <= 500
    for piece in drawn:
        assert len(piece.labels) == len(piece.taken) == len(piece.uploaded) == len(piece.has_exif)
        assert 0 <= piece.labels.min() <= piece.labels.max() < 1_000
        assert 0 <= piece.taken.min() <= piece.taken.max() < (DAYS + 1) * DAY_SECONDS


def test_the_same_seed_draws_the_same():
    one, other = ([piece.taken for piece in stretches(2_000, 9, 50, seed, 300)] for seed in (5, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0], next(stretches(2_000, 9, 50, 6, 300)).taken[: len(one[0])])
