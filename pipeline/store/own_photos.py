"""One user's own photos in a list, newest first, by keyset; of a category, those that carry its tag as it is shown."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.records import SEEN

LOOKED_AT = 5_000  # photos per page at most: of a rare category they may lie anywhere

Position = tuple[datetime, int]  # a photo's time and id


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoSummary:
    """A photo in a list."""

    photo_id: int
    key: str
    taken_at: datetime
    seen: bool  # whether the model has seen it
    wnid: str | None  # of the decided category; None: not seen, or nothing was certain
    headline: str | None  # its name
    mass: int | None  # of the headline

    @property
    def position(self) -> Position:
        """Where the list goes on behind it."""
        return self.taken_at, self.photo_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which photos of a user a page shows. Periods are half-open, by the time a photo was taken."""

    limit: int
    tag: int | None = None  # the column of a category; None: all photos
    since: datetime | None = None
    until: datetime | None = None
    after: Position | None = None  # behind this photo


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoList:
    """A page."""

    photos: tuple[PhotoSummary, ...]
    after: Position | None  # where the next one begins; None: this is the last one


_SEEN = ", ".join(str(int(code)) for code in sorted(SEEN))  # outcomes; the others say why it could not be
_BOUNDS = {
    "since": "taken_at >= :since",
    "until": "taken_at < :until",
    "after": "(taken_at, photo_id) < (:time, :photo)",
}
_WALK = """
SELECT photo_id, key, taken_at FROM core.photo
WHERE user_id = :user AND gone_at IS NULL {bounds} ORDER BY taken_at DESC, photo_id DESC LIMIT :looked_at"""
# A headline that policy hides is shown as what stands for it, if the photo carries that and not on account of what is
# hidden alone.
_LIST = f"""
SELECT p.photo_id, p.key, p.taken_at, coalesce(r.outcome IN ({_SEEN}), false) AS seen, c.wnid, c.name AS headline,
       r.masses[array_position(r.nodes, c.node)] AS mass
FROM ({{walk}}) AS p
LEFT JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id
LEFT JOIN core.model m ON m.model_id = r.model_id
LEFT JOIN core.active_effect e ON (e.taxonomy_id, e.node) = (m.taxonomy_id, r.headline) AND e.hidden
LEFT JOIN core.active_effect o ON (o.taxonomy_id, o.node) = (m.taxonomy_id, coalesce(e.shown_as, r.headline))
LEFT JOIN core.category c ON c.node = coalesce(e.shown_as, r.headline) AND c.node = ANY (r.tags)
    AND NOT coalesce(r.tags && o.owed_to, false)
{{carrying}} ORDER BY p.taken_at DESC, p.photo_id DESC LIMIT :limit"""
_CARRYING = """
JOIN core.taxonomy_category tag ON (tag.taxonomy_id, tag.position) = (m.taxonomy_id, :tag)
LEFT JOIN core.active_effect t ON (t.taxonomy_id, t.node) = (m.taxonomy_id, tag.node)
WHERE tag.node = ANY (r.tags) AND NOT coalesce(t.hidden, false) AND NOT coalesce(r.tags && t.owed_to, false)"""


def user_photos(connection: Connection, model_id: int, user_id: int, wanted: Wanted) -> PhotoList:
    """A page of the user's photos that are there, with what the model says of each.

    Looks at no more than `LOOKED_AT` photos: a page of a rare category may be short, or empty, and not the last one.
    """
    looked_at = wanted.limit + 1 if wanted.tag is None else LOOKED_AT
    walk, values = _walk(user_id, wanted, looked_at)
    query = _LIST.format(walk=walk, carrying="" if wanted.tag is None else _CARRYING)
    values |= {"model": model_id, "limit": wanted.limit + 1}
    values |= {} if wanted.tag is None else {"tag": wanted.tag}
    found = tuple(PhotoSummary(**row) for row in connection.execute(text(query), values).mappings())
    shown = found[: wanted.limit]
    if len(found) > wanted.limit:
        return PhotoList(photos=shown, after=shown[-1].position)
    return PhotoList(photos=shown, after=None if wanted.tag is None else _left(connection, user_id, wanted))


def _walk(user_id: int, wanted: Wanted, looked_at: int) -> tuple[str, dict[str, object]]:
    given = [name for name in _BOUNDS if getattr(wanted, name) is not None]
    values: dict[str, object] = {"user": user_id, "looked_at": looked_at}
    values |= {name: getattr(wanted, name) for name in given if name != "after"}
    if wanted.after is not None:
        values |= {"time": wanted.after[0], "photo": wanted.after[1]}
    return _WALK.format(bounds="".join(f" AND {_BOUNDS[name]}" for name in given)), values


def _left(connection: Connection, user_id: int, wanted: Wanted) -> Position | None:
    """The last photo that was looked at, if others may follow."""
    walk, values = _walk(user_id, wanted, LOOKED_AT)
    query = f"SELECT taken_at, photo_id FROM ({walk}) AS walked OFFSET :before"
    row = connection.execute(text(query), {**values, "before": LOOKED_AT - 1}).first()
    return None if row is None else (row.taken_at, row.photo_id)


def newest_photos(connection: Connection, model_id: int, user_id: int, limit: int) -> tuple[PhotoSummary, ...]:
    """The user's newest photos by the time they were taken, with what the model says of each."""
    return user_photos(connection, model_id, user_id, Wanted(limit=limit)).photos
