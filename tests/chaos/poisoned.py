"""``python -m tests.chaos.poisoned worker annotate``: the product's worker, except that one kind of photo kills it.

A photo that is magenta all over stands for whatever makes a driver or a library crash: the process that hands it to the
model ends by SIGKILL, in the middle of a batch with good photos.
"""

import os
import signal
from typing import Any

import numpy as np

from pictograph.cli import main
from workers import workbench
from workers.decode.records import Pixels
from workers.models.classifier import Classifier, Pending

DEADLY = (255, 0, 255)
TOLERANCE = 12  # what JPEG and scaling do to a colour


def is_deadly(pixels: Pixels) -> bool:
    """Whether any photo of a batch is magenta all over."""
    distance = np.abs(pixels.reshape(len(pixels), -1, 3).mean(axis=1) - DEADLY).max(axis=1)
    return bool((distance < TOLERANCE).any())


class Mortal:
    """A classifier that does not survive such a photo; all else is the real one's."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def start(self, pixels: Pixels) -> Pending:
        """Begin a batch, or die of it."""
        if is_deadly(pixels):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._classifier.start(pixels)


_load = workbench.load


def _mortal(*arguments: Any, **options: Any) -> Mortal:
    return Mortal(_load(*arguments, **options))


workbench.load = _mortal  # type: ignore[assignment]  # here, not in `main`: the children run this file's top level only

if __name__ == "__main__":
    main()
