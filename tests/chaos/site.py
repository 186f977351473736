"""A site to break: real servers, each behind a proxy with faults, and the product's own processes as workers.

    with Site(folder) as site:
        site.start("worker", "annotate")
        site.valkey.wipe()
        site.proxies["s3"].inject(Fault(kind=Kind.S3_503, share=0.2))

`settings` lead through the proxies; `direct` and `database` pass them by, for the checks.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from subprocess import STDOUT, Popen
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from pictograph.stack import ports, processes
from pictograph.stack.home import Home
from pictograph.stack.keeper import remove_sockets
from pictograph.stack.servers import Place
from pipeline.settings import PREFIX, Settings
from pipeline.sources.s3 import S3Access
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from tests.chaos.proxy import FaultProxy, Speaks
from tests.chaos.servers import (
    PATIENCE_SECONDS,
    PostgresProcess,
    S3Process,
    ServerProcess,
    ValkeyProcess,
    end_all,
    family,
    started,
)
from workers.ledger import register
from workers.models import registry

REPOSITORY = Path(__file__).parents[2]
MARK = "CHAOS_SITE"  # a variable by which every process of a site is known
#: Worker settings that fit two cores and photos that are quickly done; times short enough for tests.
BRIEF: Mapping[str, Any] = {
    "lease_seconds": 3,
    "tick_seconds": 0.5,
    "stale_seconds": 5,
    "shard_photos": 32,
    "batch_photos": 8,
    "decode_processes": 2,
    "fetch_threads": 4,
}


def models_folder() -> Path:
    """Where converted models are kept between test runs: they are named by all that they follow from."""
    folder = Path(tempfile.gettempdir()) / f"pictograph-test-models-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; remove it.")
    return folder


class Site:
    """Servers, proxies and workers under one folder; what is given beside it replaces settings."""

    database: Database  # direct, as the owner
    access: S3Access  # direct, and may write
    settings: Settings  # for what is to suffer
    direct: Settings  # for what is to check

    def __init__(self, folder: Path, *, seed: int = 0, **settings: Any) -> None:
        self.folder = folder.resolve()
        self._seed = seed
        self._changes = settings
        self._stack = ExitStack()
        self._started: list[Popen[bytes]] = []
        self._homes: dict[int, Path] = {}

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self) -> None:
        place = self._place()
        self.postgres, self.valkey, self.s3 = PostgresProcess(place), ValkeyProcess(place), S3Process(place)
        self._servers: tuple[ServerProcess, ...] = (self.s3, self.valkey, self.postgres)  # slowest first
        for server in self._servers:
            self._stack.callback(server.close)
            server.launch()
        for server in self._servers:
            server.wait_until_it_answers()
        self.proxies = self._proxies(place)
        known = {name: value for name, value in asdict(place.endpoints).items() if name in Settings.model_fields}
        known["s3_access_key_id"] = place.credentials.s3_reader_access_key_id  # workers write nothing there
        known["s3_secret_access_key"] = place.credentials.s3_reader_secret_access_key
        common = {"home": self._subfolder("home"), "models": models_folder(), **BRIEF, **self._changes}
        self.direct = Settings(**known, **common)
        self.settings = Settings(**{**known, **self._through_proxies(known)}, **common)
        assert self.direct.database_url is not None
        self.database = Database(self.direct.database_url.get_secret_value(), "chaos tests", connections=8)
        self._stack.callback(self.database.close)
        migrate(self.database)
        self.registered = register(self.database, registry.chosen(self.direct))
        self.access = S3Access(
            endpoint_url=place.endpoints.s3_endpoint_url,
            access_key_id=place.credentials.s3_access_key_id,
            secret_access_key=place.credentials.s3_secret_access_key,
            region=self.direct.s3_region,
        )

    def _place(self) -> Place:
        home = Home(self._subfolder("servers"))
        home.create()
        account = processes.account()
        claim = ports.claim(None)
        self._stack.callback(claim.holder.close)
        self._stack.callback(remove_sockets, claim.ports)
        return Place(home=home, ports=claim.ports, credentials=home.credentials(), account=account)

    def _proxies(self, place: Place) -> dict[str, FaultProxy]:
        behind = {
            "postgres": (place.ports.postgres, Speaks.POSTGRES),
            "valkey": (place.ports.valkey, Speaks.TCP),
            "s3": (place.ports.s3, Speaks.S3),
        }
        proxies = {}
        for n, (name, (port, speaks)) in enumerate(behind.items()):
            proxies[name] = FaultProxy((ports.HOST, port), speaks, seed=self._seed * len(behind) + n)
            self._stack.enter_context(proxies[name])
        return proxies

    def _through_proxies(self, known: Mapping[str, str]) -> dict[str, str]:
        """Every address, with the server's port replaced by its proxy's."""
        replaced = {proxy.upstream[1]: proxy.port for proxy in self.proxies.values()}
        found = {}
        for name, value in known.items():
            port = urlsplit(value).port if "://" in value else None
            if port is not None:
                found[name] = value.replace(f"{ports.HOST}:{port}", f"{ports.HOST}:{replaced[port]}")
        return found

    def _subfolder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def close(self) -> None:
        """End everything that was started here, and wait until it is gone. Idempotent."""
        self.end_workers()
        self._stack.close()

    def end_workers(self) -> None:
        """kill -9 of every process that `start` and `supervise` made, with all that descends from it."""
        for process in self._started:
            self.kill(process)
        self._started.clear()
        end_all(self._strays())

    def _strays(self) -> list[psutil.Process]:
        """What descends from processes that were killed by other means than ours."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.folder):
                    found.append(process)
        return found

    def kill(self, process: "Popen[bytes]") -> None:
        """kill -9 of a process and all its descendants; return when nothing of them runs."""
        end_all(family(process.pid))
        process.wait(PATIENCE_SECONDS)

    def environment(self, **changes: object) -> dict[str, str]:
        """This process's environment, with no settings of Pictograph but the site's and these."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        changed = {PREFIX + name.upper(): str(value) for name, value in changes.items()}
        own = {**self.settings.environment(), "PYTHONPATH": str(REPOSITORY), MARK: str(self.folder)}
        return {**kept, **own, **changed}

    def start(self, *command: str, env: Mapping[str, str] | None = None, module: str = "pictograph") -> "Popen[bytes]":
        """`pictograph COMMAND` in a session of its own; its output is appended to `log(its last word)`.

        `env` adds variables. `module` is run instead of `pictograph`, with the same arguments.
        """
        return self.start_module(module, *command, env=env, log=command[-1])

    def start_module(
        self, module: str, *arguments: str, env: Mapping[str, str] | None = None, log: str
    ) -> "Popen[bytes]":
        """`python -m MODULE ARGUMENTS`, likewise."""
        setpriv = shutil.which("setpriv")
        assert setpriv is not None, "install the package util-linux"
        line = [setpriv, "--pdeathsig=KILL", "--", sys.executable, "-P", "-m", module, *arguments]

        def spawn() -> "Popen[bytes]":
            with self.log(log).open("ab") as output:
                return Popen(
                    line,
                    env={**self.environment(), **(env or {})},
                    cwd=self.folder,
                    stdout=output,
                    stderr=STDOUT,
                    start_new_session=True,
                )

        process = started(spawn)
        self._started.append(process)
        return process

    def log(self, name: str) -> Path:
        """Where the output of processes of that name goes."""
        return self._subfolder("logs") / f"{name}.log"

    def supervise(self, env: Mapping[str, str] | None = None) -> "Popen[bytes]":
        """The product's supervisor over ingest, annotate and redriver, in a process and a home of its own.

        Its workers' logs lie in `home_of(process)/logs`. SIGTERM ends them gently.
        """
        home = self._subfolder(f"supervised-{len(self._homes) + 1}")
        own = {f"{PREFIX}HOME": str(home), **(env or {})}
        process = self.start_module("tests.chaos.supervised", env=own, log=home.name)
        self._homes[process.pid] = home
        return process

    def home_of(self, process: "Popen[bytes]") -> Path:
        """The data folder of what `supervise` started."""
        return self._homes[process.pid]

    def stop(self, process: "Popen[bytes]") -> int:
        """SIGTERM; its exit status."""
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE_SECONDS)
