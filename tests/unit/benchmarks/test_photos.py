import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from benchmarks.photos import DIRTY, UNDECIDED, make
from benchmarks.report import kind_of
from pictograph.samples import BUNDLED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with something in them."""
    chance = np.random.default_rng(1)
    for n in range(2):
        coarse = Image.fromarray(chance.integers(0, 256, (24, 32, 3), np.uint8))
        coarse.resize((640, 480)).save(tmp_path / f"{n}.png")
    return tmp_path


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_set_is_the_same_again(folder: Path):
    assert list(make("dirty", 8, folder)) == list(make("dirty", 8, folder))


def test_small_photos_from_a_folder_are_its_files_each_with_an_end_of_its_own(folder: Path):
    photos = list(make("small", 4, folder))
    assert len({photo.data for photo in photos}) == len({photo.name for photo in photos}) == 4
    for photo, name in zip(photos, ["0.png", "1.png", "0.png", "1.png"], strict=True):
        assert photo.data.startswith((folder / name).read_bytes())
        opened(photo.data).load()


def test_the_dirty_set_has_six_kinds_at_five_per_cent(folder: Path):
    photos = list(make("dirty", 40, folder))
    kinds = [kind_of(photo.name) for photo in photos]
    assert {kind: kinds.count(kind) for kind in (*DIRTY, "small")} == {**dict.fromkeys(DIRTY, 2), "small": 28}


def test_dirty_photos_are_what_they_are_called(folder: Path):
    photos = {kind_of(photo.name): photo.data for photo in make("dirty", 20, folder)}
    assert opened(photos["progressive"]).info["progressive"] == 1
    assert opened(photos["exif"]).getexif()[0x0112] == 6
    assert opened(photos["exif"]).size == (375, 500)
    assert (opened(photos["grey"]).mode, opened(photos["cmyk"]).mode) == ("L", "CMYK")
    assert opened(photos["png"]).format == "PNG"
    with pytest.raises((OSError, UnidentifiedImageError)):
        opened(photos["cut"]).load()


def test_large_photos_have_twelve_megapixels_and_the_wanted_size(folder: Path):
    photo = next(make("large-1.5mb", 1, folder))
    assert opened(photo.data).size == (4000, 3000)
    assert len(photo.data) == pytest.approx(1_500_000, rel=0.25)


def test_a_folder_without_photos_is_refused(tmp_path: Path):
    with pytest.raises(SystemExit, match="no photos"):
        list(make("small", 1, tmp_path))


def test_what_is_left_out_is_there():
    known = {name for files in BUNDLED.values() for name in files}
    assert known >= UNDECIDED


def test_the_sample_packages_make_a_set():
    photos = list(make("small", 3))
    assert [opened(photo.data).size for photo in photos] == [(500, 375)] * 3
