"""What must never be found in a ledger: named audits, each with what it means and the command that repairs it.

Theory of operation
    An audit is a query for the ids of what is wrong. All of them read one snapshot, and every change of the ledger is
    one transaction; so whatever is found is wrong, though hundreds of workers go on meanwhile. Three kinds of exception
    are told apart from work in flight:

Laws
1. What is merely late is reported after several times the span in which it should have happened (`Patience`).
2. What a healthy ledger passes through, and nobody writes down since when, is *fleeting*. It is reported only if it is
   found in two snapshots some seconds apart (`lasting`), or if nothing runs (`quiet`).
3. `quiet` says that no worker, redriver or lister is running: then everything leased is wrong.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from pipeline.ledger import suspects
from pipeline.ledger.roster import WORKER_SILENT_SECONDS
from pipeline.settings import Settings
from pipeline.store.session import Database

IDS_SHOWN = 5
SEVERAL = 3  # times the span in which something should have happened


@dataclass(frozen=True, kw_only=True)
class Patience:
    """The spans in which things happen, as the workers' settings have them; all in seconds."""

    lease_seconds: float = 90.0
    tick_seconds: float = 1.0
    stale_seconds: float = 120.0

    @classmethod
    def of(cls, settings: Settings) -> "Patience":
        """The spans of these settings."""
        return cls(
            lease_seconds=settings.lease_seconds,
            tick_seconds=settings.tick_seconds,
            stale_seconds=settings.stale_seconds,
        )

    @property
    def settling_seconds(self) -> float:
        """After so long a redriver has looked several times."""
        return max(2.0, 5 * self.tick_seconds)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A question whose only right answer is nothing."""

    name: str
    means: str  # what it is, after a count: "results of photos that are gone"
    query: str  # one column `id`, text; the same thing has the same id in every snapshot
    repair: str  # a command
    fleeting: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that must not be."""

    audit: str
    count: int
    ids: tuple[str, ...]  # the first few
    means: str
    repair: str

    def __str__(self) -> str:
        """One line for people."""
        first = ", ".join(self.ids) + (", ..." if self.count > len(self.ids) else "")
        return f"{self.count:,} {self.means} ({first}); repair with `{self.repair}`."


AUDITS: Sequence[Audit] = (
    Audit(
        name="user totals",
        means="totals of a user and category unlike a recount of the results",
        query=suspects.USER_TOTALS,
        repair="pictograph repair totals",
    ),
    Audit(
        name="category totals",
        means="totals of a category unlike a recount of the results",
        query=suspects.CATEGORY_TOTALS,
        repair="pictograph repair totals",
    ),
    Audit(
        name="shared totals",
        means="totals of those who consent unlike a recount, or users not counted there as they answered",
        query=suspects.SHARED_TOTALS,
        repair="pictograph repair shared",
    ),
    Audit(
        name="job counts",
        means="counts of a job unlike a recount of its photos",
        query=suspects.JOB_COUNTS,
        repair="pictograph repair counts",
    ),
    Audit(
        name="job sums",
        means="jobs whose counts do not add up to what was listed",
        query=suspects.JOB_SUMS,
        repair="pictograph repair counts",
    ),
    Audit(
        name="job lines",
        means="jobs whose lines are not what was counted",
        query=suspects.JOB_LINES,
        repair="pictograph repair lines",
    ),
    Audit(
        name="stray photos",
        means="open photos of a job that nobody would ever come for",
        query=suspects.STRAY_ITEMS,
        repair="pictograph repair items",
    ),
    Audit(
        name="split shards",
        means="shards that were split and still have open photos",
        query=suspects.SPLIT_SHARDS,
        repair="pictograph repair items",
    ),
    Audit(
        name="ended jobs",
        means="photos, shards or listings still open though their job has ended",
        query=suspects.OPEN_IN_ENDED,
        repair="pictograph repair items",
    ),
    Audit(
        name="lost photos",
        means="photos that a job says it has done and whose result is missing or of older content",
        query=suspects.LOST_RESULTS,
        repair="pictograph repair items",
    ),
    Audit(
        name="endless jobs",
        means="running jobs of which nothing is left to do",
        query=suspects.UNENDED,
        repair="pictograph repair items",
        fleeting=True,
    ),
    Audit(
        name="late messages",
        means="shards or listings published long ago, neither taken nor taken back",
        query=suspects.STALE_MESSAGES,
        repair="pictograph repair leases",
    ),
    Audit(
        name="late leases",
        means="leases that ran out long ago and that no redriver ended",
        query=suspects.LATE_LEASES,
        repair="pictograph repair leases",
    ),
    Audit(
        name="orphan leases",
        means="leases of nobody alive that would not end by themselves",
        query=suspects.ORPHAN_LEASES,
        repair="pictograph repair leases",
    ),
    Audit(
        name="idle workers",
        means="shards that nobody hands out though a worker for them has nothing to do",
        query=suspects.UNCLAIMED,
        repair="pictograph redriver",
        fleeting=True,
    ),
    Audit(
        name="gone photos",
        means="results of photos that are gone from their source",
        query=suspects.OF_GONE_PHOTOS,
        repair="pictograph repair results",
    ),
    Audit(
        name="wrong owners",
        means="results under another user than their photo's",
        query=suspects.OF_OTHER_USERS,
        repair="pictograph repair results",
    ),
    Audit(
        name="times",
        means="results without the time of their photo",
        query=suspects.OF_OTHER_TIMES,
        repair="pictograph repair times",
    ),
    Audit(
        name="erased users",
        means="users whose erasure is said to be complete, and of whom something is stored",
        query=suspects.OF_ERASED_USERS,
        repair="pictograph repair results",
    ),
    Audit(
        name="double results",
        means="photos with more than one result of a model",
        query=suspects.DOUBLE_RESULTS,
        repair="pictograph repair results",
    ),
    Audit(
        name="masses",
        means="results whose root is not the whole photo, or whose categories exceed those above them",
        query=suspects.BAD_MASSES,
        repair="pictograph repair results",
    ),
)

