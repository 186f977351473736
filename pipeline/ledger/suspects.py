"""The queries of `pipeline.ledger.audit`: each gives the ids of what is wrong, in one column, and nothing otherwise.

Bound values are spans in seconds: `:lease_seconds`, `:tick_seconds`, `:stale_seconds`, `:silence` (who has been silent
for longer is not alive), and the number `:several`.
"""

from pipeline.records import SEEN, WHOLE, Code, ItemState, JobState, WorkState
from pipeline.store import shared
from pipeline.store.totals import SLOT_OF, USER_OF, unlike

_STATE_NAMES = ", ".join(f"'{state.name.lower().replace('_', ' ')}'" for state in ItemState)
_OPEN_WORK = f"{WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED}"
_OPEN_ITEMS = f"{ItemState.PENDING}, {ItemState.RETRY}"
_ENDED = f">= {JobState.SUCCEEDED}"

USER_TOTALS = f"""
SELECT format('model %s user %s category %s', model_id, user_id, node) AS id FROM ({unlike(*USER_OF)}) AS unlike"""
CATEGORY_TOTALS = f"""
SELECT format('model %s category %s slot %s', model_id, node, slot) AS id FROM ({unlike(*SLOT_OF)}) AS unlike"""
SHARED_TOTALS = f"""
SELECT format('model %s category %s slot %s', model_id, node, slot) AS id FROM ({shared.UNLIKE}) AS unlike
UNION ALL SELECT format('user %s', user_id) FROM ({shared.MISTAKEN}) AS mistaken"""

#: Jobs of which counts alone are kept; of photos and lines some may be left (`pipeline.ledger.tidy`).
TIDIED = "SELECT job_id FROM core.job WHERE tidying_at IS NOT NULL"

#: Of these a listing counts what has no item, or had one before its user was erased: items can only be fewer. A job
#: that decides anew has counts alone.
LISTING_ONLY = f"""(state IN ({ItemState.SKIPPED_UNCHANGED}, {ItemState.EXCLUDED}, {ItemState.ERASED})
    OR (state, code) IN (({ItemState.DUPLICATE}, {Code.LISTED_TWICE}), ({ItemState.FAILED}, {Code.GONE}),
        ({ItemState.FAILED}, {Code.FORBIDDEN}))
    OR job_id IN (SELECT job_id FROM core.job WHERE kind = 'decide'))"""

#: What is to be added to the counts of jobs for them to be those of the items.
COUNTS_UNLIKE = f"""
SELECT job_id, state, code, items - counted AS photos FROM (
    SELECT job_id, state, code, coalesce(i.photos, 0) AS items, coalesce(c.photos, 0) AS counted
    FROM (SELECT job_id, state, code, count(*) AS photos FROM core.job_item GROUP BY 1, 2, 3) AS i
    FULL JOIN core.job_count c USING (job_id, state, code)) AS both_ways
WHERE (items > counted OR items < counted AND NOT {LISTING_ONLY}) AND job_id NOT IN ({TIDIED})"""

JOB_COUNTS = f"""
SELECT format('job %s %s', job_id, (ARRAY[{_STATE_NAMES}])[state + 1]) AS id FROM ({COUNTS_UNLIKE}) AS unlike"""

#: By how much what a job's listing met exceeds the sum of its counts.
GAPS = """
SELECT job_id, listed - counted AS photos FROM (
    SELECT job_id, coalesce((SELECT sum(listed) FROM core.list_range r WHERE r.job_id = j.job_id), 0)::bigint AS listed,
           coalesce((SELECT sum(photos) FROM core.job_count c WHERE c.job_id = j.job_id), 0)::bigint AS counted
    FROM core.job j) AS sums
WHERE listed <> counted"""

JOB_SUMS = f"SELECT format('job %s', job_id) AS id FROM ({GAPS}) AS gaps"

