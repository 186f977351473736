"""A filter of system calls (seccomp) for decode children: what needs no descriptor and no right, but hurts others.

Refused with EPERM: new processes (threads are allowed here), other programs, signals to anybody (`fcntl` and `ioctl`
too, by which a descriptor has the kernel send them), others' memory, limits and priorities, shared memory and queues by
key, and every change of files by their path. All else passes: the other walls stand behind it.

Libraries for this need libseccomp of the system; the program is so short that it is written down here. Jumps of the
kernel's filter language go forward only, so it reads from top to bottom.
"""

import ctypes
import errno
import os
import struct

_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4  # the second: older kernels would slow the process down, against its own siblings
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _FLAGS_AT = 0, 4, 16  # in struct seccomp_data; the last is clone's first argument, low half
_ALLOW, _REFUSE, _NOT_THERE, _KILL = 0x7FFF_0000, 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS, 0x8000_0000
_CLONE_THREAD = 0x0001_0000
_CLONE3 = 435  # hides its flags in memory; told that it is not there, the C library uses clone
_OTHER_TABLE = 0x4000_0000  # numbers from here on are x86's second table, for 32-bit pointers

_EVERYWHERE = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434, "process_madvise": 440, "fchmodat2": 452,
}  # fmt: skip
_X86_64 = {
    "ioctl": 16, "shmget": 29, "shmat": 30, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "semget": 64,
    "msgget": 68, "fcntl": 72, "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "chown": 92, "lchown": 94, "ptrace": 101, "rt_sigqueueinfo": 129, "utime": 132,
    "mknod": 133, "setpriority": 141, "sched_setparam": 142, "sched_setscheduler": 144, "mount": 165, "umount2": 166,
    "setxattr": 188, "lsetxattr": 189, "removexattr": 197, "lremovexattr": 198, "tkill": 200, "sched_setaffinity": 203,
    "tgkill": 234, "utimes": 235, "mq_unlink": 241, "add_key": 248, "request_key": 249, "keyctl": 250,
    "ioprio_set": 251, "migrate_pages": 256, "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261,
    "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "unshare": 272,
    "move_pages": 279, "utimensat": 280, "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "prlimit64": 302,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "sched_setattr": 314,
    "renameat2": 316, "bpf": 321, "execveat": 322, "userfaultfd": 323,
}  # fmt: skip
_AARCH64 = {
    "setxattr": 5, "lsetxattr": 6, "removexattr": 14, "lremovexattr": 15, "fcntl": 25, "ioctl": 29, "ioprio_set": 30,
    "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "umount2": 39,
    "mount": 40, "truncate": 45, "fchmodat": 53, "fchownat": 54, "utimensat": 88, "unshare": 97, "ptrace": 117,
    "sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122, "kill": 129, "tkill": 130,
    "tgkill": 131, "rt_sigqueueinfo": 138, "setpriority": 140, "mq_unlink": 181, "msgget": 186, "semget": 190,
    "shmget": 194, "shmat": 196, "add_key": 217, "request_key": 218, "keyctl": 219, "execve": 221, "migrate_pages": 238,
    "move_pages": 239, "rt_tgsigqueueinfo": 240, "perf_event_open": 241, "prlimit64": 261, "setns": 268,
    "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "sched_setattr": 274, "renameat2": 276, "bpf": 280,
    "execveat": 281, "userfaultfd": 282,
}  # fmt: skip
_MACHINES = {  # the audit name, the numbers of seccomp and clone, what is refused
    "x86_64": (0xC000_003E, 317, 56, _X86_64),
    "aarch64": (0xC000_00B7, 277, 220, _AARCH64),
}


class _Program(ctypes.Structure):
    """Linux's struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(libc: ctypes.CDLL) -> bool:
    """Filter the calls of this process for good, which must have no_new_privs.

    False, and nothing changed, on a machine whose call numbers are not written down here or whose kernel has no filter.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    name, seccomp, clone, table = machine
    instructions = b"".join(_program(name, clone, sorted((table | _EVERYWHERE).values())))
    program = _Program(len(instructions) // 8, instructions)
    failed: int = libc.syscall(seccomp, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(program))
    return failed == 0


def _program(machine: int, clone: int, refused: list[int]) -> list[bytes]:
    """The filter's instructions: machine, table, clone3, the refused ones, then clone by its flags."""
    return [
        _instruction(_LOAD, _MACHINE_AT),
        _instruction(_IF_EQUAL, machine, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_IF_AT_LEAST, _OTHER_TABLE, 0, 1),
        _instruction(_RETURN, _KILL),
        _instruction(_IF_EQUAL, _CLONE3, 0, 1),
        _instruction(_RETURN, _NOT_THERE),
        # each jumps to the last instruction, past those of its kind that follow it and the four between
        *(_instruction(_IF_EQUAL, number, len(refused) - place + 3, 0) for place, number in enumerate(refused)),
        _instruction(_IF_EQUAL, clone, 0, 2),
        _instruction(_LOAD, _FLAGS_AT),
        _instruction(_IF_ANY_BIT, _CLONE_THREAD, 0, 1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _REFUSE),
    ]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Linux's struct sock_filter; jumps count the instructions that they skip."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
