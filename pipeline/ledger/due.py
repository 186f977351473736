"""Which of the photos that a job meets it works on.

Laws
1. A scope is a condition on a photo `p` and its stored result of the job's model, `r` (all NULL where there is none).
2. A failure is of the bytes, not of the decision: no newer decision makes a failed photo stale.
3. A job that tries another one's failures again works on whatever has not been tagged since, whatever its scope says;
   only `all` is stronger.
"""

from sqlalchemy import Connection, text

from pipeline.ledger.requests import Scope
from pipeline.records import SEEN, Code, ItemState, Lease
from pipeline.store.tally import apply_tally, ensure_tally

_SEEN = ", ".join(str(int(code)) for code in sorted(SEEN))
_NEWEST_DECISION = "(SELECT max(d.revision) FROM core.decision d WHERE d.model_id = :model)"
_TAGGED = f"coalesce(r.content_rev = p.content_rev AND r.outcome IN ({_SEEN}), false)"

#: By scope; asks for `:model`.
DUE = {
    Scope.MISSING: "(r.photo_id IS NULL OR r.content_rev < p.content_rev)",
    Scope.FAILED: f"coalesce(r.content_rev = p.content_rev AND r.outcome NOT IN ({_SEEN}), false)",
    Scope.STALE: f"coalesce(r.content_rev < p.content_rev OR r.outcome IN ({_SEEN}) "
    f"AND r.decision_rev < {_NEWEST_DECISION}, false)",
    Scope.ALL: "true",
}

#: Of a photo that another job failed on.
DUE_AGAIN = f"NOT {_TAGGED}"

#: A photo that ended the process which read it works alone, so that its next death finds its cause at once.
DANGEROUS = f"coalesce(r.content_rev = p.content_rev AND r.outcome = {Code.QUARANTINED}, false)"

_DROP = f"""
WITH dropped AS (
    UPDATE core.job_item i SET state = {ItemState.SKIPPED_UNCHANGED}, code = 0
    FROM (SELECT i.job_id, i.photo_id FROM core.job_item i JOIN core.job j USING (job_id)
          JOIN core.photo p USING (photo_id) JOIN core.photo_result r USING (photo_id)
          WHERE i.shard_id = :shard AND i.state = {ItemState.PENDING} AND r.model_id = :model AND {_TAGGED}
            AND j.scope IN ('{Scope.MISSING}', '{Scope.FAILED}') ORDER BY 1, 2 FOR UPDATE OF i) done
    WHERE i.job_id = done.job_id AND i.photo_id = done.photo_id RETURNING i.job_id)
INSERT INTO tally SELECT job_id, {ItemState.PENDING}, 0, -count(*) FROM dropped GROUP BY 1
UNION ALL SELECT job_id, {ItemState.SKIPPED_UNCHANGED}, 0, count(*) FROM dropped GROUP BY 1"""


def drop_done(connection: Connection, lease: Lease, model_id: int) -> None:
    """Close the photos of a claimed shard that another job has tagged since they were listed, as unchanged."""
    ensure_tally(connection)
    if connection.execute(text(_DROP), {"shard": lease.work_id, "model": model_id}).rowcount:
        apply_tally(connection)
