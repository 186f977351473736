"""Jobs: submitted, begun, and as people read them.

How an operator lets one rest is `pipeline.ledger.control`, how one ends `pipeline.ledger.ending`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from pipeline.errors import ConfigurationError, Conflict
from pipeline.ledger.requests import JobRequest, Scope, Window
from pipeline.records import Code, ItemState, JobState, WorkState
from pipeline.settings import PREFIX
from pipeline.sources.rules import Rules

REFUSALS_KEPT = 20
_UNKNOWN = "There is no job {}; `pictograph jobs list` shows the jobs there are."


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it stands. `counts` covers every photo met so far: each is in exactly one state."""

    job_id: int
    kind: str
    source: str
    user_rule: str
    fixed_user: str | None
    model_id: int
    model: str
    priority: int
    keep_missing: bool
    allow_mass_delete: bool
    state: JobState
    error: str | None
    notes: tuple[str, ...]  # about the job, then the first few things that its source holds and that are no photos
    subtracted: int
    listing: bool  # whether the source is still being listed
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    total: int  # photos met by the listing, counted apart from `counts`
    paused_by: str | None = None
    paused_at: datetime | None = None
    in_hand: bool = False  # paused, and a shard or its listing is still being worked on
    scope: Scope = Scope.MISSING
    rules: Rules = field(default_factory=Rules)
    keeps_lines: bool = False
    window: Window | None = None
    most_failed_share: float | None = None
    decision_revision: int | None = None
    retry_of: int | None = None
    pause_reason: str | None = None
    pause_until: datetime | None = None
    cancelled_by: str | None = None
    rested_seconds: float = 0.0  # of pauses that have ended, since it began
    tidying_at: datetime | None = None  # since when what it did with each photo and line is forgotten
    counts: dict[tuple[ItemState, Code], int] = field(default_factory=dict)
    seen_at: datetime | None = field(default=None, compare=False)  # when this was so, by the ledger's clock

    @property
    def condition(self) -> str:
        """The state's name as people read it.

        A paused job whose last work is being finished is `pausing`, one that is being given up is `failing`.
        """
        if self.state is JobState.CANCELLING and self.error is not None:
            return "failing"
        return "pausing" if self.in_hand else self.state.name.lower()

    def count(self, *states: ItemState) -> int:
        """Photos in any of `states`."""
        return sum(n for (state, _), n in self.counts.items() if state in states)

    @property
    def tagged(self) -> int:
        """Photos that have a model's word, be it of the same bytes under another key."""
        return self.count(ItemState.SUCCEEDED) + self.counts.get((ItemState.DUPLICATE, Code.SAME_CONTENT), 0)

    @property
    def waiting(self) -> int:
        """Photos not yet in a terminal state."""
        return self.count(ItemState.PENDING, ItemState.RETRY)

    def by_code(self, *states: ItemState) -> dict[Code, int]:
        """Photos in any of `states`, by reason, most first."""
        totals: dict[Code, int] = {}
        for (state, code), n in self.counts.items():
            if state in states and n:
                totals[code] = totals.get(code, 0) + n
        return dict(sorted(totals.items(), key=lambda item: -item[1]))


_SUBMIT = f"""
INSERT INTO core.job (kind, source, user_rule, fixed_user, model_id, priority, keep_missing, allow_mass_delete, state,
                      scope, rules, most_failed_share, "window", keeps_lines, decision_revision, retry_of, schedule_id,
                      idempotency_key, request_sha256)
VALUES (:kind, :source, :user_rule, :fixed_user, :model, :priority, :keep_missing, :allow_mass_delete,
        {JobState.CREATED}, :scope, CAST(:rules AS jsonb), :most_failed_share, CAST(:window AS jsonb), :keeps_lines,
        :decision_revision, :retry_of, :schedule_id, :idempotency_key, :sha256)
ON CONFLICT (idempotency_key) DO NOTHING RETURNING job_id"""
_DELIVER = f"""
INSERT INTO core.delivery (job_id, kind, target, format, state)
VALUES (:job, :kind, :target, :format, {WorkState.PENDING})"""


