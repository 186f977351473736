"""A profile as a picture: squarified rectangles whose areas are the masses, as SVG; and as CSV.

Layout: M. Bruls, K. Huizing, J. J. van Wijk, "Squarified Treemaps", Proc. Joint Eurographics and IEEE TCVG Symposium
on Visualization, 2000. Rows are filled along the shorter side for as long as that makes the worst shape in the row
better.

A category that is divided is drawn as its cells: they fill its own rectangle, so that areas stay proportional, and its
rim goes around them. More than two levels are not drawn, nobody could read them.

The SVG needs no script, style sheet, font or other file, holds no style attribute (a strict Content-Security-Policy
allows it inline), carries its numbers as text, and is the same bytes for the same profile. Colours lie in
`pipeline.palette`.
"""

import csv as csv_format
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape, quoteattr

from pipeline.lettering import LINE_HEIGHT, Line, fit, one_line
from pipeline.palette import HATCH, INK, UNSURE, Paint, paints
from pipeline.profile import Cell, Profile, Unit, apportion

GAP = 3.0  # between cells, in user units
PADDING = 10.0  # around a cell's text
CORNER = 4
LEAST, READABLE, MOST = 10.0, 13.0, 34.0  # sizes of letters
QUIET = 20.0  # at most, where the cell is no category
PART = 18.0  # at most, inside of a category that is divided
HEAD = 0.5  # of the first part's height, for the name of the whole
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """What all cells of one picture share."""

    name: str  # begins the ids inside
    unit: Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Rectangle:
    """A place in the picture; x to the right, y down."""

    x: float
    y: float
    width: float
    height: float


def layout(masses: Sequence[int], width: float, height: float) -> list[Rectangle]:
    """One rectangle per mass (> 0), in order, that together fill width x height; areas are proportional to masses."""
    free = Rectangle(x=0.0, y=0.0, width=width, height=height)
    placed: list[Rectangle] = []
    left = sum(masses)
    start = 0
    while start < len(masses):
        end = _row_end(masses, start, left, free)
        row = masses[start:end]
        rectangles, free = _place(row, sum(row) / left, free)
        placed += rectangles
        left -= sum(row)
        start = end
    return placed


def _row_end(masses: Sequence[int], start: int, left: int, free: Rectangle) -> int:
    """Where the row that begins at `start` ends: before the first mass that would make its worst shape worse."""
    scale = free.width * free.height / left
    side = min(free.width, free.height)
    end = start + 1
    while end < len(masses) and _worst(masses[start : end + 1], scale, side) <= _worst(masses[start:end], scale, side):
        end += 1
    return end


def _worst(row: Sequence[int], scale: float, side: float) -> float:
    """The greatest aspect ratio (>= 1) in a row of areas mass * scale along `side`."""
    thickness = sum(row) * scale / side
    lengths = [mass * scale / thickness for mass in row]
    return max(max(length / thickness, thickness / length) for length in lengths)


def _place(row: Sequence[int], part: float, free: Rectangle) -> tuple[list[Rectangle], Rectangle]:
    """The row's rectangles, in the given part of the free space, and what stays free."""
    wide = free.width >= free.height  # the row stands upright at the left, else lies along the top
    thickness = (free.width if wide else free.height) * part
    length = free.height if wide else free.width
    total = sum(row)
    before = 0
    placed = []
    for mass in row:
        start, end = length * (before / total), length * ((before + mass) / total)
        before += mass
        if wide:
            placed.append(Rectangle(x=free.x, y=free.y + start, width=thickness, height=end - start))
        else:
            placed.append(Rectangle(x=free.x + start, y=free.y, width=end - start, height=thickness))
    if wide:
        rest = Rectangle(x=free.x + thickness, y=free.y, width=free.width - thickness, height=free.height)
    else:
        rest = Rectangle(x=free.x, y=free.y + thickness, width=free.width, height=free.height - thickness)
    return placed, rest


# ---- SVG


def svg(profile: Profile, title: str, width: int = 960, height: int = 600, name: str = "treemap") -> str:
    """The treemap as one SVG element, width x height in CSS pixels; same arguments, same bytes.

    `name` begins the ids inside, for pages that hold several.
    """
    drawn = Drawn(name=name, unit=profile.unit)
    parts = zip(
        profile.cells,
        layout([cell.mass for cell in profile.cells], width, height),
        paints(profile.cells),
        profile.per_mille(),
        strict=True,
    )
    cells = "".join(
        (_divided if cell.cells else _group)(cell, place, paint, mille, drawn) for cell, place, paint, mille in parts
    )
    return framed(cells or _empty(width, height), title, describe(profile), (width, height), name)