#: In place of those that need patience, where nothing runs.
QUIET: Audit = Audit(
    name="open leases",
    means="leases, though nothing is running",
    query=suspects.ALL_LEASES,
    repair="pictograph repair leases --now",
)


def findings(connection: Connection, patience: Patience | None = None, *, quiet: bool = False) -> tuple[Finding, ...]:
    """Everything that is wrong in the connection's snapshot; nothing is left out but what is fleeting.

    With `quiet` (nothing runs) that is reported too, and so is every lease. The transaction must be new, or REPEATABLE
    READ already: it becomes that.
    """
    chosen = [audit for audit in AUDITS if quiet or not audit.fleeting] + ([QUIET] if quiet else [])
    return _make(connection, chosen, patience or Patience())


def lasting(database: Database, patience: Patience | None = None) -> tuple[Finding, ...]:
    """`findings`, and of what is fleeting whatever is still there some seconds later."""
    patience = patience or Patience()
    with database.transaction() as connection:
        found = list(findings(connection, patience))
        first = {audit.name: _ids(connection, audit, patience) for audit in AUDITS if audit.fleeting}
    if any(first.values()):
        time.sleep(patience.settling_seconds)
        with database.transaction() as connection:
            _begin(connection)
            for audit in AUDITS:
                if ids := first.get(audit.name):
                    found += _finding(audit, sorted(ids & _ids(connection, audit, patience)))
    return tuple(found)


def _make(connection: Connection, audits: Sequence[Audit], patience: Patience) -> tuple[Finding, ...]:
    _begin(connection)
    return tuple(
        finding for audit in audits for finding in _finding(audit, sorted(_ids(connection, audit, patience), key=_size))
    )


def _begin(connection: Connection) -> None:
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    unhurried(connection)


def unhurried(connection: Connection) -> None:
    """Let this transaction's statements take as long as there are photos, and sort and hash in memory."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL work_mem = '64MB'"))


def _ids(connection: Connection, audit: Audit, patience: Patience) -> set[str]:
    return set(connection.execute(text(audit.query), bound(audit.query, patience)).scalars())


def bound(query: str, patience: Patience) -> dict[str, float]:
    """The values that a query of `pipeline.ledger.suspects` asks for."""
    values = {**asdict(patience), "several": SEVERAL, "silence": WORKER_SILENT_SECONDS}
    return {name: value for name, value in values.items() if f":{name}" in query}


def _finding(audit: Audit, ids: Sequence[str]) -> list[Finding]:
    if not ids:
        return []
    shown = tuple(ids[:IDS_SHOWN])
    return [Finding(audit=audit.name, count=len(ids), ids=shown, means=audit.means, repair=audit.repair)]


def _size(name: str) -> tuple[int, str]:
    return len(name), name  # numbers in their order
