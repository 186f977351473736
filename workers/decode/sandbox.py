"""The walls around a decode child. Linux only.

After `lock_down` the process can compute, and use the descriptors that it has: its two pipes, its slot, its log.

1. No new descriptor: no file, socket or pipe can be opened (RLIMIT_NOFILE 0). This is the wall that needs no rights.
2. No process (RLIMIT_NPROC 0; the filter), no gain of rights through set-uid programs (no_new_privs). No thread either,
   except where a decoder cannot do without: HEIC's.
3. Memory bounded (RLIMIT_AS), no file grown (RLIMIT_FSIZE 0), no core dump.
4. Started as root: a user and group that own nothing else, and a network namespace without interfaces.
5. It dies with the thread that started it (PDEATHSIG). So that thread must live as long as the child should.
6. A filter of system calls (`syscalls`) refuses what hurts others without a new descriptor: signals, others' memory and
   priorities, changes of files by their path. Not started as root, a child is of the same user as its parent, and this
   keeps it from that one's memory. Kernels and machines without it have the other walls, and no HEIC.

What stays: code that took a child over can lie about the photos that this child decodes, until it is replaced; it can
use the processor until its time is up; and it can try the kernel's own flaws. Whom photos of strangers worry starts
workers as root, or in a container of their own with nothing else in it.
"""

import contextlib
import ctypes
import os
import resource
import signal

from workers.decode import syscalls

MEMORY_BYTES = 2 * 1024**3  # 64 megapixels of WebP with transparency, the hungriest we accept, take 1.4 GB
THREADS = 1024  # of the stranger, in all its processes; HEIC takes one at a time
STRANGER = 65_533  # not "nobody", as whom servers run that a child must not be able to signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWNET = 0x4000_0000


def lock_down(parent: int, *, threads: bool = False) -> bool:
    """Raise the walls around this process for good. `parent` is the pid of the process that started it.

    With `threads` it may start threads, if the kernel can tell them from processes: the answer says whether it does.
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
    _limit(threads=threads)
    filtered = syscalls.refuse(libc)
    if threads and not filtered:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return threads and filtered


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


def _limit(*, threads: bool) -> None:
    """Set the resource limits, soft and hard, which the process can never lift again."""
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    if not threads:
        limits[resource.RLIMIT_NPROC] = 0
    elif os.getuid() == STRANGER:  # anybody else's threads may be many already, and are counted too
        limits[resource.RLIMIT_NPROC] = THREADS
    for what, limit in limits.items():
        resource.setrlimit(what, (limit, limit))
