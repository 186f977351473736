"""The one transaction that turns finished photos into rows and exact totals.

Theory of operation
    The engine hands over a batch of `PhotoResult`, of one model, from one or more shards. One transaction stores the
    results, changes the totals by exactly what it changed in the results, closes the job's items and finishes the
    shards that have nothing left. Only after its commit may a message be acknowledged.

Laws
1. A repeat is a no-op: a result wins only if its (content_rev, decision_rev, seen by the model) is greater than the
   stored one's; an item is closed only if it is open, and sent to wait only if it does not wait already. So a COMMIT
   whose reply was lost may be sent again.
2. A result counts only if the photo still has the content that was read (`content_rev`); otherwise the item goes back
   to `retry`, at once.
3. Users under erasure are skipped; the lock on the user row makes the eraser wait for us, or us see the tombstone.
4. Lock order, everywhere in the system: app_user < photo < photo_result < user_category < category_total
   < shared_total < job_item < job_count < shard < job < user_revision < model_revision, each by ascending key. Who
   changes totals takes the users' rows FOR KEY SHARE once more before them (`pipeline.store.shared`).
5. A result has the time of its photo, whichever job or model has found it out: who changes the one changes the other.
6. Results are keyed by content, not by lease: a merge that comes after its lease was lost still stores what is right,
   and leaves the shard to its new holder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.crashpoints import Point, reached
from pipeline.records import SEEN, Code, ItemState, Lease, PhotoResult, TakenFrom, WorkState
from pipeline.store.packing import COLUMNS, Batch
from pipeline.store.revisions import touch
from pipeline.store.staging import copy_packed
from pipeline.store.tally import apply_tally, ensure_tally
from pipeline.store.totals import (
    COLLECT,
    SLOT,
    Collected,
    apply_delta,
    collect_forgotten,
    ensure_delta,
    mark_results,
    mark_users,
)

BACKOFF_FIRST_SECONDS = 5.0
BACKOFF_LAST_SECONDS = 600.0

MASS_DELETE_SHARE = 0.20  # more than this gone at once looks like a wrong place, not like a clean-up
FEWEST_DOUBTED = 100  # photos that are found gone when they are read; a few are nothing out of the way


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What one merge did."""

    stored: int  # results written or replaced
    closed: dict[tuple[ItemState, Code], int]  # items that reached a terminal state
    finished: frozenset[int]  # shard ids


_SEEN = ", ".join(str(int(code)) for code in sorted(SEEN))

_LOCK_USERS = text("""
SELECT FROM core.app_user u WHERE u.user_id IN (
    SELECT p.user_id FROM core.photo p JOIN staged s USING (photo_id)) ORDER BY u.user_id FOR KEY SHARE""")
_LOCK_PHOTOS = text(f"""
INSERT INTO locked
SELECT p.photo_id, p.user_id, p.content_rev, p.gone_at IS NOT NULL, p.taken_at, p.taken_from = {TakenFrom.OBJECT}
FROM core.photo p
WHERE p.photo_id IN (SELECT photo_id FROM staged) ORDER BY p.photo_id FOR NO KEY UPDATE""")

# One row per staged photo: what shall become of it, decided under the locks on its user and on itself. The owners are
# locked again: a lister may just have given a photo to somebody else.
_VERDICT = text(f"""
WITH owner AS MATERIALIZED (
    SELECT user_id, deleted_at FROM core.app_user WHERE user_id IN (SELECT user_id FROM locked)
    ORDER BY user_id FOR KEY SHARE)
INSERT INTO verdict
SELECT DISTINCT ON (s.job_id, s.photo_id) s.*, l.user_id,
    CASE WHEN o.deleted_at IS NOT NULL THEN {ItemState.ERASED} WHEN l.gone THEN {ItemState.FAILED}
         WHEN l.content_rev <> s.content_rev THEN {ItemState.RETRY} ELSE s.state END,
    CASE WHEN o.deleted_at IS NOT NULL THEN {Code.NONE} WHEN l.gone THEN {Code.GONE}
         WHEN l.content_rev <> s.content_rev THEN {Code.NONE} ELSE s.code END,
    CASE WHEN l.by_object THEN coalesce(s.taken_at, l.taken_at) ELSE l.taken_at END
FROM staged s JOIN locked l USING (photo_id) JOIN owner o USING (user_id)
ORDER BY s.job_id, s.photo_id, s.content_rev DESC, s.state = {ItemState.SUCCEEDED} DESC, s.state DESC""")

