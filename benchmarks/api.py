"""How quickly the API answers under a steady load, over a library that `benchmarks.sql` has filled.

    python -m benchmarks.sql --photos 1000000 --home DIR
    python -m benchmarks.api --home DIR

The loop is open: requests are due at fixed times, whether earlier ones are answered or not, and each is timed from the
moment it was due; so a server that stalls is charged for everybody who had to wait. They go over as many connections as
`--connections` says, to a `pictograph api` of its own with the settings of the environment, on the same cores.

Asked are profiles of users drawn at random, as photos are (who has many is looked at more often): *cold*, where nobody
has the answer yet, and *known*, with If-None-Match. Then the rate is raised step by step, until more than one request
in twenty takes longer than `LATE_MS`, or one fails. Milliseconds depend on what else the machine does; CPU is what the
server's process itself used for a request, without Postgres. A table goes to the terminal, everything to out/api.json.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import h11
import numpy as np
import psutil
from sqlalchemy import text

from pictograph.places import DATABASE, servers
from pipeline.settings import PREFIX, Settings
from pipeline.store.session import Database

LATE_MS = 100.0
STEP = 1.3  # between rates
GOALS = {"cold": 20.0, "known": 5.0}  # ms, 95th percentile at 100 requests a second over a million photos
READ_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    path: str
    etag: str | None = None


@dataclass(kw_only=True)
class Load:
    """What became of the requests of one run."""

    name: str
    per_s: float
    cpu_s: float = 0.0  # of the server's process
    taken_ms: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)

    def figures(self) -> dict[str, object]:
        """For people and programs."""
        p50, p95, p99 = np.percentile(self.taken_ms, [50, 95, 99])
        return {
            "name": self.name,
            "per_s": round(self.per_s, 1),
            "requests": len(self.taken_ms),
            "failed": sum(n for status, n in self.statuses.items() if status not in (200, 304)),
            "statuses": self.statuses,
            "p50_ms": round(float(p50), 2),
            "p95_ms": round(float(p95), 2),
            "p99_ms": round(float(p99), 2),
            "most_ms": round(max(self.taken_ms), 2),
            "cpu_ms": round(self.cpu_s / len(self.taken_ms) * 1000, 2),
        }


def main() -> None:
    """Ask, print a table, write the JSON."""
    options = _options()
    with servers(Settings(home=options.home), DATABASE) as settings:
        assert settings.database_url is not None
        with Database(settings.database_url.get_secret_value(), "load benchmark") as database:
            names = _names(database, options)
        with _Api(options.home) as api:
            found = asyncio.run(_measure(api, names, options))
    options.out.mkdir(exist_ok=True)
    (options.out / "api.json").write_text(json.dumps(found, indent=2))
    print(_table(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="data folder that benchmarks.sql has filled")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--path", default="/v1/users/{user}/profile", help="what is asked; {user} is a name")
    parser.add_argument("--most", type=float, default=1000.0, help="rate beyond which nobody asks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out"))
    return parser.parse_args()


def _names(database: Database, options: argparse.Namespace) -> list[str]:
    """Owners of photos that are drawn at random: as many as the longest run could ask for, up to some thousands."""
    chance = np.random.default_rng(options.seed)
    with database.transaction() as connection:
        most = connection.execute(text("SELECT max(photo_id) FROM core.photo")).scalar_one()
        ids = chance.integers(1, most + 1, 20_000).tolist()
        query = "SELECT u.name FROM core.photo JOIN core.app_user u USING (user_id) WHERE photo_id = ANY (:ids)"
        names = list(connection.execute(text(query), {"ids": ids}).scalars())
    chance.shuffle(names)
    return names


class _Api:
    """A server process over the library, for as long as the context lasts."""

    def __init__(self, home: Path) -> None:
        environment = {**os.environ, PREFIX + "HOME": str(home.absolute()), PREFIX + "API_PORT": "0"}
        command = [sys.executable, "-m", "pictograph", "api", "--json"]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self._measured = psutil.Process(self._process.pid)
        self.place = ("", 0)

    def __enter__(self) -> "_Api":
        assert self._process.stdout is not None
        target = urlsplit(json.loads(self._process.stdout.readline())["api"])
        self.place = (target.hostname or "127.0.0.1", target.port or 80)
        return self

    def cpu_s(self) -> float:
        """Processor time that it has used so far."""
        return sum(self._measured.cpu_times()[:2])

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


async def _measure(api: _Api, names: Sequence[str], options: argparse.Namespace) -> dict[str, object]:
    paths = [options.path.replace("{user}", quote(name, safe="")) for name in names]
    await _run("warm", [Asked(path=path) for path in paths[:200]], api, options.rate, options)
    fresh = _Supply(paths[200:])
    cold = await _run("cold", fresh.cold(int(options.rate * options.seconds)), api, options.rate, options)
    known = [Asked(path=path, etag=etag) for path, etag in cold.etags.items()]
    known = (known * 100)[: int(options.rate * options.seconds)]
    runs = [cold, await _run("known", known, api, options.rate, options)]
    rate = options.rate
    while rate * STEP <= options.most and _held(runs[-1]):
        rate *= STEP
        runs.append(await _run("raised", fresh.cold(int(rate * options.seconds)), api, rate, options))
    held = [run.per_s for run in runs if run.name in ("cold", "raised") and _held(run)]
    return {
        "path": options.path,
        "connections": options.connections,
        "runs": [run.figures() for run in runs],
        "highest_rate_held": round(max(held), 1) if held else None,
    }


class _Supply:
    """Paths, each once for as long as there are any, and then from the start."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths, self._at = paths, 0

    def cold(self, n: int) -> list[Asked]:
        chosen = [self._paths[(self._at + i) % len(self._paths)] for i in range(n)]
        self._at += n
        return [Asked(path=path) for path in chosen]


