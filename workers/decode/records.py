"""What goes into the decoder and what comes out. Light: importing it loads neither numpy nor Pillow."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Pixels: TypeAlias = "NDArray[np.uint8]"  # [height, width, 3], RGB

Interpolation: TypeAlias = Literal["bicubic", "bilinear"]  # widened where they shrink, as Pillow's

MAX_SIDE = 1024  # pixels; bounds the memory that a child shares with its parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The picture a model wants: the short side scaled to `resize`, then the `size` x `size` centre."""

    size: int = 224  # pixels, side of the square
    resize: int = 256  # pixels, short side of the scaled photo that the square is cut from
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize or self.size > MAX_SIDE:
            raise ValueError(f"a target needs 1 <= size <= resize and size <= {MAX_SIDE}, not {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """One photo, upright and ready for the model."""

    pixels: Pixels  # [size, size, 3]
    width: int  # pixels of the whole photo, upright
    height: int
    taken_at: datetime | None  # from EXIF, in UTC; None where it says nothing sensible
