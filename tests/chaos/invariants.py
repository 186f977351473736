"""What must hold when a storm is over. Every check returns the offenders, by name; none is the only right answer.

    lost          a photo that was there, and that no job accounts for
    unexpected    a result for what is not there
    miscounted    totals that differ from a recount, jobs whose photos do not add up
    mis-tagged    a result that is not what the pixels say
    false poison  a sound photo that is called broken, poisonous or gone

The truth is the bucket and the oracle's word on its bytes; the ledger is what is judged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import text

from pipeline.ledger import audit
from pipeline.ledger.redrive import DEATHS_ALLOWED, FAILURES_ALLOWED
from pipeline.records import Annotation, Code, ItemState, JobState, WorkState
from pipeline.store.session import Database
from pipeline.store.totals import differences
from tests.chaos.history import History
from tests.chaos.oracle import Oracle, Verdict
from tests.chaos.shelf import BUCKET, PREFIX, Thing

T = TypeVar("T")

SHOWN = 8  # offenders that are named
HISTORY_SHOWN = 1_500  # characters of what became of an offender's shards, the last ones
BLAMING = (Code.UNSUPPORTED, Code.TOO_LARGE, Code.CORRUPT, Code.GONE, Code.QUARANTINED, Code.MODEL_ERROR)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How an invariant fared."""

    name: str
    says: str  # what would be an offence
    count: int
    offenders: tuple[str, ...]  # the first few, each a sentence

    @classmethod
    def of(cls, name: str, says: str, offenders: Sequence[T], described: Callable[[T], str] = str) -> "Finding":
        """From all offenders, of whom the first few are described."""
        shown = tuple(described(offender) for offender in offenders[:SHOWN])
        return cls(name=name, says=says, count=len(offenders), offenders=shown)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A result as the ledger has it."""

    photo_id: int
    key: str
    user: str
    etag: str
    current: bool  # whether it is of the content that the ledger knows
    decision_rev: int
    verdict: Verdict


Offence = tuple[str, int, Stored | None]  # key, model, and its result


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is so, whatever the ledger says."""

    things: Mapping[str, Thing]  # in the bucket now
    unreadable: frozenset[str]  # keys of what never was a photo
    taken_away: frozenset[str]  # keys that were deleted at some time
    erased: frozenset[str]  # users
    oracles: Sequence[Oracle]
    history: History
    mending: Mapping[int, frozenset[str]]  # by the jobs of the quiet after the storm: keys that were theirs to tag

    def wanted(self) -> Iterator[str]:
        """The keys that must have a result."""
        return (key for key in self.things if _owner(key) not in self.erased)


