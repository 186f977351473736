"""The model's square lies where torchvision's Resize and CenterCrop cut it, turned or not."""

import pytest

from workers.decode.crop import spans
from workers.decode.records import Target

LITE0 = Target(size=224, resize=256)


def pixels(size, turn=1, target=LITE0):
    """Scaled sides with the square's first pixel on each axis."""
    found = []
    for (start, end), side in zip(spans(size, target, turn), size, strict=True):
        scaled = round(target.size / (end - start))
        assert scaled == target.resize * side // min(size)
        found.append((scaled, round(start * scaled)))
        assert start * scaled == pytest.approx(round(start * scaled))
    return found


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 375), [(341, 58), (256, 16)]),  # 341.33 rounds down; 58.5 rounds to even
        ((375, 500), [(256, 16), (341, 58)]),
        ((512, 300), [(436, 106), (256, 16)]),  # 436.9
        ((300, 301), [(256, 16), (256, 16)]),
        ((301, 258), [(298, 37), (256, 16)]),
        ((343, 256), [(343, 60), (256, 16)]),  # 59.5 rounds to even
        ((64, 64), [(256, 16), (256, 16)]),
    ],
)
def test_as_torchvision(size, expected):
    assert pixels(size) == expected


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photo_gives_the_square_of_the_upright_one(turn):
    stored = (500, 375)
    upright = stored if turn <= 4 else stored[::-1]
    along = pixels(upright)  # the upright photo's axes
    x, y = pixels(stored, turn)
    if turn > 4:
        x, y = y, x  # the stored height is the upright width
    mirrored = {2: "x", 3: "xy", 4: "y", 6: "x", 7: "xy", 8: "y"}.get(turn, "")  # upright axes that run backwards
    for name, (scaled, start), (_, wanted) in (("x", x, along[0]), ("y", y, along[1])):
        assert start == (scaled - 224 - wanted if name in mirrored else wanted)
