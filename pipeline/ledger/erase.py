"""Erasing a user, while merges, listings and thumbnails of that very user go on.

Theory of operation
    fence ──▶ erase_some, again and again ──▶ finish ──▶ a receipt

    The fence is one transaction: the user is hidden, and nothing of theirs is stored from now on. The rows then go in
    batches, each a transaction that takes everything that hangs on a few photos. At the end it is counted that nothing
    is left. Whoever runs the erasure may be killed at any point: it is asked for again, and goes on where it stood.

Laws
1. The fence locks the user's row FOR UPDATE. A merge or a listing holds that row FOR KEY SHARE until it commits, so
   either its rows are there when the batches begin, or it sees the tombstone. A plain UPDATE would not wait for it.
   In the same transaction the user leaves the totals of those who consent, and keys made for the user open nothing.
2. A batch locks its photos FOR UPDATE before all else, and takes only what is still the user's under that lock: a photo
   that a listing has just given to somebody else stays.
3. Totals lose exactly what the deleted results were; a job keeps its sum, its items leave and are counted as `erased`.
4. Lock order as in `pipeline/store/merge.py`. Shards are left alone: who claims one without photos finishes it.
5. Lines of results stay as lines, blank; a manifest that was delivered with them is written again.
6. The name stays, as the tombstone by which listings know whom not to bring back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.crashpoints import Point, reached
from pipeline.errors import ConfigurationError
from pipeline.ledger import delivery, events, lines
from pipeline.records import ItemState
from pipeline.store import shared
from pipeline.store.revisions import touch, touch_standing
from pipeline.store.session import Database
from pipeline.store.tally import apply_tally, ensure_tally
from pipeline.store.totals import apply_delta, collect_forgotten, ensure_delta

BATCH_PHOTOS = 500  # a transaction of well under a second, so that nobody waits long for its locks


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What an erasure has deleted so far, and what it left."""

    user_id: int
    user: str
    requested_at: datetime
    finished_at: datetime | None  # None: it is still to be completed
    photos: int
    results: int
    thumbnails: int
    items: int  # photos of jobs
    verdicts: int  # what people said of tags
    lines: int  # of results, blanked
    outputs: int  # manifests that had been delivered with such lines, and are written again
    left: Mapping[str, int]  # rows of each kind that are still there; all zero at the end


def erase(database: Database, user: str, *, batch_photos: int = BATCH_PHOTOS) -> Receipt:
    """Delete everything that is stored about `user`, or complete what was begun.

    Raises:
        ConfigurationError: there is no such user.
    """
    user_id = database.run(lambda c: fence(c, user))
    while database.run(lambda c: erase_some(c, user_id, batch_photos)):
        reached(Point.ERASE_MID)
    return database.run(lambda c: finish(c, user_id))


def find(connection: Connection, user: str) -> Receipt | None:
    """How the erasure of `user` stands; None: nobody has asked for it.

    Raises:
        ConfigurationError: there is no such user.
    """
    row = connection.execute(
        text(
            "SELECT u.user_id, e.user_id IS NOT NULL FROM core.app_user u LEFT JOIN core.erasure e USING (user_id) "
            "WHERE u.name = :user"
        ),
        {"user": user},
    ).first()
    if row is None:
        raise _unknown(user)
    return receipt(connection, row[0]) if row[1] else None


def fence(connection: Connection, user: str) -> int:
    """Hide the user, and keep everybody from storing anything of theirs; returns the user's id. Safe to repeat.

    Raises:
        ConfigurationError: there is no such user.
    """
    user_id: int | None = connection.execute(
        text("SELECT user_id FROM core.app_user WHERE name = :user FOR UPDATE"), {"user": user}
    ).scalar()
    if user_id is None:
        raise _unknown(user)
    values = {"user": user_id}
    hidden = connection.execute(_HIDE, values).rowcount
    connection.execute(
        text("INSERT INTO core.erasure (user_id) VALUES (:user) ON CONFLICT (user_id) DO NOTHING"), values
    )
    connection.execute(_REVOKE, {"name": user})
    if connection.execute(text("SELECT shared FROM core.app_user WHERE user_id = :user"), values).scalar_one():
        shared.move(connection, [user_id])
    if hidden:
        touch_standing(connection, [user_id])
    return user_id