# `results` holds a photo once, though two jobs may bring it in one batch. `outcome` is what the photo is, `final_code`
# what became of the item: not the same for a duplicate.
#
# What new results add is worked out by `Batch.added`, unless a photo is in the batch twice: then only the server knows
# which of the two won.
_STORE = text(f"""
WITH results AS (
    SELECT DISTINCT ON (photo_id) * FROM verdict
    WHERE final IN ({ItemState.SUCCEEDED}, {ItemState.FAILED}, {ItemState.DUPLICATE})
      AND final_code NOT IN ({Code.GONE}, {Code.INFRASTRUCTURE}, {Code.FORBIDDEN})
    ORDER BY photo_id, content_rev DESC, outcome IN ({_SEEN}) DESC
), stored AS (
    INSERT INTO core.photo_result AS r (model_id, photo_id, user_id, content_rev, decision_rev, outcome, headline,
                                        nodes, masses, tags, sha256, taken_at)
    SELECT :model, photo_id, user_id, content_rev, :decision, outcome, headline, nodes, masses, tags, sha256, took
    FROM results ORDER BY photo_id
    ON CONFLICT (model_id, photo_id) DO UPDATE
    SET user_id = EXCLUDED.user_id, content_rev = EXCLUDED.content_rev, decision_rev = EXCLUDED.decision_rev,
        outcome = EXCLUDED.outcome, headline = EXCLUDED.headline, nodes = EXCLUDED.nodes, masses = EXCLUDED.masses,
        tags = EXCLUDED.tags, sha256 = EXCLUDED.sha256, taken_at = EXCLUDED.taken_at
    WHERE (r.content_rev, r.decision_rev, r.outcome IN ({_SEEN}))
        < (EXCLUDED.content_rev, EXCLUDED.decision_rev, EXCLUDED.outcome IN ({_SEEN}))
    RETURNING new.model_id, new.photo_id,
        old.user_id AS old_user, old.nodes AS old_nodes, old.masses AS old_masses, old.tags AS old_tags,
        new.user_id AS new_user, new.nodes AS new_nodes, new.masses AS new_masses, new.tags AS new_tags
), changed AS (
    SELECT * FROM stored WHERE old_user IS NOT NULL OR :twice
), collected AS ({COLLECT})
SELECT photo_id, new_user AS user_id, {SLOT} AS slot, old_user IS NULL AND NOT :twice AS added FROM stored""")

_TAKEN = text(f"""
UPDATE core.photo p SET taken_at = v.taken_at, taken_from = {TakenFrom.EXIF}
FROM (SELECT DISTINCT photo_id, taken_at FROM verdict WHERE taken_at IS NOT NULL AND final = state) v
WHERE p.photo_id = v.photo_id AND p.taken_from = {TakenFrom.OBJECT}""")

# Results of other models know the photo's time too; and that of this one, where what was merged did not win.
_OTHERS = text("""
SELECT model_id FROM core.model WHERE dropped_at IS NULL AND (model_id <> :model OR :everything) ORDER BY 1""")
_TELL = text(f"""
WITH told AS (
    UPDATE core.photo_result r SET taken_at = p.taken_at
    FROM (SELECT DISTINCT photo_id FROM verdict WHERE taken_at IS NOT NULL) v JOIN core.photo p USING (photo_id)
    WHERE r.model_id = :other AND r.photo_id = v.photo_id AND r.taken_at IS DISTINCT FROM p.taken_at
    RETURNING r.model_id, r.photo_id, r.user_id
) {mark_results("told")}""")
_TELL_USERS = text(mark_users("verdict WHERE taken_at IS NOT NULL AND final = state"))

