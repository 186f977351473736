"""One user's new photos, now: jobs that go ahead of all bulk work.

Laws
1. Photos that the ledger knows and the model has not seen are one job (kind `ledger`, `user:NAME`, scope missing).
   Where a listing has met the user's photos before, what is new at their place is another: a listing of that folder
   alone, for that user alone. Both are under the rules of that earlier job.
2. Such a listing subtracts nothing: whoever is impatient should not lose photos by it.
3. While a job of these goes on, asking again is answered with it. Two who ask at the same time wait for each other.
4. Whoever may ask may also see how far it is, without seeing any other job.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.address import as_folder, parse_uri
from pipeline.errors import ConfigurationError, SourceError
from pipeline.ledger import jobs, selection
from pipeline.ledger.requests import JobRequest, Scope
from pipeline.records import ItemState, JobState
from pipeline.sources.allowed import LOCAL, Allowed
from pipeline.sources.rules import Rules
from pipeline.sources.user_rule import UserRule

URGENT = 100  # the highest priority that a job can have
LISTINGS_LOOKED_AT = 100  # the newest ones; who uses more places names the folder to `pictograph tag`
TEMPLATE = "{user}/{photo}"  # stands in every request; who the photos belong to is fixed here
_LOCK = 7_420_019  # advisory lock: one at a time asks for the same user's photos


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresh:
    """The jobs that bring a user's new photos."""

    job_id: int  # over the photos that the ledger knows
    listing_job_id: int | None  # over the user's place; None: it is not known
    submitted: bool  # whether one of them is new; else all went on already


@dataclass(frozen=True, kw_only=True, slots=True)
class Refreshing:
    """How far the newest jobs over a user's new photos are, taken together."""

    going_on: bool
    asked_at: datetime
    finished_at: datetime | None  # None: they go on
    tagged: int
    failed: int
    waiting: int  # photos that are met and not looked at yet


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """An earlier job that listed a place."""

    kind: str
    source: str
    user_rule: str
    fixed_user: str | None
    rules: Rules


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where new photos of one user will be."""

    kind: str
    source: str
    rules: Rules


def refresh(connection: Connection, user: str, model_id: int, allowed: Allowed) -> Refresh:
    """Ask for the user's new photos.

    Raises:
        ConfigurationError: there is no such user, or the model was dropped.
    """
    source = f"{selection.USER}:{user}"
    selection.check(connection, source)
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock, hashtext(:user))"), {"lock": _LOCK, "user": user})
    place = _place(connection, user, allowed)
    rules = Rules() if place is None else place.rules
    asked = [JobRequest(kind=selection.KIND, source=source, user_rule=TEMPLATE, priority=URGENT, rules=rules)]
    if place is not None:
        asked.append(_listing(place, user))
    found = [_submitted(connection, request, model_id) for request in asked]
    return Refresh(
        job_id=found[0][0],
        listing_job_id=found[1][0] if place is not None else None,
        submitted=any(new for _, new in found),
    )


def _listing(place: Place, user: str) -> JobRequest:
    return JobRequest(
        kind=place.kind,
        source=place.source,
        user_rule=TEMPLATE,
        fixed_user=user,
        priority=URGENT,
        keep_missing=True,
        rules=place.rules,
    )


_GOES_ON = f"""
SELECT max(job_id) FROM core.job
WHERE state IN ({JobState.CREATED}, {JobState.RUNNING}) AND kind = :kind AND source = :source AND model_id = :model
  AND fixed_user IS NOT DISTINCT FROM :user AND scope = '{Scope.MISSING}' AND priority = {URGENT}"""


def _submitted(connection: Connection, request: JobRequest, model_id: int) -> tuple[int, bool]:
    """The job of this request, and whether it is new."""
    values = {"kind": request.kind, "source": request.source, "user": request.fixed_user, "model": model_id}
    going_on: int | None = connection.execute(text(_GOES_ON), values).scalar()
    return (going_on, False) if going_on is not None else (jobs.submit(connection, request, model_id), True)


_ASKED = f"""
SELECT max(job_id) FROM core.job
WHERE scope = '{Scope.MISSING}' AND priority = {URGENT} AND kind = '{selection.KIND}' AND source = :source
UNION ALL
SELECT max(job_id) FROM core.job
WHERE scope = '{Scope.MISSING}' AND priority = {URGENT} AND kind IN ('s3', 'folder') AND fixed_user = :user
  AND keep_missing"""


def standing(connection: Connection, user: str) -> Refreshing | None:
    """How far it is that the user's new photos are looked at; None: nobody asked for that."""
    asked = connection.execute(text(_ASKED), {"source": f"{selection.USER}:{user}", "user": user}).scalars()
    found = [jobs.find(connection, job_id) for job_id in asked if job_id is not None]
    if not found:
        return None
    ends = [job.finished_at for job in found if job.finished_at is not None]
    going_on = len(ends) < len(found)
    return Refreshing(
        going_on=going_on,
        asked_at=max(job.created_at for job in found),
        finished_at=None if going_on else max(ends),
        tagged=sum(job.tagged for job in found),
        failed=sum(job.count(ItemState.FAILED) for job in found),
        waiting=sum(job.waiting for job in found),
    )


