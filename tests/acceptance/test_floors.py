"""Versions below which something is known to be broken in a way that harms: never asked for, locked or installed."""

import datetime
import importlib.metadata
import re
import subprocess

import pytest
from locks import PROJECT, REPOSITORY, pins
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from PIL import features

#: Package -> the first version without what is named beside it.
FLOORS = {
    "pillow": "12.3",  # the newest that there was when the decoding of hostile files was tested
    "pillow-heif": "1.3",  # its libheif reads beyond the end of a file before
    "starlette": "1.6",  # Range in quadratic time, limits of forms, `request.url` from a forged Host
    "torch": "2.10",  # weights_only=True runs code (< 2.6), or corrupts memory (< 2.10)
    "celery": "5.7",  # workers that live and consume nothing after the broker was restarted
    "kombu": "5.7",  # the same
}
LIBWEBP = "1.3.2"  # a heap overflow in lossless pictures before (CVE-2023-4863)

IGNORED = REPOSITORY / "requirements" / "ignored-advisories"
LINE = re.compile(r"(?P<name>[A-Z]+-[\w-]+) +(?P<until>\d{4}-\d\d-\d\d) +(?P<reason>\S.{15,})")


def asked_for():
    project = PROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {canonicalize_name(found.name): found for found in map(Requirement, lines)}


@pytest.mark.parametrize("package", FLOORS)
def test_no_version_below_the_floor_is_asked_for_locked_or_installed(package):
    floor = Version(FLOORS[package])
    (least,) = [Version(part.version) for part in asked_for()[package].specifier if part.operator == ">="]
    assert least >= floor
    for name in ("api", "worker", "dev"):
        if package in pins(name):
            (pin,) = pins(name)[package].specifier
            assert Version(pin.version) >= floor, name
    assert Version(importlib.metadata.version(package)) >= floor


def test_pillow_brings_a_libwebp_without_the_overflow():
    assert Version(features.version("webp")) >= Version(LIBWEBP)


def advisories():
    lines = IGNORED.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_an_advisory_is_ignored_with_a_reason_and_for_a_while_only():
    for line in advisories():
        found = LINE.fullmatch(line)
        assert found, f"{line!r} is not: NAME YYYY-MM-DD REASON"
        until = datetime.date.fromisoformat(found["until"])
        assert until >= datetime.datetime.now(datetime.UTC).date(), f"look again: {line}"


def test_the_audit_fails_where_nothing_could_be_audited_and_sees_every_list():
    """What would run, without running it: it needs the advisories of the network."""
    made = subprocess.run(["make", "--dry-run", "audit"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "--strict" in made.stdout
    assert "--require-hashes" in made.stdout
    assert "ignored-advisories" in made.stdout
    assert all(name in made.stdout for name in ("api", "worker", "build", "dev"))
