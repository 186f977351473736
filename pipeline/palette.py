"""Colours of the cells: one hue per family of categories, the same for every user.

The hues are the qualitative scheme "muted" of Paul Tol (Colour Schemes, SRON/EPS/TN/09-002), made to be told apart
with any common form of colour blindness. The words on a cell are black or white, whichever stands out more, and
always at 4.5:1 or better. Colour is never the only sign: every cell that can hold its name shows it.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.profile import Cell

ROSE, INDIGO, SAND, GREEN, CYAN = "#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee"
WINE, TEAL, OLIVE, PURPLE = "#882255", "#44aa99", "#999933", "#aa4499"
HUES = (ROSE, INDIGO, SAND, GREEN, CYAN, WINE, TEAL, OLIVE, PURPLE)

#: Families by synset id; the narrowest that holds a category gives its hue, else one is drawn from the broadest's id.
FAMILIES = {
    "n00015388": TEAL,  # animal: whatever is no mammal and no bird
    "n01861778": SAND,  # mammal
    "n01503061": CYAN,  # bird
    "n00020827": ROSE,  # matter: food and drink
    "n12992868": GREEN,  # fungus
    "n00017222": GREEN,  # plant
    "n00019128": GREEN,  # natural object: fruit and flowers
    "n09287968": GREEN,  # geological formation
    "n04341686": OLIVE,  # structure
    "n03122748": PURPLE,  # covering
    "n03076708": PURPLE,  # commodity: clothing first of all
    "n03575240": INDIGO,  # instrumentation
    "n03100490": WINE,  # transport
}

INK, PAPER = "#111111", "#ffffff"
OTHER = "#b8bcc2"
UNSURE, HATCH = "#e6e8eb", "#c9cdd3"  # ground and lines
TINT = 0.22  # how far each further cell of one hue is moved towards white ...
TINTS = 3  # ... and after how many cells the hue starts again


@dataclass(frozen=True, kw_only=True, slots=True)
class Paint:
    """A cell's colours, as #rrggbb."""

    fill: str
    text: str


def paints(cells: Sequence[Cell]) -> list[Paint]:
    """By cell. Cells of one family have one hue, in up to three tints."""
    seen: Counter[str] = Counter()
    found = []
    for cell in cells:
        fill = {"other": OTHER, "unsure": UNSURE}.get(cell.kind) or _hue(cell.path)
        tinted = _towards_white(fill, TINT * (seen[fill] % TINTS))
        seen[fill] += 1
        text = INK if cell.kind == "unsure" else max(INK, PAPER, key=lambda ink: contrast(ink, tinted))
        found.append(Paint(fill=tinted, text=text))
    return found


def _hue(path: Sequence[str]) -> str:
    for wnid in reversed(path):
        if wnid in FAMILIES:
            return FAMILIES[wnid]
    return HUES[zlib.crc32("".join(path[:1]).encode()) % len(HUES)]


def _towards_white(colour: str, amount: float) -> str:
    return "#" + "".join(f"{round(c + (255 - c) * amount):02x}" for c in _channels(colour))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21, as WCAG 2.2 defines it."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
