"""What another model would change of the counts of categories, from the totals of both. Pure.

Law: totals know how many photos carry a tag, and not which. So *gained* and *lost* are net: a photo that one model
alone tags and another photo that the other model alone tags cancel out. `pipeline.model_change` looks at every photo
and tells them apart. Categories are compared by synset id, on those that both taxonomies have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.profile import CategoryTotal
from taxonomy.graph import Taxonomy


@dataclass(frozen=True, kw_only=True, slots=True)
class NetChange:
    """A category over all photos that either model has seen. base_photos + gained - lost = head_photos."""

    wnid: str
    name: str
    base_photos: int
    head_photos: int
    gained: int  # net: photos that the head tags with it more than the base
    lost: int  # net; one of both is 0
    base_mass: int  # ten-thousandths of a photo
    head_mass: int


def net_changes(
    base: Sequence[CategoryTotal], base_taxonomy: Taxonomy, head: Sequence[CategoryTotal], head_taxonomy: Taxonomy
) -> tuple[NetChange, ...]:
    """The categories of which photos or mass differ, most photos first.

    Args:
        base: the exact totals of one model, as the policy shows them.
        base_taxonomy: whose columns those are.
        head: the totals of the other one.
        head_taxonomy: whose columns those are.
    """
    before, after = _by_wnid(base, base_taxonomy), _by_wnid(head, head_taxonomy)
    names = {synset.wnid: synset.name for synset in base_taxonomy.synsets}
    both = names.keys() & {synset.wnid for synset in head_taxonomy.synsets}
    found = [_change(wnid, names[wnid], before.get(wnid), after.get(wnid)) for wnid in both]
    return tuple(sorted((each for each in found if _differs(each)), key=_size))


def _by_wnid(totals: Sequence[CategoryTotal], taxonomy: Taxonomy) -> Mapping[str, CategoryTotal]:
    """Tags alone; the columns after the nodes are areas."""
    return {taxonomy.synsets[each.column].wnid: each for each in totals if each.column < taxonomy.nodes}


def _change(wnid: str, name: str, before: CategoryTotal | None, after: CategoryTotal | None) -> NetChange:
    photos = [each.photos if each else 0 for each in (before, after)]
    return NetChange(
        wnid=wnid,
        name=name,
        base_photos=photos[0],
        head_photos=photos[1],
        gained=max(0, photos[1] - photos[0]),
        lost=max(0, photos[0] - photos[1]),
        base_mass=before.mass if before else 0,
        head_mass=after.mass if after else 0,
    )


def _differs(change: NetChange) -> bool:
    return change.base_photos != change.head_photos or change.base_mass != change.head_mass


def _size(change: NetChange) -> tuple[int, int, str]:
    return -(change.gained + change.lost), -abs(change.head_mass - change.base_mass), change.wnid
