"""Merging and asking at scale: a library of a million photos and more, written by the product's own merge.

    python -m benchmarks.sql --photos 1000000 --home DIR
    python -m benchmarks.sql --photos 10000000 --home DIR2 --against out/sql-1000000.json

The library is drawn (`benchmarks/library/drawing.py`): owners of a heavy tail, categories by what a model would say of
ImageNet's labels, through the real roll-up and decision. Photos and items are copied in as a listing leaves them; every
result comes through `pipeline.store.merge` on one connection, with fsync and synchronous_commit on, several leased
shards in one transaction (`--shards`). Then come the questions. `--home` keeps the data; `--queries-only` asks again.

A table goes to the terminal and everything, as JSON, to out/sql-PHOTOS.json. Milliseconds that a client waits depend on
what else the machine does; CPU is what this process and the server's session themselves used, without checkpoints and
what else the server does in the background.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from sqlalchemy import Connection, text

from benchmarks.library import asked, narrow
from benchmarks.library.drawing import Model
from benchmarks.library.shelf import Shard, Shelf
from benchmarks.merge import Meter, Phase
from pictograph import stack
from pictograph.places import DATABASE, servers
from pipeline.settings import Settings
from pipeline.store.catalogue import Registered, register_model
from pipeline.store.merge import merge
from pipeline.store.migrate import migrate
from pipeline.store.roles import Role
from pipeline.store.session import Database
from pipeline.store.totals import differences
from taxonomy.decide import Decision
from taxonomy.graph import Taxonomy, load

PATIENCE_SECONDS = 86_400.0
PHOTOS_PER_USER = 250  # in the mean
COMPARED = 50_000  # photos that are stored as narrow rows too
RECOUNTED = 200_000  # photos up to which all totals are counted anew at the end


def main() -> None:
    """Fill, ask, print a table, write the JSON."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or Path(scratch)
        with servers(Settings(home=home), DATABASE) as settings:
            assert settings.database_url is not None
            with _databases(settings.database_url.get_secret_value()) as databases:
                found = _measure(databases, options)
        stack.wait_until_stopped(home)
    if options.against:
        found["growth"] = _growth(json.loads(options.against.read_text()), found)
    options.out.mkdir(exist_ok=True)
    (options.out / f"sql-{options.photos}.json").write_text(json.dumps(found, indent=2))
    print(_table(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--users", type=int, help=f"default: a {PHOTOS_PER_USER}th of the photos")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shards", type=int, default=8, help="shards of about 512 photos in a transaction")
    parser.add_argument("--rounds", type=int, default=3, help="how often each question is put; the median is told")
    parser.add_argument("--asked", type=int, default=200, help="different questions of a kind")
    parser.add_argument("--queries-only", action="store_true", help="what is in --home is asked, nothing is written")
    parser.add_argument("--home", type=Path, help="keep the server's data here")
    parser.add_argument("--against", type=Path, help="JSON of a run with fewer photos, to compare with")
    parser.add_argument("--out", type=Path, default=Path("out"))
    return parser.parse_args()


@dataclass(frozen=True, kw_only=True)
class Databases:
    """One database, as those who use it reach it."""

    owner: Database
    by_role: dict[Role, Database]


@contextmanager
def _databases(url: str) -> Iterator[Databases]:
    roles = {role: Database(url, "scale benchmark", role=role) for role in (Role.WORKER, Role.ANALYST, Role.API)}
    with Database(url, "scale benchmark") as owner:
        yield Databases(owner=owner, by_role=roles)
    for database in roles.values():
        database.close()


def _measure(databases: Databases, options: argparse.Namespace) -> dict[str, Any]:
    migrate(databases.owner)
    taxonomy = load()
    registered = databases.owner.run(lambda c: _register(c, taxonomy))
    found: dict[str, Any] = {"photos": options.photos, "shards_per_transaction": options.shards}
    if not options.queries_only:
        found |= _fill(databases, registered, taxonomy, options)
    _settle(databases.owner)
    found["bytes_per_photo"] = _bytes(databases.owner, registered)
    found["merged_again"] = asdict(asked.merge_again(databases.by_role[Role.WORKER], registered, options.seed))
    found["questions"] = _ask(databases, registered, options)
    if not options.queries_only:
        ways = narrow.compare(databases.owner, registered, min(COMPARED, options.photos))
        found["ways_to_store"] = {name: asdict(way) for name, way in ways.items()}
    return found


def _register(connection: Connection, taxonomy: Taxonomy) -> Registered:
    return register_model(connection, "drawn", b"drawn".ljust(32, b"\0"), taxonomy, Decision())


def _fill(
    databases: Databases, registered: Registered, taxonomy: Taxonomy, options: argparse.Namespace
) -> dict[str, Any]:
    worker = databases.by_role[Role.WORKER]
    users = options.users or max(1, options.photos // PHOTOS_PER_USER)
    model = Model(taxonomy, registered, options.seed)
    shelf = Shelf(databases.owner, registered, model, len(taxonomy.labels), options.seed)
    meter, merging, rates = Meter(worker), Phase(), []
    session = psutil.Process(worker.run(lambda c: c.execute(text("SELECT pg_backend_pid()")).scalar_one()))
    for shards in shelf.fill(options.photos, users):
        before, used = (merging.photos, merging.seconds), sum(session.cpu_times()[:2])
        for at in range(0, len(shards), options.shards):
            some = shards[at : at + options.shards]
            with meter.over(merging, sum(len(shard.results) for shard in some)):
                _merge(worker, registered, some)
        merging.server_s += sum(session.cpu_times()[:2]) - used
        rates.append(round((merging.photos - before[0]) / (merging.seconds - before[1])))
    shelf.close()
    found: dict[str, Any] = {"users": users, "merge": merging.figures() | {"photos_per_s_over_time": rates}}
    if options.photos <= RECOUNTED:
        with databases.owner.transaction() as connection:
            found["totals_unlike_recount"] = differences(connection)
    return found


def _merge(database: Database, registered: Registered, shards: list[Shard]) -> None:
    results = [result for shard in shards for result in shard.results]
    database.run(
        lambda connection: merge(
            connection,
            model_id=registered.model_id,
            decision_rev=registered.decision_rev,
            results=results,
            leases=[shard.lease for shard in shards],
            patience_seconds=PATIENCE_SECONDS,
        )
    )


def _settle(database: Database) -> None:
    """What autovacuum does in the minutes after a bulk load."""
    with database.outside_transactions() as connection:
        for table in ("photo_result", "photo", "user_category", "category_total", "job_item"):
            connection.execute(text(f"VACUUM (ANALYZE) core.{table}"))


_SIZES = text("""
SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'core' AND c.relkind IN ('r', 'i')""")


def _bytes(database: Database, registered: Registered) -> dict[str, Any]:
    with database.transaction() as connection:
        photos = connection.execute(text("SELECT count(*) FROM core.photo_result")).scalar_one()
        sizes = {name: size / photos for name, size in connection.execute(_SIZES)}
    results = {name: size for name, size in sizes.items() if name.startswith(f"photo_result_{registered.model_id}")}
    totals = {name: size for name, size in sizes.items() if name.startswith(("user_category", "category_total"))}
    rest = sum(sizes.values()) - sum(results.values()) - sum(totals.values())
    return {"results": sum(results.values()), "totals": sum(totals.values()), "ledger": rest, "of_results": results}


def _ask(databases: Databases, registered: Registered, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for role, question in asked.questions(databases.owner, registered, options.asked, options.seed):
        rounds = [asdict(asked.measure(databases.by_role[role], question)) for _ in range(options.rounds)]
        middle = {name: median(answered[name] for answered in rounds) for name in rounds[0]}
        least = {f"least_{name}": min(answered[name] for answered in rounds) for name in ("p50", "p95")}
        found[question.name] = {"goal_ms": question.goal_ms, **middle, **least}
    return found


def _growth(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    """How many times as long each question takes; least is of the best rounds."""
    return {
        "photos": large["photos"] / small["photos"],
        **{
            name: {of: large["questions"][name][of] / max(was[of], 1e-3) for of in ("p95", "least_p95", "server_cpu")}
            for name, was in small["questions"].items()
        },
    }


def _table(found: dict[str, Any]) -> str:
    lines = [f"{found['photos']:,} photos"]
    if "merge" in found:
        merged = found["merge"]
        lines.append(
            f"merged {merged['photos_per_s']:,} photos/s on one connection; CPU ms per photo: ours "
            f"{merged['client_cpu_ms']}, Postgres' {merged['server_cpu_ms']}"
        )
    held = found["bytes_per_photo"]
    lines.append(
        f"bytes per photo: results {held['results']:.0f}, totals {held['totals']:.0f}, ledger {held['ledger']:.0f}"
    )
    again = found["merged_again"]
    lines.append(f"merged again: {again['photos_per_s']:,.0f} photos/s, {again['rows_written']} rows written")
    lines.append(f"{'':36}{'goal':>8}{'p50':>8}{'p95':>8}{'best p95':>10}{'server CPU':>12}  ms")
    for name, took in found["questions"].items():
        figures = f"{took['p50']:8.2f}{took['p95']:8.2f}{took['least_p95']:10.2f}{took['server_cpu']:12.2f}"
        lines.append(f"{name:36}{took['goal_ms']:8.0f}{figures}")
    for name, way in found.get("ways_to_store", {}).items():
        lines.append(
            f"stored as {name}: {way['photos_per_s']:,.0f} photos/s, {way['bytes_per_photo']:.0f} bytes per photo, "
            f"two tags counted in {way['both_ms']:.1f} ms, again {way['again_per_s']:,.0f} photos/s"
        )
    for name, ratios in found.get("growth", {}).items():
        if isinstance(ratios, dict):
            lines.append(f"{name}: p95 {ratios['p95']:.2f} times, server CPU {ratios['server_cpu']:.2f} times")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
