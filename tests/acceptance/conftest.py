"""A site: real servers, real workers as processes, and the command line as its users call it."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from pictograph import cli, samples
from pictograph.stack import Endpoints
from pipeline.settings import PREFIX
from pipeline.sources.s3 import S3Access
from pipeline.store.session import Database
from pipeline.store.totals import differences
from taxonomy.graph import load
from tests.schema import make_empty

UPLOADS_AT_ONCE = 8
REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-P", "-m", "pictograph"]
QUICK = {"jobs", "queues", "schedule", "users"}  # they read or order something, and return
WEBHOOK_SECRET = "a secret that is long enough to sign"
PATIENCE_SECONDS = 240  # for a command or what it brings about, on a machine that may be slow and busy


_copies = itertools.count()


def fresh(path: Path) -> bytes:
    """A photo in bytes that no test has had: decoders ignore what follows its end, and nobody has seen them before."""
    return path.read_bytes() + f"copy {next(_copies)}".encode()


def environment(**settings: object) -> dict[str, str]:
    """This process's environment, with no settings of Pictograph but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    named = {PREFIX + name.upper(): str(value) for name, value in settings.items()}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **named}


def run(
    arguments: tuple[object, ...], env: dict[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command, to its end; called in `folder`."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command,
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def run_inside(arguments: tuple[object, ...], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command, to its end, in this process: to start another one takes a second or two each time."""
    command = ["pictograph", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
    at_the_end = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(os, "environ", env)
            patch.setattr(sys, "argv", command)
            with pytest.raises(SystemExit) as ended:
                cli.main()
    finally:
        signal.signal(signal.SIGTERM, at_the_end)
    said, complained = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(command, int(ended.value.code or 0), said, complained)


def wait_for(what: Callable[[], Any]) -> Any:
    """What `what` returns as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENCE_SECONDS} s"
        time.sleep(0.05)
    return found


def family(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    """Everything that descends from a process."""
    return psutil.Process(process.pid).children(recursive=True)


@dataclass(kw_only=True)
class Site:
    """An installation with workers of its own."""

    env: dict[str, str]
    logs: Path
    database: Database
    access: S3Access
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
        """A command, to its end; `settings` replace those of the site."""
        return run(arguments, {**self.env, **{PREFIX + k.upper(): str(v) for k, v in settings.items()}})

    def ask(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Like `run`, for a command that is quick and starts nothing."""
        return run_inside(arguments, self.env)

    def report(self, *arguments: object, status: int = 0) -> dict[str, Any]:
        """The last line of a command's --json."""
        quick = arguments[0] in QUICK or "--dry-run" in arguments
        done = (self.ask if quick else self.run)(*arguments, "--json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def tag(self, *arguments: object) -> dict[str, Any]:
        """`pictograph tag`, which must succeed and account for every photo."""
        report = self.report("tag", *arguments)
        counts = dict(report["counts"])
        assert counts.pop("total") == sum(counts.values())
        assert self.differences() == 0
        return report

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A worker process, named by its last word."""
        name = arguments[-1]
        with (self.logs / f"{name}.log").open("ab") as log:
            self.workers[name] = subprocess.Popen([*COMMAND, *arguments], env=self.env, stdout=log, stderr=log)
        return self.workers[name]

    def differences(self) -> int:
        """Rows in which the totals differ from a recount."""
        with self.database.transaction() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            return differences(connection)

    def rows(self, query: str, **values: object) -> list[Any]:
        """What the database says."""
        with self.database.transaction() as connection:
            return list(connection.execute(text(query), values))

    def new_bucket(self, name: str) -> None:
        """Make a bucket."""
        self.access.client().create_bucket(Bucket=name)

    def upload(self, bucket: str, photos: dict[str, Path]) -> None:
        """Put photos, by key, into a new bucket."""
        self.new_bucket(bucket)
        client = self.access.client(UPLOADS_AT_ONCE)
        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            for done in [
                pool.submit(client.put_object, Bucket=bucket, Key=key, Body=fresh(path)) for key, path in photos.items()
            ]:
                done.result()

    def close(self) -> None:
        """End all workers; they must go when they are told."""
        for process in self.workers.values():
            process.send_signal(signal.SIGTERM)
        try:
            for process in self.workers.values():
                process.wait(PATIENCE_SECONDS)
        finally:
            for process in self.workers.values():
                process.kill()


@pytest.fixture(scope="module")
def site(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One installation for the tests of a module, ended with it: other tests use the same database."""
    env = environment(
        home=tmp_path_factory.mktemp("unused home"),
        models=tmp_path_factory.getbasetemp() / "models",  # converted once for all modules
        database_url=endpoints.database_url,
        broker_url=endpoints.broker_url,
        s3_endpoint_url=endpoints.s3_endpoint_url,
        s3_access_key_id=endpoints.s3_reader_access_key_id,
        s3_secret_access_key=endpoints.s3_reader_secret_access_key,
        output_access_key_id=endpoints.s3_results_access_key_id,
        output_secret_access_key=endpoints.s3_results_secret_access_key,
        webhook_secret=WEBHOOK_SECRET,
        lease_seconds=3,
        tick_seconds=0.2,
        stale_seconds=3,
        shard_photos=64,
        decode_processes=2,
    )
    access = S3Access(
        endpoint_url=endpoints.s3_endpoint_url,
        access_key_id=endpoints.s3_access_key_id,
        secret_access_key=endpoints.s3_secret_access_key,
        region="us-east-1",
    )
    with Database(endpoints.database_url, "acceptance tests") as database:
        make_empty(database, but=load())
        made = Site(env=env, logs=tmp_path_factory.mktemp("logs"), database=database, access=access)
        assert made.ask("migrate").returncode == 0
        for arguments in (("worker", "ingest"), ("worker", "annotate"), ("redriver",)):
            made.start(*arguments)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Up to 500 photographs: the shared ones where they are, else those that come with the demonstration."""
    shared = Path(os.environ.get("PICTOGRAPH_TEST_PHOTOS", REPOSITORY.parent / "shared" / "photos")) / "imagenet"
    if shared.is_dir():
        return sorted(shared.iterdir())
    return [picture.path for picture in samples.bundled()]


@pytest.fixture
def many(photos: list[Path], tmp_path: Path) -> Path:
    """A folder with 320 photographs, of three users; enough to be interrupted in the middle."""
    folder = tmp_path / "many photos"
    for n in range(320):
        path = folder / f"user {n % 3}" / f"{n}{photos[n % len(photos)].suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fresh(photos[n % len(photos)]))
    return folder
