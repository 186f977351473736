"""A profile as tiles of a page: links with a photo, placed by a style sheet that is a function of its address.

Pages hold no inline style, so the places stand in a sheet of their own, `/mosaic.css?m=4620,3100,...`: the masses are
the address, in order, and nothing else is needed to answer it. It is the same for ever, tells nothing about anybody,
and is computed without the database. Tile n has the class `tile-n`; all numbers are per cent of the box around them,
which may have any size. There are two layouts, for wide views and for narrow ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.palette import diverging, paints
from pipeline.profile import Cell, Kind, Profile
from pipeline.side_by_side import SharedCell
from pipeline.treemap import Rectangle, layout

WIDE, NARROW = (210.0, 100.0), (64.0, 100.0)  # the shapes that the layouts are made for
NARROW_VIEW = "(max-width: 720px)"  # as in style.css
PARTS = 1_000_000  # masses in an address are rounded to so many parts of all
MOST_TILES = 16
LARGE = 0.1  # of the picture; from here on a tile's photo is asked for in the larger size
NAMED_INSIDE = 3  # categories inside a tile that are named on it


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One cell of a profile on a page."""

    number: int  # from 1; its class is tile-1
    kind: Kind
    name: str
    wnid: str | None
    paint: str  # class of the palette
    mille: int  # share in thousandths; all tiles together have 1000
    mass: int
    photos: int | None  # distinct photos with the tag; None unless a category
    inside: tuple[str, ...]  # what it divides into, largest first; empty: it cannot be zoomed into
    cover: int | None  # photo id
    side: int  # pixels of that photo's thumbnail


def tiles(profile: Profile, covers: dict[int, int]) -> tuple[Tile, ...]:
    """The profile's cells as tiles; `covers` are photos by node."""
    parts = zip(profile.cells, profile.per_mille(), paints(profile.cells), strict=True)
    return tuple(
        Tile(
            number=number,
            kind=cell.kind,
            name=cell.name,
            wnid=cell.wnid,
            paint=paint.name,
            mille=mille,
            mass=cell.mass,
            photos=cell.photos,
            inside=_inside(cell),
            cover=None if cell.node is None else covers.get(cell.node),
            side=768 if cell.mass >= LARGE * profile.mass else 384,
        )
        for number, (cell, mille, paint) in enumerate(parts, 1)
    )


def _inside(cell: Cell) -> tuple[str, ...]:
    return tuple(inner.name for inner in cell.cells if inner.kind == "category")[:NAMED_INSIDE]


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedTile:
    """One cell of two profiles on one map."""

    number: int
    kind: Kind
    name: str
    wnid: str | None
    paint: str  # of the difference
    mass: int  # pooled
    share_a: float
    share_b: float
    difference: float  # share_a - share_b


def shared_tiles(cells: Sequence[SharedCell]) -> tuple[SharedTile, ...]:
    """Two profiles' cells as tiles."""
    return tuple(
        SharedTile(
            number=number,
            kind=cell.kind,
            name=cell.name,
            wnid=cell.wnid,
            paint=diverging(cell.difference).name,
            mass=cell.mass,
            share_a=cell.share_a,
            share_b=cell.share_b,
            difference=cell.difference,
        )
        for number, cell in enumerate(cells, 1)
    )


def sheet_address(masses: Iterable[int]) -> str:
    """Where the style sheet of tiles with these masses is."""
    given = list(masses)
    whole = sum(given)
    return "/mosaic.css?m=" + ",".join(str(max(1, PARTS * mass // whole)) for mass in given)


def style_sheet(masses: Sequence[int]) -> str:
    """The places of tiles with these masses (each > 0)."""
    return f"{_places(masses, WIDE)}@media {NARROW_VIEW} {{\n{_places(masses, NARROW)}}}\n"


def _places(masses: Sequence[int], shape: tuple[float, float]) -> str:
    placed = layout(masses, *shape)
    return "".join(f".tile-{number} {{ {_place(place, shape)} }}\n" for number, place in enumerate(placed, 1))


def _place(place: Rectangle, shape: tuple[float, float]) -> str:
    across, down = shape
    parts = {
        "left": place.x / across,
        "top": place.y / down,
        "width": place.width / across,
        "height": place.height / down,
    }
    return " ".join(f"{name}: {100 * part:.4f}%;" for name, part in parts.items())
