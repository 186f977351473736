"""Making a ledger right again in which an audit has found something, while workers go on.

Laws
1. Each repair is one transaction and safe to repeat: it changes what is wrong, and nothing where nothing is.
2. One repair runs at a time, in all processes (an advisory lock).
3. What is counted is never set, it is corrected by a difference. The difference between a recount and what is stored
   is read in one statement, hence of one snapshot, in which every committed transaction is on both sides; a merge that
   commits afterwards moves both alike. So the difference stays right while merges go on, and nobody waits for us.
4. Rows are locked in the order of `pipeline.store.merge`; repairs go from results to totals to items to shards to jobs.
5. Nobody is blamed: what a repair hands back has not failed and has not died.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.ledger import ending, redrive, suspects
from pipeline.ledger.audit import Patience, bound, unhurried
from pipeline.ledger.cut import cut
from pipeline.ledger.erase import BATCH_PHOTOS, erase_some
from pipeline.ledger.recount import Touched, correct_shared, correct_totals
from pipeline.records import ItemState, JobState, WorkState
from pipeline.store import shared
from pipeline.store.revisions import touch_standing
from pipeline.store.tally import apply_tally, ensure_tally
from pipeline.store.totals import apply_delta, collect_moved, ensure_delta

REPAIRER = 7_420_017  # advisory lock: one repair at a time


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a repair changed, by kind; empty if nothing was wrong."""

    changed: dict[str, int]

    @classmethod
    def of(cls, **changed: int) -> "Repaired":
        """Only what is not zero; underscores stand for spaces."""
        return cls(changed={what.replace("_", " "): n for what, n in changed.items() if n})


def totals(connection: Connection) -> Repaired:
    """Correct the totals to what the results say, those of users who consent included."""
    _alone(connection)
    touched = Touched()
    changed = correct_totals(connection, touched)
    touched.tell(connection)
    return Repaired.of(rows_of_totals=changed)


def shared_totals(connection: Connection) -> Repaired:
    """Correct the totals of users who consent to a recount over those who are counted there."""
    _alone(connection)
    touched = Touched()
    changed = correct_shared(connection, touched)
    touched.tell(connection)
    return Repaired.of(rows_of_totals=changed)


def answers(connection: Connection, users: int) -> Repaired:
    """Count at most so many users as they answered; to be asked for again until nothing is changed.

    So those who consented to a release that kept no totals of them are counted in. The totals must be right.
    """
    _alone(connection)
    query = text(f"{shared.MISTAKEN} ORDER BY user_id LIMIT :users FOR UPDATE")
    chosen = connection.execute(query, {"users": users}).scalars().all()
    if chosen:
        shared.move(connection, chosen)
        touch_standing(connection, chosen)
    return Repaired.of(users_counted_as_they_answered=len(chosen))


def counts(connection: Connection) -> Repaired:
    """Correct the counts of jobs to their photos, and make them add up to what was listed.

    What only a listing knows cannot be recounted. A gap that stays between what was listed and the sum goes to the
    unchanged photos; where even that does not suffice, more was listed than is written down.
    """
    _alone(connection)
    ensure_tally(connection)
    changed = connection.execute(text(f"INSERT INTO tally {suspects.COUNTS_UNLIKE}")).rowcount
    apply_tally(connection)
    ensure_tally(connection)
    gaps = connection.execute(text(_GAPS_TO_UNCHANGED)).rowcount
    apply_tally(connection)
    listed = connection.execute(text(_LISTED_MORE)).rowcount
    return Repaired.of(counts_of_jobs=changed, sums_of_jobs=max(gaps, listed))


_GAPS_TO_UNCHANGED = f"""
INSERT INTO tally SELECT g.job_id, {ItemState.SKIPPED_UNCHANGED}, 0, greatest(g.photos, -coalesce(c.photos, 0))
FROM ({suspects.GAPS}) AS g
LEFT JOIN core.job_count c ON (c.job_id, c.state, c.code) = (g.job_id, {ItemState.SKIPPED_UNCHANGED}, 0)"""
_LISTED_MORE = f"""
UPDATE core.list_range r SET listed = listed - g.photos
FROM ({suspects.GAPS}) AS g WHERE r.range_id = (SELECT min(range_id) FROM core.list_range WHERE job_id = g.job_id)"""


