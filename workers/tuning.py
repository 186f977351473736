"""How much of everything a worker uses: chosen from what the machine has, unless a setting says otherwise.

What was measured stands at the constants; what was not, is a guess that only has to be large enough.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import Settings
from workers.models.classifier import Classifier

SPARE_BUFFERS = 2  # beside those that the model works on: one is being filled, one is full
REQUESTS_PER_CORE = 8  # a core tags about 100 photos a second, and an answer may take 80 ms
REQUESTS = range(16, 128 + 1)  # fewer leave an idle machine waiting for a distant store, more cost memory and order
#: Between store and decoder, fetched in bursts: when a quarter is left, up to all of it. An object store on the same
#: two cores took 0.38 instead of 0.89 CPU-ms a photo, because it is not woken for each.
PHOTOS_PER_REQUEST = 16
BURST_AT = 4
#: Decoders give way to the model, and nobody is interrupted for a thread that wakes up (SCHED_BATCH): so they take
#: turns by the batch instead of by the photo, and find their caches as they left them: about 15 % more photos a second.
DECODER_NICENESS = 10
CORES_BESIDE_A_GPU = 2  # for our own threads and the client of the object store
SHARDS_AHEAD = 2  # claimed beside the one in work, and as many more as the buffers hold
MEGABYTE = 1024 * 1024

_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What there is for this process."""

    cores: float  # that it may use at a time; a quota may give half a one

    @property
    def threads(self) -> int:
        """As many threads as can run at a time."""
        return max(1, math.floor(self.cores))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """What a worker uses."""

    model: str
    runtime: str
    precision: str
    device: str
    cores: float
    batch_photos: int
    decode_processes: int
    fetch_threads: int  # requests in flight
    fetch_bytes: int  # of photos between store and decoder
    fetch_photos: int  # of them, whatever their size
    fetch_again_photos: int  # once there were so many, the next are fetched when no more than these are left
    shards_ahead: int  # claimed beside the one in work

    def __str__(self) -> str:
        """One line for a person, with the settings that change it."""
        return (
            f"{self.model} by {self.runtime} {self.precision} on {self.device}, {_count(self.cores, 'core')}: "
            f"batches of {self.batch_photos}, {_count(self.decode_processes, 'decoder')}, "
            f"{_count(self.fetch_threads, 'request')} and {self.fetch_bytes / MEGABYTE:g} MB in flight; "
            "PICTOGRAPH_BATCH_PHOTOS, _DECODE_PROCESSES, _FETCH_THREADS and _FETCH_BYTES change it"
        )


def tune(settings: Settings, machine: Machine, classifier: Classifier) -> Tuning:
    """What to use with this model, which has chosen its device and its batches itself. Pure."""
    beside = 0 if classifier.device.startswith("cpu") else CORES_BESIDE_A_GPU
    wished = REQUESTS_PER_CORE * machine.threads
    requests = settings.fetch_threads or min(max(wished, REQUESTS.start), REQUESTS.stop - 1)
    waiting = classifier.batch_photos * (classifier.in_flight + SPARE_BUFFERS)
    return Tuning(
        model=classifier.spec.name,
        runtime=classifier.runtime,
        precision=classifier.precision,
        device=classifier.device,
        cores=machine.cores,
        batch_photos=classifier.batch_photos,
        decode_processes=settings.decode_processes or max(1, machine.threads - beside),
        fetch_threads=requests,
        fetch_bytes=settings.fetch_bytes,
        fetch_photos=PHOTOS_PER_REQUEST * requests,
        fetch_again_photos=PHOTOS_PER_REQUEST * requests // BURST_AT,
        shards_ahead=SHARDS_AHEAD + waiting // settings.shard_photos,
    )


def settle() -> None:
    """Have this thread, and those it starts from now on, run in longer stretches: nobody waits for a single photo."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def look() -> Machine:
    """What this machine gives to this process."""
    cores: float = len(os.sched_getaffinity(0))
    quota = quota_cores(_CGROUP, _CGROUPS)
    return Machine(cores=cores if quota is None else min(cores, quota))


def quota_cores(membership: Path, root: Path) -> float | None:
    """The tightest CPU quota among this process's control groups (version 2), in cores; None where there is none."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None  # no Linux with control groups
    inside = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = root / inside
    limits = [_limit(folder / "cpu.max") for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(file: Path) -> float | None:
    """``200000 100000`` (microseconds in each so many) is two cores, ``max 100000`` no limit."""
    try:
        quota, period = file.read_text().split()
    except OSError:
        return None  # the root group has no such file, nor has one without the controller
    return None if quota == "max" else int(quota) / int(period)


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
