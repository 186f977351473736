"""Totals over the users who consent to be seen by others, kept exact while they change their minds.

Theory of operation
    `app_user.shared` says whose totals are in `core.shared_total`. A user who consents, takes it back or is erased is
    moved in or out as a whole, from what `core.user_category` says of them; every change of a user's totals in between
    is added to both. So the one is at all times the sum of the other over the users who are `shared`.

Laws
1. Who moves a user locks the user's row FOR UPDATE before reading the totals. Whoever changes totals holds that row FOR
   KEY SHARE until the commit, and reads `shared` under this lock (`pipeline.store.totals`). So either the change is
   committed when the totals are read, or `shared` is read as the move has left it. A plain UPDATE of the row would not
   wait for a KEY SHARE.
2. `shared` and the totals change in one transaction. Consent may have been given to an earlier release, which kept no
   such totals: then `shared` is false, nothing is added, and `pictograph repair shared` moves the user in.
3. A user counts in one slot, by their id: how many users there are of a tag is a sum over the slots.
4. Rows are locked after those of category_total, in key order.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from pipeline.profile import CategoryTotal
from pipeline.store.netting import adding

SLOTS = 64
USER_SLOT = f"(user_id % {SLOTS})::smallint"
KEY = ("model_id", "node", "slot")
AMOUNTS = ("users", "photos", "mass")

#: Of a row of `app_user`: what `shared` should be.
SHOULD_BE = "(consent IS TRUE AND deleted_at IS NULL)"

_COLLECTED = "model_id smallint, node smallint, slot smallint, users bigint, photos bigint, mass bigint"
_ADD = adding("core.shared_total", KEY, AMOUNTS, "collected")


def ensure_collected(connection: Connection) -> None:
    """Make sure that the temporary table `collected` is there, and empty. Created once per connection."""
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS collected ({_COLLECTED}) ON COMMIT DELETE ROWS"))
    connection.execute(text("DELETE FROM collected"))


def counting_users(change: str) -> str:
    """A statement that changes `core.user_category t`, made to collect how many of `:consenting` carry which tag now.

    Once per `ensure_collected` for each statement of a change.
    """
    return f"""
WITH changed AS (
    {change} RETURNING t.model_id, t.user_id, t.node, coalesce(old.photos, 0) > 0 AS had, new.photos > 0 AS has)
INSERT INTO collected
SELECT model_id, node, {USER_SLOT}, sum(has::int - had::int), 0, 0
FROM changed WHERE has <> had AND user_id = ANY (CAST(:consenting AS bigint[])) GROUP BY 1, 2, 3"""


_COLLECT = text(f"""
INSERT INTO collected
SELECT model_id, node, {USER_SLOT}, 0, sum(photos), sum(mass)
FROM delta WHERE node > 0 AND user_id = ANY (CAST(:consenting AS bigint[])) GROUP BY 1, 2, 3""")


def add_delta(connection: Connection, consenting: Sequence[int]) -> None:
    """Add what `delta` holds of these users, and what `counting_users` has collected, to the totals of all of them."""
    connection.execute(_COLLECT, {"consenting": consenting})
    add_collected(connection)


def add_collected(connection: Connection) -> None:
    """Add the rows of `collected` to the totals; once per `ensure_collected`."""
    for statement in _ADD:
        connection.execute(text(statement))


_MOVE = text(f"""
INSERT INTO collected
SELECT model_id, node, {USER_SLOT}, sum(sign * (photos > 0)::int), sum(sign * photos), sum(sign * mass)
FROM core.user_category JOIN (
    SELECT user_id, CASE WHEN shared THEN -1 ELSE 1 END AS sign FROM core.app_user
    WHERE user_id = ANY (CAST(:users AS bigint[]))) AS moved USING (user_id)
WHERE (photos, mass) <> (0, 0) GROUP BY 1, 2, 3""")
_TURN = text("UPDATE core.app_user SET shared = NOT shared WHERE user_id = ANY (CAST(:users AS bigint[]))")


def move(connection: Connection, user_ids: Sequence[int]) -> None:
    """Move these users in where they are not shared, and out where they are; their rows must be locked FOR UPDATE."""
    ensure_collected(connection)
    connection.execute(_MOVE, {"users": list(user_ids)})
    connection.execute(_TURN, {"users": list(user_ids)})
    add_collected(connection)


def everybody(connection: Connection, model_id: int) -> tuple[CategoryTotal, ...]:
    """The exact totals over the users who consent, by column."""
    query = text("""
        SELECT tc.position, sum(t.photos)::bigint, sum(t.mass)::bigint
        FROM core.shared_total t JOIN core.model m USING (model_id)
        JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.node) = (m.taxonomy_id, t.node)
        WHERE t.model_id = :model GROUP BY tc.position HAVING sum(t.mass) > 0 ORDER BY tc.position""")
    rows = connection.execute(query, {"model": model_id})
    return tuple(CategoryTotal(column=column, photos=photos, mass=mass) for column, photos, mass in rows)


#: What is to be added to the stored totals for them to be those of the users who are shared, in both directions. Both
#: sides are of one snapshot, and every transaction changes them alike. A model that is being dropped is left out.
UNLIKE = f"""
SELECT model_id, node, slot, coalesce(c.users, 0) - coalesce(t.users, 0) AS users,
       coalesce(c.photos, 0) - coalesce(t.photos, 0) AS photos, coalesce(c.mass, 0) - coalesce(t.mass, 0) AS mass
FROM (
    SELECT model_id, node, {USER_SLOT} AS slot, count(*) FILTER (WHERE photos > 0) AS users,
           sum(photos)::bigint AS photos, sum(mass)::bigint AS mass
    FROM core.user_category JOIN core.app_user USING (user_id) WHERE shared GROUP BY 1, 2, 3) AS c
FULL JOIN core.shared_total t USING (model_id, node, slot)
WHERE (coalesce(c.users, 0), coalesce(c.photos, 0), coalesce(c.mass, 0))
      <> (coalesce(t.users, 0), coalesce(t.photos, 0), coalesce(t.mass, 0))
  AND model_id NOT IN (SELECT model_id FROM core.model WHERE dropped_at IS NOT NULL)"""

#: Users who are shared and should not be, or the other way round.
MISTAKEN = f"SELECT user_id FROM core.app_user WHERE shared <> {SHOULD_BE}"
