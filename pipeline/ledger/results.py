"""What became of each line of a job's input, written out: exactly one line for each, in order.

Theory of operation
    `lines` reads the job's lines in pages by their numbers, all in one snapshot of the ledger, and `jsonl` and `csv`
    spell them. A job has lines only if results were asked for when it was submitted. Tags are what people see: the
    stored ones as the active policy shows them (as in the view `tags.photo_tag`), foremost first.

Laws
1. The same snapshot gives the same bytes, so a second attempt writes what the first one would have.
2. Memory is one page, however many lines there are.
3. A line without a state of its own has its item's; where that is gone as well, its user was erased. Of an erased user,
   be it that the deletion is still under way, nothing is said but that.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Row, text

from pipeline.errors import ConfigurationError
from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job
from pipeline.records import SEEN, WHOLE, Code, ItemState

LINES_AT_ONCE = 2_000
CSV_COLUMNS = ("Bucket", "Key", "VersionId", "TaskStatus", "ErrorCode", "HTTPStatusCode", "ResultMessage")

#: States of a line whose photo has the tags that the job wanted it to have.
HAS_TAGS = frozenset({ItemState.SUCCEEDED, ItemState.SKIPPED_UNCHANGED, ItemState.DUPLICATE})
_HTTP = {Code.GONE: 404, Code.FORBIDDEN: 403, Code.INFRASTRUCTURE: 503}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    """A category that a photo is shown to have."""

    wnid: str
    name: str
    mass: int  # ten-thousandths of the photo, as the policy leaves it


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a job's input, and what became of it."""

    number: int
    uri: str | None = None  # None: the line named none, or its user was erased
    version_id: str | None = None
    user: str | None = None
    state: ItemState
    code: Code = Code.NONE
    message: str | None = None
    attempts: int = 0  # how often it was tried, the last time included
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What the active policy changes about a category."""

    hidden: bool
    less: Mapping[int, int]  # nodes whose mass is subtracted, so many times each
    owed_to: frozenset[int]  # a photo with a tag among these does not carry this one


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """How nodes are called, and what the policy does to them."""

    names: Mapping[int, tuple[str, str]]  # node: wnid and name
    effects: Mapping[int, Effect]

    def shown(self, nodes: Iterable[int], masses: Iterable[int], tags: Iterable[int]) -> tuple[Tag, ...]:
        """The tags of a photo that people see, most probable first."""
        carried, mass = set(tags), dict(zip(nodes, masses, strict=True))
        found = []
        for node in carried & mass.keys():
            effect = self.effects.get(node)
            if effect is not None and (effect.hidden or effect.owed_to & carried):
                continue
            less = sum(times * mass.get(other, 0) for other, times in effect.less.items()) if effect else 0
            wnid, name = self.names[node]
            found.append(Tag(wnid=wnid, name=name, mass=mass[node] - less))
        return tuple(sorted(found, key=lambda tag: (-tag.mass, tag.wnid)))


_LINES = """
SELECT l.line, coalesce(l.uri, b.uri || CASE b.uri WHEN 'file://' THEN '' ELSE '/' END || p.key) AS uri, l.version_id,
       coalesce(l.state, i.state) AS state, coalesce(l.code, i.code, 0) AS code,
       coalesce(l.message, i.message) AS message, coalesce(i.attempts, 0) AS attempts, u.name AS owner,
       coalesce(l.state, i.state) IS NULL OR u.deleted_at IS NOT NULL AS erased, r.outcome, r.nodes, r.masses, r.tags
FROM core.job_line l
LEFT JOIN core.job_item i ON i.job_id = l.job_id AND i.photo_id = l.photo_id AND l.state IS NULL
LEFT JOIN core.photo p ON p.photo_id = l.photo_id
LEFT JOIN core.bucket b ON b.bucket_id = p.bucket_id
LEFT JOIN core.app_user u ON u.user_id = p.user_id
LEFT JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = l.photo_id
WHERE l.job_id = :job AND l.line > :after ORDER BY l.line LIMIT :limit"""


def one_snapshot(connection: Connection) -> None:
    """Let all that this transaction reads be of one moment; its first statement. It may wait for a slow receiver."""
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '5min'"))


def check_kept(job: Job) -> None:
    """ConfigurationError unless the job kept its lines and still has them."""
    if not job.keeps_lines:
        raise ConfigurationError(
            f"Job {job.job_id} keeps no lines, because no results were asked for; submit it again with --output."
        )
    jobs.check_remembered(job)


def lines(connection: Connection, job: Job, lines_at_once: int = LINES_AT_ONCE) -> Iterator[tuple[Line, ...]]:
    """The lines of a job in order, page by page."""
    lexicon = read_lexicon(connection, job.model_id)
    after = 0
    while True:
        values = {"job": job.job_id, "model": job.model_id, "after": after, "limit": lines_at_once}
        rows = connection.execute(text(_LINES), values).all()
        if rows:
            yield tuple(_line(row, lexicon) for row in rows)
        if len(rows) < lines_at_once:
            return
        after = rows[-1].line


def _line(row: Row[Any], lexicon: Lexicon) -> Line:
    if row.erased:
        return Line(number=row.line, state=ItemState.ERASED)
    state = ItemState(row.state)
    tagged = state in HAS_TAGS and row.outcome in SEEN
    return Line(
        number=row.line,
        uri=row.uri,
        version_id=row.version_id,
        user=row.owner,
        state=state,
        code=Code(row.code),
        message=row.message or None,
        attempts=row.attempts,
        tags=lexicon.shown(row.nodes, row.masses, row.tags) if tagged else (),
    )


def read_lexicon(connection: Connection, model_id: int) -> Lexicon:
    """The categories, and what the active policy does to those of this model's taxonomy."""
    names = connection.execute(text("SELECT node, wnid, name FROM core.category")).all()
    effects = connection.execute(
        text("""SELECT e.node, e.hidden, e.minus, e.times, e.owed_to FROM core.active_effect e
                JOIN core.model m USING (taxonomy_id) WHERE m.model_id = :model"""),
        {"model": model_id},
    )
    return Lexicon(
        names={row.node: (row.wnid, row.name) for row in names},
        effects={
            row.node: Effect(
                hidden=row.hidden,
                less=dict(zip(row.minus, row.times, strict=True)),
                owed_to=frozenset(row.owed_to),
            )
            for row in effects
        },
    )


