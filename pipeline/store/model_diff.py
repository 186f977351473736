"""What would change for people if another model became active, over the live corpus and before anything is promoted.

Read it in one transaction of one snapshot (REPEATABLE READ); it writes nothing. Photos come in pages by id, users in
pages by id, so that memory does not grow with either. Photos count where both models have a result of their present
content; users are compared by all that each model has of them, which is what their pages show. The active policy holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.model_change import Axis, Pair, PhotoTally, Said, outcome_name
from pipeline.store.catalogue import nodes_of
from pipeline.store.policies import active_policy
from pipeline.store.promotions import Coverage, KnownModel, coverage
from pipeline.store.user_diff import AsShown, UserChanges, user_changes
from taxonomy import graph
from taxonomy.errors import DamagedTaxonomy
from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy, coarsen_counts

PAGE_PHOTOS = 4_000
MOST = 20  # entries of a list, unless asked otherwise
MEASURE = "edges of the display tree that a photo's mass crosses (earth mover's distance)"


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryChange:
    """A category over all compared photos. base_photos + gained - lost = head_photos; masses are in photos."""

    wnid: str
    name: str
    depth: int  # edges below the root of the display tree, of the base
    base_photos: int
    head_photos: int
    gained: int  # photos that only the head tags with it
    lost: int
    base_mass: float
    head_mass: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MovedPhoto:
    """A photo of which the two models say different things."""

    photo_id: int
    user: str
    key: str
    moved: float  # edges of the display tree
    base: str | None  # the headline's name; None: nothing was certain, or a policy hides it
    head: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDiff:
    """Base and head on the same photos."""

    base: str
    head: str
    same_taxonomy: bool
    categories_compared: int  # by synset id, those that both taxonomies have
    only_base: int  # categories that are left out
    only_head: int
    hidden: int  # categories that a policy hides
    coverage: Coverage
    photos: int  # compared: both have a result of their present content
    outcomes: Mapping[str, Mapping[str, int]]  # by the base's, then the head's: tagged, abstained, failed
    retagged: int  # seen by both, with another headline
    categories: tuple[CategoryChange, ...]  # those that change, most first; all of them
    users: UserChanges
    moved: tuple[MovedPhoto, ...]
    measure: str = MEASURE


def diff(connection: Connection, base: KnownModel, head: KnownModel, most: int = MOST) -> ModelDiff:
    """Compare two models on the live corpus; users and photos are listed up to `most`.

    Raises:
        ConfigurationError: one was dropped, or its taxonomy is not here as it was registered.
    """
    taxonomies = [taxonomy_of(model) for model in (base, head)]
    policies = [active_policy(connection, taxonomy) for taxonomy in taxonomies]
    nodes = [nodes_of(connection, model.model_id) for model in (base, head)]
    axis = Axis.of(taxonomies[0], nodes[0], taxonomies[1], nodes[1])
    tally = PhotoTally(axis, most)
    for pairs in _pages(connection, base.model_id, head.model_id):
        tally.add(pairs)
    compared = len(axis.wnids)
    return ModelDiff(
        base=base.label,
        head=head.label,
        same_taxonomy=axis.same,
        categories_compared=compared,
        only_base=taxonomies[0].nodes - compared,
        only_head=taxonomies[1].nodes - compared,
        hidden=sum(column < taxonomies[1].nodes for column in policies[1].hidden),
        coverage=coverage(connection, base.model_id, head.model_id),
        photos=tally.photos,
        outcomes=_crossed(tally),
        retagged=tally.retagged,
        categories=_categories(tally, axis, policies[0], policies[1]),
        users=user_changes(connection, *map(_as_shown, (base, head), taxonomies, policies, nodes), most=most),
        moved=_moved(connection, tally, axis, policies[0], policies[1]),
    )


def taxonomy_of(model: KnownModel) -> Taxonomy:
    """The model's taxonomy, as it was registered."""
    if model.dropped_at is not None:
        raise ConfigurationError(f"Model {model.label} was dropped, and its results with it; there is nothing to see.")
    try:
        taxonomy = graph.load(model.taxonomy)
    except DamagedTaxonomy as exc:
        raise ConfigurationError(f"Taxonomy {model.taxonomy} of model {model.label} is not here: {exc}") from exc
    if taxonomy.sha256 != model.taxonomy_sha256:
        raise ConfigurationError(
            f"Taxonomy {model.taxonomy} here is not the one that model {model.label} was registered with; use the "
            "release that registered it."
        )
    return taxonomy


def _as_shown(model: KnownModel, taxonomy: Taxonomy, policy: Policy, nodes: NDArray[np.int16]) -> AsShown:
    column_of = np.zeros(int(nodes.max()) + 1, dtype=np.int32)
    column_of[nodes] = np.arange(len(nodes))
    return AsShown(model_id=model.model_id, taxonomy=taxonomy, policy=policy, column_of=column_of)


# ---- photos

_UPTO = """
SELECT max(photo_id) FROM (SELECT photo_id FROM core.photo_result WHERE model_id = :base AND photo_id > :after
                           ORDER BY photo_id LIMIT :photos) AS page"""
