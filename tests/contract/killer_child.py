"""A decode child for tests: the real one, except that a photo which begins with KILL makes it do what follows.

So what is tested is the real sandbox, protocol and pool, around a decoder that an attacker has taken over.
"""

import ctypes
import os
import re
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable

from pipeline.records import Code
from workers.decode import child, pixels
from workers.decode.records import Decoded, Target

SPELL = b"KILL "


def _swallow_memory() -> None:
    held = [bytearray(b"\1" * (64 << 20)) for _ in range(160)]  # 10 GB, touched
    raise AssertionError(len(held))


def _swallow_memory_in_c() -> None:
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    malloc.argtypes = [ctypes.c_size_t]
    while address := malloc(64 << 20):
        ctypes.memset(address, 1, 64 << 20)
    os.abort()


def _fork() -> None:
    while True:
        os.fork()


def _thread() -> None:
    while True:
        threading.Thread(target=time.sleep, args=(60,)).start()


def _write_far() -> None:
    slot = int(sys.argv[1])
    os.lseek(slot, 0, os.SEEK_END)
    while True:
        os.write(slot, bytes(1 << 20))


def _flood() -> None:
    while True:
        os.write(1, b"\xff" * 65_536)


def _answer(raw: bytes) -> Callable[[], None]:
    def lie() -> None:
        os.write(1, raw)
        time.sleep(60)

    return lie


def _wild_answer(**fields: int) -> bytes:
    values = {"code": 0, "width": 9, "height": 9, "length": 9} | fields
    return struct.pack("<BxxxIIId232s", *values.values(), 0.0, b"fine")


def _stop_listening() -> None:
    os.close(0)
    os.close(1)
    time.sleep(60)


def _ignore_its_timer() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_PROF, 0)
    while True:
        pass


DEEDS: dict[bytes, Callable[[], object]] = {
    b"segfault": lambda: ctypes.string_at(8),
    b"abort": os.abort,
    b"leave": lambda: os._exit(0),
    b"leave by an error": lambda: 1 / 0,
    b"spin": lambda: [None for _ in iter(int, 1)],
    b"spin in C": lambda: re.match(r"(a+)+$", "a" * 64 + "b"),  # holds the interpreter's lock
    b"sleep": lambda: time.sleep(600),
    b"sleep in C": lambda: ctypes.PyDLL(None).pause(),  # holds it as well
    b"stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    b"swallow memory": _swallow_memory,
    b"swallow memory in C": _swallow_memory_in_c,
    b"fork": _fork,
    b"start threads": _thread,
    b"write 10 GB": _write_far,
    b"flood the pipe": _flood,
    b"answer too little": _answer(b"\0" * 7),
    b"answer too large a photo": _answer(_wild_answer(width=2**31)),
    b"answer too long a result": _answer(_wild_answer(length=2**31)),
    b"answer an unknown code": _answer(_wild_answer(code=77)),
    b"answer that it is quarantined": _answer(_wild_answer(code=Code.QUARANTINED)),
    b"stop listening": _stop_listening,
    b"ignore its timer": _ignore_its_timer,
}

_decode = pixels.decode


def _enchanted(data: bytes, target: Target) -> Decoded:
    if data.startswith(SPELL):
        DEEDS[data[len(SPELL) :]]()
    return _decode(data, target)


if __name__ == "__main__":
    pixels.decode = _enchanted
    child.main()
