"""What a job would do: its source listed, the ledger asked, nothing written. Postgres refuses every write meanwhile.

Laws
1. Every entry is counted once, as the job's listing would count it, if nothing changes until then.
2. The ledger is only asked by page, as a listing asks it; but what is new is looked for by its version once in so many
   photos, because no index knows versions.
3. The time comes from what jobs of the same model have taken here, and from nothing else.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

from pipeline.ledger import selection
from pipeline.ledger.audit import unhurried
from pipeline.ledger.due import DUE
from pipeline.ledger.listing import stretch_of, too_many
from pipeline.ledger.requests import JobRequest, Scope
from pipeline.ledger.selection import About
from pipeline.ledger.users import standings
from pipeline.records import Code, ItemState, JobState, Page, PhotoRef
from pipeline.sources.rules import Rules, apply_rules
from pipeline.sources.source import Interval, Source

VERSIONS_AT_ONCE = 50_000  # new photos that are looked for by their version in one pass over the ledger
JOBS_LOOKED_AT = 10


class Transactions(Protocol):
    """Where the ledger is asked: a database, or whoever opens transactions of another role in one."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction."""
        ...


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What jobs of a model have taken on the workers that were there."""

    jobs: tuple[int, ...]  # the newest ones
    photos: int  # that they tagged, or failed on
    seconds: float

    @property
    def photos_per_s(self) -> float:
        """Photos a second of those jobs, from their first work to their end."""
        return self.photos / max(self.seconds, 0.001)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a job would meet and do."""

    listed: int  # entries; the sum of the next six and of `excluded`
    new: int = 0  # not in the ledger, or gone until now
    changed: int = 0  # other bytes than the ledger knows, by etag and size
    unchanged: int = 0
    listed_twice: int = 0
    erased: int = 0  # of users who are erased: they stay away
    not_there: int = 0  # named by the source, and not there
    excluded: Mapping[str, int]  # by reason
    due: int  # photos that would be worked on, by the scope
    same_version: int = 0  # new ones with the etag and size of a photo elsewhere in the ledger: most likely its bytes
    gone: int = 0  # of the ledger, no longer in the source: would be subtracted
    gone_kept: str | None = None  # why they would not be
    pace: Pace | None = None  # None: no job of this model has ended here

    @property
    def seconds(self) -> float | None:
        """How long the due photos would take; None: nobody knows."""
        return self.due / self.pace.photos_per_s if self.pace else None


def forecast(
    database: Transactions, request: JobRequest, model_id: int, source: Source | None, page_keys: int
) -> Forecast:
    """List `source` to its end, or select from the ledger where there is none, and say what a job would do.

    Raises:
        SourceError, ServiceDown: the source cannot be listed.
    """
    if source is None:
        found = _of_ledger(database, request, model_id, page_keys)
    else:
        found = _of_place(database, request, model_id, source, page_keys)
    with looking(database) as connection:
        return replace(found, pace=pace(connection, model_id))


