"""Two profiles in one layout, so that what differs is seen by colour and nothing moves.

Law of the file, over integers:
1. The cells are those of the pooled profile, in which each of the two weighs a half however many photos it has: a large
   library does not drown a small one. Swapped, the two have the same cells at the same places.
2. Each side's masses add up to that side's whole over the cells, so its shares to 1, and the differences to 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.profile import CELLS, CategoryTotal, Cell, Kind, Totals, broadest_shown, profile
from taxonomy.graph import Taxonomy


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedCell:
    """One part of both profiles."""

    kind: Kind
    node: int | None  # of the taxonomy; None unless a category
    wnid: str | None
    name: str
    path: tuple[str, ...]  # as of `Cell`
    mass: int  # pooled: what its area is proportional to; no unit
    share: float  # pooled: the mean of the two shares
    mass_a: int  # ten-thousandths of a photo
    mass_b: int
    photos_a: int | None  # None unless a category
    photos_b: int | None
    share_a: float  # of A's mass, 0 to 1
    share_b: float

    @property
    def difference(self) -> float:
        """share_a - share_b."""
        return self.share_a - self.share_b


def side_by_side(
    a: Sequence[CategoryTotal], b: Sequence[CategoryTotal], taxonomy: Taxonomy, k: int = CELLS
) -> tuple[SharedCell, ...]:
    """The cells of both, given as totals under the same taxonomy and policy; none where one of them has no photos."""
    sides = Totals(a, taxonomy), Totals(b, taxonomy)
    wholes = [side.area(0) for side in sides]
    if not all(wholes):
        return ()
    cells = profile(_pooled(a, b, wholes), taxonomy, k).cells
    chosen = [cell.node for cell in cells if cell.node is not None]
    parts = [_masses(side, chosen, taxonomy) for side in sides]
    return tuple(_shared(cell, sides, parts, wholes) for cell in cells)


def _pooled(a: Sequence[CategoryTotal], b: Sequence[CategoryTotal], wholes: Sequence[int]) -> list[CategoryTotal]:
    """Each side's masses times the other's whole: exact, and so both wholes weigh the same."""
    photos: dict[int, int] = {}
    mass: dict[int, int] = {}
    for totals, weight in ((a, wholes[1]), (b, wholes[0])):
        for total in totals:
            photos[total.column] = photos.get(total.column, 0) + total.photos
            mass[total.column] = mass.get(total.column, 0) + total.mass * weight
    return [CategoryTotal(column=column, photos=photos[column], mass=mass[column]) for column in sorted(mass)]


def _masses(side: Totals, chosen: Sequence[int], taxonomy: Taxonomy) -> dict[Kind | int, int]:
    """What one side has in each of the chosen categories, in other, and in unsure."""
    found: dict[Kind | int, int] = {node: side.area(node) for node in chosen}
    shown = sum(side.area(node) for node in broadest_shown(taxonomy))
    return found | {"other": shown - sum(found.values()), "unsure": side.area(0) - shown}


def _shared(
    cell: Cell, sides: Sequence[Totals], parts: Sequence[dict[Kind | int, int]], wholes: Sequence[int]
) -> SharedCell:
    mass_a, mass_b = (part[cell.kind if cell.node is None else cell.node] for part in parts)
    photos_a, photos_b = (None if cell.node is None else side.photos(cell.node) for side in sides)
    return SharedCell(
        kind=cell.kind,
        node=cell.node,
        wnid=cell.wnid,
        name=cell.name,
        path=cell.path,
        mass=cell.mass,
        share=cell.share,
        mass_a=mass_a,
        mass_b=mass_b,
        photos_a=photos_a,
        photos_b=photos_b,
        share_a=mass_a / wholes[0],
        share_b=mass_b / wholes[1],
    )
