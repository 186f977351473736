"""The decode child: ``python -m workers.decode.child SLOT_FD SLOT_BYTES CPU_SECONDS PARENT_PID``.

Imports everything, locks itself in, says that it is ready, then answers one job after the other until its stdin ends.
A photo that takes more than CPU_SECONDS of processor time is ended by the kernel (SIGPROF), whatever code it is in;
processor time, because a busy machine is not the photo's fault.
"""

import os
import signal
import sys
import warnings

from pipeline.errors import PhotoUnreadable
from workers.decode import pixels
from workers.decode.protocol import JOB_BYTES, Answer, Job, Kind, Slot
from workers.decode.records import Target
from workers.decode.sandbox import lock_down


def main() -> None:
    """Serve jobs until the parent closes the pipe."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and systemd reach the whole group; the parent drains first
        signal.signal(stop, signal.SIG_IGN)
    slot_fd, slot_bytes, parent = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    cpu_seconds = float(sys.argv[3])
    if "torch" in sys.modules:
        raise RuntimeError("a decode child must not load torch: its memory limit would kill it")
    slot = Slot(slot_fd, slot_bytes)
    _silence()
    pixels.HEIF = lock_down(parent, threads=pixels.HEIF)  # its decoder starts threads of its own
    os.write(1, Answer().pack())
    while raw := os.read(0, JOB_BYTES):
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        answer = _serve(Job.unpack(raw), slot)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(1, answer.pack())


def _silence() -> None:
    """Neither warn nor print from here on: decoders say what the photo tells them to."""
    warnings.simplefilter("ignore", append=True)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _serve(job: Job, slot: Slot) -> Answer:
    """Do one job and leave its result in the slot."""
    try:
        return _DO[job.kind](job, slot)
    except PhotoUnreadable as error:
        return Answer(code=error.code, message=str(error))


def _pixels(job: Job, slot: Slot) -> Answer:
    """Decode to the model's square."""
    target = Target(size=job.size, resize=job.resize, interpolation=job.interpolation)
    photo = pixels.decode(slot.photo(job.length), target)
    slot.put_output(photo.pixels.data.cast("B"))
    return Answer(width=photo.width, height=photo.height, length=photo.pixels.nbytes, taken_at=photo.taken_at)


def _thumbnail(job: Job, slot: Slot) -> Answer:
    """Decode to a small JPEG."""
    jpeg = pixels.thumbnail(slot.photo(job.length), job.size, cover=job.kind is Kind.COVER)
    slot.put_output(jpeg)
    return Answer(length=len(jpeg))


_DO = {Kind.PIXELS: _pixels, Kind.COVER: _thumbnail, Kind.FIT: _thumbnail}


if __name__ == "__main__":
    main()
