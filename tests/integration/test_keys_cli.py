"""`pictograph keys` as operators call it, and what it makes asked of the API."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from api_helpers import Library
from key_helpers import bearer, closed_app

from pictograph import cli
from pipeline.ledger import erase
from pipeline.settings import Settings
from pipeline.store.session import Database
from workers.decode.pool import DecodePool


@dataclass
class Ended:
    """What a command printed, and how it ended."""

    out: str
    err: str
    status: int

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ended]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command in this process."""
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM)

    def running(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["pictograph", "keys", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Ended(printed.out, printed.err, int(ended.value.code or 0))

    yield running
    signal.signal(signal.SIGTERM, before)


def test_a_key_from_its_making_to_its_end(
    people: Library, run: Run, settings: Settings, as_api: Database, decoder: DecodePool
) -> None:
    people.add("ada", "pug")
    own = run("add", "holiday site", "--user", "ada", "--expires", "90d", "--by", "me")
    assert own.out.startswith("pk_")  # the key alone, for a shell to take
    assert "Key 1 for the photos of ada; it expires 2" in own.err
    assert "who has none yet" in run("add", "b", "--user", "ben").err
    (made,) = run("add", "operators", "--scope", "reader", "--scope", "job.read", "--json").json
    listed = run("list")
    assert made["key"] not in listed.out + run("list", "--json").out
    assert own.out.strip() not in listed.out
    assert [line.split()[0] for line in listed.out.splitlines()] == ["key", "3", "2", "1"]
    assert "category.read job.read photo.read profile.read" in listed.out
    first = run("list", "--json").json[-1]
    assert (first["key_id"], first["name"], first["user"], first["state"], first["created_by"]) == (
        1, "holiday site", "ada", "valid", "me",
    )  # fmt: skip
    assert first["scopes"] == sorted(["profile.read", "photo.read", "category.read", "verdict.write", "photo.refresh"])
    with closed_app(settings, as_api, decoder) as client:
        assert client.get("/v1/users/ada/profile", headers=bearer(own.out.strip())).status_code == 200
        assert client.get("/v1/jobs", headers=bearer(made["key"])).status_code == 200
    assert run("revoke", 3).out == "Key 3 (operators) is revoked.\n"
    assert run("revoke", 3).out == "Key 3 (operators) opened nothing before this: it is revoked.\n"
    assert run("revoke", 2, "--json").json[0]["changed"] is True
    assert [key["key_id"] for key in run("list", "--json").json] == [1]
    assert [key["state"] for key in run("list", "--all", "--json").json] == ["revoked", "revoked", "valid"]
    with closed_app(settings, as_api, decoder) as client:
        assert client.get("/v1/jobs", headers=bearer(made["key"])).status_code == 401
    before = people.database.run(secret_of_sessions)
    assert run("renew", "session").out == "Every session given before this is void.\n"
    assert people.database.run(secret_of_sessions) != before
    erase.erase(people.database, "ada")
    refused = run("add", "again", "--user", "ada")
    assert (refused.status, refused.out) == (2, "")
    assert "ada is erased" in refused.err


def secret_of_sessions(connection: Any) -> bytes:
    return bytes(connection.exec_driver_sql("SELECT secret FROM core.api_secret WHERE purpose = 'session'").scalar())


WRONG = {
    ("add", "x", "--scope", "everything"): "There is no scope 'everything'. Bundles: reader, user, operator.",
    ("add", "x", "--user", "ann", "--scope", "operator"): "leave out --user",
    ("add", "x", "--user", "ann", "--scope", "job.read"): "job.read is about everybody's photos",
    ("add", "x", "--expires", "soon"): "'soon' is no stretch of time",
    ("add", "x", "--user", ""): "No user can be called ''",
    ("add", " "): "say what it is for",
    ("add", "a\nb"): "say what it is for",
    ("add", "Open"): "choose another name",
    ("revoke", "99"): "There is no key 99; `pictograph keys list --all` has all of them.",
}


def test_wrong_use_is_one_sentence(run: Run) -> None:
    for arguments, said in WRONG.items():
        ended = run(*arguments)
        assert (ended.status, ended.out) == (2, "")
        assert ended.err.startswith("Error: ")
        assert said in ended.err
    assert run("list", "--all", "--json").json == []
    assert run("renew", "everything").status == run("revoke", "x").status == 2
