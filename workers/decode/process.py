"""One decode child as its parent sees it: start, ask, notice its death, bury it. One owner at a time."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from pipeline.crashpoints import Point, reached
from pipeline.errors import PictographError, ServiceDown
from workers.decode.protocol import ANSWER_BYTES, Answer, Job, Slot

START_SECONDS = 60.0  # imports on a machine that is busy starting everything else
WALL_FACTOR = 6  # wall time per CPU second allowed: a photo may wait for the processor, but not sleep
EXIT_SECONDS = 2.0  # between a child's last word and its end
KEPT_BYTES = 32 * 1024 * 1024  # of free memory that a child keeps: several times what a usual photo takes

_MODULE = "workers.decode.child"
_ROOT = Path(__file__).resolve().parents[2]  # where the `workers` package lies


class DecodeDied(PictographError):
    """A child died over a photo; `reason` is "crash" or "timeout"."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"A decode process ended by {reason} while it worked on this photo.")
        self.reason = reason


class DecodeUnavailable(ServiceDown):
    """A decode child does not start, which is no photo's fault."""


class Child:
    """A child process with its slot. `start` must run in a thread that outlives the child (see `sandbox`)."""

    def __init__(self, *, cpu_seconds: float, input_bytes: int, niceness: int = 0) -> None:
        self.cpu_seconds = cpu_seconds
        self.niceness = niceness
        self.slot = Slot.create(input_bytes)
        self.asked = 0  # jobs of the running process
        self._ready = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None where none runs."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        """Start a process, in place of the last one, without waiting until it is ready.

        DecodeUnavailable where the system refuses.
        """
        self.kill()
        self.bury()
        arguments = [self.slot.fd, self.slot.input_bytes, self.cpu_seconds, os.getpid()]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-m", _MODULE, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=(self.slot.fd,),
                env=_environment(),
                cwd="/",
            )
        except OSError as error:
            raise DecodeUnavailable("No decode process can be started; look at memory and process limits.") from error
        if self.niceness:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, self.niceness)
        os.set_blocking(_fd(self._process.stdin), False)  # a child that never reads must not make us wait
        self.asked = 0

    def await_ready(self) -> None:
        """Wait until the process has locked itself in. DecodeUnavailable where it ended before that."""
        if self._ready:
            return
        try:
            _receive(self._running(), START_SECONDS)
        except (OSError, EOFError, ValueError) as error:
            self.bury()
            raise DecodeUnavailable("A decode process ended while it started; its last output says why.") from error
        self._ready = True

    def ask(self, job: Job, data: bytes) -> Answer:
        """Have one photo decoded by a process that is ready. DecodeDied where that ended it."""
        self.asked += 1
        self.slot.put_photo(data)
        try:
            process = self._running()
            os.write(_fd(process.stdin), job.pack())
            reached(Point.DECODE_AFTER_SEND)
            return _receive(process, self.cpu_seconds * WALL_FACTOR)
        except (TimeoutError, ValueError) as error:  # it hangs, or talks nonsense
            self.kill()
            self.bury()
            raise DecodeDied("timeout" if isinstance(error, TimeoutError) else "crash") from error
        except (OSError, EOFError) as error:
            status = self.bury()
            raise DecodeDied("timeout" if status == -signal.SIGPROF else "crash") from error
        finally:
            self.slot.release(len(data))

    def kill(self) -> None:
        """End the process at once; safe from any thread."""
        process = self._process
        if process:
            process.kill()

    def bury(self) -> int | None:
        """See the process out: a moment to end by itself, then the end. Its exit status, None where none ran."""
        process, self._process = self._process, None
        self._ready = False
        return _reap(process) if process else None

    def close(self) -> None:
        """End the process and give the slot back."""
        self.kill()
        self.bury()
        self.slot.close()

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, EOFError where there is none."""
        if self._process is None:
            raise EOFError
        return self._process


def _receive(process: subprocess.Popen[bytes], seconds: float) -> Answer:
    """The next answer. TimeoutError after that long, EOFError where the process ended, ValueError for nonsense."""
    fd = _fd(process.stdout)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(seconds * 1000):
        raise TimeoutError("a decode process fell silent")
    raw = os.read(fd, ANSWER_BYTES)
    if not raw:
        raise EOFError
    return Answer.unpack(raw)


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Close the pipes, wait for the process to end, force it if it does not, and return its exit status."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    try:
        return process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _fd(pipe: IO[bytes] | None) -> int:
    """The descriptor of a pipe that `start` always opens."""
    if pipe is None:
        raise EOFError
    return pipe.fileno()


def _environment() -> dict[str, str]:
    """What a child may know: where our code lies; one thread; how much memory to keep between photos. No credentials.

    Left to itself, glibc gives the buffers of each photo back to the system and faults them in again for the next one,
    which doubles the time of photos of one size.
    """
    return {
        "PYTHONPATH": str(_ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
        "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES // 2),
        "LC_ALL": "C.UTF-8",
    }
