"""Who is who among the processes of a site: found by their command lines, as an operator would find them."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from subprocess import Popen

import psutil

from tests.chaos.servers import lives


class Role(StrEnum):
    """What a process does."""

    ANNOTATE_PARENT = "annotate parent"  # Celery's own process
    ANNOTATE_CHILD = "annotate child"  # has the model
    DECODE_CHILD = "decode child"
    INGEST_PARENT = "ingest parent"
    INGEST_CHILD = "ingest child"
    REDRIVER = "redriver"
    SUPERVISOR = "supervisor"


WORKERS = frozenset(Role) - {Role.SUPERVISOR}
_PARENTS = {"annotate": Role.ANNOTATE_PARENT, "ingest": Role.INGEST_PARENT, "redriver": Role.REDRIVER}
_CHILDREN = {Role.ANNOTATE_PARENT: Role.ANNOTATE_CHILD, Role.INGEST_PARENT: Role.INGEST_CHILD}


class Crowd:
    """All processes below some that the test has started."""

    def __init__(self, heads: Callable[[], Iterable["Popen[bytes]"]]) -> None:
        self._heads = heads

    def find(self, role: Role) -> list[psutil.Process]:
        """Those that live and have this role."""
        return [process for process, its in self.everyone() if its is role]

    def everyone(self) -> Iterator[tuple[psutil.Process, Role]]:
        """Every process with a role, each before its children."""
        for head in self._heads():
            try:
                top = psutil.Process(head.pid)
                members = [top, *top.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            roles: dict[int, Role] = {}
            for process in members:
                role = _role(process, roles)
                if role is not None and lives(process):
                    roles[process.pid] = role
                    yield process, role


def _role(process: psutil.Process, parents: dict[int, Role]) -> Role | None:
    try:
        words = process.cmdline()
        parent = parents.get(process.ppid())
    except psutil.NoSuchProcess:
        return None
    line = " ".join(words)
    if "workers.decode.child" in words:
        return Role.DECODE_CHILD
    if "tests.chaos.supervised" in words:
        return Role.SUPERVISOR
    if "spawn_main" in line:
        return _CHILDREN.get(parent) if parent is not None else None
    if "pictograph" in words and not words[0].endswith("setpriv"):
        return _PARENTS.get(words[-1])
    return None
