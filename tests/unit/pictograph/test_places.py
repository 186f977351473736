"""Which servers are ours, and which addresses are none."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from pictograph.places import embedded, host_and_port, open_by_itself, own, servers
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
    ("host", "said", "is_open"),
    [
        ("127.0.0.1", None, True),
        ("127.0.0.1", False, False),
        ("::1", True, True),
        ("0.0.0.0", None, False),
        ("192.0.2.1", None, False),
        ("192.0.2.1", True, True),  # and so the API refuses to start
    ],
)
def test_an_api_over_our_own_ledger_is_open_where_this_machine_alone_reaches_it(host, said, is_open):
    assert open_by_itself(Settings(api_host=host, api_open=said)) is is_open


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


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("broker_url", "redis://:secret@h:notaport"),
        ("broker_url", "redis://:secret@h:99999/0"),
        ("broker_url", "redis://:sec/ret@h:6379/0"),
        ("broker_url", "redis://[::1/0"),
        ("s3_endpoint_url", "http://h:notaport"),
    ],
)
def test_an_address_without_a_port_that_can_be_one_is_refused(name, address):
    with (
        pytest.raises(ConfigurationError, match=f"PICTOGRAPH_{name.upper()} cannot be used") as refused,
        servers(Settings(**{**NAMED, name: address})),
    ):
        pass
    assert "sec" not in str(refused.value)


def test_an_address_is_ours_where_the_environment_names_none(monkeypatch):
    assert own(Service.S3)
    monkeypatch.setenv("PICTOGRAPH_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    assert not own(Service.S3)
    assert own(Service.POSTGRES)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://me:secret@127.0.0.1:20001/0", "127.0.0.1:20001"),
        ("rediss://broker", "broker"),
        ("redis://:p%40ss@[::1]:6379", "[::1]:6379"),
    ],
)
def test_a_servers_place_is_told_without_its_password(address, shown):
    assert host_and_port(SecretStr(address)) == shown
