"""One supervisor per data folder: it starts what has died, gives up on what is set up wrongly, and leaves nothing."""

from pathlib import Path

import psutil
import pytest

from pictograph.cli.up import kept_up
from pictograph.supervisor import Supervisor
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from tests.acceptance.conftest import Site, wait_for


def settings_of(site: Site, home: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Settings:
    for name, value in site.env.items():
        monkeypatch.setenv(name, value)
    return Settings(home=home, **changes)


def workers() -> dict[int, str]:
    """The processes that this process's supervisors run: process id to the last word of the command."""
    found = {}
    for child in psutil.Process().children():
        try:
            found[child.pid] = "".join(child.cmdline()[-1:])  # one that is just ending has no words
        except psutil.Error:  # it has just ended
            continue
    return {pid: name for pid, name in found.items() if name in ("ingest", "annotate", "redriver")}


def test_the_dead_are_replaced_a_second_supervisor_stands_back_and_all_end(site, tmp_path, monkeypatch):
    before = workers()
    settings = settings_of(site, tmp_path, monkeypatch)

    def mine() -> dict[int, str]:
        return {pid: name for pid, name in workers().items() if pid not in before}

    with Supervisor(settings) as supervisor, Supervisor(settings) as other:
        assert supervisor.start_if_free()
        assert not other.start_if_free()
        wait_for(lambda: len(mine()) == 3)
        victim = next(pid for pid, name in mine().items() if name == "redriver")
        psutil.Process(victim).kill()
        wait_for(lambda: victim not in mine() and len(mine()) == 3)
    assert mine() == {}


def test_workers_of_another_process_that_ends_are_followed_by_ones_of_ours(site, tmp_path, monkeypatch):
    settings = settings_of(site, tmp_path, monkeypatch)
    before = workers()
    with Supervisor(settings) as next_one, Supervisor(settings) as first:
        assert first.start_if_free()
        wait_for(lambda: len(workers().keys() - before) == 3)
        with kept_up(next_one):
            firsts = workers().keys() - before
            first.close()
            wait_for(lambda: len(workers().keys() - before - firsts) == 3)
    assert workers().keys() <= before.keys()


def test_a_worker_that_is_set_up_wrongly_is_not_started_again_and_says_why(site, tmp_path, monkeypatch):
    with Supervisor(settings_of(site, tmp_path, monkeypatch, model="resnet-0")) as supervisor:
        assert supervisor.start_if_free()
        with pytest.raises(ConfigurationError, match="worker annotate ended: There is no model 'resnet-0'"):
            wait_for(lambda: not supervisor.start_if_free())