#: Jobs whose lines, each in the state that it or its item says, are not as many as were counted in that state. A line
#: whose item is gone was of somebody erased. A job that decides anew meets no lines.
LINES_UNLIKE = f"""
SELECT DISTINCT job_id FROM (
    SELECT l.job_id, coalesce(l.state, i.state, {ItemState.ERASED}) AS state, coalesce(l.code, i.code, 0) AS code,
           count(*) AS lines
    FROM core.job_line l
    LEFT JOIN core.job_item i ON l.state IS NULL AND i.job_id = l.job_id AND i.photo_id = l.photo_id
    GROUP BY 1, 2, 3) AS l
FULL JOIN (
    SELECT job_id, c.state, c.code, c.photos FROM core.job_count c JOIN core.job j USING (job_id)
    WHERE j.keeps_lines AND j.kind <> 'decide' AND c.photos > 0) AS c USING (job_id, state, code)
WHERE lines IS DISTINCT FROM photos AND job_id NOT IN ({TIDIED})"""

JOB_LINES = f"SELECT format('job %s', job_id) AS id FROM ({LINES_UNLIKE}) AS unlike"

#: Open items that no shard and no retry will bring back.
STRAYS = f"""
SELECT i.job_id, i.photo_id FROM core.job_item i JOIN core.job j USING (job_id)
LEFT JOIN core.shard s ON s.shard_id = i.shard_id AND s.job_id = i.job_id
WHERE NOT j.state {_ENDED} AND (
    i.state = {ItemState.PENDING} AND (s.shard_id IS NULL OR s.state NOT IN ({_OPEN_WORK}))
    OR i.state = {ItemState.RETRY} AND i.next_attempt_at IS NULL)"""

# Those of split shards are told apart: they have an audit of their own.
STRAY_ITEMS = f"""
SELECT format('job %s photo %s', job_id, photo_id) AS id FROM ({STRAYS} AND s.state IS DISTINCT FROM {WorkState.SPLIT})
AS strays"""

SPLIT_SHARDS = f"""
SELECT format('shard %s', shard_id) AS id FROM core.shard s WHERE s.state = {WorkState.SPLIT}
AND EXISTS (SELECT FROM core.job_item i WHERE i.shard_id = s.shard_id AND i.state = {ItemState.PENDING})"""

OPEN_IN_ENDED = f"""
SELECT format('job %s photo %s', job_id, photo_id) AS id FROM core.job_item i JOIN core.job j USING (job_id)
WHERE j.state {_ENDED} AND i.state IN ({_OPEN_ITEMS})
UNION ALL
SELECT format('job %s shard %s', job_id, shard_id) FROM core.shard s JOIN core.job j USING (job_id)
WHERE j.state {_ENDED} AND s.state IN ({_OPEN_WORK})
UNION ALL
SELECT format('job %s listing', job_id) FROM core.list_range r JOIN core.job j USING (job_id)
WHERE j.state {_ENDED} AND r.state IN ({_OPEN_WORK})"""

_STORED = ", ".join(
    str(int(code)) for code in (Code.UNSUPPORTED, Code.TOO_LARGE, Code.CORRUPT, Code.QUARANTINED, Code.MODEL_ERROR)
)

#: Photos whose every item says that a result was stored, without one of their present content. A photo with items of
#: several models is left out: a job of another one may have found it changed, which is no business of this one's. So
#: are jobs from before their model was dropped.
LOST = f"""
SELECT done.job_id, photo_id FROM (
    SELECT i.photo_id, max(j.model_id) AS model_id, max(i.job_id) AS job_id, min(j.created_at) AS created_at
    FROM core.job_item i JOIN core.job j USING (job_id) GROUP BY 1
    HAVING min(j.model_id) = max(j.model_id)
       AND bool_and(i.state IN ({ItemState.SUCCEEDED}, {ItemState.DUPLICATE})
                    OR i.state = {ItemState.FAILED} AND i.code IN ({_STORED}))) AS done
JOIN core.model m USING (model_id) JOIN core.photo p USING (photo_id) JOIN core.app_user u USING (user_id)
LEFT JOIN core.photo_result r USING (model_id, photo_id)
WHERE p.gone_at IS NULL AND u.deleted_at IS NULL AND (r.photo_id IS NULL OR r.content_rev < p.content_rev)
  AND m.dropped_at IS NULL AND m.created_at <= done.created_at
  AND NOT EXISTS (SELECT FROM core.job t WHERE t.tidying_at IS NOT NULL AND t.finished_at >= done.created_at)"""

