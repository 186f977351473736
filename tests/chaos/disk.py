"""A disk that can be filled: Postgres's cluster moved onto a small file system in memory, and back."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.servers import PostgresProcess

ROOM_BYTES = 96 * 1024 * 1024  # beyond what the cluster has: some segments of its log
BLOCK = bytes(1 << 20)


@contextmanager
def small_disk(postgres: PostgresProcess) -> Iterator[Path]:
    """Yield the small disk on which the cluster lies for so long. Skips the test where we may not mount."""
    cluster = postgres.server.folder
    disk = cluster.with_name("small disk")
    disk.mkdir()
    postgres.stop_fast()
    try:
        used = sum(path.stat().st_size for path in cluster.rglob("*") if path.is_file())
        if not _mounted(disk, used + ROOM_BYTES):
            pytest.skip("mounting a small disk needs root and the right to mount")
        try:
            _move(cluster, disk / "cluster")
            cluster.symlink_to(disk / "cluster")
            postgres.start()
            yield disk
        finally:
            if postgres.runs:
                postgres.stop_fast()
            (disk / "ballast").unlink(missing_ok=True)
            cluster.unlink()
            _move(disk / "cluster", cluster)
            subprocess.run(["umount", "--lazy", disk], check=True)
    finally:
        disk.rmdir()
        postgres.start()


def _mounted(disk: Path, size: int) -> bool:
    owner = f"uid={os.geteuid()},gid={os.getegid()}"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755,{owner}", "tmpfs", disk]
    return os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0


def _move(source: Path, target: Path) -> None:
    """With owners and modes, which Postgres insists on."""
    subprocess.run(["cp", "--archive", source, target], check=True)
    shutil.rmtree(source)


def fill(ballast: Path) -> None:
    """Leave no room on the disk of this file."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(BLOCK)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