@dataclass(kw_only=True)
class Judge:
    """Holds the ledger against the truth."""

    database: Database
    truth: Truth

    def findings(self) -> list[Finding]:
        """Every invariant in turn."""
        results = {oracle.registered.model_id: self._results(oracle) for oracle in self.truth.oracles}
        return [
            *self._of_results(results),
            Finding.of("I3 miscounted", "totals differ from a recount", self._miscounted()),
            *(Finding.of(name, says, self._named(query)) for name, says, query in _QUERIES),
            Finding.of("I6 resurrected", "rows of an erased user", self._resurrected()),
            Finding.of("I11 two holders", "an epoch that two workers claimed", self.truth.history.claimed_twice()),
            Finding.of("I9 false poison (jobs)", "an item blames a sound photo", self._blamed_items()),
            Finding.of("I1 mended", "a photo that only the job after the storm has tagged", self._mended()),
            Finding.of("audit", "something that `doctor --deep` finds", self._audited()),
        ]

    def _of_results(self, results: Mapping[int, Mapping[str, Stored]]) -> list[Finding]:
        lost: list[Offence] = []
        unexpected: list[Offence] = []
        wrong, poisoned = [], []
        for oracle in self.truth.oracles:
            model = oracle.registered.model_id
            found = results[model]
            for key in self.truth.wanted():
                thing, stored = self.truth.things[key], found.get(key)
                if stored is None or not stored.current or stored.etag != thing.etag:
                    lost.append((key, model, stored))
                    continue
                expected = oracle.verdict(thing.body, stored.decision_rev)
                if expected.annotation is not None and stored.verdict.code in BLAMING:
                    poisoned.append(f"{key} (model {model}) is {stored.verdict.code.name}, and is a sound photo")
                elif stored.verdict != expected:
                    wrong.append(f"{key} (model {model}): {_difference(stored.verdict, expected)}")
            there = set(self.truth.wanted())
            unexpected += [(key, model, stored) for key, stored in found.items() if key not in there]
        return [
            Finding.of("I1 lost", "a photo in the bucket without a result of its bytes", lost, self._sentence),
            Finding.of("I2 unexpected", "a result of what is not in the bucket", unexpected, self._sentence),
            Finding.of("I4 mis-tagged", "a result that differs from what the pixels say", wrong),
            Finding.of("I9 false poison", "a sound photo that is called broken", poisoned),
        ]

    def _results(self, oracle: Oracle) -> dict[str, Stored]:
        rows = self._rows(
            """SELECT r.photo_id, p.key, u.name AS user, p.etag, r.content_rev = p.content_rev AS current,
                      r.decision_rev, r.outcome, r.headline, r.nodes, r.masses, r.tags, r.sha256
               FROM core.photo_result r LEFT JOIN core.photo p USING (photo_id)
               LEFT JOIN core.app_user u ON u.user_id = r.user_id WHERE r.model_id = :model""",
            model=oracle.registered.model_id,
        )
        return {row.key: _stored(row) for row in rows}

    def _sentence(self, offence: Offence) -> str:
        key, model, stored = offence
        about = self._rows(
            """SELECT p.photo_id, p.etag, p.content_rev, p.gone_at,
                      (SELECT jsonb_agg(jsonb_build_array(i.job_id, i.state, i.code, i.shard_id) ORDER BY i.job_id)
                       FROM core.job_item i WHERE i.photo_id = p.photo_id) AS in_jobs
               FROM core.photo p JOIN core.bucket b USING (bucket_id) WHERE b.uri = :bucket AND p.key = :key""",
            bucket=f"s3://{BUCKET}",
            key=key,
        )
        thing = self.truth.things.get(key)
        result = "no result" if stored is None else f"result {stored.verdict.code.name}, current: {stored.current}"
        shards = {item[3] for row in about for item in row.in_jobs or () if item[3] is not None}
        past = "; ".join(str(event) for shard in sorted(shards) for event in self.truth.history.of("shard", shard))
        return (
            f"{key} (model {model}): {result}; bucket: {thing}; ledger: {[tuple(row) for row in about]} "
            f"(job, state, code, shard); shards: {past[-HISTORY_SHOWN:]}"
        )

    def _miscounted(self) -> list[str]:
        with self.database.transaction() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            found = differences(connection)
        return [f"{found} totals differ from a recount"] * found

    def _resurrected(self) -> list[str]:
        found = self._rows(_ERASED_ROWS, users=sorted(self.truth.erased))
        alive = self._rows(
            "SELECT name FROM core.app_user WHERE name = ANY (:users) AND deleted_at IS NULL",
            users=sorted(self.truth.erased),
        )
        open_ = [f"user {row.name} was to be erased, and is not" for row in alive]
        return open_ + [f"user {row.name} has {row.rows} rows in {row.place}" for row in found]

    def _blamed_items(self) -> list[str]:
        rows = self._rows(
            f"""SELECT i.job_id, p.key, i.code, i.message FROM core.job_item i JOIN core.photo p USING (photo_id)
                WHERE i.state = {ItemState.FAILED} ORDER BY i.job_id, i.photo_id"""
        )
        return [
            f"job {row.job_id}: {row.key} is {Code(row.code).name} ({row.message})"
            for row in rows
            if row.key not in self.truth.unreadable and not (row.code == Code.GONE and row.key in self.truth.taken_away)
        ]

    def _mended(self) -> list[str]:
        """What the jobs after the storm had to do, though the last ones in the storm should have done it."""
        found = []
        for job, theirs in self.truth.mending.items():
            rows = self._rows(
                "SELECT p.key FROM core.job_item i JOIN core.photo p USING (photo_id) WHERE i.job_id = :job", job=job
            )
            found += [f"job {job} had to tag {row.key}" for row in rows if row.key not in theirs]
        return found

    def _audited(self) -> list[str]:
        with self.database.transaction() as connection:
            return [str(finding) for finding in audit.findings(connection, quiet=True)]

    def _named(self, query: str) -> list[str]:
        return [", ".join(f"{name} {value}" for name, value in row._mapping.items()) for row in self._rows(query)]

    def _rows(self, query: str, **values: object) -> Sequence[Any]:
        with self.database.transaction() as connection:
            return connection.execute(text(query), values).all()


_ERASED_ROWS = (
    " UNION ALL ".join(
        f"""SELECT u.name, '{place}' AS place, count(*) AS rows FROM core.app_user u JOIN {place} t USING (user_id)
        WHERE u.name = ANY (:users) GROUP BY u.name"""
        for place in ("core.photo", "core.photo_result")
    )
    + """
UNION ALL SELECT u.name, 'core.user_category', count(*) FROM core.app_user u JOIN core.user_category t USING (user_id)
WHERE u.name = ANY (:users) AND (t.photos, t.mass) <> (0, 0) GROUP BY u.name"""
)

_OPEN_STATES = f"{WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED}"

