"""Pictures drawn in code, whose classification is known: a worker that sees them wrongly must not see photos.

They catch swapped weights, wrong preprocessing, a wrong label order and broken kernels. Drawn with integer arithmetic,
so every machine draws the same bytes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from workers.decode.records import Pixels
from workers.models.spec import ModelSpec

TOLERANCE = 0.08  # bfloat16 moves these by up to 0.04; the faults we look for move one of them by more
_SIDE = 224  # pixels; larger models see the picture in a frame of grey, smaller ones its centre

Plane = NDArray[np.int64]


def check(spec: ModelSpec, predict: Callable[[Pixels], NDArray[np.float32]]) -> None:
    """Raise ModelError unless `predict` gives each canary its class, with its probability within TOLERANCE."""
    pictures = np.stack([draw(canary.picture, spec.image_size) for canary in spec.canaries])
    for canary, probabilities in zip(spec.canaries, predict(pictures), strict=True):
        top, probability = int(probabilities.argmax()), float(probabilities[canary.top])
        # Where two classes are as good as equal, rounding may put either first.
        beaten = float(probabilities[top]) - probability > TOLERANCE
        if beaten or abs(probability - canary.probability) > TOLERANCE:
            raise ModelError(
                f"{spec.name} takes the {canary.picture} for class {top} and gives class {canary.top} "
                f"{probability:.3f} instead of {canary.probability:.3f}; its weights, preprocessing or kernels are not "
                "those it was measured with."
            )


def draw(picture: str, size: int) -> Pixels:
    """A picture by name, uint8 [size, size, 3]; KeyError where there is none."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.int64)
    drawn = _DRAWN[picture](x, y)
    edge = abs(size - _SIDE) // 2
    if size < _SIDE:
        return np.ascontiguousarray(drawn[edge : edge + size, edge : edge + size])
    canvas = np.full((size, size, 3), 127, np.uint8)
    canvas[edge : edge + _SIDE, edge : edge + _SIDE] = drawn
    return canvas


def _rgb(red: Plane, green: Plane, blue: Plane) -> Pixels:
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def _disc(x: Plane, y: Plane, centre: tuple[int, int], radius: int) -> NDArray[np.bool_]:
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def _rings(x: Plane, y: Plane) -> Pixels:
    """Black and white rings of equal area: a coil."""
    wave = ((x - 112) ** 2 + (y - 112) ** 2) // 1200 % 2 * 255
    return _rgb(wave, wave, wave)


def _mesh(x: Plane, y: Plane) -> Pixels:
    """Dark lines, two pixels wide, fourteen apart: a window screen."""
    lines = np.where((y % 14 < 2) | (x % 14 < 2), 40, 220)
    return _rgb(lines, lines, lines)


def _traffic_light(x: Plane, y: Plane) -> Pixels:
    """A black box with a red light above two dark ones, before a blue sky."""
    box = (abs(x - 112) < 36) & (abs(y - 112) < 100)
    red, amber, green = (_disc(x, y, (112, centre), 24) for centre in (50, 112, 174))
    return _rgb(
        np.where(box, np.where(red, 255, np.where(amber, 90, 30)), 130),
        np.where(box, np.where(amber, 80, np.where(green, 90, 30)), 180),
        np.where(box, 30, 235),
    )


_DRAWN: dict[str, Callable[[Plane, Plane], Pixels]] = {
    "rings": _rings,
    "mesh": _mesh,
    "traffic light": _traffic_light,
}

PICTURES = tuple(_DRAWN)
