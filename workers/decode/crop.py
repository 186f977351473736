"""Where the model's square lies in a photo: at the pixel where torchvision and timm cut it, and so the peers do too.

They scale the upright photo, its long side rounded down, and cut the square at a whole pixel of that. Half a pixel
aside, a network says something else of 1.4 % of ImageNet photos, so this is followed to the letter. Pure.
"""

from workers.decode.records import Target

_FLIPPED = ((2, 3, 7, 8), (3, 4, 6, 7))  # EXIF orientations that are stored right to left, and bottom to top

Span = tuple[float, float]  # start and end, in shares of a side


def spans(size: tuple[int, int], target: Target, turn: int) -> tuple[Span, Span]:
    """The square along the width and the height of a photo as it is stored: `size` (width, height), EXIF's `turn`."""
    return _span(0, size, target, turn), _span(1, size, target, turn)


def _span(axis: int, size: tuple[int, int], target: Target, turn: int) -> Span:
    scaled = target.resize * size[axis] // min(size)
    start = round((scaled - target.size) / 2)  # halves to even, as torchvision rounds
    if turn in _FLIPPED[axis]:
        start = scaled - target.size - start
    return start / scaled, (start + target.size) / scaled
