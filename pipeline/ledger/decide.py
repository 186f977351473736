"""Deciding anew: what photos show under other constants, from the masses that are stored. No byte of a photo is read.

Theory of operation
    A job of kind `decide` has one range over the results of its model, in the order of photo ids. A page is one
    transaction: the checkpoint, at most so many results, what the decision says of them, and what that changes in the
    totals. It needs numpy and the taxonomy; neither S3 nor a GPU.

Laws
1. A result is written iff the revision is greater than the one it was decided by: a repeat is a no-op, and a worker
   that decided by a newer one wins.
2. What is written is what tagging at that revision would have stored: the decision is made from kept columns alone.
   Constants that keep more than was stored cannot be applied so, and are refused.
3. Lock order as in `pipeline/store/merge.py`. Whoever changes a photo's result holds the photo: under its lock nothing
   moves, so merges of the same photos come before the page or after it.
4. Totals change by exactly what the same transaction changed in the results.
5. The job's total is the results met, of users who are not being erased; each is `succeeded`, or `skipped_unchanged` if
   it was at that revision already, or is of a photo that could not be read, of which there is nothing to decide.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

from pipeline.annotate import annotate
from pipeline.errors import ConfigurationError
from pipeline.ledger import pages
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import JobRequest
from pipeline.records import SEEN, Annotation, Code, ItemState, Lease
from pipeline.store import catalogue
from pipeline.store.revisions import Changed, touch
from pipeline.store.staging import Field, copy_rows
from pipeline.store.totals import COLLECT, apply_delta, ensure_delta, mark_results
from taxonomy import graph
from taxonomy.decide import Decision, Kept, decide_kept
from taxonomy.errors import DamagedTaxonomy
from taxonomy.graph import Taxonomy

KIND = "decide"  # as `core.job.kind`
PAGE_PHOTOS = 2_000  # a transaction of well under a second, so that nobody waits long for its locks

_IDS = """
SELECT photo_id FROM core.photo_result WHERE model_id = :model AND photo_id > :after ORDER BY photo_id LIMIT :photos"""
_LOCK_USERS = """
SELECT FROM core.app_user u WHERE u.user_id IN (SELECT user_id FROM core.photo WHERE photo_id = ANY (:ids))
ORDER BY u.user_id FOR KEY SHARE"""
_LOCK_PHOTOS = "SELECT FROM core.photo WHERE photo_id = ANY (:ids) ORDER BY photo_id FOR NO KEY UPDATE"
_HELD = """
SELECT r.photo_id, r.decision_rev, r.outcome, r.nodes, r.masses
FROM core.photo_result r JOIN core.photo p USING (photo_id) JOIN core.app_user u ON u.user_id = p.user_id
WHERE r.model_id = :model AND r.photo_id = ANY (:ids) AND u.deleted_at IS NULL ORDER BY r.photo_id"""

_STAGE = "photo_id bigint, outcome smallint, headline smallint, nodes smallint[], masses smallint[], tags smallint[]"
# Most photos show what they showed: only what differs is taken to the totals.
_STORE = f"""
WITH written AS (
    UPDATE core.photo_result r SET decision_rev = :revision, outcome = d.outcome, headline = d.headline,
        nodes = d.nodes, masses = d.masses, tags = d.tags
    FROM decided d WHERE r.model_id = :model AND r.photo_id = d.photo_id AND r.decision_rev < :revision
    RETURNING r.model_id, r.photo_id, old.user_id AS old_user, old.nodes AS old_nodes, old.masses AS old_masses,
              old.tags AS old_tags, new.user_id AS new_user, new.nodes AS new_nodes, new.masses AS new_masses,
              new.tags AS new_tags
), changed AS (SELECT * FROM written WHERE old_tags <> new_tags OR old_nodes <> new_nodes
), collected AS ({COLLECT}), marked AS ({mark_results("written", "new_user")})
SELECT count(*) FROM written"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a page ended."""

    cursor: str
    last: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Decider:
    """One revision of a model's decision, ready to be applied to what is stored."""

    model_id: int
    decision: Decision
    taxonomy: Taxonomy
    nodes: NDArray[np.int16]  # [C]: the ledger's node of each column
    kept: dict[int, int]  # by revision: the least mass that was stored under it

    @classmethod
    def of(cls, connection: Connection, job: Job, taxonomy: Taxonomy | None = None) -> "Decider":
        """What a job of kind `decide` works with; the model's taxonomy is loaded unless it is at hand.

        Raises:
            ConfigurationError: the taxonomy is not here as it was registered, or there is no such revision.
        """
        revision = job.decision_revision or catalogue.newest_decision(connection, job.model_id).revision
        return cls(
            model_id=job.model_id,
            decision=catalogue.stored_decision(connection, job.model_id, revision),
            taxonomy=taxonomy or _taxonomy_of(connection, job.model_id),
            nodes=catalogue.nodes_of(connection, job.model_id),
            kept=_least_masses(connection, job.model_id),
        )

    def page(self, connection: Connection, job: Job, lease: Lease, cursor: str | None, photos: int) -> Step:
        """Decide the next results anew, in one transaction with the checkpoint.

        Raises:
            LeaseLost: somebody else has this range now; nothing is written.
            ConfigurationError: what is stored was cut off above what this revision keeps.
        """
        values = {"model": self.model_id, "after": int(cursor or 0), "photos": photos}
        ids = connection.execute(text(_IDS), values).scalars().all()
        if ids:
            for statement in (_LOCK_USERS, _LOCK_PHOTOS):
                connection.execute(text(statement), {"ids": ids})
        held = connection.execute(text(_HELD), {"model": self.model_id, "ids": ids}).all() if ids else []
        end = str(ids[-1]) if ids else cursor or "0"
        pages.checkpoint(connection, lease, end, len(held))
        due = [row for row in held if row.decision_rev < self.decision.revision]
        changed = self._store(connection, due)
        pages.add_counts(connection, job.job_id, self._counts(connection, held))
        touch(connection, changed)
        return Step(cursor=end, last=len(ids) < photos)

    def _store(self, connection: Connection, due: Sequence[Row[Any]]) -> Changed:
        seen = [row for row in due if row.outcome in SEEN]
        unseen = [(row.photo_id, row.outcome, None, (), (), ()) for row in due if row.outcome not in SEEN]
        notes = self.decide(seen)
        connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS decided ({_STAGE}) ON COMMIT DELETE ROWS"))
        connection.execute(text("DELETE FROM decided"))
        copy_rows(connection, "decided", _STAGE, chain(map(_staged, seen, notes), unseen))
        ensure_delta(connection)
        connection.execute(text(_STORE), {"model": self.model_id, "revision": self.decision.revision})
        return apply_delta(connection)

    def _counts(self, connection: Connection, held: Sequence[Row[Any]]) -> dict[tuple[ItemState, Code], int]:
        rows = connection.execute(text("SELECT outcome, count(*) FROM decided GROUP BY 1"))
        decided = {Code(outcome): n for outcome, n in rows if outcome in SEEN}
        counts = {(ItemState.SUCCEEDED, code): n for code, n in decided.items()}
        return counts | {(ItemState.SKIPPED_UNCHANGED, Code.NONE): len(held) - sum(decided.values())}

    def decide(self, seen: Sequence[Row[Any]]) -> list[Annotation]:
        """What photos with these stored arrays show, in order."""
        if not seen:
            return []
        cut = max(self.kept[row.decision_rev] for row in seen)
        if cut > self.decision.keep_mass:
            raise ConfigurationError(cannot_keep(self.decision, cut))
        column_of = np.zeros(int(self.nodes.max()) + 1, dtype=np.int32)
        column_of[self.nodes] = np.arange(len(self.nodes))
        stored, masses = (np.fromiter(chain.from_iterable(rows), np.int16) for rows in _arrays(seen))
        rows = np.repeat(np.arange(len(seen)), [len(row.nodes) for row in seen])
        enough = masses >= self.decision.keep_mass
        sizes = Counter(rows[enough].tolist())
        ends = np.cumsum([0, *(sizes[photo] for photo in range(len(seen)))])
        kept = Kept(columns=column_of[stored[enough]], masses=masses[enough], ends=ends.astype(np.int64))
        return annotate(decide_kept(kept, self.taxonomy, self.decision), self.nodes)


