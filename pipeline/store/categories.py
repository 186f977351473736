"""What is asked of a category across users: its counts, its photos, and who has most of them.

Categories go in and out as columns of the model's taxonomy. Every transaction says for whom it reads (`store.roles`):
everybody's photos, or those of users who consent and of one user more. Lists and counts follow the policy, but for
counts by column, which the caller coarsens (`store.policies`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection, text

from pipeline.profile import CategoryTotal
from taxonomy.decide import PhotoDecision


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Mark:
    """A place in a list by time: a photo's."""

    taken_at: datetime
    photo_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictured:
    """A photo, and all that the model says of it."""

    mark: Mark
    user: str
    decision: PhotoDecision  # as it is stored, before any policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """A photo of a category, as lists are put in order."""

    mark: Mark
    user_id: int
    mass: int  # of the category, ten-thousandths, as the policy shows it
    child: int | None  # the category right below of which it has most; None: it is tagged with none of them


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody who has photos of a category."""

    name: str
    photos: int


# ---- counts

_AMONG = "(CAST(:columns AS smallint[]) IS NULL OR tc.position = ANY (CAST(:columns AS smallint[])))"
_NODES = f"""
    SELECT tc.position, tc.node FROM core.model m JOIN core.taxonomy_category tc USING (taxonomy_id)
    WHERE m.model_id = :model AND {_AMONG}"""


def everybodys_photos(
    connection: Connection, model_id: int, columns: Collection[int] | None = None
) -> tuple[CategoryTotal, ...]:
    """Exact totals over all users, by column; of all columns unless some are named."""
    query = text(f"""
        SELECT n.position, sum(t.photos)::bigint AS photos, sum(t.mass)::bigint AS mass
        FROM ({_NODES}) AS n JOIN core.category_total t ON t.model_id = :model AND t.node = n.node
        GROUP BY n.position""")
    rows = connection.execute(query, _values(model_id, columns))
    return tuple(CategoryTotal(column=row.position, photos=row.photos, mass=row.mass) for row in rows)


def shared_photos(
    connection: Connection, model_id: int, columns: Collection[int] | None = None
) -> dict[int, tuple[CategoryTotal, int]]:
    """Exact totals over the users who consent, and how many of them carry the tag, by column."""
    query = text(f"""
        SELECT n.position, sum(t.photos)::bigint AS photos, sum(t.mass)::bigint AS mass, sum(t.users)::bigint AS users
        FROM ({_NODES}) AS n JOIN core.shared_total t ON t.model_id = :model AND t.node = n.node
        GROUP BY n.position""")
    rows = connection.execute(query, _values(model_id, columns))
    return {
        row.position: (CategoryTotal(column=row.position, photos=row.photos, mass=row.mass), row.users) for row in rows
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """What whoever asks has themselves."""

    shared: bool  # whether it is counted among what others see, too
    totals: tuple[CategoryTotal, ...]


def own_photos(connection: Connection, model_id: int, user: str, columns: Collection[int] | None = None) -> Own:
    """A user's exact totals by column; none where there is no such user."""
    query = text(f"""
        SELECT n.position, c.photos, c.mass, u.shared
        FROM core.app_user u CROSS JOIN ({_NODES}) AS n
        JOIN core.user_category c ON (c.model_id, c.user_id, c.node) = (:model, u.user_id, n.node)
        WHERE u.name = CAST(:user AS text) COLLATE "C" AND u.deleted_at IS NULL""")
    rows = connection.execute(query, {**_values(model_id, columns), "user": user}).all()
    totals = tuple(CategoryTotal(column=row.position, photos=row.photos, mass=row.mass) for row in rows)
    return Own(shared=any(row.shared for row in rows), totals=totals)


def _values(model_id: int, columns: Collection[int] | None) -> dict[str, object]:
    return {"model": model_id, "columns": None if columns is None else sorted(columns)}


def columns_by_node(connection: Connection, model_id: int) -> dict[int, int]:
    """The ledger's ids of all columns of the model's taxonomy."""
    return {row.node: row.position for row in connection.execute(text(_NODES), _values(model_id, None))}


# ---- photos


def newest(
    connection: Connection,
    model_id: int,
    column: int,
    most: int,
    before: Mark | None = None,
    *,
    own: bool = False,
    least_mass: int = 0,
) -> list[Mark]:
    """Up to `most` of the newest photos that carry the tag, of those behind `before`.

    `own`: only of the user for whom the transaction reads. `least_mass`: with at least so much of it.
    """
    query = text("""
        SELECT f.photo_id, f.taken_at
        FROM core.model m JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.position) = (m.taxonomy_id, :column)
        CROSS JOIN LATERAL core.photos_of_category(
            tc.node, CAST(:own AS boolean), CAST(:least AS smallint), CAST(:most AS integer),
            CAST(:at AS timestamptz), CAST(:id AS bigint)) AS f
        WHERE m.model_id = :model""")
    values = {
        "model": model_id,
        "column": column,
        "own": own,
        "least": least_mass,
        "most": most,
        "at": None if before is None else before.taken_at,
        "id": None if before is None else before.photo_id,
    }
    rows = connection.execute(query, values)
    return sorted((Mark(taken_at=row.taken_at, photo_id=row.photo_id) for row in rows), reverse=True)


