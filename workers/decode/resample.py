"""Scaling a part of an RGB array to a square, with Pillow's filters, as two products with narrow matrices.

Pillow's own loops take as long as the decoding of a small JPEG; BLAS does the same sums in half the time. Each output
row is a weighted sum of a few input rows. Eight neighbouring output rows need nearly the same ones, so they are one
small dense product; then the same for columns, whose matrices keep the three interleaved colours apart.

The sums are exact, so the same photo gives the same pixels on every machine and with every BLAS: weights are multiples
of 2^-12, what lies between the passes is rounded to multiples of 2^-3 (Pillow rounds it to whole grey levels), and so
every sum fits the 24 bits of a float32, in whatever order it is done: 255 x 1.13 x 1.25 x 2^15 < 2^24, where Keys'
filter overshoots by 1.13 and its weights add up to 1.25 without their signs.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from workers.decode.records import Interpolation, Pixels

Box: TypeAlias = tuple[float, float, float, float]  # left, upper, right, lower, in (fractions of) pixels

_BLOCK = 8  # output rows per product: larger ones multiply more zeros, smaller ones make more calls
_CHANNELS = 3
_WEIGHT_BITS = 12
_BETWEEN_BITS = 3  # between the passes
_KEPT = 64  # photos come in few sizes; a pair of entries takes 0.2 MB at 224 pixels


@dataclass(frozen=True, slots=True)
class _Axis:
    """How the output along one axis is made of the input."""

    first: int  # input positions that are needed, first and one past the last
    last: int
    blocks: tuple[tuple[int, int, NDArray[np.float32]], ...]  # output start, input start after `first`, weights


def resample(image: Pixels, box: Box, size: int, interpolation: Interpolation) -> Pixels:
    """The part of `image`, uint8 [h, w, 3], in `box`, as uint8 [size, size, 3].

    The box lies within the image. The filter sees the pixels around it, and widens where it shrinks, as Pillow's does.
    """
    rows = _axis(image.shape[0], box[1], box[3], size, interpolation, 1)
    columns = _axis(image.shape[1], box[0], box[2], size, interpolation, _CHANNELS)
    needed = image[rows.first : rows.last, columns.first : columns.last].astype(np.float32)
    needed = needed.reshape(needed.shape[0], -1)
    low = np.empty((size, needed.shape[1]), np.float32)
    for start, source, weights in rows.blocks:
        count, taps = weights.shape
        np.matmul(weights, needed[source : source + taps], out=low[start : start + count])
    np.rint(low, out=low)
    square = np.empty((size, size * _CHANNELS), np.float32)
    for start, source, weights in columns.blocks:
        taps, count = weights.shape
        at, to = source * _CHANNELS, start * _CHANNELS
        np.matmul(low[:, at : at + taps], weights, out=square[:, to : to + count])
    square += 0.5  # so that cutting off the fraction rounds
    np.clip(square, 0.0, 255.0, out=square)
    return square.astype(np.uint8).reshape(size, size, _CHANNELS)


@lru_cache(_KEPT)
def _axis(length: int, low: float, high: float, size: int, interpolation: Interpolation, channels: int) -> _Axis:
    """Weights that scale `low` to `high` of `length` pixels to `size`.

    For one channel weights are [output, input] and bring grey levels to the unit between the passes; for several they
    are [input x channels, output x channels] and bring that back to grey levels.
    """
    scale = (high - low) / size
    stretch = max(scale, 1.0)
    reach = _REACH[interpolation] * stretch
    block = min(_BLOCK, size)
    taps = min(length, math.ceil((block - 1) * scale + 2 * reach) + 1)
    starts = np.minimum(np.arange(0, size, block), size - block)  # the last block may repeat some of the one before
    centres = low + (starts[:, None] + np.arange(block) + 0.5) * scale
    sources = np.clip(np.floor(centres[:, 0] - reach).astype(int), 0, length - taps)
    positions = sources[:, None] + np.arange(taps) + 0.5
    weights = _FILTER[interpolation](np.abs(positions[:, None, :] - centres[:, :, None]) / stretch)
    weights = _whole(weights)
    if channels == 1:
        weights /= 1 << (_WEIGHT_BITS - _BETWEEN_BITS)
    else:
        weights = _interleaved(weights, channels) / (1 << (_WEIGHT_BITS + _BETWEEN_BITS))
    first = int(sources[0])
    blocks = zip(starts.tolist(), (sources - first).tolist(), weights.astype(np.float32), strict=True)
    return _Axis(first, int(sources[-1]) + taps, tuple(blocks))


def _whole(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [blocks, output, input] as whole numbers that add up to 2^12 for each output: what is even stays even."""
    exact = weights * ((1 << _WEIGHT_BITS) / weights.sum(axis=2, keepdims=True))
    whole: NDArray[np.float64] = np.rint(exact)
    largest = whole.argmax(axis=2, keepdims=True)
    missing = (1 << _WEIGHT_BITS) - whole.sum(axis=2, keepdims=True)
    np.put_along_axis(whole, largest, np.take_along_axis(whole, largest, 2) + missing, 2)
    return whole


def _interleaved(weights: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """Weights [blocks, output, input] as [blocks, input x channels, output x channels] that mix no two channels."""
    blocks, outputs, inputs = weights.shape
    apart = np.zeros((blocks, inputs, channels, outputs, channels))
    for channel in range(channels):
        apart[:, :, channel, :, channel] = weights.transpose(0, 2, 1)
    return apart.reshape(blocks, inputs * channels, outputs * channels)


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.5, for distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A triangle, for distances x >= 0."""
    return np.maximum(1.0 - x, 0.0)


_FILTER = {"bicubic": _bicubic, "bilinear": _bilinear}
_REACH = {"bicubic": 2.0, "bilinear": 1.0}  # input pixels to either side, where nothing shrinks