_PAIRS = """
SELECT b.photo_id, b.outcome, b.headline, b.nodes, b.masses, b.tags,
       h.outcome AS its_outcome, h.headline AS its_headline, h.nodes AS its_nodes, h.masses AS its_masses,
       h.tags AS its_tags
FROM core.photo_result b
JOIN core.photo_result h ON h.model_id = :head AND h.photo_id = b.photo_id AND h.content_rev = b.content_rev
JOIN core.photo p ON p.photo_id = b.photo_id AND p.content_rev = b.content_rev AND p.gone_at IS NULL
JOIN core.app_user u ON u.user_id = p.user_id AND u.deleted_at IS NULL
WHERE b.model_id = :base AND b.photo_id > :after AND b.photo_id <= :upto
  AND h.photo_id > :after AND h.photo_id <= :upto AND p.photo_id > :after AND p.photo_id <= :upto
ORDER BY b.photo_id"""


def _pages(connection: Connection, base: int, head: int) -> Iterator[list[Pair]]:
    """All photos that both models have a result of as they are now, by id."""
    after = 0
    while True:
        values = {"base": base, "head": head, "after": after, "photos": PAGE_PHOTOS}
        upto = connection.execute(text(_UPTO), values).scalar()
        if upto is None:
            return
        rows = connection.execute(text(_PAIRS), values | {"upto": upto})
        yield [Pair(photo_id=row[0], base=_said(row[1:6]), head=_said(row[6:])) for row in rows]
        after = upto


def _said(columns: Sequence[object]) -> Said:
    outcome, headline, nodes, masses, tags = columns
    return Said(outcome=outcome, headline=headline, nodes=nodes, masses=masses, tags=tags)  # type: ignore[arg-type]


def _crossed(tally: PhotoTally) -> dict[str, dict[str, int]]:
    names = ("tagged", "abstained", "failed")
    crossed = {base: dict.fromkeys(names, 0) for base in names}
    for (base, head), photos in tally.outcomes.items():
        crossed[outcome_name(base)][outcome_name(head)] += photos
    return crossed


def _categories(tally: PhotoTally, axis: Axis, base: Policy, head: Policy) -> tuple[CategoryChange, ...]:
    """The categories of which anything changes, by photos gained and lost, then by mass."""
    taxonomies = axis.base.taxonomy, axis.head.taxonomy
    before = [taxonomies[0].node(wnid) for wnid in axis.wnids]
    after = [taxonomies[1].node(wnid) for wnid in axis.wnids]
    shown = [number for number in range(len(axis.wnids)) if _visible(before[number], after[number], base, head)]
    of_base = [_coarse(counts, before, base) for counts in (tally.base_photos, tally.base_mass)]
    of_head = [_coarse(c, after, head) for c in (tally.head_photos, tally.gained, tally.lost, tally.head_mass)]
    found = []
    for number in shown:
        (photos, mass), values = (c[number] for c in of_base), [c[number] for c in of_head]
        if values[1] or values[2] or mass != values[3]:
            found.append(
                CategoryChange(
                    wnid=axis.wnids[number],
                    name=taxonomies[0].synsets[before[number]].name,
                    depth=int(taxonomies[0].depth[before[number]]),
                    base_photos=photos,
                    head_photos=values[0],
                    gained=values[1],
                    lost=values[2],
                    base_mass=mass / 10_000,
                    head_mass=values[3] / 10_000,
                )
            )
    return tuple(sorted(found, key=_size))


def _size(change: CategoryChange) -> tuple[float, float, str]:
    return -(change.gained + change.lost), -abs(change.head_mass - change.base_mass), change.wnid


def _visible(before: int, after: int, base: Policy, head: Policy) -> bool:
    return before not in base.hidden and after not in head.hidden


def _coarse(counts: NDArray[np.int64], nodes: Sequence[int], policy: Policy) -> list[int]:
    """Counts by compared category as the policy shows them."""
    plain: list[int] = counts.tolist()
    if not policy.rules:
        return plain
    shown = coarsen_counts(dict(zip(nodes, plain, strict=True)), policy)
    return [shown.get(node, 0) for node in nodes]


def _moved(connection: Connection, tally: PhotoTally, axis: Axis, base: Policy, head: Policy) -> tuple[MovedPhoto, ...]:
    far = tally.most_moved()
    query = text("""SELECT photo_id, u.name, p.key FROM core.photo p JOIN core.app_user u USING (user_id)
                    WHERE photo_id = ANY (:ids)""")
    places = {
        photo_id: (user, key)
        for photo_id, user, key in connection.execute(query, {"ids": [pair.photo_id for _, pair in far]})
    }
    names = _Names(connection)
    return tuple(
        MovedPhoto(
            photo_id=pair.photo_id,
            user=places[pair.photo_id][0],
            key=places[pair.photo_id][1],
            moved=moved,
            base=names.of(pair.base, axis.base.taxonomy, base),
            head=names.of(pair.head, axis.head.taxonomy, head),
        )
        for moved, pair in far
    )


class _Names:
    """What headlines are called, as a policy shows them."""

    def __init__(self, connection: Connection) -> None:
        rows = connection.execute(text("SELECT node, wnid FROM core.category WHERE NOT area_only"))
        self._wnids = {node: wnid for node, wnid in rows}  # noqa: C416 - rows are no pairs to mypy

    def of(self, said: Said, taxonomy: Taxonomy, policy: Policy) -> str | None:
        if said.headline is None:
            return None
        node = taxonomy.node(self._wnids[said.headline])
        shown = policy.show(node)
        tags = {self._wnids[tag] for tag in said.tags}
        return taxonomy.synsets[shown].name if taxonomy.synsets[shown].wnid in tags else None


def shortened(found: ModelDiff, most: int) -> ModelDiff:
    """With at most so many categories, users and photos."""
    users = replace(found.users, most=found.users.most[:most])
    return replace(found, categories=found.categories[:most], users=users, moved=found.moved[:most])
