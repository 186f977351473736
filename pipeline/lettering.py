"""Words that fit into a box, without knowing the reader's font: widths are estimated for a wide one, and bold."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

LINE_HEIGHT = 1.2  # em
NARROW = frozenset("fijlrtI.,:;'|!()[] -·")
WIDE = frozenset("mwMWOQ@%&—")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of text; `size` in the units of the box."""

    text: str
    size: float


def width(text: str) -> float:
    """About the most that a line of text takes in a common sans-serif font, in em."""
    return sum(_advance(character) for character in text)


def _advance(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if character in NARROW:
        return 0.45
    if character in WIDE or unicodedata.east_asian_width(character) in "WF":
        return 1.1
    return 0.72 if character.isascii() and not character.isupper() else 0.85


def fit(text: str, box: tuple[float, float], sizes: tuple[float, float]) -> list[Line]:
    """The text in one line or two, as large as the box (width, height) allows within `sizes` (least, most).

    Nothing where even the least size does not fit: no text is better than half a word.
    """
    best = max((_broken(lines, box, sizes) for lines in _breaks(text)), key=lambda lines: lines[0].size)
    return best if best[0].size >= sizes[0] else []


def one_line(text: str, box: tuple[float, float], sizes: tuple[float, float]) -> list[Line]:
    """The text in one line, as large as the box allows within `sizes`; nothing where the least does not fit."""
    line = _broken([text], box, sizes)
    return line if line[0].size >= sizes[0] else []


def _breaks(text: str) -> list[list[str]]:
    """The text as one line, and broken at each of its spaces."""
    words = text.split()
    return [[text], *([" ".join(words[:i]), " ".join(words[i:])] for i in range(1, len(words)))]


def _broken(lines: Sequence[str], box: tuple[float, float], sizes: tuple[float, float]) -> list[Line]:
    widest = max(width(line) for line in lines) or 1.0
    size = min(box[0] / widest, box[1] / (LINE_HEIGHT * len(lines)), sizes[1])
    return [Line(text=line, size=int(size * 2) / 2) for line in lines]  # halves: stable, and fine enough to the eye