LOST_RESULTS = f"SELECT format('photo %s', photo_id) AS id FROM ({LOST}) AS lost"

#: Running jobs in which nothing is open.
OVER = f"""
SELECT j.job_id FROM core.job j WHERE j.state = {JobState.RUNNING}
AND NOT EXISTS (SELECT FROM core.list_range r WHERE r.job_id = j.job_id AND r.state IN ({_OPEN_WORK}))
AND NOT EXISTS (SELECT FROM core.shard s WHERE s.job_id = j.job_id AND s.state IN ({_OPEN_WORK}))
AND NOT EXISTS (SELECT FROM core.job_item i WHERE i.job_id = j.job_id AND i.state IN ({_OPEN_ITEMS}))"""

UNENDED = f"SELECT format('job %s', job_id) AS id FROM ({OVER}) AS over"

# Shards and listings of jobs that go on; the conditions below are about either.
_WORK = f"""
(SELECT format('shard %s', s.shard_id) AS id, s.state, published_at, lease_owner, lease_until
 FROM core.shard s JOIN core.job j USING (job_id) WHERE NOT j.state {_ENDED} AND s.state IN ({_OPEN_WORK})
 UNION ALL
 SELECT format('listing of job %s', r.job_id), r.state, published_at, lease_owner, lease_until
 FROM core.list_range r JOIN core.job j USING (job_id) WHERE NOT j.state {_ENDED} AND r.state IN ({_OPEN_WORK})) AS w"""

# A database that was away a moment ago has had nobody who could do anything in time.
_SINCE = "greatest({}, pg_postmaster_start_time())"

STALE = f"""(state = {WorkState.QUEUED} AND (published_at IS NULL
OR {_SINCE.format("published_at")} < now() - make_interval(secs => :several * (:stale_seconds + :tick_seconds))))"""

EXPIRED = f"""(state = {WorkState.LEASED}
AND {_SINCE.format("lease_until")} < now() - make_interval(secs => :lease_seconds + :several * :tick_seconds))"""

# A lease runs for `lease_seconds` at most. One of somebody who is not alive ends by itself within that time.
ORPHAN = f"""(state = {WorkState.LEASED} AND (lease_owner IS NULL OR lease_until IS NULL
OR lease_until > now() + make_interval(secs => 1.5 * :lease_seconds)
   AND NOT EXISTS (SELECT FROM core.worker WHERE worker_id = lease_owner
                   AND last_seen > now() - make_interval(secs => :silence))))"""
ANY_LEASE = f"(state = {WorkState.LEASED})"

STALE_MESSAGES = f"SELECT id FROM {_WORK} WHERE {STALE}"
LATE_LEASES = f"SELECT id FROM {_WORK} WHERE {EXPIRED}"
ORPHAN_LEASES = f"SELECT id FROM {_WORK} WHERE {ORPHAN}"
ALL_LEASES = f"SELECT id FROM {_WORK} WHERE {ANY_LEASE}"

# Where something is queued, it is a worker that does not listen, and no matter of the ledger's.
UNCLAIMED = f"""
SELECT format('shard %s (epoch %s)', s.shard_id, s.lease_epoch) AS id
FROM core.shard s JOIN core.job j USING (job_id) JOIN core.model m ON m.model_id = s.model_id
WHERE s.state = {WorkState.PENDING} AND j.state = {JobState.RUNNING}
  AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= now())
  AND NOT EXISTS (SELECT FROM core.shard q WHERE q.state = {WorkState.QUEUED} AND q.model_id = s.model_id)
  AND EXISTS (SELECT FROM core.worker w WHERE w.queue = 'annotate.' || m.name AND w.trouble IS NULL
              AND w.last_seen > now() - make_interval(secs => :silence)
              AND NOT EXISTS (SELECT FROM core.shard l WHERE l.state = {WorkState.LEASED}
                              AND l.lease_owner = w.worker_id))"""