#: Name, offence, and a query that finds the offenders.
_QUERIES: tuple[tuple[str, str, str], ...] = (
    (
        "I3 job accounting",
        "a job whose photos do not add up to what was listed",
        """SELECT job_id, listed, counted FROM core.job
           CROSS JOIN LATERAL (SELECT coalesce(sum(listed), 0) AS listed FROM core.list_range r
                               WHERE r.job_id = job.job_id) l
           CROSS JOIN LATERAL (SELECT coalesce(sum(photos), 0) AS counted FROM core.job_count c
                               WHERE c.job_id = job.job_id) c
           WHERE listed <> counted""",
    ),
    (
        "I3 job items",
        "a job's counts differ from its items",
        f"""SELECT job_id, state, code, counted, found FROM
            (SELECT job_id, state, code, photos AS counted FROM core.job_count WHERE photos > 0
             AND state IN ({ItemState.PENDING}, {ItemState.RETRY}, {ItemState.SUCCEEDED}, {ItemState.CANCELLED})) c
            FULL JOIN (SELECT job_id, state, code, count(*) AS found FROM core.job_item
             WHERE state IN ({ItemState.PENDING}, {ItemState.RETRY}, {ItemState.SUCCEEDED}, {ItemState.CANCELLED})
             GROUP BY 1, 2, 3) i USING (job_id, state, code)
            WHERE counted IS DISTINCT FROM found""",
    ),
    (
        "I5 twice",
        "a photo with two results of a model, or two rows for one key",
        """SELECT 'result' AS what, photo_id AS id, count(*) FROM core.photo_result GROUP BY model_id, photo_id
           HAVING count(*) > 1
           UNION ALL SELECT 'key ' || key, bucket_id, count(*) FROM core.photo GROUP BY bucket_id, key
           HAVING count(*) > 1""",
    ),
    (
        "I5 split",
        "open photos of a shard that was split or is done",
        f"""SELECT i.job_id, i.shard_id, i.photo_id, s.state FROM core.job_item i JOIN core.shard s USING (shard_id)
            WHERE i.state = {ItemState.PENDING} AND s.state NOT IN ({_OPEN_STATES})""",
    ),
    (
        "I7 stuck shards",
        "a shard that has not ended",
        f"""SELECT shard_id, job_id, state, lease_epoch, lease_owner, deaths, failures, error, next_attempt_at
            FROM core.shard WHERE state IN ({_OPEN_STATES})""",
    ),
    (
        "I7 stuck listings",
        "a key range that has not ended",
        f"""SELECT range_id, job_id, state, lease_epoch, lease_owner, deaths, cursor
            FROM core.list_range WHERE state IN ({_OPEN_STATES})""",
    ),
    (
        "I7 stuck photos",
        "an item that has not ended",
        f"""SELECT job_id, photo_id, state, shard_id, attempts, next_attempt_at, message FROM core.job_item
            WHERE state IN ({ItemState.PENDING}, {ItemState.RETRY})""",
    ),
    (
        "I7 jobs",
        "a job that has not ended, or has failed because of the infrastructure",
        f"""SELECT job_id, state, error FROM core.job
            WHERE state NOT IN ({JobState.SUCCEEDED}, {JobState.SUCCEEDED_WITH_ERRORS})""",
    ),
    (
        "I8 tried too often",
        "a shard with more deaths or failures than are allowed",
        f"""SELECT shard_id, deaths, failures, error FROM core.shard
            WHERE deaths > {DEATHS_ALLOWED} OR failures >= {FAILURES_ALLOWED}""",
    ),
    (
        "I8 infrastructure",
        "a photo that was given up because a server was away",
        f"""SELECT job_id, photo_id, message FROM core.job_item
            WHERE state = {ItemState.FAILED} AND code IN ({Code.INFRASTRUCTURE}, {Code.FORBIDDEN})""",
    ),
)


def _owner(key: str) -> str:
    return key.removeprefix(PREFIX).partition("/")[0]


def _stored(row: Any) -> Stored:
    seen = row.outcome in (Code.TAGGED, Code.ABSTAINED)
    note = Annotation(nodes=tuple(row.nodes), masses=tuple(row.masses), tags=tuple(row.tags), headline=row.headline)
    verdict = Verdict(
        code=Code(row.outcome),
        annotation=note if seen else None,
        sha256=bytes(row.sha256) if row.sha256 is not None else None,
    )
    return Stored(
        photo_id=row.photo_id,
        key=row.key,
        user=row.user,
        etag=row.etag,
        current=row.current,
        decision_rev=row.decision_rev,
        verdict=verdict,
    )


def _difference(stored: Verdict, expected: Verdict) -> str:
    """The first thing that is not as it should be."""
    looks: tuple[tuple[str, Callable[[Verdict], object]], ...] = (
        ("outcome", lambda verdict: verdict.code.name),
        ("sha256", lambda verdict: verdict.sha256 and verdict.sha256.hex()),
        ("headline", lambda verdict: verdict.annotation and verdict.annotation.headline),
        ("nodes", lambda verdict: verdict.annotation and verdict.annotation.nodes),
        ("masses", lambda verdict: verdict.annotation and verdict.annotation.masses),
        ("tags", lambda verdict: verdict.annotation and verdict.annotation.tags),
    )
    for name, look in looks:
        if look(stored) != look(expected):
            return f"{name} is {look(stored)}, and should be {look(expected)}"
    return "equal"
