"""Pictograph and its peers, side by side: photos per second from S3 to written results, on this machine.

    python -m benchmarks.engine [--set small] [--photos 400] [--rounds 3] [--contenders ours,timm] [--folder PHOTOS]
    python -m benchmarks.engine --growth 1000,10000,100000

All contenders read the same bytes from one embedded S3 server and run the same network with the same weights. They take
turns, every other round backwards, each in a process of its own; the clock starts when its model is loaded and stops
when its last result is written. Speeds are compared only between contenders that say the same of 99 % of the photos.
The servers run on the same cores, and their processor time is told apart. `make peers` makes the peers' environment.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from benchmarks import photos as photo_sets
from benchmarks import race
from benchmarks.growth import fit
from benchmarks.peers.harness import Job
from benchmarks.photos import Photo
from benchmarks.race import ENTRIES, Run, Servers
from benchmarks.report import OURS, report, running_order, table
from pictograph import stack
from pictograph.places import servers, uploading
from pictograph.stack.home import Home
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from taxonomy.graph import load as load_taxonomy

TAXONOMY = "imagenet-1k"
USERS = 10
BATCH = 32
UPLOADS_AT_ONCE = 16
SHORT = Path(tempfile.gettempdir())  # sockets lie below it, whose paths may have 107 characters


def main() -> None:
    """Measure once."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="pb", dir=SHORT) as scratch:
        home = Path(scratch) / "home"
        with servers(Settings(home=home)) as settings:
            found = (
                _growth(settings, options, Path(scratch)) if options.growth else _race(settings, options, Path(scratch))
            )
        stack.wait_until_stopped(home)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="small", choices=sorted(photo_sets.MAKERS), help="kind of photos")
    parser.add_argument("--photos", type=int, default=400, help="how many")
    parser.add_argument("--folder", type=Path, help="photographs to make the set from; default: the sample packages'")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", type=_names, default=list(ENTRIES), help=f"of {', '.join(ENTRIES)}")
    parser.add_argument("--growth", type=_counts, help="numbers of photos, for ours alone, of about 8 KB each")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    peers = not options.growth and not all(ENTRIES[name].ours for name in options.contenders)
    if peers and not race.PEERS_PYTHON.exists():
        parser.error("the peers have no environment yet; run `make peers`, or pass --contenders ours")
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(ENTRIES))
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]}; there are {', '.join(ENTRIES)}")
    return names


def _counts(text: str) -> list[int]:
    counts = sorted({int(part) for part in text.split(",")})
    if len(counts) < 3:
        raise argparse.ArgumentTypeError("a curve needs three numbers or more")
    return counts