def framed(drawn: str, title: str, description: str, size: tuple[int, int], name: str) -> str:
    """What is drawn as one SVG element of that size, with its words for those who do not see it."""
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-labelledby="{name}-title {name}-desc" font-family={_quoted(FONTS)}>'
        f'<title id="{name}-title">{escaped(title)}</title>'
        f'<desc id="{name}-desc">{escaped(description)}</desc>'
        f"{_pattern(name)}{drawn}</svg>\n"
    )


def describe(profile: Profile) -> str:
    """The profile's numbers in a sentence."""
    if not profile.cells:
        return "No photos have been analysed yet."
    unit = profile.unit
    parts = [
        f"{cell.name} {percent(mille)}" + (f" ({counted(cell.photos, unit)})" if cell.photos is not None else "")
        for cell, mille in zip(profile.cells, profile.per_mille(), strict=True)
    ]
    return f"{counted(profile.photos, unit)}: {', '.join(parts)}."


def percent(mille: int) -> str:
    """Thousandths as people read them: 462 is "46.2 %"."""
    return f"{mille // 10}.{mille % 10} %"


def photos(count: int) -> str:
    """A number of photos, in words."""
    return counted(count, "photos")


def counted(count: int, unit: Unit) -> str:
    """A number of photos or moments, in words."""
    return f"{count:,} {unit if count != 1 else unit.removesuffix('s')}"


def numbers(cell: Cell, mille: int, unit: Unit = "photos") -> tuple[str, ...]:
    """A cell's share and count, as much of it as there is room for: the longest first."""
    share = percent(mille)
    return (share,) if cell.photos is None else (f"{share} · {counted(cell.photos, unit)}", share)


def _pattern(name: str) -> str:
    return (
        f'<defs><pattern id="{name}-hatch" width="8" height="8" patternUnits="userSpaceOnUse"'
        f' patternTransform="rotate(45)"><rect width="8" height="8" fill="{UNSURE}"/>'
        f'<rect width="3" height="8" fill="{HATCH}"/></pattern></defs>'
    )


def _empty(width: int, height: int) -> str:
    return (
        f'<rect width="{width}" height="{height}" rx="{CORNER}" fill="{UNSURE}"/>'
        f'<text x="{rounded(width / 2)}" y="{rounded(height / 2)}" text-anchor="middle" fill="{INK}"'
        f' font-size="18">No photos yet</text>'
    )


def _group(cell: Cell, place: Rectangle, paint: Paint, mille: int, drawn: Drawn) -> str:
    """A cell's rectangle and its words: its name, and as much of its numbers as fits."""
    told = numbers(cell, mille, drawn.unit)
    title = f"{cell.name}: {told[0]}"
    return boxed(cell.kind, place, paint, title, words(cell.name, told, inside(place), most_of(cell.kind)), drawn.name)


def boxed(kind: str, place: Rectangle, paint: Paint, title: str, written: str, name: str) -> str:
    """A rectangle with what is written on it, cut off at its edges."""
    box = inside(place)
    x, y, width, height = map(rounded, (box.x, box.y, box.width, box.height))
    fill = f"url(#{name}-hatch)" if kind == "unsure" else paint.fill
    return (
        f'<g class="cell {kind}"><title>{escaped(title)}</title>'
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{CORNER}" fill="{fill}" stroke="{paint.rim}"/>'
        f'<svg x="{x}" y="{y}" width="{width}" height="{height}">'  # clips its text
        f'<g fill="{paint.text}" color="{paint.text}">{written}</g></svg></g>'
    )


def inside(place: Rectangle) -> Rectangle:
    """What a cell fills of its place: a little less on each side."""
    width, height = max(place.width - GAP, 0.5), max(place.height - GAP, 0.5)
    return Rectangle(x=place.x + GAP / 2, y=place.y + GAP / 2, width=width, height=height)


def most_of(kind: str) -> float:
    """The size of letters that a cell's name has at most."""
    return MOST if kind == "category" else QUIET


