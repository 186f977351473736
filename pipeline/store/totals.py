"""The totals and how they change: one signed delta per (model, user, node, slot), applied in key order.

Theory of operation
    ensure_delta ──▶ results change, each statement with COLLECT ──▶ apply_delta ──▶ ... ──▶ touch

    The temporary table `delta` holds what a transaction has changed. `apply_delta` brings it to the totals: of users,
    of categories, and of those who consent (`pipeline.store.shared`). The last statement of the transaction raises the
    revisions of whom and what it names (`pipeline.store.revisions`).

Law of the file:
1. Totals change only by what the same transaction changed in `photo_result` (RETURNING old, new); so a repeat of a
   transaction that had committed adds nothing.
2. A photo counts in the slot of its id, for ever and whoever owns it, so no slot can go below zero. Photos listed
   together share a slot: a batch touches each category in one or two, and batches of other shards touch others.
3. A row of node 0, which is no category, and of nothing but zeros says that something has changed that no total shows:
   a headline, a time, a photo that could not be read. Without a model it is something of a user that is no result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.store import shared
from pipeline.store.netting import adding
from pipeline.store.revisions import Changed

SLOTS = 64

SLOT = "core.slot_of(photo_id)"

DELTA = "model_id smallint, user_id bigint, slot smallint, node smallint, photos bigint, mass bigint"


def ensure_delta(connection: Connection) -> None:
    """Make sure that the temporary table `delta` is there, and empty. Created once per connection."""
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS delta ({DELTA}) ON COMMIT DELETE ROWS"))
    connection.execute(text("DELETE FROM delta"))  # what an earlier call in this transaction has applied


def mark_results(of: str, user: str = "user_id") -> str:
    """A statement by which results count as changed: `of`, a CTE with their model_id, photo_id and user."""
    return f"INSERT INTO delta SELECT DISTINCT model_id, {user}, {SLOT}, 0, 0, 0 FROM {of}"


def mark_users(of: str) -> str:
    """A statement by which users count as changed, beside all results: those in the column user_id of `of`."""
    return f"INSERT INTO delta SELECT DISTINCT NULL::smallint, user_id, 0, 0, 0, 0 FROM {of}"


def _marked(side: str) -> str:
    """A row of node 0 per row of one side of `changed`."""
    return f"SELECT model_id, {side}_user, {SLOT}, 0, 0, 0 FROM changed WHERE {side}_user IS NOT NULL"


def _side(side: str, sign: str) -> str:
    """What the results of one side of `changed` stand for: a row per photo and node, signed."""
    # unnest() in the list of what is selected is three times as fast as in FROM, where each call fills a table.
    return f"""
    SELECT model_id, user_id, slot, node, {sign}(node = ANY (tags))::int AS photos, {sign}mass::int AS mass FROM (
        SELECT model_id, {side}_user AS user_id, {SLOT} AS slot, unnest({side}_nodes) AS node,
               unnest({side}_masses) AS mass, {side}_tags AS tags
        FROM changed WHERE {side}_user IS NOT NULL) AS {side}"""


#: Turns rows of a CTE `changed(model_id, photo_id, old_user, old_nodes, old_masses, old_tags, new_user, ...)` into
#: deltas.
COLLECT = f"""
INSERT INTO delta
SELECT model_id, user_id, slot, node, sum(photos), sum(mass)
FROM ({_side("new", "")} UNION ALL {_side("old", "-")} UNION ALL {_marked("new")} UNION ALL {_marked("old")}) AS signed
GROUP BY 1, 2, 3, 4 HAVING sum(photos) <> 0 OR sum(mass) <> 0 OR node = 0
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected(Changed):
    """What is in `delta`."""

    counted: frozenset[int] = frozenset()  # users whose totals may change
    less: bool = False  # whether anything may be taken away, which most transactions do not


_COLLECTED = text("""
SELECT model_id, user_id, min(slot) AS slot, bool_or(node > 0) AS counted, bool_or(photos < 0 OR mass < 0) AS less
FROM delta GROUP BY 1, 2""")


def collected(connection: Connection) -> Collected:
    """What this transaction has changed so far, by `delta`."""
    rows = connection.execute(_COLLECTED).all()
    models = sorted({row.model_id for row in rows} - {None})
    return Collected(
        users=frozenset(row.user_id for row in rows),
        slots={model: min(row.slot for row in rows if row.model_id == model) for model in models},
        counted=frozenset(row.user_id for row in rows if row.counted),
        less=any(row.less for row in rows),
    )


# Who of them is counted among those who consent: that cannot change before we commit (`pipeline.store.shared`).
_WHOSE = text("""
SELECT user_id, shared FROM core.app_user WHERE user_id = ANY (CAST(:users AS bigint[]))
ORDER BY user_id FOR KEY SHARE""")

_USER_KEY, _SLOT_KEY, _AMOUNTS = ("model_id", "user_id", "node"), ("model_id", "node", "slot"), ("photos", "mass")
_OF_USERS = adding("core.user_category", _USER_KEY, _AMOUNTS, "delta")
_OF_CATEGORIES = adding("core.category_total", _SLOT_KEY, _AMOUNTS, "delta")