def _arrays(seen: Sequence[Row[Any]]) -> tuple[list[list[int]], list[list[int]]]:
    return [row.nodes for row in seen], [row.masses for row in seen]


def _staged(row: Row[Any], note: Annotation) -> Sequence[Field]:
    outcome = Code.ABSTAINED if note.headline is None else Code.TAGGED
    return row.photo_id, int(outcome), note.headline, note.nodes, note.masses, note.tags


def _taxonomy_of(connection: Connection, model_id: int) -> Taxonomy:
    query = text("""SELECT m.name AS model, t.name, encode(t.sha256, 'hex') AS sha256
                    FROM core.model m JOIN core.taxonomy t USING (taxonomy_id) WHERE m.model_id = :model""")
    row = connection.execute(query, {"model": model_id}).one()
    try:
        taxonomy = graph.load(row.name)
    except DamagedTaxonomy as exc:
        raise ConfigurationError(f"Taxonomy {row.name} of model {row.model} is not here: {exc}") from exc
    if taxonomy.sha256 != row.sha256:
        raise ConfigurationError(f"Taxonomy {row.name} here is not the one of model {row.model}; update this worker.")
    return taxonomy


def _least_masses(connection: Connection, model_id: int) -> dict[int, int]:
    query = text("SELECT revision, keep_mass FROM core.decision WHERE model_id = :model")
    rows = connection.execute(query, {"model": model_id})
    return {row.revision: row.keep_mass for row in rows}


def cannot_keep(decision: Decision, cut: int) -> str:
    """Why a revision cannot be applied to what is stored."""
    return (
        f"Revision {decision.revision} keeps categories from {decision.keep_mass / 100:g} % of a photo on, and of what "
        f"is stored all below {cut / 100:g} % was left out; `pictograph tag --scope stale` tags those photos again."
    )


def request(connection: Connection, model_id: int, revision: int | None, priority: int = 0) -> JobRequest:
    """What to submit so that a model's photos are decided anew, by a revision or the newest one.

    Raises:
        ConfigurationError: there is no such revision, or it keeps more than is stored.
    """
    number = revision or catalogue.newest_decision(connection, model_id).revision
    decision = catalogue.stored_decision(connection, model_id, number)
    for earlier, cut in sorted(_least_masses(connection, model_id).items()):
        if earlier < number and cut > decision.keep_mass and _decided_by(connection, model_id, earlier):
            raise ConfigurationError(cannot_keep(decision, cut))
    return JobRequest(
        kind=KIND, source="photos", user_rule="{user}/{photo}", priority=priority, decision_revision=number
    )


def _decided_by(connection: Connection, model_id: int, revision: int) -> bool:
    query = text("SELECT EXISTS (SELECT FROM core.photo_result WHERE (model_id, decision_rev) = (:model, :revision))")
    found: bool = connection.execute(query, {"model": model_id, "revision": revision}).scalar_one()
    return found
