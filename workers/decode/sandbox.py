"""The walls around a decode child. Linux only.

After `lock_down` the process can compute, and use the descriptors that it has: its two pipes, its slot, its log.

1. No new descriptor: no file, socket or pipe can be opened (RLIMIT_NOFILE 0). This is the wall that needs no rights.
2. No process or thread (RLIMIT_NPROC 0), no gain of rights through set-uid programs (no_new_privs).
3. Memory bounded (RLIMIT_AS), no file grown (RLIMIT_FSIZE 0), no core dump.
4. Started as root: a user and group that own nothing else, and a network namespace without interfaces.
5. It dies with the thread that started it (PDEATHSIG). So that thread must live as long as the child should.

There is no filter of system calls (seccomp), and some need no descriptor. Code that took a child over could still
signal processes of its user; read and write their memory, where Yama does not restrict ptrace; remove, rename or empty
files that its user may; and try the kernel's own flaws. Started as root its user is a stranger: that leaves the other
decode children, and what anybody may touch. Started as an ordinary user, or in a container where root may not change
its user, it is the worker's own user, with all that is the worker's. Whom photos of strangers worry starts workers as
root, or in a container of their own with nothing else in it.
"""

import contextlib
import ctypes
import os
import resource
import signal

MEMORY_BYTES = 2 * 1024**3  # 64 megapixels of WebP with transparency, the hungriest we accept, take 1.4 GB
STRANGER = 65_533  # not "nobody", as whom servers run that a child must not be able to signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWNET = 0x4000_0000


def lock_down(parent: int) -> None:
    """Raise the walls around this process for good. `parent` is the pid of the process that started it.

    Raises OSError where a wall that every Linux user may raise cannot be raised.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        _drop_root(libc)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which would clear it
    if os.getppid() != parent:
        raise OSError("the parent died while its decode child started")
    _limit()


def _drop_root(libc: ctypes.CDLL) -> None:
    """Become a stranger in a network of one's own, as far as a container without these rights lets us.

    Refusals pass: there root has no power over users or networks to begin with, and wall 1 holds without it.
    """
    libc.unshare(_CLONE_NEWNET)
    with contextlib.suppress(OSError):
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    """Call prctl(2), or raise OSError."""
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) was refused")


def _limit() -> None:
    """Set the resource limits, soft and hard, which the process can never lift again."""
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
