"""The data folder: where everything lies, who may lock what, and what the keeper tells its users.

HOME/
├── users.lock  start.lock  keeper.lock    flock only; their content means nothing
├── credentials.json  ports.json           made once, kept over restarts
├── status.json                            the running keeper's word on who is ready
├── logs/                                  keeper.log and one per server
└── postgres/  valkey/  s3/                the servers' own folders
"""

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError

POLL_SECONDS = 0.02  # how often a lock that is taken is tried again
_ADDED = (
    "broker_admin_password",
    "s3_reader_access_key_id",
    "s3_reader_secret_access_key",
    "s3_results_access_key_id",
    "s3_results_secret_access_key",
)
LOG_BYTES = 8 * 1024 * 1024  # a log larger than this is put aside when its server starts


class Service(StrEnum):
    """A server that the stack can provide."""

    POSTGRES = "postgres"
    BROKER = "broker"
    S3 = "s3"


ALL = frozenset(Service)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """Where the servers answer, all on 127.0.0.1. The URLs contain passwords and stay out of repr."""

    database_url: str = field(repr=False)  # postgresql://…, owner of its database, no superuser
    broker_url: str = field(repr=False)  # redis://…/0, a user who may do what messages need and no more
    broker_admin_url: str = field(repr=False)  # who may do everything; no process of ours needs it
    s3_endpoint_url: str
    s3_access_key_id: str  # may make buckets and fill them
    s3_secret_access_key: str = field(repr=False)
    s3_reader_access_key_id: str  # may list and read photos, and nothing else: who workers and API are
    s3_reader_secret_access_key: str = field(repr=False)
    s3_results_access_key_id: str  # may write to the bucket of results, and see no other
    s3_results_secret_access_key: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """Random secrets of one data folder; no two folders share any."""

    database_password: str = field(repr=False)
    broker_password: str = field(repr=False)
    s3_access_key_id: str
    s3_secret_access_key: str = field(repr=False)
    s3_internal_key: str = field(repr=False)  # signs the requests for bytes between SeaweedFS's own parts
    # Of folders that are older than these, the keeper adds them.
    broker_admin_password: str = field(repr=False)
    s3_reader_access_key_id: str
    s3_reader_secret_access_key: str = field(repr=False)
    s3_results_access_key_id: str
    s3_results_secret_access_key: str = field(repr=False)

    @classmethod
    def fresh(cls) -> "Credentials":
        """New secrets, made of letters and digits only, so that they fit into URLs, SQL and configuration files."""
        return cls(
            database_password=secrets.token_hex(24),
            broker_password=secrets.token_hex(24),
            s3_access_key_id="PICTOGRAPH" + secrets.token_hex(5).upper(),
            s3_secret_access_key=secrets.token_hex(20),
            s3_internal_key=secrets.token_hex(32),
            broker_admin_password=secrets.token_hex(24),
            s3_reader_access_key_id="PICTOGRAPH" + secrets.token_hex(5).upper(),
            s3_reader_secret_access_key=secrets.token_hex(20),
            s3_results_access_key_id="PICTOGRAPH" + secrets.token_hex(5).upper(),
            s3_results_secret_access_key=secrets.token_hex(20),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What a keeper says of itself."""

    pid: int
    ready: frozenset[Service] = frozenset()
    failure: str | None = None  # one sentence, where the keeper has given up
    misconfigured: bool = False  # the failure is the user's to mend


class Home:
    """One data folder of the embedded stack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self.users_lock = self.folder / "users.lock"
        self.start_lock = self.folder / "start.lock"
        self.keeper_lock = self.folder / "keeper.lock"
        self.logs = self.folder / "logs"
        self._credentials = self.folder / "credentials.json"
        self._ports = self.folder / "ports.json"
        self._status = self.folder / "status.json"

    @property
    def mark(self) -> str:
        """What every server of this home carries on its command line, so that a later keeper knows it as ours."""
        return "pictograph-" + hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]

    def create(self) -> None:
        """Make the folder, for its owner only, unless it is there. Raises ConfigurationError."""
        with self.usable():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Turn what the file system refuses into a ConfigurationError."""
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"The data folder {self.folder} cannot be used ({error.strerror or error}); "
                "make it writable, free some space, or set PICTOGRAPH_HOME to another folder."
            ) from error

    def credentials(self) -> Credentials:
        """The folder's secrets, made at the first call, or completed. Only the keeper may make them."""
        if not self._credentials.exists():
            if (self.folder / "postgres").exists():
                raise ConfigurationError(
                    f"{self._credentials} is missing though the database beside it needs it; "
                    f"restore it, or delete {self.folder} to begin anew."
                )
            _write(self._credentials, asdict(Credentials.fresh()))
        else:
            self._complete_credentials()
        return self.known_credentials()

    def _complete_credentials(self) -> None:
        """Add the secrets that a folder made by an older release lacks; what else may be wrong is left alone."""
        fresh = asdict(Credentials.fresh())
        with suppress(ValueError, TypeError):
            known: dict[str, Any] = json.loads(self._credentials.read_bytes())
            missing = {name: fresh[name] for name in _ADDED if name not in known}
            if missing:
                _write(self._credentials, {**known, **missing})

    def known_credentials(self) -> Credentials:
        """The folder's secrets, which exist. Raises ConfigurationError where the file cannot be read as what it is."""
        try:
            return Credentials(**json.loads(self._credentials.read_bytes()))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{self._credentials} is damaged; restore it, or delete {self.folder} to begin anew."
            ) from error

    def first_port(self) -> int | None:
        """First port of the block that was used last; None if there is none."""
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            return int(json.loads(self._ports.read_bytes())["first"])
        return None

    def keep_first_port(self, first: int) -> None:
        """Remember the block, so that addresses survive a restart."""
        _write(self._ports, {"first": first})

    def status(self) -> Status | None:
        """The keeper's last word; None before its first."""
        try:
            word: dict[str, Any] = json.loads(self._status.read_bytes())
        except FileNotFoundError:
            return None
        return Status(**{**word, "ready": frozenset(Service(name) for name in word["ready"])})

    def publish(self, status: Status) -> None:
        """Replace the keeper's word."""
        _write(self._status, {**asdict(status), "ready": sorted(status.ready)})

    def forget_status(self) -> None:
        """Withdraw the keeper's word."""
        self._status.unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """The log of a server, put aside first if it has grown large."""
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path


def _write(path: Path, value: dict[str, Any]) -> None:
    """Replace a small file at once and for good, readable by its owner only."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def try_lock(path: Path, kind: int) -> int | None:
    """A descriptor that holds the lock (`fcntl.LOCK_SH` or `LOCK_EX`) until it is closed; None if others have it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # Python opens close-on-exec: no child inherits a lock
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def wait_lock(path: Path, kind: int, patience: float) -> int | None:
    """As `try_lock`, but tried again for `patience` seconds."""
    deadline = time.monotonic() + patience
    while (descriptor := try_lock(path, kind)) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return descriptor
