"""Pictures as PNG, a few at a time: who asks for many of them holds up nobody who asks for something else."""

import math
import threading
from http import HTTPStatus

from api.errors import Problem
from pipeline.png import SCALE, png_apart

MOST_PIXELS = 10_000_000  # of a picture: 40 MB while it is drawn, about a second of work
AT_ONCE = 2
TURN_SECONDS = 5.0  # to wait for one's turn: those who wait hold threads that others need


class Drawing:
    """Where pictures are drawn."""

    def __init__(self, turn_seconds: float = TURN_SECONDS) -> None:
        self._turn = threading.BoundedSemaphore(AT_ONCE)
        self._turn_seconds = turn_seconds

    def png(self, svg: str, width: int, height: int) -> bytes:
        """A picture of that size as PNG, twice as large where that is not too much; a Problem where many are drawn."""
        if not self._turn.acquire(timeout=self._turn_seconds):
            detail = "Too many pictures are being drawn; ask again in a moment."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry=5)
        try:
            return png_apart(svg, min(SCALE, math.sqrt(MOST_PIXELS / (width * height))))
        finally:
            self._turn.release()