_HIDE = text("UPDATE core.app_user SET deleted_at = now() WHERE user_id = :user AND deleted_at IS NULL")
_REVOKE = text("UPDATE core.api_key SET revoked_at = now() WHERE user_name = :name AND revoked_at IS NULL")


def _unknown(user: str) -> ConfigurationError:
    return ConfigurationError(f"There is no user {user!r}; `pictograph users list` names all of them.")


_LOCK_PHOTOS = text("""
INSERT INTO forgotten SELECT photo_id FROM core.photo WHERE user_id = :user
ORDER BY photo_id LIMIT :photos FOR UPDATE""")
_RESULTS = text("SELECT count(*) FROM core.photo_result r JOIN forgotten USING (photo_id)")
_THUMBNAILS = text("DELETE FROM core.thumbnail t USING forgotten f WHERE t.photo_id = f.photo_id")
_VERDICTS = text("DELETE FROM core.verdict v USING forgotten f WHERE v.photo_id = f.photo_id")

_ITEMS = text(f"""
WITH mine AS MATERIALIZED (
    SELECT i.job_id, i.photo_id FROM core.job_item i JOIN forgotten f ON f.photo_id = i.photo_id
    ORDER BY i.job_id, i.photo_id FOR UPDATE OF i
), gone AS (
    DELETE FROM core.job_item i USING mine WHERE i.job_id = mine.job_id AND i.photo_id = mine.photo_id
    RETURNING i.job_id, i.state, i.code)
INSERT INTO tally
SELECT job_id, state, code, -count(*) FROM gone GROUP BY 1, 2, 3
UNION ALL SELECT job_id, {ItemState.ERASED}, 0, count(*) FROM gone GROUP BY 1""")
_ITEMS_GONE = text(
    f"SELECT coalesce(sum(photos), 0)::bigint FROM tally WHERE state = {ItemState.ERASED} AND photos > 0"
)

_MISSING = text("DELETE FROM core.job_missing m USING forgotten f WHERE m.photo_id = f.photo_id")
_PHOTOS = text("DELETE FROM core.photo p USING forgotten f WHERE p.photo_id = f.photo_id")
_NOTE = text("""
UPDATE core.erasure SET photos = photos + :photos, results = results + :results,
       thumbnails = thumbnails + :thumbnails, items = items + :items, lines = lines + :lines,
       outputs = outputs + :outputs, verdicts = verdicts + :verdicts WHERE user_id = :user""")


def erase_some(connection: Connection, user_id: int, photos: int) -> int:
    """Delete at most so many photos of a fenced user with all that hangs on them; returns how many."""
    _create_work_tables(connection)
    chosen = connection.execute(_LOCK_PHOTOS, {"user": user_id, "photos": photos}).rowcount
    if chosen == 0:
        return 0
    results = connection.execute(_RESULTS).scalar_one()
    thumbnails = connection.execute(_THUMBNAILS).rowcount
    collect_forgotten(connection)
    reached(Point.ERASE_MID)
    changed = apply_delta(connection)
    connection.execute(_ITEMS)
    items = connection.execute(_ITEMS_GONE).scalar_one()
    apply_tally(connection)
    reached(Point.ERASE_MID)
    outputs, blanked = _forget_words(connection)
    verdicts = connection.execute(_VERDICTS).rowcount
    connection.execute(_MISSING)  # last: who completes a listing deletes such rows after it has locked totals
    connection.execute(_PHOTOS)
    counts = {"photos": chosen, "results": results, "thumbnails": thumbnails, "items": items, "lines": blanked}
    connection.execute(_NOTE, {"user": user_id, "outputs": outputs, "verdicts": verdicts, **counts})
    touch(connection, changed)
    return chosen


