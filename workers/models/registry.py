"""The models that can be named: those that are bundled, and those that were added. Light: no torch.

An added model is a file NAME.json in the models' folder: a `ModelSpec`, written once by `pictograph models add`.
"""

import json
import os
import re
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from taxonomy.errors import TaxonomyError
from taxonomy.graph import load
from workers.models.bundled import BUNDLED
from workers.models.canary import PICTURES
from workers.models.spec import ModelSpec

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in BUNDLED}

FORMAT = 1  # of the files; raised when an older reader would misread them
#: Names go into files, queues and web pages. A source may stand before it: torchvision:googlenet.
_NAME = re.compile(r"(?:(?:timm|torchvision):)?[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_ADD = "pictograph models add {name} --weights FILE"
_NETWORK = " --network torchvision:NAME"  # where the name does not say it

_SPEC = TypeAdapter(ModelSpec)


def folder_of(settings: Settings) -> Path:
    """Where the files of the added models are."""
    return (settings.models or settings.home / "models").expanduser()


def chosen(settings: Settings) -> ModelSpec:
    """The model that the settings name; raises what `get` raises."""
    return get(settings.model, folder_of(settings))


def get(name: str, folder: Path | None = None) -> ModelSpec:
    """The model of that name, bundled or described in `folder`.

    Raises:
        ConfigurationError: there is none, with the known names; or its file cannot be used.
    """
    if name in MODELS:
        return MODELS[name]
    check_name(name)
    path = None if folder is None else file_of(name, folder)
    if path is None or not path.is_file():
        raise ConfigurationError(_unknown(name, names(folder)))
    return read(path)


def names(folder: Path | None = None) -> tuple[str, ...]:
    """What can be named: the bundled models, then the added ones."""
    added = sorted(path.name.removesuffix(".json") for path in folder.glob("*.json")) if folder is not None else []
    return (*MODELS, *(name for name in added if _NAME.fullmatch(name) and name not in MODELS))


def check_name(name: str) -> None:
    """ConfigurationError unless `name` can be a model's; paths cannot."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no model's name: at most 80 letters, digits, dots, hyphens and underscores, "
            "with timm: or torchvision: before them if need be."
        )


def file_of(name: str, folder: Path) -> Path:
    """Where the description of an added model lies; `name` must have been checked."""
    return folder / f"{name}.json"


def read(path: Path) -> ModelSpec:
    """The model that a file describes.

    Raises:
        ConfigurationError: it is damaged, or describes another model than its name says.
    """
    try:
        return _parsed(path)
    except (OSError, ValueError, RecursionError, TaxonomyError) as exc:
        raise ConfigurationError(
            f"The model's file {path} cannot be used ({_reason(exc)}); remove it and add the model again."
        ) from exc


def _parsed(path: Path) -> ModelSpec:
    """ValueError, or what reading raises, for what `write` would not have written."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    spec = _SPEC.validate_python(stored)
    if _SPEC.dump_python(spec, mode="json") != stored:
        raise ValueError("it has fields that we do not know, or values of another type")
    _check(spec, path)
    return spec


def _check(spec: ModelSpec, path: Path) -> None:
    """ValueError for what no type can say."""
    if spec.name != path.name.removesuffix(".json"):
        raise ValueError(f"it describes {spec.name!r}")
    classes = load(spec.taxonomy).classes
    if not spec.canaries or any(c.picture not in PICTURES or not 0 <= c.top < classes for c in spec.canaries):
        raise ValueError("its canaries are none that we draw")


def write(spec: ModelSpec, folder: Path) -> Path:
    """Store the description of an added model; the file appears whole or not at all, and replaces none.

    Raises:
        ConfigurationError: there is one already, or the folder cannot be written.
    """
    check_name(spec.name)
    path = file_of(spec.name, folder)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    text = json.dumps({"format": FORMAT, **asdict(spec)}, indent=2, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.link(partial, path)
    except FileExistsError as exc:
        raise ConfigurationError(f"There is a model {spec.name} already; remove it first, or choose a name.") from exc
    except OSError as exc:
        raise ConfigurationError(f"{folder} cannot be written ({exc.strerror}); set PICTOGRAPH_MODELS.") from exc
    finally:
        partial.unlink(missing_ok=True)
    return path


def remove(name: str, folder: Path) -> None:
    """Delete the description of an added model, damaged or not.

    Raises:
        ConfigurationError: there is none of that name, or it is bundled.
    """
    if name in MODELS:
        raise ConfigurationError(f"{name} is bundled and cannot be removed.")
    check_name(name)
    try:
        file_of(name, folder).unlink()
    except FileNotFoundError as exc:
        raise ConfigurationError(_unknown(name, names(folder))) from exc
    except OSError as exc:
        raise ConfigurationError(f"{file_of(name, folder)} cannot be removed ({exc.strerror}).") from exc


def _unknown(name: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]}" if close else ""
    command = _ADD.format(name=name) + ("" if ":" in name else _NETWORK)
    return f"There is no model {name!r}{hint} (known: {', '.join(known)}); add it by `{command}`."


def _reason(exc: Exception) -> str:
    if isinstance(exc, ValidationError):
        first = exc.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return " ".join(str(exc).split())
