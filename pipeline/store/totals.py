"""The totals and how they change: one signed delta per (model, user, node), applied in key order.

Law of the file:
1. Totals change only by what the same transaction changed in `photo_result` (RETURNING old, new); so a repeat of a
   transaction that had committed adds nothing.
2. Rows that do not exist yet are inserted with zeros first: a CHECK looks at the proposed row before the conflict.
3. All rows are locked in key order before any is updated, so that two transactions cannot deadlock here.
"""

from sqlalchemy import Connection, text

SLOTS = 64  # by user: a user's rows always fall into the same slot, so no slot can go below zero

DELTA = "model_id smallint, user_id bigint, node smallint, photos bigint, mass bigint"


def ensure_delta(connection: Connection) -> None:
    """Create the temporary table `delta`, once per connection; transactions and `apply_delta` leave it empty."""
    connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS delta ({DELTA}) ON COMMIT DELETE ROWS"))


#: Turns rows of a CTE `changed(model_id, old_user, old_nodes, old_masses, old_tags, new_user, ...)` into deltas.
COLLECT = """
INSERT INTO delta
SELECT model_id, user_id, node, sum(photos), sum(mass) FROM (
    SELECT c.model_id, c.new_user AS user_id, n.node, (n.node = ANY (c.new_tags))::int AS photos, n.mass::bigint AS mass
    FROM changed c, unnest(c.new_nodes, c.new_masses) AS n(node, mass) WHERE c.new_user IS NOT NULL
    UNION ALL
    SELECT c.model_id, c.old_user, n.node, -(n.node = ANY (c.old_tags))::int, -n.mass::bigint
    FROM changed c, unnest(c.old_nodes, c.old_masses) AS n(node, mass) WHERE c.old_user IS NOT NULL
) AS signed GROUP BY 1, 2, 3 HAVING sum(photos) <> 0 OR sum(mass) <> 0
"""

_APPLY = (
    """INSERT INTO core.user_category (model_id, user_id, node, photos, mass)
       SELECT model_id, user_id, node, 0, 0 FROM delta GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING""",
    """SELECT FROM core.user_category t
       JOIN (SELECT DISTINCT model_id, user_id, node FROM delta) d USING (model_id, user_id, node)
       ORDER BY t.model_id, t.user_id, t.node FOR NO KEY UPDATE OF t""",
    """UPDATE core.user_category t SET photos = t.photos + d.photos, mass = t.mass + d.mass
       FROM (SELECT model_id, user_id, node, sum(photos) AS photos, sum(mass) AS mass FROM delta GROUP BY 1, 2, 3) d
       WHERE (t.model_id, t.user_id, t.node) = (d.model_id, d.user_id, d.node)""",
    f"""INSERT INTO core.category_total (model_id, node, slot, photos, mass)
       SELECT DISTINCT model_id, node, (user_id % {SLOTS})::smallint, 0, 0 FROM delta ORDER BY 1, 2, 3
       ON CONFLICT DO NOTHING""",
    f"""SELECT FROM core.category_total t
       JOIN (SELECT DISTINCT model_id, node, (user_id % {SLOTS})::smallint AS slot FROM delta) d
       USING (model_id, node, slot) ORDER BY t.model_id, t.node, t.slot FOR NO KEY UPDATE OF t""",
    f"""UPDATE core.category_total t SET photos = t.photos + d.photos, mass = t.mass + d.mass
       FROM (SELECT model_id, node, (user_id % {SLOTS})::smallint AS slot, sum(photos) AS photos, sum(mass) AS mass
             FROM delta GROUP BY 1, 2, 3) d
       WHERE (t.model_id, t.node, t.slot) = (d.model_id, d.node, d.slot)""",
    "DELETE FROM delta",  # or a second call in the same transaction would count it twice
)


def apply_delta(connection: Connection) -> None:
    """Add the collected deltas to both tables of totals, and empty `delta`."""
    for statement in _APPLY:
        connection.execute(text(statement))


#: Photos that are no longer at their place: listed in the temporary table `forgotten(photo_id)`.
_FORGET = f"""
WITH changed AS (
    DELETE FROM core.photo_result r USING forgotten f WHERE r.photo_id = f.photo_id
    RETURNING r.model_id, r.user_id AS old_user, r.nodes AS old_nodes, r.masses AS old_masses, r.tags AS old_tags,
              NULL::bigint AS new_user, NULL::smallint[] AS new_nodes, NULL::smallint[] AS new_masses,
              NULL::smallint[] AS new_tags
) {COLLECT}"""


def collect_forgotten(connection: Connection) -> None:
    """Drop every model's results of the photos in `forgotten`, and their thumbnails; collect what the totals lose.

    The caller has locked the photos in order of their ids.
    """
    connection.execute(text(_FORGET))
    connection.execute(text("DELETE FROM core.thumbnail t USING forgotten f WHERE t.photo_id = f.photo_id"))


#: The photos in `moved(photo_id)` have a new owner already; their results follow.
_MOVE = f"""
WITH changed AS (
    UPDATE core.photo_result r SET user_id = p.user_id
    FROM core.photo p JOIN moved m USING (photo_id)
    WHERE r.photo_id = p.photo_id AND r.user_id <> p.user_id
    RETURNING r.model_id, old.user_id AS old_user, old.nodes AS old_nodes, old.masses AS old_masses,
              old.tags AS old_tags, new.user_id AS new_user, new.nodes AS new_nodes, new.masses AS new_masses,
              new.tags AS new_tags
) {COLLECT}"""


def collect_moved(connection: Connection) -> None:
    """Give the results of the photos in `moved` to the photos' present owners, collecting both owners' changes."""
    connection.execute(text(_MOVE))


_RECOUNT_USER = """
    SELECT r.model_id, r.user_id, n.node, count(*) FILTER (WHERE n.node = ANY (r.tags)) AS photos,
           sum(n.mass)::bigint AS mass
    FROM core.photo_result r, unnest(r.nodes, r.masses) AS n(node, mass) GROUP BY 1, 2, 3"""
_STORED_USER = "SELECT model_id, user_id, node, photos, mass FROM core.user_category WHERE (photos, mass) <> (0, 0)"
_RECOUNT_ALL = f"""
    SELECT model_id, node, sum(photos)::bigint AS photos, sum(mass)::bigint AS mass FROM ({_RECOUNT_USER}) u
    GROUP BY 1, 2"""
_STORED_ALL = """
    SELECT model_id, node, sum(photos)::bigint AS photos, sum(mass)::bigint AS mass FROM core.category_total
    GROUP BY 1, 2 HAVING (sum(photos), sum(mass)) <> (0, 0)"""


def differences(connection: Connection) -> int:
    """Rows in which the totals and a recount from the results differ, in either direction; 0 is the only right answer.

    Both sides are read from the connection's snapshot, so it must be REPEATABLE READ while anyone writes.
    """
    query = "SELECT count(*) FROM ((({a}) EXCEPT ({b})) UNION ALL (({b}) EXCEPT ({a}))) AS d"
    pairs = ((_RECOUNT_USER, _STORED_USER), (_RECOUNT_ALL, _STORED_ALL))
    return sum(connection.execute(text(query.format(a=a, b=b))).scalar_one() for a, b in pairs)
