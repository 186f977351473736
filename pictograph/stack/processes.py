"""Server processes: under whose name they run, how they end with their keeper, and how left-over ones are found."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.errors import ConfigurationError, ServiceDown

NOBODY = 65534  # PostgreSQL refuses to run as root; this uid owns nothing on any usual system
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}  # no PG*, WEED_* or LD_* of the caller's leaks in
POLL_SECONDS = 0.02
ROOT = str(Path(__file__).resolve().parents[2])  # where this very code lies, wherever the caller stands
KILL_SECONDS = 5.0  # a killed process is gone well within this, unless its disk hangs

#: Linux capabilities that let a process pass through folders of others, the weaker first: (bit, name).
_PASSAGE = ((2, "dac_read_search"), (1, "dac_override"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The user that servers run as."""

    uid: int
    gid: int
    privileges: tuple[str, ...]  # options of setpriv(1) that make a root process this user

    def command(self, arguments: Sequence[str], parent_death: signal.Signals) -> list[str]:
        """Run `arguments` as this user, and have the kernel send them `parent_death` when their parent dies."""
        options = [*self.privileges, f"--pdeathsig={parent_death.name.removeprefix('SIG')}"]
        return [_setpriv(), *options, "--", *arguments]

    def make_folder(self, path: Path) -> None:
        """Create a folder that this user alone may enter, unless it is there."""
        path.mkdir(mode=0o700, exist_ok=True)
        self._own(path)

    def write(self, path: Path, text: str) -> None:
        """Write a configuration file that this user alone may read."""
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        self._own(path)

    def _own(self, path: Path) -> None:
        if os.geteuid() != self.uid:
            os.chown(path, self.uid, self.gid)


def account() -> Account:
    """Ourselves; or, where we are root, nobody."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), privileges=())
    return Account(uid=NOBODY, gid=NOBODY, privileges=unprivileged(_permitted_capabilities()))


def unprivileged(permitted: int) -> tuple[str, ...]:
    """The setpriv options by which root becomes nobody; `permitted` is root's capability mask.

    The data folder, or the Python environment with the binaries, may lie below a folder that root alone may enter,
    such as /root. Its modes are not ours to change, so the server keeps one capability: to pass through folders.
    `no_setuid_fixup` makes access(2), by which PostgreSQL looks for its own binary, respect that capability.
    """
    options = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    for bit, name in _PASSAGE:
        if permitted & (1 << bit):
            passage = (f"--inh-caps=-all,+{name}", f"--ambient-caps=-all,+{name}")
            return ("--securebits=+no_setuid_fixup", *options, *passage)
    return options


def _permitted_capabilities() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapPrm:"))


def _setpriv() -> str:
    path = shutil.which("setpriv")
    if path is None:
        raise ConfigurationError("The embedded servers need the command setpriv; install the package util-linux.")
    return path


def python(module: str, *arguments: str) -> list[str]:
    """A command that runs a module of ours; `-P` keeps the current folder, which may hold anything, off its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """Our environment for a Python that starts in another folder than ours; its own children keep off theirs, too."""
    path = [os.path.abspath(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *path]), "PYTHONSAFEPATH": "1"}


def last_line(log: Path) -> str:
    """The last line of a log that says anything, for an error message."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it is empty")


def run(arguments: Sequence[str], *, name: str, log: Path, text: str = "") -> None:
    """Run a helper to its end, with `text` on its input. Raises ServiceDown with the log's last line."""
    with log.open("ab") as output:
        done = subprocess.run(
            arguments, input=text.encode(), stdout=output, stderr=subprocess.STDOUT, env=ENVIRONMENT, check=False
        )
    if done.returncode != 0:
        raise ServiceDown(f"{name} ended with status {done.returncode}; {log} says: {last_line(log)}")


def start(arguments: Sequence[str], *, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a server in `folder`. Call it from the main thread: the death signal is bound to the calling thread."""
    with log.open("ab") as output:
        return subprocess.Popen(
            arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=ENVIRONMENT
        )


def left_over(mark: str, names: frozenset[str]) -> list[psutil.Process]:
    """Live processes with one of these names and the home's mark on their command line."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or ()
        if process.info["name"] in names and any(mark in word for word in words):
            found.append(process)
    return found


def sweep(mark: str, signals: dict[str, signal.Signals], patience: float) -> None:
    """End the servers that an earlier keeper left; `signals` says how, by process name. Raises ConfigurationError."""
    names = frozenset(signals)
    processes = left_over(mark, names)
    for process in processes:
        _send(process, signals[process.info["name"]])
    for process in _await_end(processes, patience):
        _send(process, signal.SIGKILL)
    _await_end(processes, KILL_SECONDS)


def _await_end(processes: Sequence[psutil.Process], patience: float) -> list[psutil.Process]:
    """Wait until all have ended; those that have not. In a container nobody may reap orphans: a zombie has ended."""
    deadline = time.monotonic() + patience
    while (alive := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)  # psutil compares the start time first: a reused pid is left alone
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise ConfigurationError(
            f"Process {process.pid} of another user still serves this data folder; end it, or set PICTOGRAPH_HOME."
        ) from error
