"""Two profiles as one picture: one layout for both, the difference by colour and in numbers; as SVG and as CSV.

Blue: more of the first; orange: more of the second (`palette.diverging` has its steps). Colour is never the only sign:
each cell that can hold them shows both shares, and every one has them as its title.
"""

import csv as csv_format
import io
from collections.abc import Mapping, Sequence

from pipeline.compare import ComparedCategory
from pipeline.lettering import width as ems
from pipeline.palette import DIVERGING, INK, diverging, rim
from pipeline.profile import apportion
from pipeline.side_by_side import SharedCell
from pipeline.treemap import boxed, escaped, framed, inside, layout, most_of, percent, rounded, words

LEGEND = 44  # height of what explains the colours
SWATCH = 26.0
LETTERS = 15.0  # size of the legend's
LONGEST = 24  # characters of a name in the legend and in cells


def svg(cells: Sequence[SharedCell], names: tuple[str, str], title: str, width: int = 960, height: int = 600) -> str:
    """Both profiles as one SVG element, width x height in CSS pixels; same arguments, same bytes."""
    a, b = map(_short, names)
    places = layout([cell.mass for cell in cells], width, height - LEGEND)
    shares = zip(_mille([cell.mass_a for cell in cells]), _mille([cell.mass_b for cell in cells]), strict=True)
    drawn = []
    for cell, place, (of_a, of_b) in zip(cells, places, shares, strict=True):
        told = (f"{a} {percent(of_a)} · {b} {percent(of_b)}", f"{percent(of_a)} · {percent(of_b)}")
        paint = diverging(cell.difference)
        written = words(cell.name, told, inside(place), most_of(cell.kind))
        drawn.append(boxed(f"{cell.kind} apart", place, paint, f"{cell.name}: {told[0]}", written, "compare"))
    legend = _legend(a, b, width, height)
    return framed("".join(drawn) + legend, title, describe(cells, (a, b)), (width, height), "compare")


def describe(cells: Sequence[SharedCell], names: tuple[str, str]) -> str:
    """Both sides' numbers in a sentence."""
    if not cells:
        return "One of the two has no photos yet."
    shares = zip(_mille([cell.mass_a for cell in cells]), _mille([cell.mass_b for cell in cells]), strict=True)
    parts = [f"{cell.name} {percent(x)} and {percent(y)}" for cell, (x, y) in zip(cells, shares, strict=True)]
    return f"Of {names[0]} and of {names[1]}: {', '.join(parts)}."


def _mille(masses: Sequence[int]) -> tuple[int, ...]:
    return apportion(masses, 1000)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _legend(a: str, b: str, width: int, height: int) -> str:
    """The colours in their order, between the names of those whom they stand for."""
    across = SWATCH * len(DIVERGING)
    x, y = (width - across) / 2, height - LEGEND + 12.0
    swatches = "".join(
        f'<rect x="{rounded(x + number * SWATCH)}" y="{rounded(y)}" width="{rounded(SWATCH)}" height="20"'
        f' fill="{fill}" stroke="{rim(fill)}"/>'
        for number, fill in enumerate(DIVERGING)
    )
    written = ((f"more {b}", x - 8, "end"), (f"more {a}", x + across + 8, "start"))
    texts = "".join(
        f'<text x="{rounded(at)}" y="{rounded(y + 15)}" text-anchor="{anchor}" fill="{INK}"'
        f' font-size="{LETTERS:g}">{escaped(line)}</text>'
        for line, at, anchor in written
        if ems(line) * LETTERS <= x - 8
    )
    return f"<g>{swatches}{texts}</g>"


# ---- CSV

COLUMNS = ("list", "kind", "wnid", "name", "share_a", "share_b", "difference", "bits")


def csv(cells: Sequence[SharedCell], lists: Mapping[str, Sequence[tuple[ComparedCategory, float]]]) -> str:
    """The cells, and then each list with the number that orders it, as CSV (RFC 4180) with a header line."""
    out = io.StringIO()
    writer = csv_format.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for cell in cells:
        shares = (f"{cell.share_a:.6f}", f"{cell.share_b:.6f}", f"{cell.difference:.6f}")
        writer.writerow(("cells", cell.kind, cell.wnid, cell.name, *shares, None))
    for name, found in lists.items():
        for category, bits in found:
            shares = (f"{category.share_a:.6f}", f"{category.share_b:.6f}", f"{category.difference:.6f}")
            writer.writerow((name, "category", category.wnid, category.name, *shares, f"{bits:.6f}"))
    return out.getvalue()
