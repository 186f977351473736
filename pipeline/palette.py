"""Colours of the cells: one hue per family of categories, the same for every user.

The hues are the qualitative scheme "muted" of Paul Tol (Colour Schemes, SRON/EPS/TN/09-002), made to be told apart
with any common form of colour blindness. Each has three further tints for the second to fourth category of a family;
they were searched for so that any two of the 38 colours here stay apart also for readers without red or green cones
(5 or more of 100 in Oklab, as simulated by G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A Physiologically-based
Model for Simulation of Color Vision Deficiency", IEEE TVCG 15, 2009; a test does the same). Lighter and darker alone
would not do: a pink and a pale green of one lightness are one colour to them.

The words on a cell are black or white, whichever stands out more, and always at 4.5:1 or better. A cell's rim stands
out at 3:1 from the page, be that light or dark. Colour is never the only sign: every cell that can hold its name
shows it.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.profile import Cell

ROSE, INDIGO, SAND, GREEN, CYAN = "#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee"
WINE, TEAL, OLIVE, PURPLE = "#882255", "#44aa99", "#999933", "#aa4499"

#: By hue its name, and the fills of the first to fourth cell that have it; a fifth begins anew.
TINTS = {
    ROSE: ("rose", ROSE, "#925969", "#7b1c2f", "#44000c"),
    INDIGO: ("indigo", INDIGO, "#9d99fe", "#5044a4", "#9480e4"),
    SAND: ("sand", SAND, "#858117", "#5e5300", "#e0e888"),
    GREEN: ("green", GREEN, "#c3ecb8", "#88b87d", "#b4c89c"),
    CYAN: ("cyan", CYAN, "#afddff", "#155375", "#70b0dc"),
    WINE: ("wine", WINE, "#e67fb8", "#68033e", "#380434"),
    TEAL: ("teal", TEAL, "#addaca", "#279481", "#209058"),
    OLIVE: ("olive", OLIVE, "#b3af34", "#383c00", "#f8f86c"),
    PURPLE: ("purple", PURPLE, "#b567b7", "#5e0b5d", "#a448dc"),
}
HUES = tuple(TINTS)
TINTS_EACH = 4

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
OTHER_AT_NIGHT, UNSURE_AT_NIGHT = "#52565c", "#2c2e32"  # on dark pages, where the light ones would glare
RIM_LUMINANCE = (0.14, 0.27)  # within it, 3:1 or better from all grounds of the pages

#: What more the first of two photographs (positive) and what the second does, in steps; the middle is alike. Blue and
#: orange are told apart with every form of colour blindness, and both darken away from the middle.
DIVERGING = ("#7f3b08", "#b35806", "#e08214", "#fdc57d", "#ece9e2", "#a6cbe6", "#5b9bd0", "#2468a8", "#123c73")
STEPS = (0.01, 0.04, 0.10, 0.20)  # differences of shares from which on each step of DIVERGING begins


@dataclass(frozen=True, kw_only=True, slots=True)
class Paint:
    """A cell's colours, as #rrggbb, and what style sheets call them together."""

    name: str
    fill: str
    text: str  # on the fill
    rim: str


def paints(cells: Sequence[Cell]) -> list[Paint]:
    """By cell. Cells of one family have one hue, in up to four tints."""
    seen: Counter[str] = Counter()
    found = []
    for cell in cells:
        if cell.kind == "category":
            hue = _hue(cell.path)
            found.append(_tint(hue, seen[hue]))
            seen[hue] += 1
        else:
            found.append(_paint(cell.kind, OTHER if cell.kind == "other" else UNSURE))
    return found


def paint_of(path: Sequence[str]) -> Paint:
    """The first tint for a category, given as synset ids in the display tree, broadest shown category first."""
    return _tint(_hue(path), 0)


def diverging(difference: float) -> Paint:
    """The colour of a difference of two shares, -1 to 1."""
    steps = sum(abs(difference) >= least for least in STEPS)
    place = len(STEPS) + (steps if difference > 0 else -steps)
    return _paint(f"apart-{place}", DIVERGING[place])


def style_sheet() -> str:
    """All paints as classes that set --fill, --on and --rim; api/pages/static/palette.css holds it."""
    tints = [_tint(hue, number) for hue in HUES for number in range(TINTS_EACH)]
    apart = [_paint(f"apart-{step}", fill) for step, fill in enumerate(DIVERGING)]
    light = [*tints, _paint("other", OTHER), _paint("unsure", UNSURE), *apart]
    dark = [_paint("other", OTHER_AT_NIGHT), _paint("unsure", UNSURE_AT_NIGHT)]
    return f"{_rules(light)}@media (prefers-color-scheme: dark) {{\n{_rules(dark)}}}\n"


def _rules(paints: Sequence[Paint]) -> str:
    return "".join(
        f".{each.name} {{ --fill: {each.fill}; --on: {each.text}; --rim: {each.rim}; }}\n" for each in paints
    )


def _tint(hue: str, number: int) -> Paint:
    name, *fills = TINTS[hue]
    return _paint(f"{name}-{number % len(fills)}", fills[number % len(fills)])


def _paint(name: str, fill: str) -> Paint:
    text = max(INK, PAPER, key=lambda ink: contrast(ink, fill))
    return Paint(name=name, fill=fill, text=text, rim=rim(fill))


def _hue(path: Sequence[str]) -> str:
    for wnid in reversed(path):
        if wnid in FAMILIES:
            return FAMILIES[wnid]
    return HUES[zlib.crc32("".join(path[:1]).encode()) % len(HUES)]


def rim(fill: str) -> str:
    """The fill, or a darker or lighter one of its kind that stands out from light and from dark pages."""
    least, most = RIM_LUMINANCE
    towards = "#000000" if _luminance(fill) > most else "#ffffff"
    steps = (_mixed(fill, towards, step / 20) for step in range(20))
    return next(shade for shade in steps if least <= _luminance(shade) <= most)


def _mixed(colour: str, other: str, amount: float) -> str:
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(c + (o - c) * amount):02x}" for c, o in pairs)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21, as WCAG 2.2 defines it."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
