"""Is a file gone, or the folder that it was in away? An unmounted disk must not take its photos out of the totals.

Law: a missing file counts as deleted only if its folder still holds something, or a file that this process has lately
read for the same job is still there. An empty folder proves nothing: that is what an unmounted disk leaves behind.

Where nothing speaks for the place, the photo waits for its next attempt; by then a neighbour has mostly been read. What
stays in doubt is left to the next listing, which subtracts under its own guard. Not seen: a second disk, mounted inside
of the listed folder, that goes while the first stays.
"""

import os
import threading
from collections import OrderedDict

JOBS_AT_ONCE = 64  # remembered; a worker serves few at a time


class Witnesses:
    """One file per job, the last that could be read. Threads share it."""

    def __init__(self) -> None:
        self._paths: OrderedDict[int, str] = OrderedDict()
        self._guard = threading.Lock()

    def saw(self, job_id: int, path: str) -> None:
        """A file of the job was read."""
        with self._guard:
            self._paths[job_id] = path
            self._paths.move_to_end(job_id)
            if len(self._paths) > JOBS_AT_ONCE:
                self._paths.popitem(last=False)

    def confirm_gone(self, job_id: int, path: str) -> bool:
        """Whether the file, found missing or no plain file, is gone for good; False: its place may be away."""
        if os.path.lexists(path):
            return True  # the place is there, and has something else under this name
        return _holds_something(os.path.dirname(path)) or self._bears_witness(job_id)

    def _bears_witness(self, job_id: int) -> bool:
        with self._guard:
            path = self._paths.get(job_id)
        return path is not None and os.path.lexists(path)


def _holds_something(folder: str) -> bool:
    try:
        with os.scandir(folder) as found:
            return next(found, None) is not None
    except OSError:
        return False  # not there, or closed to us: no proof either way