def submit(connection: Connection, request: JobRequest, model_id: int) -> int:
    """Create a job, its one key range and what is to be delivered at its end; returns the job id.

    A redriver will ring for it. A request that was made before under the same key is the same job.

    Raises:
        Conflict: the key was used for another request.
        ConfigurationError: the model was dropped.
    """
    digest = request.sha256(model_id) if request.idempotency_key else None
    values = request.facts() | {
        "model": model_id,
        "rules": json.dumps(asdict(request.rules)),
        "window": request.window and json.dumps(asdict(request.window)),
        "keeps_lines": bool(request.outputs),
        "schedule_id": request.schedule_id,
        "idempotency_key": request.idempotency_key,
        "sha256": digest,
    }
    job_id: int | None = connection.execute(text(_SUBMIT), values).scalar()
    if job_id is None:
        return _submitted_before(connection, request, digest)
    _refuse_dropped(connection, model_id)
    connection.execute(
        text(f"INSERT INTO core.list_range (job_id, state) VALUES (:job, {WorkState.PENDING})"), {"job": job_id}
    )
    deliveries = [("results", output.target, output.format) for output in request.outputs]
    for kind, target, form in [*deliveries, *(("webhook", url, None) for url in request.notify)]:
        connection.execute(text(_DELIVER), {"job": job_id, "kind": kind, "target": target, "format": form})
    return job_id


def _refuse_dropped(connection: Connection, model_id: int) -> None:
    """ConfigurationError where there is no room for results any more; whoever drops a model asks for jobs after it."""
    query = text("SELECT name FROM core.model WHERE model_id = :model AND dropped_at IS NOT NULL")
    name: str | None = connection.execute(query, {"model": model_id}).scalar()
    if name is not None:
        raise ConfigurationError(
            f"Model {name} was dropped, and no job can work with it; `pictograph models shadow {name}` registers it "
            "again, and tags with it."
        )


def submitted_before(connection: Connection, request: JobRequest, model_id: int) -> int | None:
    """The job that this very request has made before under its key; None if there is no key, or it is new.

    Raises:
        Conflict: the key was used for another request.
    """
    if request.idempotency_key is None or not _keyed(connection, request):
        return None
    return _submitted_before(connection, request, request.sha256(model_id))


def _keyed(connection: Connection, request: JobRequest) -> Row[Any] | None:
    query = text("SELECT job_id, request_sha256 FROM core.job WHERE idempotency_key = :key")
    return connection.execute(query, {"key": request.idempotency_key}).first()


def _submitted_before(connection: Connection, request: JobRequest, digest: bytes | None) -> int:
    found = _keyed(connection, request)
    if found is None:
        raise AssertionError("the key is taken, and by nobody")
    job_id = int(found.job_id)
    if bytes(found.request_sha256) != digest:
        raise Conflict(
            f"The idempotency key {request.idempotency_key!r} was used for another request, which is job {job_id}; "
            "take a new key."
        )
    return job_id


_IN_HAND = f"""(EXISTS (SELECT FROM core.shard s WHERE s.job_id = j.job_id AND s.state = {WorkState.LEASED})
       OR EXISTS (SELECT FROM core.list_range r WHERE r.job_id = j.job_id AND r.state = {WorkState.LEASED}))"""
_JOB = f"""
SELECT j.job_id, j.kind, j.source, j.user_rule, j.fixed_user, j.model_id, m.name AS model, j.priority, j.keep_missing,
       j.allow_mass_delete, j.state, j.error, j.notes || j.refusals AS notes, j.subtracted,
       j.created_at, j.started_at, j.finished_at, j.paused_by, j.paused_at, j.scope, j.rules, j.keeps_lines, j."window",
       j.most_failed_share, j.decision_revision, j.retry_of, j.pause_reason, j.pause_until, j.cancelled_by,
       j.tidying_at, j.rested_seconds, clock_timestamp() AS seen_at,
       CASE WHEN j.state = {JobState.PAUSED} THEN {_IN_HAND} ELSE false END AS in_hand,
       coalesce((SELECT sum(listed) FROM core.list_range r WHERE r.job_id = j.job_id), 0)::bigint AS total,
       EXISTS (SELECT FROM core.list_range r WHERE r.job_id = j.job_id
               AND r.state NOT IN ({WorkState.DONE}, {WorkState.CANCELLED})) AS listing,
       (SELECT jsonb_agg(jsonb_build_array(c.state, c.code, c.photos)) FROM core.job_count c
        WHERE c.job_id = j.job_id AND c.photos > 0) AS counts
FROM core.job j JOIN core.model m USING (model_id)"""


def find(connection: Connection, job_id: int) -> Job:
    """The job as it stands; ConfigurationError if there is none."""
    row = connection.execute(text(f"{_JOB} WHERE j.job_id = :job"), {"job": job_id}).mappings().first()
    if row is None:
        raise ConfigurationError(_UNKNOWN.format(job_id))
    return _job(dict(row))


