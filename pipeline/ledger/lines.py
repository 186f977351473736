"""What became of each line of a job's input, for jobs whose results are to be written somewhere.

Laws
1. Every entry that a page accounts for is exactly one row of `core.job_line`, written with the page: the rows of a job
   are as many as its `total`.
2. A row says what became of the entry, or leaves it to the job's item of its photo: then it has no state.
3. Lines are those of the input where it has lines; else entries are numbered as they were listed, from 1.
4. Of an erased user's entry nothing is kept but that it was there.
"""

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, text

from pipeline.ledger.jobs import Job
from pipeline.records import Code, ItemState, Page, PhotoRef, Refusal
from pipeline.store.staging import Field, copy_rows

#: A photo's address, as `sources.source.address` spells it: a local file's bucket is "file://", its key its whole path.
URI = "{bucket} || CASE {bucket} WHEN 'file://' THEN '' ELSE '/' END || {key}"

# `nth`: which of the entries of one object an entry is, in this page; those of erased users are none.
_OF_PHOTOS = f"""
INSERT INTO core.job_line (job_id, line, uri, version_id, photo_id, state, code)
SELECT :job, l.line, {URI.format(bucket="l.bucket", key="l.key")}, l.version_id, p.photo_id,
       CASE WHEN l.nth = 1 AND m.due AND p.photo_id = ANY (CAST(:new AS bigint[])) THEN NULL
            WHEN l.nth = 1 AND NOT m.due THEN {ItemState.SKIPPED_UNCHANGED} ELSE {ItemState.DUPLICATE} END,
       CASE WHEN l.nth = 1 AND m.due AND p.photo_id = ANY (CAST(:new AS bigint[])) THEN NULL
            WHEN l.nth = 1 AND NOT m.due THEN {Code.NONE} ELSE {Code.LISTED_TWICE} END
FROM (SELECT l.*, row_number() OVER (PARTITION BY l.bucket, l.key ORDER BY l.ord) AS nth
      FROM listed l JOIN core.app_user o ON o.name = l.owner COLLATE "C" AND o.deleted_at IS NULL) l
JOIN core.bucket b ON b.uri = l.bucket JOIN core.photo p ON p.bucket_id = b.bucket_id AND p.key = l.key COLLATE "C"
JOIN met m ON m.photo_id = p.photo_id"""

_OF_ERASED = f"""
INSERT INTO core.job_line (job_id, line, state, code)
SELECT :job, l.line, {ItemState.ERASED}, {Code.NONE}
FROM listed l JOIN core.app_user o ON o.name = l.owner COLLATE "C" WHERE o.deleted_at IS NOT NULL"""

_REFUSED = "line bigint, uri text, version_id text, state smallint, code smallint, message text"
_OF_REFUSED = """
INSERT INTO core.job_line (job_id, line, uri, version_id, state, code, message) SELECT :job, r.* FROM refused r"""

_OF_SELECTED = f"""
INSERT INTO core.job_line (job_id, line, uri, version_id, photo_id, state, code)
SELECT :job, :before + row_number() OVER (ORDER BY p.photo_id), {URI.format(bucket="b.uri", key="p.key")}, p.version_id,
       p.photo_id, CASE WHEN NOT m.due THEN {ItemState.SKIPPED_UNCHANGED} END, CASE WHEN NOT m.due THEN {Code.NONE} END
FROM met m JOIN core.photo p USING (photo_id) JOIN core.bucket b USING (bucket_id)"""


def numbers(page: Page, before: int) -> list[int]:
    """The lines of a page's entries, photos first, then what was refused, then what is gone.

    `before`: how many entries the pages before it had.
    """
    own = [entry.line for entry in _entries(page)]
    lines = [line for line in own if line is not None]
    return lines if len(lines) == len(own) else list(range(before + 1, before + 1 + len(own)))


def _entries(page: Page) -> Iterator[PhotoRef | Refusal]:
    yield from page.refs
    yield from page.refusals
    yield from page.gone


def keep(connection: Connection, job: Job, page: Page, lines: Sequence[int], new: Sequence[int]) -> None:
    """Write the lines of a page of a source, after `met` and the items; `new`: photos that the job met in it first."""
    connection.execute(text(_OF_PHOTOS), {"job": job.job_id, "new": list(new)})
    connection.execute(text(_OF_ERASED), {"job": job.job_id})
    _keep_refused(connection, job.job_id, _refused(page, lines))


def keep_selected(connection: Connection, job: Job, before: int, refused: Sequence[Refusal]) -> None:
    """Write the lines of a page of the ledger itself: `met`, then what the job's rules leave out."""
    met = connection.execute(text(_OF_SELECTED), {"job": job.job_id, "before": before}).rowcount
    rows = (_row(before + met + n, ItemState.EXCLUDED, refusal) for n, refusal in enumerate(refused, start=1))
    _keep_refused(connection, job.job_id, rows)


def _keep_refused(connection: Connection, job_id: int, rows: Iterable[Sequence[Field]]) -> None:
    copy_rows(connection, "refused", _REFUSED, rows)
    connection.execute(text(_OF_REFUSED), {"job": job_id})


def _refused(page: Page, lines: Sequence[int]) -> Iterator[Sequence[Field]]:
    behind = lines[len(page.refs) :]
    states = [*[ItemState.EXCLUDED] * len(page.refusals), *[ItemState.FAILED] * len(page.gone)]
    for line, state, refusal in zip(behind, states, (*page.refusals, *page.gone), strict=True):
        yield _row(line, state, refusal)


def _row(line: int, state: ItemState, refusal: Refusal) -> Sequence[Field]:
    reason = refusal.reason.replace("\0", "").encode(errors="backslashreplace").decode()
    return line, refusal.uri, refusal.version_id, int(state), int(refusal.code), reason


# What an item would say of a line is gone with the item, and counted as erased.
_FORGET = f"""
UPDATE core.job_line l SET uri = NULL, version_id = NULL, photo_id = NULL, message = NULL,
       state = coalesce(l.state, {ItemState.ERASED}), code = CASE WHEN l.state IS NULL THEN {Code.NONE} ELSE l.code END
FROM ({{which}}) AS mine WHERE l.job_id = mine.job_id AND l.line = mine.line"""
_BY_PHOTO = """
SELECT job_id, line FROM core.job_line WHERE photo_id = ANY (CAST(:photos AS bigint[])) ORDER BY 1, 2 FOR UPDATE"""
_BY_URI = f"""
SELECT l.job_id, l.line FROM core.job_line l WHERE l.photo_id IS NULL AND l.uri IN (
    SELECT {URI.format(bucket="b.uri", key="p.key")} FROM core.photo p JOIN core.bucket b USING (bucket_id)
    WHERE p.photo_id = ANY (CAST(:photos AS bigint[]))) ORDER BY 1, 2 FOR UPDATE"""


def jobs_naming(connection: Connection, photo_ids: Sequence[int]) -> list[int]:
    """The jobs whose lines name these photos."""
    query = " UNION ".join(f"SELECT job_id FROM ({which}) AS found" for which in (_BY_PHOTO, _BY_URI))
    return sorted(connection.execute(text(query), {"photos": list(photo_ids)}).scalars())


def forget_lines(connection: Connection, photo_ids: Sequence[int]) -> int:
    """Blank the lines that name these photos, which are about to be erased, in all jobs; returns how many.

    A line stays, and so does its job's sum. The caller has locked the photos, and deletes their items as well.
    """
    values = {"photos": list(photo_ids)}
    return sum(connection.execute(text(_FORGET.format(which=which)), values).rowcount for which in (_BY_PHOTO, _BY_URI))
