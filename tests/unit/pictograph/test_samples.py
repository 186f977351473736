"""What the demonstration shows: bundled photographs, or a folder of the reader's."""

import pytest

from pictograph import samples
from pipeline.errors import ConfigurationError


def test_every_bundled_photograph_is_there_and_each_of_three_users_has_enough():
    pictures = samples.bundled()
    assert len(pictures) == sum(len(files) for files in samples.BUNDLED.values())
    for user in ("cleo", "marie", "otto"):
        assert sum(picture.user == user for picture in pictures) >= 8


def test_no_photograph_is_dealt_out_twice():
    paths = [picture.path for picture in samples.bundled()]
    assert len(set(paths)) == len(paths)


def test_a_folders_first_level_names_the_users(tmp_path):
    for name in ("ann/1.jpg", "ann/2026/2.jpg", "bob/3.jpg", "loose.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "bob" / "link.jpg").symlink_to(tmp_path / "loose.jpg")
    found = [(picture.user, picture.name) for picture in samples.of_folder(tmp_path)]
    assert sorted(found) == [("ann", "1.jpg"), ("ann", "2026/2.jpg"), ("bob", "3.jpg")]


@pytest.mark.parametrize("make", [None, "folder", "loose"])
def test_a_folder_without_users_is_refused(tmp_path, make):
    if make:
        (tmp_path / "photos").mkdir()
    if make == "loose":
        (tmp_path / "photos" / "1.jpg").write_bytes(b"x")
    with pytest.raises(ConfigurationError):
        samples.of_folder(tmp_path / "photos")


@pytest.mark.parametrize(
    ("user", "name"), [("ann", "ann"), ("../../etc", "_.._etc"), ("a b/c", "a_b_c"), ("..", "_"), ("Zoë", "Zoë")]
)
def test_a_users_name_becomes_a_harmless_file_name(user, name):
    assert samples.file_name(user) == name
