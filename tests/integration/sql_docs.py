"""The corpus behind docs/sql.md, and its shown results: `python -m tests.integration.sql_docs` writes them anew.

Four users' photos of the first months of 2026, listed and merged by the product's own code, under two models whose
probabilities are written below. Everything is fixed, so the page shows what the queries give, to the last digit.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import text

from pictograph import stack
from pictograph.stack.attach import wait_until_stopped
from pipeline.annotate import annotate, outcome_of
from pipeline.ledger.ending import finish_jobs
from pipeline.records import Code, ItemState, PhotoRef, PhotoResult
from pipeline.store.migrate import migrate
from pipeline.store.roles import Role
from pipeline.store.session import Database
from taxonomy.decide import decide
from taxonomy.graph import load
from taxonomy.lookup import one_node
from taxonomy.rollup import Rollup
from tests.integration.ledger_helpers import BUCKET, Ledger, failed

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
BLOCK = re.compile(r"```sql\n(?P<query>.*?)```\n(?:\n(?P<shown>(?:\|[^\n]*\n)+))?", re.DOTALL)

SURE, LIKELY = 0.95, 0.88  # for one label; the rest is spread over all of them
DOUBTFUL = {"pug": 0.4, "boxer": 0.35, "bull mastiff": 0.22}  # a dog of some breed

Belief = dict[str, float]  # label -> probability; {}: no idea

#: user, day of 2026, what the active model sees, what the other one sees; a Code: the photo cannot be read.
PHOTOS: list[tuple[str, str, Belief | Code, Belief | Code]] = [
    ("ann", "01-03", {"pug": SURE}, {"pug": SURE}),
    ("ann", "01-17", {"beagle": SURE}, {"beagle": SURE}),
    ("ann", "01-18", DOUBTFUL, {"boxer": SURE}),
    ("ann", "02-02", {"golden retriever": LIKELY}, {"golden retriever": SURE}),
    ("ann", "02-14", {"pizza": SURE}, {"pizza": SURE}),
    ("ann", "02-14", {"espresso": LIKELY}, {"espresso": LIKELY}),
    ("ann", "03-08", {"pug": SURE}, {"tabby": SURE}),
    ("ann", "03-21", {}, {"daisy": LIKELY}),
    ("ben", "01-05", {"tabby": SURE}, {"tabby": SURE}),
    ("ben", "01-06", {"Egyptian cat": SURE}, {"tabby": LIKELY}),
    ("ben", "02-11", {"sports car": SURE}, {"sports car": SURE}),
    ("ben", "02-12", {"tabby": 0.55, "Egyptian cat": 0.4}, {"tabby": SURE}),
    ("ben", "03-01", {"convertible": 0.5, "sports car": 0.45}, {"convertible": SURE}),
    ("ben", "03-02", {"pug": LIKELY}, {"pug": LIKELY}),
    ("ben", "03-03", Code.CORRUPT, Code.CORRUPT),
    ("cleo", "01-20", {"beagle": SURE}, {"beagle": SURE}),
    ("cleo", "02-03", {"golden retriever": SURE}, {"golden retriever": SURE}),
    ("cleo", "02-21", {"mountain bike": SURE}, {"mountain bike": SURE}),
    ("cleo", "03-09", {"pizza": LIKELY}, {"pizza": SURE}),
    ("cleo", "03-10", {"beagle": LIKELY}, {"beagle": LIKELY}),
    ("cleo", "03-30", Code.UNSUPPORTED, Code.UNSUPPORTED),
    ("dan", "02-01", {"pizza": SURE}, {"pizza": SURE}),
    ("dan", "02-08", {"cheeseburger": SURE}, {"cheeseburger": SURE}),
    ("dan", "02-15", {"espresso": SURE}, {"espresso": SURE}),
    ("dan", "03-15", {"pizza": 0.6, "cheeseburger": 0.35}, {"pizza": SURE}),
    ("dan", "03-16", {"tabby": 0.5, "espresso": 0.45}, {"espresso": SURE}),
    ("dan", "03-28", Code.CORRUPT, Code.CORRUPT),
]
AWAITED = ("eve", "04-01")  # listed, and not looked at yet

# When things were done is the database's clock; on the page it was in April.
CLOCK = """
UPDATE core.job SET created_at = '2026-04-01'::date + job_id * interval '1 day',
                    started_at = '2026-04-01'::date + job_id * interval '1 day' + interval '1 minute',
                    finished_at = CASE WHEN state >= 10
                                       THEN '2026-04-01'::date + job_id * interval '1 day' + interval '2 minutes' END;
