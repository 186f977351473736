"""What analysts and pages ask of the library, each question many times over, warm: how long the client waits, and how
long the server's session works for it, which other programs on the machine change less.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from sqlalchemy import Connection, Row, TextClause, text

from pipeline.records import Annotation, Code, ItemState, Lease, PhotoResult, PhotoTask, TakenFrom
from pipeline.store.catalogue import Registered
from pipeline.store.merge import merge
from pipeline.store.queries import user_profile_totals
from pipeline.store.roles import Role, see_user
from pipeline.store.session import Database

WARMING = 0.3  # so large a part of the questions is asked beforehand
AGAIN = 2048  # photos that are merged once more

Ask = Callable[[Connection], object]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One kind of question, and what its answer may take."""

    name: str
    goal_ms: float
    asks: Sequence[Ask]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """How long it took, in milliseconds."""

    p50: float
    p95: float
    most: float
    server_cpu: float  # mean


def measure(database: Database, question: Question) -> Answered:
    """Ask everything once, on a connection of its own."""
    with database.engine.connect() as pooled:
        connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
        session = psutil.Process(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        for ask in question.asks[: int(len(question.asks) * WARMING)]:
            ask(connection)
        used, taken = sum(session.cpu_times()[:2]), []
        for ask in question.asks:
            began = time.perf_counter()
            ask(connection)
            taken.append((time.perf_counter() - began) * 1000)
        used = sum(session.cpu_times()[:2]) - used
    p50, p95 = np.percentile(taken, [50, 95])
    return Answered(p50=float(p50), p95=float(p95), most=max(taken), server_cpu=used / len(taken) * 1000)


def questions(database: Database, registered: Registered, asked: int, seed: int) -> Iterator[tuple[Role, Question]]:
    """All of them, with the role that asks; drawn from what is stored."""
    chance = np.random.default_rng([seed, 3])
    with database.transaction() as connection:
        shown = connection.execute(_SHOWN).all()
        parents = connection.execute(_PARENTS).scalars().all()
        top = connection.execute(_TOP).scalars().all()
        photos = connection.execute(text("SELECT max(photo_id) FROM core.photo")).scalar_one()
        users = connection.execute(text("SELECT max(user_id) FROM core.app_user")).scalar_one()
        owners = connection.execute(_OWNERS, {"ids": chance.integers(1, photos, asked // 2).tolist()}).scalars().all()
    names = [wnid for wnid, _ in shown]
    # By the square root: pairs of a thousand rare ones would find nothing, pairs of a dozen frequent ones say little.
    weight = np.sqrt(np.array([float(held) for _, held in shown]))
    pairs = [chance.choice(names, 2, replace=False, p=weight / weight.sum()).tolist() for _ in range(asked)]
    people = [*owners, *chance.integers(1, users + 1, asked - len(owners)).tolist()]
    words = [*(str(name) for name in chance.choice(names, asked)), *top]
    some = [str(name) for name in chance.choice(parents, asked)]
    ids = chance.integers(1, photos + 1, asked).tolist()
    yield Role.ANALYST, _question("tags of a photo", 1, _TAGS, ({"photo": n} for n in ids))
    prepared = [lambda c, n=n: _prepared(c, n) for n in ids]
    yield Role.ANALYST, Question(name="tags of a photo, prepared", goal_ms=1, asks=prepared)
    yield Role.ANALYST, _question("newest 100 of a category", 10, _NEWEST, ({"word": word} for word in words))
    top_asks = [word for word in top for _ in range(max(1, asked // len(top)))]
    yield Role.ANALYST, _question("newest 100 of the root's children", 10, _NEWEST, ({"word": w} for w in top_asks))
    yield Role.ANALYST, _question("newest 100 of two together", 50, _BOTH, ({"words": pair} for pair in pairs))
    yield Role.ANALYST, _question("exact count of a category", 2, _COUNT, ({"word": word} for word in words))
    yield Role.ANALYST, _question("top 20 child categories", 20, _CHILDREN, ({"word": word} for word in some))
    model_id, asks = registered.model_id, [f"user-{user - 1:07d}" for user in people]
    profile = [lambda c, name=name: _profile(c, model_id, name) for name in asks]
    yield Role.API, Question(name="a user's profile", goal_ms=10, asks=profile)


_SHOWN = text("""
SELECT c.wnid, sum(t.photos) FROM core.category_total t JOIN core.category c USING (node)
WHERE NOT c.area_only GROUP BY 1 HAVING sum(t.photos) > 0 ORDER BY 1""")
_PARENTS = text("""
SELECT DISTINCT c.wnid FROM core.category_closure b JOIN core.category c ON c.node = b.ancestor
WHERE b.distance = 1 AND NOT c.area_only ORDER BY 1""")
_TOP = text("""
SELECT c.wnid FROM core.taxonomy_category root JOIN core.category_closure b ON (b.taxonomy_id, b.ancestor, b.distance)
    = (root.taxonomy_id, root.node, 1) JOIN core.category c ON c.node = b.descendant
WHERE root.position = 0 AND NOT c.area_only ORDER BY 1""")
_OWNERS = text("SELECT user_id FROM core.photo WHERE photo_id = ANY (:ids)")
_TAGS = text("SELECT node, wnid, name, probability FROM tags.photo_tag WHERE photo_id = :photo")
_NEWEST = text("SELECT photo_id, taken_at FROM tags.newest_photos(:word)")
_BOTH = text("SELECT photo_id, taken_at FROM tags.newest_with_all(:words)")
_COUNT = text("SELECT photos FROM tags.category_total WHERE node = (SELECT tags.category_id(:word))")
_CHILDREN = text("SELECT wnid, name, photos, mass FROM tags.top_children(:word)")


def _profile(connection: Connection, model_id: int, user: str) -> None:
    """As a page asks: in a transaction that says whose rows it is for."""
    connection.execute(text("BEGIN"))
    see_user(connection, user)
    user_profile_totals(connection, model_id, user)
    connection.execute(text("COMMIT"))


def _prepared(connection: Connection, photo_id: int) -> None:
    """As drivers ask that prepare what is asked often, which psycopg2 does not: most of the time goes into planning."""
    if not connection.info.get("prepared"):
        connection.execute(text("PREPARE tags_of (bigint) AS " + str(_TAGS).replace(":photo", "$1")))
        connection.info["prepared"] = True
    connection.execute(text(f"EXECUTE tags_of ({photo_id:d})")).all()


def _question(name: str, goal_ms: float, query: TextClause, drawn: Iterator[dict[str, object]]) -> Question:
    asks = [lambda c, values=values: c.execute(query, values).all() for values in drawn]
    return Question(name=name, goal_ms=goal_ms, asks=asks)


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """A merge of what is stored already."""

    photos: int
    photos_per_s: float
    stored: int
    rows_written: int  # in all tables of schema core
    wal_bytes: int  # locks on rows leave traces; no more


def merge_again(database: Database, registered: Registered, seed: int) -> Repeated:
    """Merge stored results of some shards once more, as after a lost reply to COMMIT."""
    chance = np.random.default_rng([seed, 4])
    with database.transaction() as connection:
        most = connection.execute(text("SELECT max(photo_id) FROM core.photo")).scalar_one()
        first = int(chance.integers(1, max(2, most - AGAIN)))
        rows = connection.execute(_STORED, {"model": registered.model_id, "first": first, "last": first + AGAIN - 1})
        results = [_result(row) for row in rows]
    leases = [Lease(work_id=n, job_id=results[0].task.job_id, epoch=1) for n in {r.task.shard_id for r in results}]
    with database.transaction() as connection:
        began, before = time.perf_counter(), connection.execute(_WAL).scalar_one()
        merged = merge(
            connection,
            model_id=registered.model_id,
            decision_rev=registered.decision_rev,
            results=results,
            leases=leases,
            patience_seconds=86_400,
        )
        seconds = time.perf_counter() - began
        wal = connection.execute(text("SELECT pg_current_wal_insert_lsn() - CAST(:b AS pg_lsn)"), {"b": before})
        written = connection.execute(_WRITTEN).scalar_one()
        return Repeated(
            photos=len(results),
            photos_per_s=len(results) / seconds,
            stored=merged.stored,
            rows_written=int(written),
            wal_bytes=int(wal.scalar_one()),
        )


_WAL = text("SELECT pg_current_wal_insert_lsn()::text")
_WRITTEN = text("""
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables WHERE schemaname = 'core'""")
_STORED = text(f"""
SELECT i.job_id, i.shard_id, r.photo_id, r.content_rev, r.outcome, r.headline, r.nodes, r.masses, r.tags, r.sha256,
       CASE WHEN p.taken_from = {TakenFrom.EXIF} THEN p.taken_at END AS taken_at
FROM core.photo_result r JOIN core.job_item i USING (photo_id) JOIN core.photo p USING (photo_id)
WHERE r.model_id = :model AND r.photo_id BETWEEN :first AND :last ORDER BY r.photo_id""")


def _result(row: Row[Any]) -> PhotoResult:
    task = PhotoTask(
        job_id=row.job_id,
        shard_id=row.shard_id,
        photo_id=row.photo_id,
        content_rev=row.content_rev,
        bucket="",
        key="",
        etag="",
        size=0,
        version_id=None,
    )
    note = Annotation(nodes=tuple(row.nodes), masses=tuple(row.masses), tags=tuple(row.tags), headline=row.headline)
    return PhotoResult(
        task=task,
        state=ItemState.SUCCEEDED,
        code=Code(row.outcome),
        annotation=note,
        sha256=bytes(row.sha256),
        taken_at=row.taken_at,
    )