# What of a page is new or changed, and due, were it listed now: `fresh` photos get another revision by that.
_JUDGED = """
WITH listed AS (
    SELECT l.*, o.deleted_at IS NOT NULL AS erased
    FROM unnest(CAST(:buckets AS text[]), CAST(:keys AS text[]), CAST(:owners AS text[]), CAST(:etags AS text[]),
                CAST(:sizes AS bigint[])) WITH ORDINALITY AS l(bucket, key, owner, etag, size, n)
    LEFT JOIN core.app_user o ON o.name = l.owner COLLATE "C"
), first AS (
    SELECT DISTINCT ON (bucket, key) * FROM listed WHERE NOT erased ORDER BY bucket, key, n
), judged AS (
    SELECT f.n, p.photo_id IS NULL OR p.gone_at IS NOT NULL AS new,
           (p.etag, p.size) IS DISTINCT FROM (f.etag, f.size) AS changed, {due} AS due,
           r.photo_id IS NOT NULL AS has_result
    FROM first f LEFT JOIN core.bucket b ON b.uri = f.bucket
    LEFT JOIN core.photo p ON p.bucket_id = b.bucket_id AND p.key = f.key COLLATE "C"
    LEFT JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id)
SELECT l.n::int - 1 AS n, l.erased, j.new, NOT j.new AND j.changed AS changed,
       CASE WHEN j.new OR j.changed THEN {due_if_fresh} ELSE j.due END AS due
FROM listed l LEFT JOIN judged j USING (n) ORDER BY l.n"""
_DUE_IF_FRESH = {
    Scope.MISSING: "true",
    Scope.FAILED: "false",
    Scope.STALE: "j.has_result AND NOT j.new",
    Scope.ALL: "true",
}
_GONE = """
SELECT count(*) FROM core.photo p JOIN core.bucket b USING (bucket_id)
WHERE {stretch} AND p.key <> ALL (CAST(:there AS text[]))"""
_SAME_VERSION = """
SELECT count(*) FROM unnest(CAST(:etags AS text[]), CAST(:sizes AS bigint[])) AS n(etag, size)
WHERE EXISTS (SELECT FROM core.photo p WHERE p.etag = n.etag AND p.size = n.size AND p.gone_at IS NULL)"""
_PACE = f"""
SELECT j.job_id, done.photos,
       greatest(extract(epoch FROM j.finished_at - j.started_at)::float8 - j.rested_seconds, 0.001) AS seconds
FROM core.job j CROSS JOIN LATERAL (
    SELECT sum(c.photos)::bigint AS photos FROM core.job_count c
    WHERE c.job_id = j.job_id AND c.state IN ({ItemState.SUCCEEDED}, {ItemState.FAILED}) AND c.code <> {Code.GONE}) done
WHERE j.model_id = :model AND j.state IN ({JobState.SUCCEEDED}, {JobState.SUCCEEDED_WITH_ERRORS})
  AND j.kind <> 'decide' AND j.started_at IS NOT NULL AND done.photos > 0
ORDER BY j.job_id DESC LIMIT {JOBS_LOOKED_AT}"""


@dataclass(kw_only=True)
class _Tally:
    """How many things there are; where they may repeat, how many different ones.

    Millions are told apart by their hashes, 8 bytes each, which is all but surely right.
    """

    repeats: bool
    number: int = 0
    hashes: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, things: Sequence[object]) -> None:
        self.number += len(things)
        if self.repeats:
            self.hashes.append(np.fromiter(map(hash, things), np.int64, len(things)))

    def count(self) -> int:
        return len(np.unique(np.concatenate(self.hashes))) if self.hashes else self.number


class _Places:
    """The counts of a place's entries as they come together, page by page."""

    def __init__(self, database: Transactions, request: JobRequest, model_id: int, *, repeats: bool) -> None:
        self._database = database
        self._model_id = model_id
        self._rules = request.rules
        self._judged = text(_JUDGED.format(due=DUE[request.scope], due_if_fresh=_DUE_IF_FRESH[request.scope]))
        self.refs = self.erased = self.not_there = self.gone = self.same_version = 0
        self.excluded: Counter[Code] = Counter()
        self.new, self.changed, self.unchanged, self.due = (_Tally(repeats=repeats) for _ in range(4))
        self._versions: list[PhotoRef] = []

    def add(self, page: Page, span: Interval | None) -> None:
        """Count one page."""
        page = self._chosen(page)
        self.excluded += Counter(refusal.code for refusal in page.refusals)
        self.not_there += len(page.gone)
        self.refs += len(page.refs)
        with looking(self._database) as connection:
            rows = connection.execute(self._judged, {"model": self._model_id, **_columns(page.refs)}).all()
            if span is not None and span.orders:
                self.gone += _gone(connection, page, span)
        self._sort(page.refs, rows)
        if len(self._versions) >= VERSIONS_AT_ONCE:
            self.look_for_versions()

    def _chosen(self, page: Page) -> Page:
        if self._rules == Rules():
            return page
        with looking(self._database) as connection:
            return apply_rules(page, self._rules, standings(connection, sorted({ref.user for ref in page.refs})))

    def _sort(self, refs: Sequence[PhotoRef], rows: Sequence[Row[Any]]) -> None:
        places = [(ref.bucket, ref.key) for ref in refs]
        self.erased += sum(row.erased is True for row in rows)
        first = [row for row in rows if row.new is not None]
        self.new.add([places[row.n] for row in first if row.new])
        self.changed.add([places[row.n] for row in first if row.changed])
        self.unchanged.add([places[row.n] for row in first if not (row.new or row.changed)])
        self.due.add([places[row.n] for row in first if row.due])
        self._versions += [refs[row.n] for row in first if row.new]

    def look_for_versions(self) -> None:
        """Find out which of the new photos have the etag and the size of one that the ledger knows."""
        etags, sizes = [ref.etag for ref in self._versions], [ref.size for ref in self._versions]
        if self._versions:
            with looking(self._database) as connection:
                unhurried(connection)
                query = text(_SAME_VERSION)
                self.same_version += connection.execute(query, {"etags": etags, "sizes": sizes}).scalar_one()
        self._versions = []


