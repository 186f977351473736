"""What the chaos tests share: figures that are printed below the tests' results."""

import pytest

pytest.register_assert_rewrite("tests.chaos.aftermath", "tests.chaos.sweep")  # say what differs

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines to be printed once all tests are done."""
    return pytestconfig.stash.setdefault(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)
