import numpy as np
import pytest

from benchmarks.growth import fit


@pytest.mark.parametrize(("a", "b", "k"), [(0.5, 0.004, 1.0), (2.0, 0.001, 1.1), (0.0, 0.01, 0.9)])
def test_a_curve_is_found_again(a: float, b: float, k: float):
    photos = [1_000, 10_000, 100_000]
    curve = fit(photos, [a + b * n**k for n in photos])
    assert curve.k == pytest.approx(k, abs=0.0015)
    assert curve.a == pytest.approx(a, abs=0.05)
    assert curve.misfit < 1e-3


def test_growth_that_is_worse_than_linear_shows():
    photos = [1_000, 3_000, 10_000, 30_000]
    noise = np.array([1.01, 0.99, 1.01, 0.99])
    curve = fit(photos, list(noise * [0.3 + 1e-4 * n**1.3 for n in photos]))
    assert curve.k > 1.2


def test_the_start_is_never_negative():
    photos = [1_000, 2_000, 4_000]
    curve = fit(photos, [1.0, 2.5, 5.5])  # a line through these begins at -0.5
    assert curve.a == 0
    assert curve.k > 1


def test_two_points_are_too_few():
    with pytest.raises(ValueError, match="three"):
        fit([1_000, 2_000], [1.0, 2.0])