def lines(connection: Connection) -> Repaired:
    """Give up the lines of jobs that are unlike their counts: what became of which line, nobody can know any more.

    Results that were still to be written of them are not written; a person reads why in the job's notes.
    """
    _alone(connection)
    mistaken = connection.execute(text(suspects.LINES_UNLIKE)).scalars().all()
    values = {"jobs": sorted(mistaken), "error": _NO_LINES}
    deleted = connection.execute(text("DELETE FROM core.job_line WHERE job_id = ANY (:jobs)"), values).rowcount
    connection.execute(text(_CANCEL_RESULTS), values)
    connection.execute(text(_KEEP_NO_LINES), values)
    return Repaired.of(jobs_without_lines=len(mistaken), lines_deleted=deleted)


_NO_LINES = "What became of each line was not kept right and was given up; run the job again for its results."
_CANCEL_RESULTS = f"""
UPDATE core.delivery SET state = {WorkState.CANCELLED}, error = :error
WHERE job_id = ANY (:jobs) AND kind = 'results' AND state <> {WorkState.DONE}"""
_KEEP_NO_LINES = """
UPDATE core.job SET keeps_lines = false, notes = notes || CAST(:error AS text) WHERE job_id = ANY (:jobs)"""


def leases(connection: Connection, patience: Patience | None = None, *, everything: bool = False) -> Repaired:
    """Hand back what is held by nobody or for too long, and take back messages that are long lost.

    `everything`: nothing is running, so all that is leased. Should somebody hold it after all, he is fenced off.
    """
    _alone(connection)
    conditions = {
        "late_messages": suspects.STALE,
        "late_leases": suspects.EXPIRED,
        "orphan_leases": suspects.ORPHAN,
        **({"other_leases": suspects.ANY_LEASE} if everything else {}),
    }
    changed = dict.fromkeys(conditions, 0)
    for what, condition in conditions.items():
        for table, key in _WORK:
            statement = _HAND_BACK.format(table=table, key=key, condition=condition)
            values = bound(statement, patience or Patience())
            changed[what] += connection.execute(text(statement), values).rowcount
    return Repaired.of(**changed)


_WORK = (("core.shard", "shard_id"), ("core.list_range", "range_id"))
_OPEN_WORK = f"{WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED}"
_ENDED = f">= {JobState.SUCCEEDED}"

_HAND_BACK = f"""
UPDATE {{table}} w SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL
FROM (SELECT {{key}} FROM {{table}} WHERE {{condition}}
      AND job_id IN (SELECT job_id FROM core.job WHERE NOT state {_ENDED}) ORDER BY 1 FOR NO KEY UPDATE) AS chosen
WHERE w.{{key}} = chosen.{{key}}"""


def items(connection: Connection, shard_photos: int) -> Repaired:
    """Give open photos that nobody would come for a new shard, do lost ones again, end what is over."""
    _alone(connection)
    ensure_tally(connection)
    cancelled = connection.execute(text(_CANCEL)).scalar_one()
    apply_tally(connection)
    changed = {
        "photos_of_ended_jobs_cancelled": cancelled,
        "photos_brought_back": _bring_back(connection, shard_photos),
        "lost_photos_to_be_done_again": _do_again(connection),
        "shards_and_listings_of_ended_jobs_cancelled": sum(
            connection.execute(text(_CANCEL_WORK.format(table=table, key=key))).rowcount for table, key in _WORK
        ),
    }
    return Repaired.of(**changed, jobs_ended=_end_what_is_over(connection))


_CANCEL = f"""
WITH moved AS (
    UPDATE core.job_item i SET state = {ItemState.CANCELLED}, code = 0
    FROM (SELECT job_id, photo_id FROM core.job_item i JOIN core.job j USING (job_id)
          WHERE j.state {_ENDED} AND i.state IN ({ItemState.PENDING}, {ItemState.RETRY})
          ORDER BY 1, 2 FOR UPDATE OF i) AS open
    WHERE (i.job_id, i.photo_id) = (open.job_id, open.photo_id)
    RETURNING i.job_id, old.state AS was, old.code AS code), counted AS (
    INSERT INTO tally
    SELECT job_id, was, code, -count(*) FROM moved GROUP BY 1, 2, 3
    UNION ALL SELECT job_id, {ItemState.CANCELLED}, 0, count(*) FROM moved GROUP BY 1)
SELECT count(*) FROM moved"""

_CANCEL_WORK = f"""
UPDATE {{table}} w SET state = {WorkState.CANCELLED}, lease_owner = NULL, lease_until = NULL
FROM (SELECT {{key}} FROM {{table}} WHERE state IN ({_OPEN_WORK})
      AND job_id IN (SELECT job_id FROM core.job WHERE state {_ENDED}) ORDER BY 1 FOR NO KEY UPDATE) AS open
WHERE w.{{key}} = open.{{key}}"""