def newest(
    connection: Connection, limit: int, *, states: Sequence[JobState] = (), before: int | None = None
) -> list[Job]:
    """The newest jobs, newest first: of all of them or of those in one of these states, from below a job's id on."""
    chosen = [f"j.state IN ({', '.join(str(int(state)) for state in states)})"] if states else []
    chosen += ["j.job_id < :before"] if before is not None else []
    where = f"WHERE {' AND '.join(chosen)}" if chosen else ""
    values = {"limit": limit} | ({"before": before} if before is not None else {})
    rows = connection.execute(text(f"{_JOB} {where} ORDER BY j.job_id DESC LIMIT :limit"), values).mappings()
    return [_job(dict(row)) for row in rows]


def _job(row: dict[str, object]) -> Job:
    counts = row.pop("counts") or []
    row["counts"] = {(ItemState(s), Code(c)): n for s, c, n in counts}  # type: ignore[attr-defined]
    row["state"] = JobState(row["state"])  # type: ignore[arg-type]
    row["notes"] = tuple(row["notes"])  # type: ignore[arg-type]
    row["scope"] = Scope(row["scope"])  # type: ignore[arg-type]
    row["rules"] = Rules.of(row["rules"])  # type: ignore[arg-type]
    row["window"] = Window(**row["window"]) if row["window"] else None  # type: ignore[arg-type]
    return Job(**row)  # type: ignore[arg-type]


def check_remembered(job: Job) -> None:
    """ConfigurationError if what the job did with each photo is forgotten."""
    if job.tidying_at is not None:
        raise Conflict(f"Of job {job.job_id} {forgotten(job)}; submit it again to know more.")


def forgotten(job: Job) -> str:
    """What is left of a job that ended long ago; a clause."""
    return f"only the counts are kept since {job.tidying_at:%Y-%m-%d}, because it ended long ago ({PREFIX}KEEP_DAYS)"


def start(connection: Connection, job_id: int) -> None:
    """Say that the first work of the job has begun. One that was paused just before stays paused."""
    connection.execute(
        text(f"""UPDATE core.job SET started_at = coalesce(started_at, now()),
                     state = CASE WHEN state = {JobState.CREATED} THEN {JobState.RUNNING} ELSE state END
                 WHERE job_id = :job AND state IN ({JobState.CREATED}, {JobState.PAUSED})
                   AND (state = {JobState.CREATED} OR started_at IS NULL)"""),
        {"job": job_id},
    )


def goes_on(connection: Connection, job_id: int) -> bool:
    """Whether more work of the job may be begun: it is neither paused nor over."""
    query = f"SELECT state IN ({JobState.CREATED}, {JobState.RUNNING}) FROM core.job WHERE job_id = :job"
    return bool(connection.execute(text(query), {"job": job_id}).scalar())


def refuse_ended(connection: Connection, job_id: int, done: str) -> None:
    """ConfigurationError unless the job is there and has not ended; it cannot end before this transaction does."""
    query = text("SELECT state FROM core.job WHERE job_id = :job FOR NO KEY UPDATE")
    state = connection.execute(query, {"job": job_id}).scalar()
    if state is None:
        raise ConfigurationError(_UNKNOWN.format(job_id))
    if JobState(state).ended:
        how = JobState(state).name.lower().replace("_", " ")
        raise Conflict(f"Job {job_id} has ended ({how}); only what goes on can be {done}.")


def now(connection: Connection) -> datetime:
    """The moment, by the only clock that counts."""
    moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment


def add_notes(connection: Connection, job_id: int, notes: Sequence[str]) -> None:
    """Keep sentences about the job as a whole; a person should read all of them."""
    connection.execute(
        text("UPDATE core.job SET notes = notes || CAST(:notes AS text[]) WHERE job_id = :job"),
        {"job": job_id, "notes": list(notes)},
    )


def add_refusals(connection: Connection, job_id: int, refusals: Sequence[str]) -> None:
    """Keep the first few sentences about what was refused; a million say no more than twenty."""
    if refusals:
        connection.execute(
            text(f"""UPDATE core.job SET refusals = (refusals || CAST(:refusals AS text[]))[1:{REFUSALS_KEPT}]
                     WHERE job_id = :job AND cardinality(refusals) < {REFUSALS_KEPT}"""),
            {"job": job_id, "refusals": list(refusals[:REFUSALS_KEPT])},
        )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A photo that a job could not tag, and why."""

    key: str
    code: str
    message: str | None


def failures(connection: Connection, job_id: int, limit: int) -> list[Failure]:
    """The first failed photos of a job, by photo."""
    rows = connection.execute(
        text(f"""SELECT p.key, i.code, i.message FROM core.job_item i JOIN core.photo p USING (photo_id)
                 WHERE i.job_id = :job AND i.state = {ItemState.FAILED} ORDER BY i.photo_id LIMIT :limit"""),
        {"job": job_id, "limit": limit},
    )
    return [Failure(key=key, code=Code(code).name.lower(), message=message) for key, code, message in rows]
