"""The filter's program, run here as the kernel would, so that the other machine's is checked too."""

import ctypes
import os
import struct
from types import SimpleNamespace

import pytest

from workers.decode import syscalls

ALLOWED, REFUSED, NOT_THERE, KILLED = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000
READ, WRITE, THREAD = {"x86_64": 0, "aarch64": 63}, {"x86_64": 1, "aarch64": 64}, 0x0001_0000


def verdict(machine: str, number: int, flags: int = 0, *, claimed: int | None = None) -> int:
    """What the program says of a call on `machine`, which says that it is `claimed`."""
    name, _, clone, table = syscalls._MACHINES[machine]
    data = struct.pack("=IIQQ", number, name if claimed is None else claimed, 0, flags)
    program = syscalls._program(name, clone, sorted((table | syscalls._EVERYWHERE).values()))
    at = loaded = 0
    while True:
        code, if_true, if_false, value = struct.unpack("=HBBI", program[at])
        at += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, value)
            case 0x06:
                return value
            case 0x15 | 0x35 | 0x45:
                holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
                at += if_true if holds else if_false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_hurts_others_is_refused_and_all_else_passes(machine: str) -> None:
    _, _, clone, table = syscalls._MACHINES[machine]
    refused = set((table | syscalls._EVERYWHERE).values())
    for number in range(500):
        expected = REFUSED if number in refused or number == clone else NOT_THERE if number == 435 else ALLOWED
        assert verdict(machine, number) == expected, number
    assert verdict(machine, READ[machine]) == verdict(machine, WRITE[machine]) == ALLOWED
    assert {
        "kill",
        "fcntl",
        "ptrace",
        "execve",
        "process_vm_writev",
        "unlinkat",
        "renameat2",
        "truncate",
    } <= table.keys()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_clone_makes_threads_and_no_processes(machine: str) -> None:
    _, _, clone, _ = syscalls._MACHINES[machine]
    assert verdict(machine, clone, THREAD | 0x100) == ALLOWED
    assert verdict(machine, clone, 17) == REFUSED


def test_other_tables_of_calls_end_the_process() -> None:
    assert verdict("x86_64", 1, claimed=0x4000_0003) == KILLED  # 32 bits
    assert verdict("x86_64", 0x4000_0001) == KILLED  # x32


def test_a_machine_that_is_not_written_down_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    assert syscalls.refuse(ctypes.CDLL(None)) is False
