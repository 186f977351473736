"""What a model says about labelled photos, as they are or degraded: the only part of the evaluation that sees pixels.

Photos go the way they go in production: through the decode children, in batches, through the model. At most one batch
of pixels is held; what is kept of a photo are its L probabilities in float32, 4 KB of them for a thousand labels.
"""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pictograph.evaluation.degrade import Degradation, encoded
from pictograph.evaluation.truth import LabelledPhoto
from pipeline.errors import ConfigurationError, PhotoUnreadable, SkipPhoto
from workers.decode.pool import DecodePool
from workers.decode.records import Pixels, Target
from workers.models.spec import ModelSpec

BATCH = 32  # photos at a time
MOST_CHILDREN = 12
COPY_SEEDS = 1_000_000  # between the seeds of two copies of a photo

Probabilities = NDArray[np.float32]


class Classifier(Protocol):
    """A model that is ready to run, such as `workers.models.load.load` gives."""

    spec: ModelSpec

    def predict(self, pixels: Pixels) -> Probabilities:
        """Leaf probabilities [B, L] of uint8 photos [B, size, size, 3]."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedPhoto:
    """A labelled photo, or one of several degraded copies of it."""

    photo: LabelledPhoto
    place: int  # in the whole folder
    copy: int = 0

    @property
    def seed(self) -> int:
        """Of its degradation; the same for the same photo, whatever else is chosen from the folder."""
        return self.place + self.copy * COPY_SEEDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What the model says about N photos."""

    photos: tuple[NumberedPhoto, ...]  # those that could be read, in the order asked for
    probabilities: Probabilities  # [N, L], parallel to `photos`
    unreadable: tuple[str, ...]  # one sentence for each photo that could not


def chosen(photos: Sequence[LabelledPhoto], limit: int | None) -> list[NumberedPhoto]:
    """All photos, or `limit` of them, evenly spread over the folder; the same ones every time."""
    numbered = [NumberedPhoto(photo=photo, place=place) for place, photo in enumerate(photos)]
    if limit is None or limit >= len(numbered):
        return numbered
    return [numbered[place] for place in np.linspace(0, len(numbered) - 1, limit).round().astype(int).tolist()]


def copies(photos: Sequence[NumberedPhoto], number: int) -> list[NumberedPhoto]:
    """So many copies of every photo, to be degraded differently."""
    return [replace(photo, copy=copy) for copy in range(number) for photo in photos]


def predict(
    photos: Sequence[NumberedPhoto], model: Classifier, pool: DecodePool, degradation: Degradation | None = None
) -> Predicted:
    """Decode, degrade if asked to, and classify.

    Raises:
        ConfigurationError: none of the photos can be read.
        ModelError: the model's output is not finite.
    """
    seen: list[NumberedPhoto] = []
    said: list[Probabilities] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor(len(pool.pids) or 1, thread_name_prefix="evaluate") as threads:
        for batch in _batches(photos):
            decoded = list(threads.map(partial(_pixels, pool=pool, degradation=degradation), batch))
            unreadable.extend(found for found in decoded if isinstance(found, str))
            whole = [(one, found) for one, found in zip(batch, decoded, strict=True) if not isinstance(found, str)]
            if whole:
                seen.extend(one for one, _ in whole)
                said.append(model.predict(np.stack([pixels for _, pixels in whole])))
    if not said:
        raise ConfigurationError(f"None of the {len(photos)} photos can be read; the first: {unreadable[0]}")
    return Predicted(photos=tuple(seen), probabilities=np.concatenate(said), unreadable=tuple(unreadable))


def decode_pool(target: Target) -> DecodePool:
    """One decode child per core, for a model's target."""
    return DecodePool(min(os.cpu_count() or 1, MOST_CHILDREN), target)


def _batches(photos: Sequence[NumberedPhoto]) -> Iterator[list[NumberedPhoto]]:
    waiting = iter(photos)
    while batch := list(islice(waiting, BATCH)):
        yield batch


def _pixels(numbered: NumberedPhoto, pool: DecodePool, degradation: Degradation | None) -> NDArray[np.uint8] | str:
    """The model's view of a photo, or a sentence that says why there is none."""
    path = numbered.photo.path
    try:
        data = path.read_bytes()
        if degradation is not None:
            data = degraded(data, degradation, numbered.seed)
        return pool.decode(data).pixels
    except (OSError, SkipPhoto) as error:
        return f"{path.name}: {error}"


def degraded(data: bytes, degradation: Degradation, seed: int) -> bytes:
    """The bytes of a degraded copy, made in this process: the photos are the operator's own test photos.

    Raises:
        PhotoUnreadable: Pillow cannot read the photo.
    """
    try:
        with Image.open(io.BytesIO(data)) as photo:
            upright = ImageOps.exif_transpose(photo)
            return encoded(degradation.apply(upright, seed))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PhotoUnreadable(f"Pillow cannot read it: {error}.") from error
