"""Every error ends as one sentence; where it came from is for those who ask."""

import signal
from collections.abc import Iterator

import pytest

from pictograph import cli


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def app(**_options: object) -> None:
        raise TypeError("unhashable\ntype")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.delenv("PICTOGRAPH_DEBUG", raising=False)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("settings", [{}, {"PICTOGRAPH_BATCH_PHOTOS": "many"}])
def test_what_nobody_expected_is_one_sentence(monkeypatch, capsys, settings):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.splitlines() == [
        "Error: Something unexpected went wrong (TypeError: unhashable type). "
        "Run again with PICTOGRAPH_DEBUG=1 to see where, and report it."
    ]


def test_debugging_shows_where(monkeypatch):
    monkeypatch.setenv("PICTOGRAPH_DEBUG", "1")
    with pytest.raises(TypeError):
        cli.main()
