"""How long a step of the stream waits for a service that is away."""

import pytest

from pipeline.errors import ConfigurationError, ServiceDown
from workers.engine import outages
from workers.engine.outages import Patience

AWAY = ServiceDown("away")


class Service:
    """Answers after so many refusals."""

    def __init__(self, refusals, error=AWAY):
        self.refusals, self.error, self.asked = refusals, error, 0

    def ask(self):
        self.asked += 1
        if self.asked <= self.refusals:
            raise self.error
        return "answer"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(outages, "PAUSE_SECONDS", 0.001)


def test_an_outage_is_waited_out():
    service = Service(refusals=5)
    assert Patience(seconds=60).outlast(service.ask, "a test waits") == "answer"
    assert service.asked == 6


def test_patience_ends():
    with pytest.raises(ServiceDown, match="away"):
        Patience(seconds=0.02).outlast(Service(refusals=10**9).ask, "a test waits")


def test_who_is_in_a_hurry_asks_once():
    service = Service(refusals=1)
    with pytest.raises(ServiceDown):
        Patience(seconds=60, hurried=lambda: True).outlast(service.ask, "a test waits")
    assert service.asked == 1


def test_what_is_no_outage_is_not_waited_for():
    service = Service(refusals=1, error=ConfigurationError("the password was changed"))
    with pytest.raises(ConfigurationError):
        Patience(seconds=60).outlast(service.ask, "a test waits")
    assert service.asked == 1
