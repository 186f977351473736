"""Everything here needs a GPU that torch can use, and is skipped, with this reason, where there is none."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def _has_gpu():
    if find_spec("torch") is None:
        return False
    import torch  # noqa: PLC0415 - it may not be installed

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items):
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    absent = None if not here or _has_gpu() else pytest.mark.skip(reason="there is no GPU that torch can use")
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if absent is not None:
            item.add_marker(absent)
