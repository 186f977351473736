"""Fixtures that every level shares. Real servers are started once per run, and each test gets a database of its own."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_photos() -> Path:
    """The folder of test photographs; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("PICTOGRAPH_TEST_PHOTOS", REPOSITORY.parent / "shared" / "photos"))
    if not folder.is_dir():
        pytest.skip("the test photographs are not here; set PICTOGRAPH_TEST_PHOTOS to their folder")
    return folder