# ---- how lines are spelt


def jsonl(line: Line) -> str:
    """A line as JSON, with AWS's `source-ref`."""
    facts: dict[str, Any] = {"line": line.number, "source-ref": line.uri, "version_id": line.version_id}
    if line.user is not None:
        facts["user"] = line.user
    facts |= {
        "state": line.state.name.lower(),
        "code": _code(line),
        "message": line.message,
        "attempts": line.attempts,
        "tags": _tags(line),
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")) + "\n"


def csv_line(line: Line) -> str:
    """A line with the columns of S3 Batch Operations' completion report; the key as there in URL's spelling."""
    has_tags = line.state in HAS_TAGS
    bucket, key = _split(line.uri)
    http = 200 if has_tags else _HTTP.get(line.code, "")
    message = json.dumps(_tags(line), ensure_ascii=False) if has_tags else line.message or ""
    code = "" if has_tags else _code(line) or line.state.name.lower()
    values = (bucket, quote(key), line.version_id or "", "succeeded" if has_tags else "failed", code, http, message)
    return _csv(values)


def _csv(values: Iterable[object]) -> str:
    spelt = io.StringIO()
    csv.writer(spelt, lineterminator="\n").writerow(values)
    return spelt.getvalue()


def _code(line: Line) -> str | None:
    return None if line.code is Code.NONE else line.code.name.lower()


def _tags(line: Line) -> list[dict[str, object]]:
    return [{"wnid": tag.wnid, "name": tag.name, "probability": tag.mass / WHOLE} for tag in line.tags]


def _split(uri: str | None) -> tuple[str, str]:
    """Bucket and key; a local file has no bucket."""
    if uri is None or not uri.startswith("s3://"):
        return "", (uri or "").removeprefix("file://")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


# ---- the files


@dataclass
class Written:
    """What was written so far."""

    lines: int = 0
    size: int = 0  # bytes
    counts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    _digest: Any = field(default_factory=hashlib.sha256)

    def add(self, page: Iterable[Line], data: bytes) -> None:
        """These lines were spelt so."""
        self.counts.update((line.state.name.lower(), _code(line)) for line in page)
        self.lines = sum(self.counts.values())
        self.size += len(data)
        self._digest.update(data)

    def facts(self) -> dict[str, object]:
        """As they are kept with the delivery."""
        return {"lines": self.lines, "bytes": self.size, "sha256": self._digest.hexdigest()}


def spell(pages: Iterable[tuple[Line, ...]], form: str, written: Written) -> Iterator[bytes]:
    """The bytes of the results, page by page; `written` keeps account."""
    if form == "csv":
        head = _csv(CSV_COLUMNS).encode()
        written.add((), head)
        yield head
    for page in pages:
        data = "".join(map(csv_line if form == "csv" else jsonl, page)).encode()
        written.add(page, data)
        yield data


_VERSIONS = """
SELECT t.name AS taxonomy, encode(m.fingerprint, 'hex') AS fingerprint,
       (SELECT max(d.revision) FROM core.decision d WHERE d.model_id = m.model_id) AS decision_revision,
       coalesce((SELECT version FROM core.policy WHERE active), 0) AS policy_version
FROM core.model m JOIN core.taxonomy t USING (taxonomy_id) WHERE m.model_id = :model"""


def summary(connection: Connection, job: Job, results: str, form: str, written: Written) -> dict[str, object]:
    """What is said about the results as a whole; read in the same snapshot."""
    versions = connection.execute(text(_VERSIONS), {"model": job.model_id}).one()
    return {
        **outcome(job),
        "results": {"source-ref": results, "format": form, **written.facts()},
        "lines": [
            {"state": state, "code": code, "lines": n}
            for (state, code), n in sorted(written.counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        ],
        "every_photo_accounted_for": sum(job.counts.values()) == job.total == written.lines,
        "versions": {
            "model": job.model,
            "model_fingerprint": versions.fingerprint,
            "taxonomy": versions.taxonomy,
            "decision_revision": versions.decision_revision,
            "policy_version": versions.policy_version,
        },
    }


def outcome(job: Job) -> dict[str, object]:
    """How a job ended, for machines: the same in summaries and in notices."""
    counts = {state.name.lower(): job.count(state) for state in ItemState}
    return {
        "job": job.job_id,
        "state": job.state.name.lower(),
        "kind": job.kind,
        "source": job.source,
        "model": job.model,
        "counts": {"total": job.total, **{name: n for name, n in counts.items() if n}},
        "reasons": {code.name.lower(): n for code, n in job.by_code(*ItemState).items() if code is not Code.NONE},
        "subtracted": job.subtracted,
        "error": job.error,
        **{name: _moment(getattr(job, name)) for name in ("created_at", "started_at", "finished_at")},
    }


def _moment(value: Any) -> str | None:  # noqa: ANN401 - a datetime or None
    return None if value is None else value.isoformat()
