"""Which servers are ours, and which addresses are none."""

from pathlib import Path

import pytest

from pictograph.places import embedded, servers
from pictograph.stack import Service
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings

NAMED = {
    "database_url": "postgresql://me:secret@db/x",
    "broker_url": "rediss://:secret@broker/0",
    "s3_endpoint_url": "aws",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMED:
        monkeypatch.delenv(f"PICTOGRAPH_{name.upper()}", raising=False)


def test_what_is_not_named_is_embedded():
    assert embedded(Settings()) == frozenset(Service)
    assert embedded(Settings(database_url=NAMED["database_url"])) == {Service.BROKER, Service.S3}
    assert embedded(Settings(**NAMED)) == frozenset()


def test_named_servers_are_used_as_they_are_and_nothing_is_started(tmp_path: Path):
    settings = Settings(**NAMED, home=tmp_path / "home")
    with servers(settings) as found:
        assert found == settings
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("database_url", "mysql://me:secret@db/x"),
        ("database_url", "db:5432"),
        ("broker_url", "amqp://me:secret@broker"),
        ("s3_endpoint_url", "s3.example.org"),
    ],
)
def test_an_address_of_another_kind_is_refused_by_the_variables_name(name, address):
    with (
        pytest.raises(ConfigurationError, match=f"PICTOGRAPH_{name.upper()} must begin with") as refused,
        servers(Settings(**{**NAMED, name: address})),
    ):
        pass
    assert "secret" not in str(refused.value)