def apply_delta(connection: Connection, known: Collected | None = None) -> Changed:
    """Add the collected deltas to the tables of totals; once per `ensure_delta`. `known`: what they are, if at hand.

    Returns what is to be handed to `revisions.touch` at the end of the transaction.
    """
    changed = known or collected(connection)
    if changed.counted:
        whose = connection.execute(_WHOSE, {"users": sorted(changed.counted)})
        _apply(connection, [user.user_id for user in whose if user.shared], less=changed.less)
    return changed


def _apply(connection: Connection, consenting: Sequence[int], *, less: bool) -> None:
    ways = slice(None) if less else slice(1)  # what adds, and what takes away
    if consenting:
        shared.ensure_collected(connection)
    for statement in _OF_USERS[ways]:
        if consenting:
            connection.execute(text(shared.counting_users(statement)), {"consenting": consenting})
        else:
            connection.execute(text(statement))
    for statement in _OF_CATEGORIES[ways]:
        connection.execute(text(statement))
    if consenting:
        shared.add_delta(connection, consenting)


#: Photos that are no longer at their place: listed in the temporary table `forgotten(photo_id)`.
_FORGET = f"""
WITH changed AS (
    DELETE FROM core.photo_result r USING forgotten f WHERE r.photo_id = f.photo_id
    RETURNING r.model_id, r.photo_id, r.user_id AS old_user, r.nodes AS old_nodes, r.masses AS old_masses,
              r.tags AS old_tags, NULL::bigint AS new_user, NULL::smallint[] AS new_nodes,
              NULL::smallint[] AS new_masses, NULL::smallint[] AS new_tags
) {COLLECT}"""


def collect_forgotten(connection: Connection) -> None:
    """Drop every model's results of the photos in `forgotten`, and their thumbnails; collect what the totals lose.

    The caller has locked the photos in order of their ids.
    """
    connection.execute(text(_FORGET))
    connection.execute(text(mark_users("core.photo JOIN forgotten USING (photo_id)")))
    connection.execute(text("DELETE FROM core.thumbnail t USING forgotten f WHERE t.photo_id = f.photo_id"))


#: The photos in `moved(photo_id)` have a new owner or another time already; their results follow.
_MOVE = f"""
WITH changed AS (
    UPDATE core.photo_result r SET user_id = p.user_id, taken_at = p.taken_at
    FROM core.photo p JOIN moved m USING (photo_id)
    WHERE r.photo_id = p.photo_id AND (r.user_id, r.taken_at) IS DISTINCT FROM (p.user_id, p.taken_at)
    RETURNING r.model_id, r.photo_id, old.user_id AS old_user, old.nodes AS old_nodes, old.masses AS old_masses,
              old.tags AS old_tags, new.user_id AS new_user, new.nodes AS new_nodes, new.masses AS new_masses,
              new.tags AS new_tags
) {COLLECT}"""


def collect_moved(connection: Connection) -> None:
    """Give the results of the photos in `moved` the photos' present owners and times; collect both owners' changes."""
    connection.execute(text(_MOVE))


def _recount(of: str) -> str:
    return f"""
    SELECT model_id, {of}, node, count(*) FILTER (WHERE node = ANY (tags)) AS photos, sum(mass)::bigint AS mass FROM (
        SELECT model_id, user_id, {SLOT} AS slot, unnest(nodes) AS node, unnest(masses) AS mass, tags
        FROM core.photo_result) AS held
    GROUP BY 1, 2, 3"""


#: The two tables of totals, and by what each sums up a model's nodes.
USER_OF = ("core.user_category", "user_id")
SLOT_OF = ("core.category_total", "slot")


def unlike(table: str, of: str) -> str:
    """A query for the rows of totals that are not a recount of the results, in either direction.

    Its columns are the key and what is to be added to the stored `photos` and `mass`. Both sides are of one snapshot,
    and every transaction changes them alike: so what is missing now is missing for ever, whoever merges meanwhile.
    A model that is being dropped is left out: its results go first, its totals after them.
    """
    return f"""
    SELECT model_id, {of}, node, coalesce(c.photos, 0) - coalesce(t.photos, 0) AS photos,
           coalesce(c.mass, 0) - coalesce(t.mass, 0) AS mass
    FROM ({_recount(of)}) AS c FULL JOIN {table} t USING (model_id, {of}, node)
    WHERE (coalesce(c.photos, 0), coalesce(c.mass, 0)) <> (coalesce(t.photos, 0), coalesce(t.mass, 0))
      AND model_id NOT IN (SELECT model_id FROM core.model WHERE dropped_at IS NOT NULL)"""


def differences(connection: Connection) -> int:
    """Rows in which totals and a recount of them differ, in either direction; 0 is the only right answer.

    Those of users and categories are recounted from the results, those of users who consent from those of users. All
    are read from the connection's snapshot, so it must be REPEATABLE READ while anyone writes.
    """
    found = 0
    for table, of in (USER_OF, SLOT_OF):
        found += connection.execute(text(f"SELECT count(*) FROM ({unlike(table, of)}) AS d")).scalar_one()
    for query in (shared.UNLIKE, shared.MISTAKEN):
        found += connection.execute(text(f"SELECT count(*) FROM ({query}) AS d")).scalar_one()
    return found