# ---- the user's place

_NEWEST = """
SELECT b.uri AS bucket, p.key
FROM core.photo p JOIN core.bucket b USING (bucket_id) JOIN core.app_user u USING (user_id)
WHERE u.name = :user AND p.gone_at IS NULL ORDER BY p.taken_at DESC, p.photo_id DESC LIMIT 1"""
_LISTINGS = """
SELECT kind, source, user_rule, fixed_user, rules FROM core.job WHERE kind IN ('s3', 'folder')
ORDER BY job_id DESC LIMIT :most"""


def _place(connection: Connection, user: str, allowed: Allowed) -> Place | None:
    """Where the newest listing that would meet the user's newest photo finds photos of theirs."""
    newest = connection.execute(text(_NEWEST), {"user": user}).first()
    if newest is None:
        return None
    rows = connection.execute(text(_LISTINGS), {"most": LISTINGS_LOOKED_AT}).mappings()
    listings = (Listing(**{**row, "rules": Rules.of(row["rules"])}) for row in rows)
    for listing in listings:
        place = place_of(listing, user, newest.bucket, newest.key)
        if place is not None and _may_be_read(place, allowed):
            return place
    return None


def place_of(listing: Listing, user: str, bucket: str, key: str) -> Place | None:
    """The folder in which a listing finds photos of this user and of nobody else, if it has met this one.

    None where it has not, where its rules leave the photo out, or where no folder is the user's alone.
    """
    try:
        rule = UserRule.parse(listing.user_rule, listing.fixed_user)
        below = _below(listing, bucket, key)
    except ConfigurationError:  # of an older release, whose rules and places were others
        return None
    if below is None or rule.owner(below) != user or not listing.rules.choose(key, user):
        return None
    folder = "" if rule.fixed is not None else _folder(rule.template, user)
    if folder is None:
        return None
    source = f"{as_folder(listing.source)}{folder}" if folder else listing.source
    return Place(kind=listing.kind, source=source, rules=listing.rules)


def _below(listing: Listing, bucket: str, key: str) -> str | None:
    """The key relative to what was listed; None where it lies elsewhere."""
    if listing.kind == "folder":
        place, prefix = LOCAL, as_folder(listing.source)
    else:
        name, key_prefix = parse_uri(listing.source)
        place, prefix = f"s3://{name}", as_folder(key_prefix)
    return key.removeprefix(prefix) if place == bucket and key.startswith(prefix) else None


def _folder(template: str, user: str) -> str | None:
    """What comes before the photo's own name, down to the last folder; None where that does not name the user."""
    before, _, _ = template.partition("{photo}")
    folder = before[: before.rfind("/") + 1]
    return folder.replace("{user}", user) if "{user}" in folder else None


def _may_be_read(place: Place, allowed: Allowed) -> bool:
    try:
        allowed.check_source(place.kind, place.source)
    except SourceError:
        return False
    return True
