"""A check that fails is a finding, and keeps no other from being made."""

from pictograph.checkup import examine
from pipeline.errors import ServiceDown
from pipeline.settings import Settings
from taxonomy.errors import DamagedTaxonomy


def down(_settings: Settings) -> str:
    raise ServiceDown("The broker does not answer.")


def damaged(_settings: Settings) -> str:
    raise DamagedTaxonomy("The taxonomy is not the one that was built.")


def test_each_check_has_its_finding():
    checks = (("broker", down), ("model", damaged), ("versions", lambda _settings: "all new"))
    assert [finding.as_dict() for finding in examine(Settings(), checks)] == [
        {"what": "broker", "ok": False, "detail": "The broker does not answer."},
        {"what": "model", "ok": False, "detail": "The taxonomy is not the one that was built."},
        {"what": "versions", "ok": True, "detail": "all new"},
    ]