def _bring_back(connection: Connection, shard_photos: int) -> int:
    strays = connection.execute(
        text(f"""SELECT s.job_id, i.photo_id, i.state, p.user_id, j.model_id, j.priority
                 FROM ({suspects.STRAYS}) AS s JOIN core.job_item i USING (job_id, photo_id)
                 JOIN core.photo p USING (photo_id) JOIN core.job j USING (job_id)
                 WHERE i.state IN ({ItemState.PENDING}, {ItemState.RETRY}) ORDER BY 1, 2 FOR UPDATE OF i""")
    ).all()
    for job_id in sorted({stray.job_id for stray in strays}):
        mine = [stray for stray in strays if stray.job_id == job_id]
        pending = [(stray.photo_id, stray.user_id) for stray in mine if stray.state == ItemState.PENDING]
        for piece in cut(pending, shard_photos):
            redrive.create_shard(connection, job_id, mine[0].model_id, mine[0].priority, piece)
    connection.execute(
        text(f"""UPDATE core.job_item SET next_attempt_at = now()
                 WHERE state = {ItemState.RETRY} AND next_attempt_at IS NULL""")
    )
    return len(strays)


def _do_again(connection: Connection) -> int:
    """Let the jobs of lost photos do them again; a job that failed promises nothing any more, and lets go of them."""
    ensure_tally(connection)
    lost = connection.execute(text(_LOST)).scalars().all()
    apply_tally(connection)
    connection.execute(
        text(f"""UPDATE core.job SET state = {JobState.RUNNING}, finished_at = NULL
                 WHERE job_id = ANY (:jobs) AND state IN ({JobState.SUCCEEDED}, {JobState.SUCCEEDED_WITH_ERRORS})"""),
        {"jobs": sorted(set(lost))},
    )
    return len(lost)


_LOST = f"""
WITH lost AS MATERIALIZED (
    SELECT i.job_id, i.photo_id, j.state >= {JobState.FAILED} AS failed
    FROM ({suspects.LOST}) AS l JOIN core.job_item i USING (job_id, photo_id) JOIN core.job j USING (job_id)
    WHERE i.state IN ({ItemState.SUCCEEDED}, {ItemState.DUPLICATE}, {ItemState.FAILED})
    ORDER BY 1, 2 FOR UPDATE OF i
), moved AS (
    UPDATE core.job_item i
    SET state = CASE WHEN l.failed THEN {ItemState.CANCELLED} ELSE {ItemState.RETRY} END, code = 0,
        shard_id = NULL, next_attempt_at = CASE WHEN NOT l.failed THEN now() END
    FROM lost l WHERE (i.job_id, i.photo_id) = (l.job_id, l.photo_id)
    RETURNING i.job_id, old.state AS was, old.code AS code, new.state AS is
), counted AS (
    INSERT INTO tally
    SELECT job_id, was, code, -count(*) FROM moved GROUP BY 1, 2, 3
    UNION ALL SELECT job_id, moved.is, 0, count(*) FROM moved GROUP BY 1, 2)
SELECT job_id FROM moved"""


def _end_what_is_over(connection: Connection) -> int:
    over = connection.execute(
        text(f"""SELECT job_id FROM ({suspects.OVER}) AS over WHERE EXISTS (
                     SELECT FROM core.list_range r WHERE r.job_id = over.job_id AND r.state = {WorkState.CANCELLED})""")
    ).scalars()
    for job_id in over.all():
        ending.fail(connection, job_id, "Its listing was broken off; run the job again.")
    return len(ending.finish_jobs(connection))


def times(connection: Connection, photos: int) -> Repaired:
    """Give at most so many results the time of their photo; to be asked for again until nothing is changed.

    A migration does not do it, because it would rewrite all results at once.
    """
    _alone(connection)
    for chosen in (f"{suspects.MISTIMED} AND r.taken_at IS NULL LIMIT :photos", f"{suspects.MISTIMED} LIMIT :photos"):
        for statement in _MISTIMED:
            connection.execute(text(statement.format(chosen=chosen)), {"photos": photos})
        touched = Touched()
        changed = touched.add(connection.execute(text(_RETIME)))
        touched.tell(connection)
        if changed:
            return Repaired.of(times_of_results=changed)
    return Repaired.of()


