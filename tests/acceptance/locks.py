"""The lists of pinned packages, read."""

import tomllib
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@cache
def pins(name: str) -> dict[str, Requirement]:
    """Package to pin, as requirements/`name`.txt has it."""
    lines = (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [Requirement(line.split("--hash")[0]) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in found}