def _forget_words(connection: Connection) -> tuple[int, int]:
    """Take the photos' keys out of results and events; how many manifests are to be written again, and lines."""
    photos = list(connection.execute(text("SELECT photo_id FROM forgotten ORDER BY 1")).scalars())
    outputs = delivery.write_again(connection, lines.jobs_naming(connection, photos))
    events.forget(connection, photos)
    return outputs, lines.forget_lines(connection, photos)


def _create_work_tables(connection: Connection) -> None:
    ensure_delta(connection)
    ensure_tally(connection)
    connection.execute(text("CREATE TEMP TABLE IF NOT EXISTS forgotten (photo_id bigint) ON COMMIT DELETE ROWS"))
    connection.execute(text("DELETE FROM forgotten"))


def finish(connection: Connection, user_id: int) -> Receipt:
    """Count what is left of the user; if it is nothing, the erasure is complete. Returns the receipt."""
    values = {"user": user_id}
    # Totals that are not zero would belong to results that nobody can find: they stay, for all to see.
    # Those of a model that was dropped belong to none.
    connection.execute(
        text("""DELETE FROM core.user_category WHERE user_id = :user AND ((photos, mass) = (0, 0) OR model_id IN (
                    SELECT model_id FROM core.model WHERE dropped_at IS NOT NULL))"""),
        values,
    )
    connection.execute(text("DELETE FROM core.user_revision WHERE user_id = :user"), values)
    if not any(_left(connection, user_id).values()):
        connection.execute(
            text("UPDATE core.erasure SET finished_at = now() WHERE user_id = :user AND finished_at IS NULL"), values
        )
    return receipt(connection, user_id)


def receipt(connection: Connection, user_id: int) -> Receipt:
    """How the erasure of a user stands; there must be one."""
    row = connection.execute(
        text("""SELECT user_id, u.name AS user, requested_at, finished_at, photos, results, thumbnails, items, lines,
                       outputs, verdicts
                FROM core.erasure JOIN core.app_user u USING (user_id) WHERE user_id = :user"""),
        {"user": user_id},
    ).one()
    return Receipt(**row._mapping, left=_left(connection, user_id))


_LEFT = text("""
SELECT (SELECT count(*) FROM core.photo WHERE user_id = :user) AS photos,
       (SELECT count(*) FROM core.photo_result WHERE user_id = :user) AS results,
       (SELECT count(*) FROM core.user_category WHERE user_id = :user) AS totals,
       (SELECT count(*) FROM core.photo JOIN core.thumbnail USING (photo_id) WHERE user_id = :user) AS thumbnails,
       (SELECT count(*) FROM core.photo JOIN core.job_item USING (photo_id) WHERE user_id = :user) AS items,
       (SELECT count(*) FROM core.photo JOIN core.job_missing USING (photo_id) WHERE user_id = :user) AS missing,
       (SELECT count(*) FROM core.photo JOIN core.verdict USING (photo_id) WHERE user_id = :user) AS verdicts,
       (SELECT count(*) FROM core.user_revision WHERE user_id = :user) AS revisions,
       (SELECT count(*) FROM core.app_user u JOIN core.api_key k ON k.user_name = u.name
        WHERE user_id = :user AND revoked_at IS NULL) AS keys,
       (SELECT count(*) FROM core.photo JOIN core.job_line USING (photo_id) WHERE user_id = :user) AS lines,
       (SELECT count(*) FROM core.photo p JOIN core.bucket b USING (bucket_id) JOIN core.object_event e
        ON e.bucket = b.uri AND e.key = p.key WHERE user_id = :user) AS events""")


def _left(connection: Connection, user_id: int) -> dict[str, int]:
    """Rows of the user by kind. What hangs on photos cannot outlive them: those references are enforced."""
    return dict(connection.execute(_LEFT, {"user": user_id}).one()._mapping)
