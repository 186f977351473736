"""OpenVINO's graph of a model, converted once and kept, so that a worker imports no torch: a third of the memory, and a
start in a second.

Laws
1. A graph is named by all that it follows from: the model's fingerprint, the versions of the libraries, the source of
   our conversion, and whether its weights are rounded. So it is never out of date, and the folder may be emptied.
2. It appears whole or not at all. Its files are hashed before OpenVINO sees them; what is damaged is made again.
3. Processes that want the same graph convert it one after the other, so all but the first find it there.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.errors import ConfigurationError, ModelError
from pipeline.settings import PREFIX
from workers.models.spec import ModelSpec
from workers.models.weights import sha256_of

log = logging.getLogger(__name__)

FOLDER = "openvino"  # in the models' folder
GRAPH, WEIGHTS, SUMS = "graph.xml", "graph.bin", "sums.json"
CONVERT_SECONDS = 1800  # the largest vision transformers take some minutes
REFUSED = 3  # exit status of a conversion that prints its reason: the name of an error, and a sentence

_PROGRAM = "workers.models.openvino_graph"
_LIBRARIES = ("openvino", "timm", "torch", "torchvision")
_SOURCE = ("networks.py", "openvino_graph.py", "prepare.py", "silent_openvino.py")


class CannotConvert(Exception):
    """OpenVINO cannot run this network."""


class CannotKeep(Exception):
    """It did not come to a file, for a reason that is not the network's; converting it in this process may work."""


_REASONS = {error.__name__: error for error in (CannotConvert, ConfigurationError, ModelError)}


def graph_of(spec: ModelSpec, models: Path, *, rounded: bool) -> Path:
    """The file of the model's graph in the models' folder, which may take a minute the first time.

    `spec` has its weights at hand; see `openvino_graph.graph` for what the graph takes and gives.

    Raises:
        CannotKeep: files cannot be written, read or locked there, or the process that converts came to grief.
        CannotConvert: OpenVINO cannot run the network.
        ConfigurationError, ModelError: what `networks.build` raises.
    """
    place = models / FOLDER / name_of(spec, rounded=rounded)
    with _alone(place):
        if not _sound(place):
            _make(place, spec, rounded=rounded)
    return place / GRAPH


def name_of(spec: ModelSpec, *, rounded: bool) -> str:
    """What a graph is kept under (law 1)."""
    facts = {
        "model": spec.fingerprint(),
        "libraries": [version(library) for library in _LIBRARIES],
        "source": [sha256_of(Path(__file__).with_name(file)) for file in _SOURCE],
        "rounded": rounded,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """While no other process does anything at this place (law 3); the file system's errors are CannotKeep."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # which the kernel drops, however this process ends
            yield
    except OSError as exc:
        raise CannotKeep(f"{place.parent} cannot be used ({exc.strerror})") from exc


def _sound(place: Path) -> bool:
    """Whether both files are there, and are what was written."""
    try:
        sums = json.loads((place / SUMS).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    found = _sums(place)
    return len(found) == len((GRAPH, WEIGHTS)) and bool(sums == found)


def _sums(place: Path) -> dict[str, str]:
    """SHA-256 of each file that is there."""
    sums = {}
    for path in (place / GRAPH, place / WEIGHTS):
        if path.is_file():
            with path.open("rb") as file:
                sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _make(place: Path, spec: ModelSpec, *, rounded: bool) -> None:
    log.info("%s is converted for OpenVINO; the next process finds it in %s", spec.name, place)
    for left in place.parent.glob(f"{place.name}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{place.name}-"))
    try:
        _convert(spec, partial, rounded=rounded)
        (partial / SUMS).write_text(json.dumps(_sums(partial)))
        shutil.rmtree(place, ignore_errors=True)  # damaged
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(spec: ModelSpec, folder: Path, *, rounded: bool) -> None:
    """Have a process of its own write the graph into `folder`; what it says beside its reason goes to our stderr."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _PROGRAM, str(folder.absolute()), "rounded" if rounded else "exact"],
            input=TypeAdapter(ModelSpec).dump_json(spec),
            stdout=subprocess.PIPE,
            check=False,
            cwd="/",
            env=_environment(),
            timeout=CONVERT_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise CannotKeep(f"{_PROGRAM} did not end in {CONVERT_SECONDS} s") from exc
    if done.returncode == REFUSED:
        error, sentence = json.loads(done.stdout.splitlines()[-1])
        raise _REASONS[error](sentence)
    if done.returncode != 0:
        raise CannotKeep(f"{_PROGRAM} ended with status {done.returncode}")


def _environment() -> dict[str, str]:
    """Ours without credentials, and with all that we can import: weights may be in a package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", PREFIX))}
    return kept | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
