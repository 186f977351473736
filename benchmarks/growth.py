"""How time and memory grow with the number of photos. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = np.arange(0.5, 1.5, 0.001)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """t = a + b * n ** k."""

    a: float  # seconds
    b: float
    k: float
    misfit: float  # root mean square of the relative errors


def fit(photos: Sequence[int], seconds: Sequence[float]) -> Curve:
    """The curve with the least squares of relative errors and a start `a` that is not negative; three points or more.

    Relative, because otherwise the longest run alone would choose it.
    """
    if len(photos) < 3 or len(photos) != len(seconds):
        raise ValueError("a curve of three constants needs three points or more")
    times = np.array(seconds, np.float64)
    curves = [_with_exponent(np.array(photos, np.float64), times, float(k)) for k in EXPONENTS]
    return min(curves, key=lambda curve: curve.misfit)


def _with_exponent(photos: np.ndarray, times: np.ndarray, k: float) -> Curve:
    grown = photos**k
    columns = np.stack([1 / times, grown / times], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, np.ones(len(times)), rcond=None)
    if a < 0:
        a, b = 0.0, float((grown / times).sum() / ((grown / times) ** 2).sum())
    misfit = float(np.sqrt(np.mean(((a + b * grown) / times - 1) ** 2)))
    return Curve(a=float(a), b=float(b), k=k, misfit=misfit)
