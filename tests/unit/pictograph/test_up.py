"""`up` sees to it that workers run, and ends when they cannot."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from pictograph.cli import up
from pipeline.errors import ConfigurationError


class Supervisor:
    """Free at the third look; set up wrongly at the one after, if at all."""

    def __init__(self, *, wrong: bool) -> None:
        self.wrong = wrong
        self.looks = 0
        self.started = threading.Event()

    def start_if_free(self) -> bool:
        self.looks += 1
        if self.looks >= 3:
            self.started.set()
        if self.wrong and self.looks > 3:
            raise ConfigurationError("There is no model 'x'.")
        return self.started.is_set()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "LOOK_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Other tests of this process may have given the signal another meaning."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_workers_are_taken_over_as_soon_as_they_are_free():
    supervisor = Supervisor(wrong=False)
    with up.kept_up(supervisor):
        assert supervisor.started.wait(5)
    looks = supervisor.looks
    time.sleep(0.05)
    assert supervisor.looks == looks  # it has stopped looking


def test_what_is_set_up_wrongly_interrupts_the_serving_and_is_said(capsys):
    start = time.monotonic()
    with pytest.raises(ConfigurationError, match="no model"), up.kept_up(Supervisor(wrong=True)):  # noqa: SIM117
        with up.until_interrupted():
            time.sleep(60)
    assert time.monotonic() - start < 30
    assert capsys.readouterr().err == "Stopping ...\n"