# A job that finds a large part of its photos gone has most likely lost the place and not the photos, as when it asks
# another server: what is stored of them stays, for a listing to find missing under its own guard.
_GONE = text(f"""
WITH doubted AS MATERIALIZED (
    SELECT v.job_id FROM verdict v JOIN core.job j USING (job_id)
    WHERE v.final_code = {Code.GONE} AND NOT j.allow_mass_delete GROUP BY 1
    HAVING count(*) + (SELECT coalesce(sum(c.photos), 0) FROM core.job_count c WHERE c.job_id = v.job_id
                       AND (c.state, c.code) = ({ItemState.FAILED}, {Code.GONE}))
        > greatest({FEWEST_DOUBTED}, {MASS_DELETE_SHARE} * (
            SELECT coalesce(sum(r.listed), 0) FROM core.list_range r WHERE r.job_id = v.job_id))
), gone AS (
    UPDATE core.photo p SET gone_at = now() FROM verdict v
    WHERE p.photo_id = v.photo_id AND v.final_code = {Code.GONE} AND p.gone_at IS NULL
      AND v.job_id NOT IN (SELECT job_id FROM doubted)
    RETURNING p.photo_id
) INSERT INTO forgotten SELECT DISTINCT photo_id FROM gone""")

# Trouble of the infrastructure waits and tries again; only after the patience is it the photo's end in this job. Open
# are PENDING and RETRY, the two lowest. An OR of the two would make Postgres read all open items of all jobs instead.
_CLOSE = text(f"""
WITH moved AS (
    UPDATE core.job_item i
    SET (state, code) = (SELECT CASE WHEN given_up THEN {ItemState.FAILED} ELSE v.final END,
                                CASE WHEN given_up THEN {Code.INFRASTRUCTURE} ELSE v.final_code END
                         FROM (SELECT v.final = {ItemState.RETRY} AND v.state = {ItemState.RETRY}
                                  AND i.first_retry_at < now() - make_interval(secs => :patience) AS given_up) g),
        attempts = i.attempts + 1, message = nullif(v.message, ''),
        shard_id = CASE WHEN v.final = {ItemState.RETRY} THEN NULL ELSE i.shard_id END,
        first_retry_at = CASE WHEN v.final = {ItemState.RETRY} THEN coalesce(i.first_retry_at, now()) END,
        next_attempt_at = CASE
            WHEN v.final = {ItemState.RETRY} AND v.state = {ItemState.RETRY}
            THEN now() + make_interval(secs => (0.5 + random() / 2) * least(
                {BACKOFF_LAST_SECONDS}, {BACKOFF_FIRST_SECONDS} * 2 ^ least(i.attempts, 10)))
            WHEN v.final = {ItemState.RETRY} THEN now() END
    FROM verdict v
    WHERE i.job_id = v.job_id AND i.photo_id = v.photo_id
      AND i.state <= CASE WHEN v.final = {ItemState.RETRY} THEN {ItemState.PENDING} ELSE {ItemState.RETRY} END
    RETURNING i.job_id, old.state AS old_state, old.code AS old_code, new.state AS new_state, new.code AS new_code
) INSERT INTO tally
  SELECT job_id, old_state, old_code, -count(*) FROM moved GROUP BY 1, 2, 3
  UNION ALL SELECT job_id, new_state, new_code, count(*) FROM moved GROUP BY 1, 2, 3""")

# Who got something done is no hopeless case: what failed before had another reason.
_UNBLAME = text("""
UPDATE core.shard s SET failures = 0, error = NULL
FROM (SELECT shard_id FROM core.shard WHERE shard_id = ANY (CAST(:ids AS bigint[])) AND failures > 0
      ORDER BY 1 FOR NO KEY UPDATE) mine
WHERE s.shard_id = mine.shard_id""")

_FINISH = text(f"""
UPDATE core.shard s SET state = {WorkState.DONE}, lease_owner = NULL, lease_until = NULL
FROM (SELECT s.shard_id FROM core.shard s
      JOIN unnest(CAST(:ids AS bigint[]), CAST(:epochs AS bigint[])) AS l(shard_id, epoch) USING (shard_id)
      WHERE s.lease_epoch = l.epoch AND s.state = {WorkState.LEASED} ORDER BY 1 FOR UPDATE OF s) mine
WHERE s.shard_id = mine.shard_id AND NOT EXISTS (
    SELECT FROM core.job_item i WHERE i.shard_id = s.shard_id AND i.state = {ItemState.PENDING})
RETURNING s.shard_id""")