def _held(run: Load) -> bool:
    figures = run.figures()
    return not figures["failed"] and float(np.percentile(run.taken_ms, 95)) <= LATE_MS


async def _run(name: str, asked: Sequence[Asked], api: _Api, rate: float, options: argparse.Namespace) -> Load:
    """Put each request at its time, over whichever connection is free first."""
    load = Load(name=name, per_s=rate)
    due: asyncio.Queue[tuple[float, Asked] | None] = asyncio.Queue()
    connections = [await _Connection.open(api.place) for _ in range(options.connections)]
    before = api.cpu_s()
    workers = [asyncio.create_task(_serve(connection, due, load)) for connection in connections]
    clock = asyncio.get_running_loop()
    start = clock.time() + 0.05
    for n, one in enumerate(asked):
        moment = start + n / rate
        await asyncio.sleep(max(0.0, moment - clock.time()))
        due.put_nowait((moment, one))
    for _ in workers:
        due.put_nowait(None)
    await asyncio.gather(*workers)
    load.cpu_s = api.cpu_s() - before
    for connection in connections:
        connection.close()
    return load


async def _serve(connection: "_Connection", due: "asyncio.Queue[tuple[float, Asked] | None]", load: Load) -> None:
    clock = asyncio.get_running_loop()
    while (found := await due.get()) is not None:
        moment, one = found
        status, etag = await connection.ask(one)
        load.taken_ms.append((clock.time() - moment) * 1000)
        load.statuses[status] = load.statuses.get(status, 0) + 1
        if etag:
            load.etags[one.path] = etag


class _Connection:
    """One connection that is kept; HTTP by h11, without what a full client would do besides."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, place: tuple[str, int]) -> "_Connection":
        return cls(*await asyncio.open_connection(*place), host=f"{place[0]}:{place[1]}")

    async def ask(self, one: Asked) -> tuple[int, str | None]:
        """The status and the ETag; the body is read to its end."""
        headers = [("Host", self._host), ("Accept", "application/json")]
        headers += [("If-None-Match", one.etag)] if one.etag else []
        self._writer.write(self._http.send(h11.Request(method="GET", target=one.path, headers=headers)) or b"")
        self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
        status, etag = 0, None
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
                etag = next((value.decode() for key, value in event.headers if key == b"etag"), None)
            elif isinstance(event, h11.EndOfMessage):
                self._http.start_next_cycle()
                return status, etag

    def close(self) -> None:
        self._writer.close()


COLUMNS = {"per_s": 8, "requests": 10, "failed": 8, "p50_ms": 8, "p95_ms": 8, "p99_ms": 8, "most_ms": 9, "cpu_ms": 8}


def _table(found: dict[str, object]) -> str:
    lines = [" " * 8 + "".join(f"{name:>{width}}" for name, width in COLUMNS.items()) + "  goal p95"]
    runs: list[dict[str, object]] = found["runs"]  # type: ignore[assignment]
    for run in runs:
        goal = f"{GOALS[str(run['name'])]:>10}" if run["name"] in GOALS else ""
        lines.append(
            f"{run['name']!s:8}" + "".join(f"{run[name]!s:>{width}}" for name, width in COLUMNS.items()) + goal
        )
    lines.append(f"highest rate held (p95 within {LATE_MS:g} ms, none failed): {found['highest_rate_held']} a second")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