def _columns(refs: Sequence[PhotoRef]) -> dict[str, list[Any]]:
    return {
        "buckets": [ref.bucket for ref in refs],
        "keys": [ref.key for ref in refs],
        "owners": [ref.user for ref in refs],
        "etags": [ref.etag for ref in refs],
        "sizes": [ref.size for ref in refs],
    }


def _gone(connection: Connection, page: Page, span: Interval) -> int:
    stretch, values = stretch_of(span)
    there = [ref.key for ref in page.refs] + [refusal.name for refusal in page.refusals]
    found: int = connection.execute(text(_GONE.format(stretch=stretch)), {**values, "there": there}).scalar_one()
    return found


@contextmanager
def looking(database: Transactions) -> Iterator[Connection]:
    """A transaction in which the server refuses every write."""
    with database.transaction() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        yield connection


def _of_place(database: Transactions, request: JobRequest, model_id: int, source: Source, page_keys: int) -> Forecast:
    page = source.page(None, page_keys)
    span = source.covered(None, page)
    counts = _Places(database, request, model_id, repeats=span is None)
    counts.add(page, span)
    while not page.last:
        cursor = page.cursor
        page = source.page(cursor, page_keys)
        counts.add(page, source.covered(cursor, page))
    counts.look_for_versions()
    different = counts.new.count() + counts.changed.count() + counts.unchanged.count()
    return Forecast(
        listed=counts.refs + counts.not_there + counts.excluded.total(),
        new=counts.new.count(),
        changed=counts.changed.count(),
        unchanged=counts.unchanged.count(),
        listed_twice=counts.refs - counts.erased - different,
        erased=counts.erased,
        not_there=counts.not_there,
        excluded=_named(counts.excluded),
        due=counts.due.count(),
        same_version=counts.same_version,
        gone=counts.gone,
        gone_kept=_kept(request, counts.gone, counts.refs + counts.not_there + counts.excluded.total()),
    )


def _of_ledger(database: Transactions, request: JobRequest, model_id: int, page_keys: int) -> Forecast:
    about = About.parse(request.source)
    met = due = 0
    excluded: Counter[Code] = Counter()
    cursor: str | None = None
    while True:
        with looking(database) as connection:
            ids = selection.photo_ids(connection, about, request.scope, model_id, cursor, page_keys)
            refused = selection.left_out(connection, request.rules, ids)
            rest = sorted({*ids} - {*refused})
            here, to_do = selection.count_due(connection, about, request.scope, model_id, rest)
        met, due = met + here, due + to_do
        excluded += Counter(refusal.code for refusal in refused.values())
        if len(ids) < page_keys:
            break
        cursor = str(ids[-1])
    return Forecast(listed=met + excluded.total(), unchanged=met, excluded=_named(excluded), due=due)


def _named(codes: Counter[Code]) -> dict[str, int]:
    return {code.name.lower(): n for code, n in codes.most_common()}


def _kept(request: JobRequest, gone: int, listed: int) -> str | None:
    if gone and request.keep_missing:
        return "kept, as you asked"
    if too_many(gone, listed) and not request.allow_mass_delete:
        return "too many to believe: nothing would be subtracted without --allow-mass-delete"
    return None


def pace(connection: Connection, model_id: int) -> Pace | None:
    """What the newest jobs of a model have taken; None if none has worked on a photo and ended."""
    rows = connection.execute(text(_PACE), {"model": model_id}).all()
    if not rows:
        return None
    return Pace(
        jobs=tuple(row.job_id for row in rows),
        photos=sum(row.photos for row in rows),
        seconds=sum(row.seconds for row in rows),
    )
