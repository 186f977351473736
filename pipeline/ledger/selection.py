"""Jobs of kind `ledger`: their photos come from the ledger and not from a place.

What such a job is about is its source: `photos` (all that are not gone), `user:NAME`, or `job:NUMBER` (what that job
failed on and may succeed with now).

Laws
1. Pages go by photo id, which never changes; a page is one transaction with its checkpoint, like a listing's.
2. Nothing is looked up in the place: the ledger's version of a photo is the one that is read, and nothing is ever found
   missing. A photo that comes while the job selects is met or not.
3. The photos of a page are locked before they are looked at, so that an erasure either waits for the page and takes its
   items along, or has deleted them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.ledger import jobs, lines, pages
from pipeline.ledger.due import DANGEROUS, DUE, DUE_AGAIN
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import Scope
from pipeline.records import Code, ItemState, Lease, Page, PhotoRef, Refusal
from pipeline.sources.rules import Rules, Standing, apply_rules
from pipeline.sources.source import address

KIND = "ledger"
PHOTOS, USER, JOB = "photos", "user", "job"

#: Failures that say nothing of the bytes: the next attempt may end otherwise.
MAY_SUCCEED = frozenset({Code.GONE, Code.QUARANTINED, Code.MODEL_ERROR, Code.INFRASTRUCTURE, Code.FORBIDDEN})
_MAY_SUCCEED = ", ".join(str(int(code)) for code in sorted(MAY_SUCCEED))


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a ledger job is about."""

    what: str  # PHOTOS, USER or JOB
    name: str = ""  # of the user
    job_id: int = 0

    @classmethod
    def parse(cls, source: str) -> "About":
        """From a job's source; ConfigurationError if it is about nothing that there is."""
        what, _, name = source.partition(":")
        if source == PHOTOS:
            return cls(what=PHOTOS)
        if what == USER and name:
            return cls(what=USER, name=name)
        if what == JOB and name.isascii() and name.isdigit() and len(name) < 19:  # fits a bigint
            return cls(what=JOB, job_id=int(name))
        raise ConfigurationError(f"The ledger has no {source!r}; it has photos, user:NAME and job:NUMBER.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """A page that was written; `cursor` is where the next one starts."""

    cursor: str
    last: bool


_HERE = "p.gone_at IS NULL AND u.deleted_at IS NULL"
_WITH_OWNER = "core.photo p JOIN core.app_user u ON u.user_id = p.user_id"
_WITH_RESULT = "LEFT JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id"
_NEXT = "ORDER BY p.photo_id LIMIT :limit"
_WORTH_TRYING = f"(i.code IN ({_MAY_SUCCEED}) OR r.photo_id IS NULL OR r.content_rev < p.content_rev)"
_FAILED_OF_JOB = f"""core.job_item i JOIN core.photo p ON p.photo_id = i.photo_id
JOIN core.app_user u ON u.user_id = p.user_id {_WITH_RESULT} WHERE i.job_id = :job AND i.state = {ItemState.FAILED}"""

_PHOTO_IDS = {
    PHOTOS: f"SELECT p.photo_id FROM {_WITH_OWNER} WHERE {_HERE} AND p.photo_id > :after {_NEXT}",
    USER: f"SELECT p.photo_id FROM {_WITH_OWNER} WHERE {_HERE} AND u.name = :user AND p.photo_id > :after {_NEXT}",
    JOB: f"SELECT p.photo_id FROM {_FAILED_OF_JOB} AND i.photo_id > :after AND {_HERE} "
    f"AND (:everything OR {_WORTH_TRYING}) {_NEXT}",
}

_LOCK = "SELECT FROM core.photo WHERE photo_id = ANY (CAST(:ids AS bigint[])) ORDER BY photo_id FOR KEY SHARE"
_MET = f"""
INSERT INTO met SELECT p.photo_id, p.user_id, {{due}}, {DANGEROUS} FROM {_WITH_OWNER} {_WITH_RESULT}
WHERE p.photo_id = ANY (CAST(:ids AS bigint[])) AND {_HERE}"""

_FACTS = """
SELECT p.photo_id, b.uri AS bucket, p.key, u.name AS user, p.etag, p.size, p.taken_at AS modified_at, p.version_id,
       u.consent
FROM core.photo p JOIN core.bucket b USING (bucket_id) JOIN core.app_user u ON u.user_id = p.user_id
WHERE p.photo_id = ANY (CAST(:ids AS bigint[])) AND u.deleted_at IS NULL ORDER BY p.photo_id"""


def check(connection: Connection, source: str) -> None:
    """Raise ConfigurationError if there is no such user or job, or the job's photos are forgotten."""
    about = About.parse(source)
    if about.what == JOB:
        jobs.check_remembered(jobs.find(connection, about.job_id))
    if about.what == USER:
        query = text("SELECT FROM core.app_user WHERE name = :name AND deleted_at IS NULL")
        if connection.execute(query, {"name": about.name}).first() is None:
            raise ConfigurationError(f"There is no user {about.name!r}; `pictograph users list` names all of them.")


def record_selected(
    connection: Connection, job: Job, lease: Lease, cursor: str | None, limit: int, shard_photos: int
) -> Selected:
    """Write the next page of a ledger job: items, shards, counts, checkpoint.

    Raises:
        LeaseLost: someone else selects for this job now; nothing is written.
    """
    about = About.parse(job.source)
    ids = photo_ids(connection, about, job.scope, job.model_id, cursor, limit)
    following = str(ids[-1]) if ids else cursor or "0"
    pages.create_met(connection)
    connection.execute(text(_LOCK), {"ids": ids})
    refused = left_out(connection, job.rules, ids)
    values = {"ids": sorted({*ids} - {*refused}), "model": job.model_id}
    met = connection.execute(text(_MET.format(due=due(about, job.scope))), values).rowcount
    before = pages.checkpoint(connection, lease, following, met + len(refused))
    new = pages.make_items(connection, job, shard_photos)
    if job.keeps_lines:
        lines.keep_selected(connection, job, before, list(refused.values()))
    _count(connection, job, met, len(new), list(refused.values()))
    if cursor is None and about.what == JOB:
        jobs.add_notes(connection, job.job_id, _left_alone(connection, job, about.job_id))
    return Selected(cursor=following, last=len(ids) < limit)


def photo_ids(
    connection: Connection, about: About, scope: Scope, model_id: int, cursor: str | None, limit: int
) -> list[int]:
    """The next photos that a job about this meets, after a cursor."""
    query = _PHOTO_IDS[about.what]
    values = {"after": int(cursor or 0), "limit": limit, "user": about.name, "job": about.job_id, "model": model_id}
    values["everything"] = scope is Scope.ALL
    return list(connection.execute(text(query), {k: v for k, v in values.items() if f":{k}" in query}).scalars())


def due(about: About, scope: Scope) -> str:
    """The condition under which a job about this works on a photo."""
    return DUE_AGAIN if about.what == JOB and scope is not Scope.ALL else DUE[scope]


def left_out(connection: Connection, rules: Rules, ids: Sequence[int]) -> dict[int, Refusal]:
    """By photo id, what the rules leave out of these; where there are no rules, nobody is asked."""
    if rules == Rules():
        return {}
    rows = [dict(row) for row in connection.execute(text(_FACTS), {"ids": list(ids)}).mappings()]
    photos = {address(row["bucket"], row["key"]): row.pop("photo_id") for row in rows}
    standings = {row["user"]: Standing(consent=row.pop("consent"), erased=False) for row in rows}
    page = Page(refs=tuple(PhotoRef(**row) for row in rows), refusals=(), gone=(), cursor="", last=True)
    return {photos[refusal.uri or ""]: refusal for refusal in apply_rules(page, rules, standings).refusals}


_DUE = f"""
SELECT count(*) AS met, count(*) FILTER (WHERE {{due}}) AS due FROM core.photo p {_WITH_RESULT}
WHERE p.photo_id = ANY (CAST(:ids AS bigint[]))"""


def count_due(connection: Connection, about: About, scope: Scope, model_id: int, ids: Sequence[int]) -> tuple[int, int]:
    """How many of these photos there are, and on how many of them a job about this would work."""
    query = text(_DUE.format(due=due(about, scope)))
    met, found = connection.execute(query, {"ids": list(ids), "model": model_id}).one()
    return met, found


def _count(connection: Connection, job: Job, met: int, due: int, refused: Sequence[Refusal]) -> None:
    unchanged = pages.unchanged(connection)
    counts = Counter((ItemState.EXCLUDED, refusal.code) for refusal in refused)
    counts[ItemState.PENDING, Code.NONE] = due
    counts[ItemState.SKIPPED_UNCHANGED, Code.NONE] = unchanged
    counts[ItemState.DUPLICATE, Code.LISTED_TWICE] = met - due - unchanged
    pages.add_counts(connection, job.job_id, counts)
    jobs.add_refusals(connection, job.job_id, [f"{refusal.name}: {refusal.reason}" for refusal in refused])


_UNTRIED = f"""
SELECT (SELECT coalesce(sum(photos), 0)::bigint FROM core.job_count
        WHERE job_id = :job AND state = {ItemState.FAILED}) AS failed,
       count(*) FILTER (WHERE {_HERE}) AS here, count(*) FILTER (WHERE {_HERE} AND NOT {_WORTH_TRYING}) AS hopeless
FROM {_FAILED_OF_JOB}"""


def _left_alone(connection: Connection, job: Job, failed_job: int) -> list[str]:
    """Sentences about the failures of a job that this one does not try again."""
    row = connection.execute(text(_UNTRIED), {"job": failed_job, "model": job.model_id}).one()
    notes = []
    if row.failed > row.here:
        notes.append(
            f"{row.failed - row.here:,} failures of job {failed_job} are of photos that the ledger does not have, or "
            "that are gone; run the job over its source again for those."
        )
    if row.hopeless and job.scope is not Scope.ALL:
        anyway = "`--scope all`" if job.retry_of is None else f"`pictograph jobs retry {failed_job} --all`"
        notes.append(
            f"{row.hopeless:,} failures of job {failed_job} are of bytes that cannot be tagged, and those have not "
            f"changed; {anyway} tries them all the same."
        )
    return notes
