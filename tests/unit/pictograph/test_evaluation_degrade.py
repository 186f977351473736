import io

import numpy as np
import pytest
from PIL import Image

from pictograph.evaluation.degrade import SHORT_SIDE, Degradation, encoded
from pipeline.errors import ConfigurationError

EVERY = ["user:0.6", "user:1", "crop:0.2", "blur:2"]


@pytest.fixture(scope="module")
def photo():
    """Coarse coloured noise: bright, and with edges."""
    colours = np.random.default_rng(0).integers(100, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((400, 300), Image.Resampling.NEAREST)


def pixels(photo):
    return np.asarray(photo, dtype=np.float64)


def sharpness(photo):
    return np.abs(np.diff(pixels(photo), axis=1)).mean()


@pytest.mark.parametrize("text", EVERY)
def test_the_same_seed_gives_the_same_pixels(photo, text):
    degradation = Degradation.parse(text)
    first, again = degradation.apply(photo, 7), degradation.apply(photo.copy(), 7)
    assert first.mode == "RGB"
    assert np.array_equal(pixels(first), pixels(again))


@pytest.mark.parametrize("text", ["user:0.6", "crop:0.2"])
def test_another_seed_gives_other_pixels(photo, text):
    degradation = Degradation.parse(text)
    assert encoded(degradation.apply(photo, 7)) != encoded(degradation.apply(photo, 8))


@pytest.mark.parametrize("text", EVERY)
def test_what_is_written_can_be_read(text):
    assert str(Degradation.parse(text)) == text


def test_a_crop_keeps_its_share_of_the_area_and_the_proportions(photo):
    part = Degradation(kind="crop", level=0.25).apply(photo, 1)
    assert part.size == (200, 150)  # half of each side


def test_a_crop_may_lie_anywhere_inside():
    ramp = np.zeros((100, 100, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(100)[None], np.arange(100)[:, None]
    corners = [
        pixels(Degradation(kind="crop", level=0.25).apply(Image.fromarray(ramp), seed))[0, 0, :2] for seed in range(60)
    ]
    assert np.min(corners, axis=0).max() <= 5
    assert np.max(corners, axis=0).min() >= 45
    assert np.max(corners) <= 50


def test_a_larger_blur_blurs_more_and_size_does_not_matter(photo):
    little, much = (Degradation(kind="blur", level=level).apply(photo, 0) for level in (1, 4))
    assert sharpness(little) > 1.5 * sharpness(much)
    large = photo.resize((1600, 1200), Image.Resampling.NEAREST)
    assert np.abs(pixels(Degradation(kind="blur", level=4).apply(large, 0)) - pixels(much)).mean() < 4
    assert min(much.size) == SHORT_SIDE


def test_user_photos_get_darker_and_softer_with_the_level(photo):
    light, soft = [], []
    for level in (0.2, 0.6, 1.0):
        copies = [Degradation(kind="user", level=level).apply(photo, seed) for seed in range(12)]
        light.append(np.mean([pixels(copy).mean() for copy in copies]))
        soft.append(np.mean([sharpness(copy) for copy in copies]))
        assert {min(copy.size) for copy in copies} == {SHORT_SIDE}
    assert pixels(photo).mean() > light[0] > light[1] > light[2]
    assert soft[0] > soft[1] > soft[2]


def test_a_copy_is_encoded_without_loss(photo):
    assert np.array_equal(pixels(Image.open(io.BytesIO(encoded(photo)))), pixels(photo))


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3)])
@pytest.mark.parametrize("text", EVERY)
def test_tiny_and_narrow_photos_survive(text, size):
    assert min(Degradation.parse(text).apply(Image.new("L", size, 90), 0).size) >= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user", "write its kind"),
        ("user:", "write its kind"),
        ("user:much", "write its kind"),
        ("fog:1", "no degradation 'fog'"),
        ("user:nan", "write its kind"),
        ("user:0", "level of user"),
        ("user:1.5", "level of user"),
        ("crop:inf", "level of crop"),
        ("blur:-1", "level of blur"),
    ],
)
def test_what_is_no_degradation_is_refused(text, message):
    with pytest.raises(ConfigurationError, match=message):
        Degradation.parse(text)
