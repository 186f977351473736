"""Totals of some of a user's photos: of a period, of those known at a time, of moments; and photos by month.

Whole times are in `user_category`. What is here is worked out from results, and so is bounded: whoever asks counts
first, by the index alone, and is told where it would be too many (`MOST_PHOTOS`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text

from pipeline.moments import Shot, numbered
from pipeline.profile import CategoryTotal, Unit
from pipeline.records import TakenFrom

MOST_PHOTOS = 10_000  # of 43 categories each: half a second as moments, on two cores that are five times too busy


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which of a user's photos, as one model sees them. Periods are half-open, by the time a photo was taken."""

    model_id: int
    user_id: int
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None  # only photos that were known by then, and are still there
    unit: Unit = "photos"

    @property
    def whole(self) -> bool:
        """Whether it is what `user_category` holds."""
        return self.since is self.until is self.as_of is None and self.unit == "photos"


@dataclass(frozen=True, kw_only=True, slots=True)
class Month:
    """A calendar month in UTC in which a user took photos."""

    month: date  # its first day
    photos: int  # that are there, whether a model has seen them or not; > 0


#: Conditions on photos; photo_newest_idx knows the first two. What is not asked is left out, so that no plan guesses.
_BOUNDS = {"since": "p.taken_at >= :since", "until": "p.taken_at < :until", "as_of": "p.created_at <= :as_of"}


def _where(selection: Selection, *bounds: str) -> tuple[str, dict[str, object]]:
    """The condition that these bounds make, and the values in it."""
    given = {name: getattr(selection, name) for name in bounds if getattr(selection, name) is not None}
    values = {"user": selection.user_id, **given}
    return " AND ".join(["p.user_id = :user", *(_BOUNDS[name] for name in given)]), values


def photos_in(connection: Connection, selection: Selection, most: int = MOST_PHOTOS) -> int:
    """How many photos would have to be looked at; counts no further than one more than `most`."""
    where, values = _where(selection, "since", "until")
    query = f"SELECT count(*) FROM (SELECT FROM core.photo p WHERE {where} LIMIT :limit) AS found"
    return int(connection.execute(text(query), {**values, "limit": most + 1}).scalar_one())


def totals_of(connection: Connection, selection: Selection) -> tuple[CategoryTotal, ...]:
    """The exact totals of the selection, by column; reads a result per photo, so count first."""
    if selection.unit == "moments":
        shots = _shots(connection, selection)
        values = {"ids": [shot.photo_id for shot in shots], "moments": list(numbered(shots)), "user": selection.user_id}
        rows = connection.execute(text(_OF_MOMENTS), {**values, "model": selection.model_id})
    else:
        where, given = _where(selection, *_BOUNDS)
        rows = connection.execute(text(_OF_PHOTOS.format(where=where)), {**given, "model": selection.model_id})
    return tuple(CategoryTotal(column=column, photos=photos, mass=mass) for column, photos, mass in rows)


_RESULTS = """
core.photo p JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id AND r.user_id = p.user_id"""
_COLUMNS = """
JOIN core.model m ON m.model_id = :model
JOIN core.taxonomy_category tc ON tc.taxonomy_id = m.taxonomy_id AND tc.node = n.node"""
# unnest() in the list of what is selected is three times as fast as in FROM, where each call fills a table.
_OF_PHOTOS = f"""
SELECT tc.position, n.photos, n.mass FROM (
    SELECT node, sum((node = ANY (tags))::int) AS photos, sum(mass::int) AS mass FROM (
        SELECT unnest(r.nodes) AS node, unnest(r.masses) AS mass, r.tags
        FROM {_RESULTS} WHERE {{where}} AND p.gone_at IS NULL) AS each
    GROUP BY node) AS n {_COLUMNS} WHERE n.mass > 0 ORDER BY tc.position"""
_SHOTS = f"""
SELECT p.photo_id, p.taken_at, p.taken_from <> {TakenFrom.OBJECT} AS timed
FROM {_RESULTS} WHERE {{where}} AND p.gone_at IS NULL AND cardinality(r.nodes) > 0 ORDER BY p.taken_at, p.photo_id"""
# Most moments are of one photo, and those need not be put together first.
_OF_MOMENTS = f"""
WITH shots AS MATERIALIZED (
    SELECT s.moment, count(*) OVER (PARTITION BY s.moment) AS size, r.nodes, r.masses, r.tags
    FROM unnest(CAST(:ids AS bigint[]), CAST(:moments AS int[])) AS s(photo_id, moment)
    JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = s.photo_id AND r.user_id = :user)
SELECT tc.position, n.photos, n.mass FROM (
    SELECT node, sum(photos)::bigint AS photos, sum(mass)::bigint AS mass FROM (
        SELECT node, sum((node = ANY (tags))::int) AS photos, sum(mass::int) AS mass FROM (
            SELECT unnest(nodes) AS node, unnest(masses) AS mass, tags FROM shots WHERE size = 1) AS each
        GROUP BY node
        UNION ALL
        SELECT node, (2 * sum((node = ANY (tags))::int) > size)::int, sum(mass::int) / size FROM (
            SELECT moment, size, unnest(nodes) AS node, unnest(masses) AS mass, tags FROM shots WHERE size > 1) AS each
        GROUP BY moment, size, node) AS moments
    GROUP BY node) AS n {_COLUMNS} WHERE n.mass > 0 ORDER BY tc.position"""


def _shots(connection: Connection, selection: Selection) -> Sequence[Shot]:
    where, given = _where(selection, *_BOUNDS)
    rows = connection.execute(text(_SHOTS.format(where=where)), {**given, "model": selection.model_id})
    return [Shot(photo_id=photo_id, taken_at=taken_at, timed=timed) for photo_id, taken_at, timed in rows]


# From month to month by photo_newest_idx: that knows no more than how many there are, so those that are gone are found
# by an index of their own (photo_gone_idx) and taken off.
_MONTHS = """
WITH RECURSIVE found AS (
    SELECT date_trunc('month', min(taken_at), 'UTC') AS month FROM core.photo WHERE user_id = :user
    UNION ALL
    SELECT following.month FROM found CROSS JOIN LATERAL (
        SELECT date_trunc('month', min(taken_at), 'UTC') AS month FROM core.photo
        WHERE user_id = :user AND taken_at >= {next}) AS following
    WHERE found.month IS NOT NULL
), gone AS (
    SELECT date_trunc('month', taken_at, 'UTC') AS month, count(*) AS photos
    FROM core.photo WHERE user_id = :user AND gone_at IS NOT NULL GROUP BY 1
), counted AS MATERIALIZED (
    SELECT month, (SELECT count(*) FROM core.photo
                   WHERE user_id = :user AND taken_at >= month AND taken_at < {next}) AS photos
    FROM found WHERE month IS NOT NULL)
SELECT (month AT TIME ZONE 'UTC')::date AS month, c.photos - coalesce(g.photos, 0) AS photos
FROM counted c LEFT JOIN gone g USING (month) WHERE c.photos > coalesce(g.photos, 0) ORDER BY month"""


def months(connection: Connection, user_id: int) -> tuple[Month, ...]:
    """The months in which the user took photos that are there, oldest first; reads indexes alone."""
    query = _MONTHS.format(next="date_add(month, interval '1 month', 'UTC')")
    return tuple(Month(**row) for row in connection.execute(text(query), {"user": user_id}).mappings())