def _race(settings: Settings, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All contenders, round by round."""
    made = photo_sets.make(options.set, options.photos, options.folder)
    keys, uploaded_bytes = _upload(settings, "race", made)
    running = _servers(settings)
    runs: list[Run] = []
    for number, names in enumerate(running_order(options.contenders, options.rounds), start=1):
        for name in names:
            job = _job(settings, "race", keys, scratch / f"{number}-{name}")
            runs.append(race.run(ENTRIES[name], job, running))
            print(f"round {number}, {name}: {_in_short(runs[-1], len(keys))}", flush=True)
    found = {
        "machine": _machine(),
        "set": {
            "kind": options.set,
            "made_from": "a folder" if options.folder else "photographs of the sample packages",
            "photos": len(keys),
            "mean_bytes": uploaded_bytes // len(keys),
        },
        "rounds": options.rounds,
        **report(runs, keys),
    }
    print("\n" + table(found))
    return found


def _growth(settings: Settings, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Ours alone, over more and more photos, round by round; of each number the run of the median time counts."""
    running = _servers(settings)
    uploaded = {
        count: _upload(settings, f"growth-{count}", photo_sets.make("tiny", count, options.folder))[0]
        for count in options.growth
    }
    points: dict[int, list[dict[str, Any]]] = {count: [] for count in options.growth}
    for number in range(options.rounds):
        for count, keys in uploaded.items():
            job = _job(settings, f"growth-{count}", keys, scratch / f"{number}-{count}")
            points[count].append(_point(race.run(ENTRIES[OURS], job, running), count))
            print(json.dumps(points[count][-1]), flush=True)
    chosen = [sorted(of, key=lambda point: float(point["seconds"]))[len(of) // 2] for of in points.values()]
    curve = fit([point["photos"] for point in chosen], [point["seconds"] for point in chosen])
    memory = {name: round(chosen[-1][name] / chosen[0][name], 4) for name in ("worker_peak_mb", "peak_mb")}
    print(f"t = {curve.a:.3f} s + {curve.b:.3g} s * n^{curve.k:.3f}; memory of the last over the first: {memory}")
    return {
        "machine": _machine(),
        "runs": [point for of in points.values() for point in of],
        "growth": chosen,
        "curve": asdict(curve),
        "memory_ratio": memory,
    }


def _servers(settings: Settings) -> Servers:
    status = Home(settings.home).status()
    assert status is not None  # the keeper has said so: its servers are ready
    return Servers(status.pid)


def _point(run: Run, count: int) -> dict[str, Any]:
    if run.error:
        raise SystemExit(f"With {count} photos the run broke: {run.error}")
    if run.more["photos"] != count:
        raise SystemExit(f"{run.more['photos']} of {count} photos were merged.")
    return {
        "photos": count,
        "seconds": round(run.seconds, 3),
        "photos_per_s": round(count / run.seconds, 1),
        "list_seconds": round(float(str(run.more["list_seconds"])), 3),
        "worker_peak_mb": round(float(str(run.more["worker_peak_mb"])), 1),
        "peak_mb": round(run.peak_mb, 1),
    }


def _job(settings: Settings, prefix: str, keys: Sequence[str], scratch: Path) -> Job:
    access = S3Access.of(settings)
    assert settings.database_url is not None
    with stack.open(settings.home) as known:
        broker_url = known.broker_admin_url  # the peers' queues are theirs, and closed to our own user
    return Job(
        endpoint_url=access.endpoint_url or "",
        access_key_id=access.access_key_id or "",
        secret_access_key=access.secret_access_key or "",
        region=access.region,
        bucket=settings.s3_bucket,
        prefix=prefix,
        keys=tuple(keys),
        labels=load_taxonomy(TAXONOMY).labels,
        database_url=settings.database_url.get_secret_value(),
        broker_url=broker_url,
        cores=len(os.sched_getaffinity(0)),
        batch=BATCH,
        scratch=str(scratch),
    )


def _upload(settings: Settings, prefix: str, made: Iterable[Photo]) -> tuple[list[str], int]:
    """Put the photos below the prefix, a tenth of them to each user; their keys, and their bytes together."""
    access = S3Access.of(uploading(settings))
    create_bucket(access, settings.s3_bucket)
    store = S3Store(
        settings.s3_bucket,
        endpoint=access.endpoint_url,
        access_key_id=access.access_key_id,
        secret_access_key=access.secret_access_key,
        region=access.region,
        client_options={"allow_http": True, "timeout": "60s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=60)},
    )

    def put(numbered: tuple[int, Photo]) -> tuple[str, int]:
        n, photo = numbered
        key = f"{prefix}/user-{n % USERS}/{photo.name}"
        obstore.put(store, key, photo.data, use_multipart=False)
        return key, len(photo.data)

    keys, total = [], 0
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        for chunk in _chunks(made, 16 * UPLOADS_AT_ONCE):
            for key, size in pool.map(put, chunk):
                keys.append(key)
                total += size
    return keys, total


def _chunks(made: Iterable[Photo], size: int) -> Iterable[list[tuple[int, Photo]]]:
    """In lists of this size, so that a large set need not fit into memory."""
    chunk: list[tuple[int, Photo]] = []
    for numbered in enumerate(made):
        chunk.append(numbered)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk


def _machine() -> dict[str, Any]:
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    libraries = ("torch", "openvino", "timm", "celery", "obstore", "pillow", "simplejpeg")
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }


def _in_short(run: Run, photos: int) -> str:
    if run.error:
        return f"broke: {run.error}"
    return f"{photos / run.seconds:.1f} photos/s, {run.cpu_seconds:.1f} CPU-s, {run.peak_mb:.0f} MB"


if __name__ == "__main__":
    main()