def merge(
    connection: Connection,
    *,
    model_id: int,
    decision_rev: int,
    results: Sequence[PhotoResult],
    leases: Sequence[Lease],
    patience_seconds: float,
) -> Merged:
    """Store `results`, update the totals, close the items, finish those of `leases` that have no open photo left."""
    _create_work_tables(connection)
    batch = Batch(results)
    copy_packed(connection, "staged", batch.packed())
    reached(Point.MERGE_AFTER_COPY)
    for statement in (_LOCK_USERS, _LOCK_PHOTOS, _VERDICT):
        connection.execute(statement)
    stored, known = _store(connection, model_id, decision_rev, batch)
    reached(Point.MERGE_AFTER_RESULTS)
    more = _follow(connection, model_id, results, stored=stored)
    changed = apply_delta(connection, None if more else known)
    reached(Point.MERGE_AFTER_TOTALS)
    connection.execute(_CLOSE, {"patience": patience_seconds})
    closed = apply_tally(connection)
    if closed:
        connection.execute(_UNBLAME, {"ids": sorted({result.task.shard_id for result in results})})
    finished = connection.execute(
        _FINISH, {"ids": [lease.work_id for lease in leases], "epochs": [lease.epoch for lease in leases]}
    ).scalars()
    merged = Merged(stored=stored, closed=closed, finished=frozenset(finished))
    touch(connection, changed)
    reached(Point.MERGE_COMMIT_SENT)  # nothing else is sent before it
    return merged


_TABLES = (
    ("staged", COLUMNS),
    (
        "locked",
        "photo_id bigint, user_id bigint, content_rev int, gone boolean, taken_at timestamptz, by_object boolean",
    ),
    ("verdict", f"{COLUMNS}, user_id bigint, final smallint, final_code smallint, took timestamptz"),
    ("forgotten", "photo_id bigint"),
)
_CREATE = text(
    "; ".join(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({columns}) ON COMMIT DELETE ROWS" for name, columns in _TABLES)
)
_EMPTY = text("; ".join(f"DELETE FROM {name}" for name, _ in _TABLES))


def _create_work_tables(connection: Connection) -> None:
    """The temporary tables, empty even if a merge has been here before in this transaction."""
    ensure_delta(connection)
    ensure_tally(connection)
    connection.execute(_CREATE)
    connection.execute(_EMPTY)


def _store(connection: Connection, model_id: int, decision_rev: int, batch: Batch) -> tuple[int, Collected]:
    """Store what wins, and collect what it adds to the totals; returns how many results were written or replaced."""
    values = {"model": model_id, "decision": decision_rev, "twice": not batch.photos_differ}
    stored = connection.execute(_STORE, values).all()
    added = {row.photo_id: (row.user_id, row.slot) for row in stored if row.added}
    if added:
        copy_packed(connection, "delta", batch.added(model_id, added))
    users = frozenset(row.user_id for row in stored)
    slots = {model_id: min(row.slot for row in stored)} if stored else {}
    return len(stored), Collected(users=users, slots=slots, counted=users, less=len(added) < len(stored))


def _follow(connection: Connection, model_id: int, results: Sequence[PhotoResult], *, stored: int) -> bool:
    """Bring new times of photos and photos that are gone to whatever else knows of them; whether there was any."""
    times = any(result.taken_at for result in results) and connection.execute(_TAKEN).rowcount
    told = times and _tell_others(connection, model_id, everything=stored < len(results))
    gone = any(result.code is Code.GONE for result in results) and connection.execute(_GONE).rowcount
    if gone:
        collect_forgotten(connection)
    return bool(told or gone)


def _tell_others(connection: Connection, model_id: int, *, everything: bool) -> bool:
    """Bring the new times of photos to results that this merge has not written; whether there may be any."""
    others = connection.execute(_OTHERS, {"model": model_id, "everything": everything}).scalars().all()
    for other in others:
        connection.execute(_TELL, {"other": other})
    if everything:
        connection.execute(_TELL_USERS)
    return everything or bool(others)
