"""What is installed is what was locked, and what is built is all that runs."""

import re
import subprocess
import sys
import zipfile

import pytest
from locks import PACKAGES, PROJECT, REPOSITORY, pins
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LISTS = ("api", "worker", "build", "dev")


def wanted(name: str) -> list[Requirement]:
    """What pyproject.toml asks for in that list."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    everything = [*project["dependencies"], *(line for extra in extras.values() for line in extra), *groups["build"]]
    lines = {
        "api": project["dependencies"],
        "worker": [*project["dependencies"], *extras["worker"]],
        "build": groups["build"],
        "dev": [*everything, *(line for line in groups["dev"] if isinstance(line, str))],
    }[name]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", LISTS)
def test_lock_is_up_to_date(name):
    for requirement in wanted(name):
        pin = pins(name).get(canonicalize_name(requirement.name))
        assert pin is not None, f"requirements/{name}.txt lacks {requirement}; run `make lock`"
        (version,) = pin.specifier
        assert requirement.specifier.contains(version.version), f"{pin} is not {requirement}; run `make lock`"


@pytest.mark.parametrize("name", LISTS)
def test_lock_names_exact_bytes_and_no_registry(name):
    text_of_list = (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text_of_list)
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))
    assert "://" not in text_of_list
    assert "index-url" not in text_of_list


@pytest.mark.parametrize("name", ["api", "worker", "build"])
def test_images_have_the_versions_that_are_tested(name):
    tested = pins("dev")
    assert all(str(pin.specifier) == str(tested[package].specifier) for package, pin in pins(name).items())


def test_api_image_has_no_torch():
    assert not {"torch", "torchvision", "timm"} & set(pins("api"))


def test_wheel_has_all_that_runs(tmp_path):
    """Built as the images build it."""
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    there = {path for package in PACKAGES for path in (REPOSITORY / package).rglob("*") if path.is_file()}
    needed = {str(path.relative_to(REPOSITORY)) for path in there if "__pycache__" not in path.parts}
    assert {"migrations/script.py.mako", "taxonomy/data/imagenet-1k.json", "api/pages/static/style.css"} <= needed
    assert not needed - packed