def pictured(
    connection: Connection, model_id: int, marks: Sequence[Mark], columns: Mapping[int, int]
) -> list[Pictured]:
    """What the model says of these photos, in their order; without those that cannot be seen, or not any more.

    `columns`: as `columns_by_node` gives them.
    """
    query = text("""
        SELECT r.photo_id, u.name AS user, r.nodes, r.masses, r.tags, r.headline
        FROM core.photo_result r JOIN core.app_user u USING (user_id)
        WHERE r.model_id = :model AND r.photo_id = ANY (CAST(:ids AS bigint[])) AND u.deleted_at IS NULL""")
    rows = connection.execute(query, {"model": model_id, "ids": [mark.photo_id for mark in marks]})
    found = {row.photo_id: (row.user, _decision(row, columns)) for row in rows}
    return [
        Pictured(mark=mark, user=user, decision=decision)
        for mark in marks
        if mark.photo_id in found
        for user, decision in [found[mark.photo_id]]
    ]


def _decision(row: object, columns: Mapping[int, int]) -> PhotoDecision:
    nodes, masses, tags, headline = (getattr(row, name) for name in ("nodes", "masses", "tags", "headline"))
    return PhotoDecision(
        columns=np.array([columns[node] for node in nodes], dtype=np.int32),
        masses=np.array(masses, dtype=np.int16),
        tags=np.array([columns[node] for node in tags], dtype=np.int32),
        headline=None if headline is None else columns[headline],
    )


_WEIGHED = text("""
WITH place AS MATERIALIZED (
    SELECT tc.position, tc.node FROM core.model m JOIN core.taxonomy_category tc USING (taxonomy_id)
    WHERE m.model_id = :model AND tc.position = ANY (CAST(:needed AS smallint[]))
), term AS MATERIALIZED (
    SELECT place.node, t.times FROM unnest(CAST(:terms AS smallint[]), CAST(:times AS integer[])) AS t(position, times)
    JOIN place USING (position)
), child AS MATERIALIZED (
    SELECT place.position, place.node FROM place WHERE position = ANY (CAST(:children AS smallint[])))
SELECT r.photo_id, r.user_id,
       (SELECT sum(t.times * r.masses[array_position(r.nodes, t.node)]) FROM term t)::integer AS mass,
       (SELECT c.position FROM child c WHERE c.node = ANY (r.tags)
        ORDER BY r.masses[array_position(r.nodes, c.node)] DESC, c.position LIMIT 1) AS child
FROM core.photo_result r WHERE r.model_id = :model AND r.photo_id = ANY (CAST(:ids AS bigint[]))""")


def weighed(
    connection: Connection,
    model_id: int,
    marks: Sequence[Mark],
    column: int,
    terms: Sequence[tuple[int, int]],
    children: Collection[int],
) -> list[Weighed]:
    """These photos of a category, without those that cannot be seen; `terms`: what the policy takes from it."""
    taken = [(column, 1), *((other, -times) for other, times in terms)]
    values = {
        "model": model_id,
        "needed": sorted({*children, *(c for c, _ in taken)}),
        "terms": [c for c, _ in taken],
        "times": [times for _, times in taken],
        "children": list(children),
        "ids": [mark.photo_id for mark in marks],
    }
    places = {mark.photo_id: mark for mark in marks}
    rows = connection.execute(_WEIGHED, values)
    return [Weighed(mark=places[row.photo_id], user_id=row.user_id, mass=row.mass, child=row.child) for row in rows]


# ---- people

FEW_CONSENT = 2000  # users; up to so many are asked one by one

# What the policy takes from the category is taken from those who have most, so they may change places among themselves.
_MOST = """
    SELECT most.name, greatest(0, most.photos - coalesce((
        SELECT sum(x.times * d.photos) FROM core.active_effect e, unnest(e.minus, e.times) AS x(node, times)
        JOIN core.user_category d ON (d.model_id, d.user_id, d.node) = (:model, most.user_id, x.node)
        WHERE (e.taxonomy_id, e.node) = (most.taxonomy_id, most.node)), 0))::bigint AS photos
    FROM (
        SELECT u.name, c.photos, c.user_id, tc.taxonomy_id, tc.node
        FROM core.model m JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.position) = (m.taxonomy_id, :column)
        {have}
        WHERE m.model_id = :model AND c.photos > 0 AND u.deleted_at IS NULL AND {who}
        ORDER BY c.photos DESC, c.user_id DESC LIMIT :most) AS most
    ORDER BY 2 DESC, 1"""
_FROM_THE_TOP = """JOIN core.user_category c ON c.model_id = m.model_id AND c.node = tc.node
        JOIN core.app_user u USING (user_id)"""
_ONE_BY_ONE = """CROSS JOIN core.app_user u
        JOIN core.user_category c ON (c.model_id, c.user_id, c.node) = (m.model_id, u.user_id, tc.node)"""
_CONSENTING = text("SELECT count(*) FROM (SELECT FROM core.app_user WHERE shared LIMIT :most) AS counted")


def people(connection: Connection, model_id: int, column: int, most: int, *, everybody: bool) -> list[Person]:
    """The users who have most photos with the tag, most first; `everybody`: not only those who consent.

    Where few consent they are asked one by one, else users are gone through from the one with the most photos.
    """
    if everybody:
        have, who = _FROM_THE_TOP, "true"
    elif connection.execute(_CONSENTING, {"most": FEW_CONSENT}).scalar_one() < FEW_CONSENT:
        have, who = _ONE_BY_ONE, "u.shared"
    else:
        have, who = _FROM_THE_TOP, "u.shared"
    values = {"model": model_id, "column": column, "most": most}
    rows = connection.execute(text(_MOST.format(have=have, who=who)), values)
    return [Person(name=row.name, photos=row.photos) for row in rows if row.photos]


def vague_share(connection: Connection, model_id: int) -> float:
    """The share of the labels from which on the model's newest decision shows a category to nobody."""
    query = text("SELECT vague_share FROM core.decision WHERE model_id = :model ORDER BY revision DESC LIMIT 1")
    share: float = connection.execute(query, {"model": model_id}).scalar_one()
    return share