UPDATE core.photo SET created_at = '2026-04-02'::date"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query of the page and the table below it."""

    title: str
    query: str
    shown: str  # as the page has it; "": nothing is shown


def fill(database: Database) -> None:
    """Give an empty ledger the corpus: model "lite" is active, "heavy" beside it."""
    ledger = Ledger(database, model="lite", taxonomy=load())
    heavy = ledger.register("heavy")
    refs = [_ref(*AWAITED, len(PHOTOS))] + [_ref(user, day, n) for n, (user, day, *_) in enumerate(PHOTOS)]
    beliefs = {ref.key: PHOTOS[n] for n, ref in enumerate(refs[1:])}
    _tag(ledger, ledger.registered, {key: photo[2] for key, photo in beliefs.items()}, refs[1:])
    _tag(ledger, heavy, {key: photo[3] for key, photo in beliefs.items()}, refs[1:])
    ledger.list(refs)
    database.run(finish_jobs)
    with database.transaction() as connection:
        connection.execute(text(CLOCK))


def _ref(user: str, day: str, n: int) -> PhotoRef:
    taken = datetime.fromisoformat(f"2026-{day}T12:00").replace(tzinfo=UTC)
    return PhotoRef(bucket=BUCKET, key=f"{user}/{n:02}.jpg", user=user, etag="e", size=10, modified_at=taken)


def _tag(ledger: Ledger, model: object, seen: dict[str, Belief | Code], refs: list[PhotoRef]) -> None:
    job_id = ledger.list(refs, model=model, scope="all")
    for lease in ledger.claim_all(job_id):
        results = []
        for task in ledger.tasks(lease):
            belief = seen[task.key]
            results.append(failed(task, belief) if isinstance(belief, Code) else _seen(task, belief, model, ledger))
        ledger.merge(results, [lease], model=model)


def _seen(task: object, belief: Belief, model: object, ledger: Ledger) -> PhotoResult:
    taxonomy = ledger.taxonomy
    labels = taxonomy.label_nodes.tolist()
    probabilities = np.full((1, taxonomy.classes), (1 - sum(belief.values())) / taxonomy.classes)
    for name, share in belief.items():
        nodes = [one_node(name, taxonomy)] if name != "convertible" else [taxonomy.node("n03100240")]
        probabilities[0, labels.index(nodes[0])] += share
    masses = Rollup(taxonomy).masses(probabilities)
    (note,) = annotate(decide(masses, taxonomy, model.decision), model.nodes)
    return PhotoResult(task=task, state=ItemState.SUCCEEDED, code=outcome_of(note), annotation=note)


# ---- the page


def questions(page: str) -> Iterator[Question]:
    """Every query of the page, under the heading before it."""
    for found in BLOCK.finditer(page):
        title = re.findall(r"^#+ (.*)$", page[: found.start()], re.MULTILINE)[-1]
        yield Question(title=title, query=found["query"].strip(), shown=(found["shown"] or "").strip())


def answer(analyst: Database, query: str) -> str:
    """What a query gives, as a table of the page."""
    with analyst.transaction() as connection:
        result = connection.exec_driver_sql(query.replace("%", "%%"))
        rows = [result.keys(), ["---"] * len(result.keys()), *result]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def rewritten(page: str, analyst: Database) -> str:
    """The page with the results that its queries give now."""

    def block(found: re.Match[str]) -> str:
        return f"```sql\n{found['query']}```\n\n{answer(analyst, found['query'])}\n"

    return BLOCK.sub(block, page)


def _write(url: str) -> None:
    with Database(url, "docs") as database:
        migrate(database)
        fill(database)
    with Database(url, "docs", role=Role.ANALYST) as analyst:
        PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), analyst), encoding="utf-8")


def main() -> int:
    """Write the results into the page."""
    with tempfile.TemporaryDirectory() as home:
        with stack.open(Path(home)) as endpoints:
            _write(endpoints.database_url)
        wait_until_stopped(Path(home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