_RESULT = "format('photo %s of model %s', r.photo_id, r.model_id) AS id"

#: The photos of results that should not be there; also those that no photo belongs to.
GONE = """
SELECT r.model_id, r.photo_id FROM core.photo_result r LEFT JOIN core.photo p USING (photo_id)
WHERE p.photo_id IS NULL OR p.gone_at IS NOT NULL"""

OF_GONE_PHOTOS = f"SELECT {_RESULT} FROM ({GONE}) AS r"

MISPLACED = """
SELECT r.model_id, r.photo_id FROM core.photo_result r JOIN core.photo p USING (photo_id)
WHERE r.user_id <> p.user_id"""

OF_OTHER_USERS = f"SELECT {_RESULT} FROM ({MISPLACED}) AS r"

#: Results that do not have their photo's time, as those stored by a release before results had one.
MISTIMED = """
SELECT r.model_id, r.photo_id FROM core.photo_result r JOIN core.photo p USING (photo_id)
WHERE r.taken_at IS DISTINCT FROM p.taken_at"""

OF_OTHER_TIMES = f"SELECT {_RESULT} FROM ({MISTIMED}) AS r"

# Until an erasure is complete there may be rows. Who is hidden without one is not being erased.
ERASED = """
SELECT u.user_id, u.name FROM core.app_user u LEFT JOIN core.erasure e USING (user_id)
WHERE u.deleted_at IS NOT NULL AND (e.user_id IS NULL OR e.finished_at IS NOT NULL)
  AND (EXISTS (SELECT FROM core.photo p WHERE p.user_id = u.user_id)
       OR EXISTS (SELECT FROM core.photo_result r WHERE r.user_id = u.user_id))"""

OF_ERASED_USERS = f"SELECT format('user %s', user_id) AS id FROM ({ERASED}) AS erased"

DOUBLE = "SELECT r.model_id, r.photo_id FROM core.photo_result r GROUP BY 1, 2 HAVING count(*) > 1"

DOUBLE_RESULTS = f"SELECT {_RESULT} FROM ({DOUBLE}) AS r"

_SEEN = ", ".join(str(int(code)) for code in sorted(SEEN))

#: Results that no roll-up can have made: the root is the whole photo, and nothing is more than what is above it.
BAD = f"""
SELECT r.model_id, r.photo_id FROM core.photo_result r JOIN core.model m USING (model_id)
JOIN core.taxonomy_category root ON root.taxonomy_id = m.taxonomy_id AND root.position = 0
WHERE (r.outcome IN ({_SEEN})) <> (cardinality(r.nodes) > 0) OR cardinality(r.nodes) <> cardinality(r.masses)
   OR cardinality(r.nodes) > 0 AND (r.nodes[1], r.masses[1]) IS DISTINCT FROM (root.node, {WHOLE}::smallint)
   OR NOT r.tags <@ r.nodes
UNION
SELECT r.model_id, r.photo_id FROM (
    SELECT model_id, photo_id, nodes, masses, unnest(nodes) AS node, unnest(masses) AS mass FROM core.photo_result) AS r
JOIN (SELECT m.model_id, c.descendant, c.ancestor FROM core.category_closure c JOIN core.model m USING (taxonomy_id)
      WHERE c.distance = 1) AS edge ON edge.model_id = r.model_id AND edge.descendant = r.node
WHERE coalesce(r.masses[array_position(r.nodes, edge.ancestor)], 0) < r.mass"""

BAD_MASSES = f"SELECT {_RESULT} FROM ({BAD}) AS r"