# Whoever changes a photo's time holds its row until that of its results is changed, too.
_MISTIMED = (
    "CREATE TEMP TABLE IF NOT EXISTS mistimed (model_id smallint, photo_id bigint) ON COMMIT DELETE ROWS",
    "DELETE FROM mistimed",
    "INSERT INTO mistimed {chosen}",
    "SELECT FROM core.photo p WHERE photo_id IN (SELECT photo_id FROM mistimed) ORDER BY photo_id FOR NO KEY UPDATE",
)
_RETIME = """
UPDATE core.photo_result r SET taken_at = p.taken_at FROM mistimed m JOIN core.photo p USING (photo_id)
WHERE (r.model_id, r.photo_id) = (m.model_id, m.photo_id) AND r.taken_at IS DISTINCT FROM p.taken_at
RETURNING r.model_id, r.user_id"""


def results(connection: Connection) -> Repaired:
    """Delete results that should not be there, put misplaced ones to their owners, and do photos again that need it."""
    _alone(connection)
    touched = Touched()
    erased = _erase(connection)
    moved = _move(connection, touched)
    for statement in _DOOMED:
        connection.execute(text(statement))
    double = touched.add(connection.execute(text(_DELETE_DOUBLE)))
    deleted = touched.add(connection.execute(text(_DELETE_DOOMED)))
    if double or deleted:
        correct_totals(connection, touched)  # not by what the deleted ones say: they may be broken
    again = _do_again(connection) if deleted else 0
    touched.tell(connection)
    return Repaired.of(
        results_given_to_their_owners=moved,
        photos_of_erased_users_deleted=erased,
        double_results_deleted=double,
        results_deleted=deleted,
        photos_to_be_done_again=again,
    )


_DOOMED = (
    "CREATE TEMP TABLE IF NOT EXISTS doomed (model_id smallint, photo_id bigint) ON COMMIT DELETE ROWS",
    "DELETE FROM doomed",
    f"INSERT INTO doomed {suspects.GONE} UNION {suspects.BAD}",
    "SELECT FROM core.photo p WHERE photo_id IN (SELECT photo_id FROM doomed) ORDER BY photo_id FOR NO KEY UPDATE",
)
_DELETE_DOOMED = """
DELETE FROM core.photo_result r USING doomed d WHERE (r.model_id, r.photo_id) = (d.model_id, d.photo_id)
RETURNING r.model_id, r.user_id"""

# Of several results of a photo the one stays that would have won.
_DELETE_DOUBLE = f"""
DELETE FROM core.photo_result r USING (
    SELECT r.tableoid, r.ctid, row_number() OVER (
        PARTITION BY r.model_id, r.photo_id
        ORDER BY r.content_rev DESC, r.decision_rev DESC, cardinality(r.nodes) DESC) AS n
    FROM core.photo_result r JOIN ({suspects.DOUBLE}) AS double USING (model_id, photo_id)) AS d
WHERE r.tableoid = d.tableoid AND r.ctid = d.ctid AND d.n > 1 RETURNING r.model_id, r.user_id"""


def _erase(connection: Connection) -> int:
    users = connection.execute(text(f"SELECT user_id FROM ({suspects.ERASED}) AS erased ORDER BY 1")).scalars().all()
    connection.execute(
        text("SELECT FROM core.app_user WHERE user_id = ANY (:users) ORDER BY user_id FOR UPDATE"),
        {"users": list(users)},
    )
    erased = 0
    for user_id in users:
        while some := erase_some(connection, user_id, BATCH_PHOTOS):
            erased += some
    return erased


def _move(connection: Connection, touched: Touched) -> int:
    ensure_delta(connection)
    connection.execute(text("CREATE TEMP TABLE IF NOT EXISTS moved (photo_id bigint) ON COMMIT DELETE ROWS"))
    found = connection.execute(
        text(f"""INSERT INTO moved SELECT photo_id FROM core.photo
                 WHERE photo_id IN (SELECT photo_id FROM ({suspects.MISPLACED}) AS misplaced)
                 ORDER BY photo_id FOR NO KEY UPDATE""")
    ).rowcount
    collect_moved(connection)
    apply_delta(connection)
    touched.add(connection.execute(text("SELECT DISTINCT model_id, user_id FROM delta")))
    return found


def _alone(connection: Connection) -> None:
    """No other repair runs until this transaction ends, which may take as long as there are photos.

    Raises:
        ConfigurationError: one does.
    """
    query = text("SELECT pg_try_advisory_xact_lock(:n)")
    if not connection.execute(query, {"n": REPAIRER}).scalar_one():
        raise ConfigurationError("Another repair is going on; wait until it is over.")
    unhurried(connection)