def _divided(cell: Cell, place: Rectangle, paint: Paint, mille: int, drawn: Drawn) -> str:
    """A category with its cells inside; its name stands in the first of them, above that one's own."""
    box = inside(place)
    masses = [part.mass for part in cell.cells]
    places = layout(masses, box.width, box.height)
    told = numbers(cell, mille, drawn.unit)
    head = words(cell.name, told, replace(places[0], height=places[0].height * HEAD), MOST)
    lines = "".join(
        _part(part, part_place, numbers(part, part_mille, drawn.unit), first=not number and bool(head))
        for number, (part, part_place, part_mille) in enumerate(
            zip(cell.cells, places, apportion(masses, mille), strict=True)
        )
    )
    title = f"{cell.name}: {told[0]}"
    return boxed("category divided", place, paint, title, f"{head}{lines}", drawn.name)


def _part(cell: Cell, place: Rectangle, told: Sequence[str], *, first: bool) -> str:
    """A cell of a cell: its edges, and its words (in the first one, below those of the whole)."""
    x, y, width, height = map(rounded, (place.x, place.y, place.width, place.height))
    top = place.height * HEAD if first else 0.0
    written = words(cell.name, told, replace(place, height=place.height - top), PART)
    return (
        f"<g><title>{escaped(f'{cell.name}: {told[0]}')}</title>"
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="none" stroke="currentColor"'
        f' stroke-opacity="0.45"/><svg x="{x}" y="{rounded(place.y + top)}" width="{width}"'
        f' height="{rounded(place.height - top)}">{written}</svg></g>'
    )


def words(name: str, told: Sequence[str], place: Rectangle, most: float) -> str:
    """The name in the upper left corner, and below it the first of `told` that fits; turned in a narrow column."""
    width, height = place.width, place.height
    upright = _written(name, told, (width, height), most)
    if upright or height <= width:
        return upright
    turned = _written(name, told, (height, width), most)
    return f'<g transform="translate({rounded(width)} 0) rotate(90)">{turned}</g>' if turned else ""


def _written(name: str, told: Sequence[str], box: tuple[float, float], most: float) -> str:
    padding = min(PADDING, box[0] / 10, box[1] / 8)
    across, down = box[0] - 2 * padding, box[1] - 2 * padding
    lines = fit(name, (across, max(0.4 * down, min(down, 2 * LEAST))), (LEAST, most))
    if not lines:
        return ""
    written = [(line, 650) for line in lines]
    left = down - sum(line.size * LINE_HEIGHT for line in lines)
    sizes = LEAST, max(READABLE, 0.55 * lines[0].size)
    fitting = (one_line(text, (across, left), sizes) for text in told)
    written += [(line, 400) for line in next(filter(None, fitting), [])]
    return _set(written, padding)


def _set(written: Sequence[tuple[Line, int]], padding: float) -> str:
    """Lines (and their weights) below one another."""
    elements = []
    y = padding
    for line, weight in written:
        baseline = y + line.size * 0.95
        elements.append(
            f'<text x="{rounded(padding)}" y="{rounded(baseline)}" font-size="{rounded(line.size)}"'
            f' font-weight="{weight}">{escaped(line.text)}</text>'
        )
        y += line.size * LINE_HEIGHT
    return "".join(elements)


def rounded(number: float) -> str:
    """A length as it is written: to hundredths."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


def escaped(text: str) -> str:
    """Words as text of an XML element."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def _quoted(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub("\ufffd", text))


# ---- CSV

COLUMNS = ("kind", "wnid", "name", "photos", "mass", "share", "depth", "inside")


def csv(profile: Profile) -> str:
    """The cells as CSV (RFC 4180) with a header line; `mass` in ten-thousandths of a photo, empty where not known.

    Cells of depth 1 add up to the whole; those of depth 2 to the cell of depth 1 whose wnid they are `inside` of.
    """
    out = io.StringIO()
    writer = csv_format.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(profile.cells, 1, profile.under))
    return out.getvalue()


def _rows(cells: Sequence[Cell], depth: int, above: Cell | None) -> Iterator[tuple[object, ...]]:
    for cell in cells:
        within = above.wnid if above else None
        share = f"{cell.share:.6f}"
        yield cell.kind, cell.wnid, cell.name, cell.photos, cell.mass, share, depth, within
        yield from _rows(cell.cells, depth + 1, cell)
