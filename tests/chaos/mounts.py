"""The database of a storm on a disk that can be full, where we may mount one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.disk import fill
from tests.chaos.site import Site

DISK_BYTES = 2 * 1024**3  # the database of a full storm, with its log, takes about half of it
MARK = "PICTOGRAPH_CHAOS_MOUNTS"  # set in a process whose mounts are its own


def in_own_mounts(arguments: Sequence[str]) -> bool:
    """Whether this process may mount; the first time it is asked, the process begins anew where it may.

    What is mounted there is seen by this process and its children alone, and goes with them, however they end.
    """
    unshare = shutil.which("unshare")
    if os.environ.get(MARK) or unshare is None:
        return unshare is not None
    if subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False).returncode:
        return False
    command = [unshare, "--mount", "--", sys.executable, "-m", "tests.chaos", *arguments]
    return os.execve(unshare, command, {**os.environ, MARK: "1"})


def on_small_disk(site: Site) -> Callable[[], Callable[[], None]]:
    """Move the database there; returns what fills the disk, which returns what makes room again."""
    server = site.postgres
    folder = Path(server.server.folder)
    server.stop_fast()
    aside = folder.with_name(folder.name + ".aside")
    folder.rename(aside)
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", folder], check=True)
    subprocess.run(["cp", "--archive", f"{aside}/.", folder], check=True)  # with owners and modes
    shutil.rmtree(aside)
    server.start()
    return lambda: _filled(folder / "ballast")


def _filled(ballast: Path) -> Callable[[], None]:
    fill(ballast)
    return ballast.unlink
