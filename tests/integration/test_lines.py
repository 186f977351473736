"""What became of each line: exactly one row for every entry, and together they are what was counted."""

import threading
from collections import Counter

import pytest
from ledger_helpers import BUCKET, Ledger, failed, page_of, ref
from sqlalchemy import text

from pipeline.ledger import audit, ending, jobs, repair
from pipeline.ledger.erase import erase
from pipeline.ledger.lines import URI, forget_lines, numbers
from pipeline.ledger.requests import JobRequest, Output, Scope
from pipeline.records import Code, ItemState, PhotoRef, PhotoResult, Refusal
from pipeline.sources.rules import Rules
from pipeline.sources.source import address
from workers.heart import Heart
from workers.ingest import list_range

OUTPUTS = (Output(target="s3://results/night/"),)


def line(ledger, job_id, number):
    row = ledger.one("SELECT * FROM core.job_line WHERE job_id = :job AND line = :line", job=job_id, line=number)
    return row._asdict()


def states(ledger, job_id):
    """Lines by what they, or their items, say."""
    rows = ledger.all(
        "SELECT coalesce(l.state, i.state), coalesce(l.code, i.code) FROM core.job_line l "
        "LEFT JOIN core.job_item i ON l.state IS NULL AND (i.job_id, i.photo_id) = (l.job_id, l.photo_id) "
        "WHERE l.job_id = :job",
        job=job_id,
    )
    return Counter((ItemState(state), Code(code)) for state, code in rows)


def numbered(entry: PhotoRef, number: int) -> PhotoRef:
    return PhotoRef(**{name: getattr(entry, name) for name in entry.__slots__} | {"line": number, "version_id": "v1"})


def refused(code, number, name=None):
    return Refusal(name=f"line {number}", code=code, reason=f"is {code.name}.", line=number, uri=name)


def write(ledger, *pages, **options):
    job_id = ledger.submit(outputs=OUTPUTS, **options)
    lease = ledger.claim_range(job_id)
    for page in pages:
        ledger.write_page(job_id, lease, page)
    ledger.finish(job_id, lease)
    return job_id


@pytest.fixture
def full(ledger: Ledger):
    """A job with an entry of every kind, ended; nothing of it is open."""
    ledger.tag_all(ledger.list([ref("ann/old.jpg"), ref("eve/1.jpg", user="eve")]), "dog")
    erase(ledger.database, "eve")
    new = [ref(f"ann/{name}.jpg") for name in ("tagged", "nothing", "corrupt", "twin", "gone", "never")]
    entries = [ref("ann/old.jpg"), *new, ref("ann/tagged.jpg"), ref("eve/1.jpg", user="eve")]
    page = page_of(
        [numbered(entry, 10 + n) for n, entry in enumerate(entries)],
        [refused(Code.BAD_LINE, 30), refused(Code.NO_USER, 31, f"{BUCKET}/x.jpg")],
        [refused(Code.GONE, 40, f"{BUCKET}/ann/nowhere.jpg")],
        last=False,
    )
    job_id = write(ledger, page, page_of([numbered(ref("ann/twin.jpg"), 50), numbered(ref("ann/old.jpg"), 51)]))
    (lease,) = ledger.claim_all(job_id)
    tasks = {task.key: task for task in ledger.tasks(lease)}
    twin = PhotoResult(
        task=tasks["ann/twin.jpg"],
        state=ItemState.DUPLICATE,
        code=Code.SAME_CONTENT,
        outcome=Code.TAGGED,
        annotation=ledger.note("dog"),
    )
    ledger.merge(
        [
            ledger.tagged(tasks["ann/tagged.jpg"], "dog"),
            ledger.tagged(tasks["ann/nothing.jpg"]),
            failed(tasks["ann/corrupt.jpg"], Code.CORRUPT),
            failed(tasks["ann/gone.jpg"], Code.GONE),
            twin,
        ]
    )
    ledger.database.run(lambda c: ending.fail(c, job_id, "enough"))
    return job_id


def test_every_entry_is_one_line_in_the_state_that_was_counted(ledger, full):
    job = ledger.job(full)
    assert states(ledger, full) == Counter({key: n for key, n in job.counts.items() if n})
    assert job.total == ledger.one("SELECT count(*) FROM core.job_line WHERE job_id = :job", job=full) == 14
    assert {state for state, _ in job.counts} >= {*ItemState} - {ItemState.PENDING, ItemState.RETRY}
    numbers_kept = {row.line for row in ledger.all("SELECT line FROM core.job_line WHERE job_id = :job", job=full)}
    assert numbers_kept == {*range(10, 19), 30, 31, 40, 50, 51}
    ledger.check()


def test_a_line_says_what_it_named_and_what_became_of_it(ledger, full):
    old, again = line(ledger, full, 10), line(ledger, full, 17)
    assert (old["uri"], old["version_id"], old["state"], old["code"]) == (f"{BUCKET}/ann/old.jpg", "v1", 4, 0)
    assert (again["uri"], again["state"], again["code"]) == (f"{BUCKET}/ann/tagged.jpg", 5, Code.LISTED_TWICE)
    assert again["photo_id"] == line(ledger, full, 11)["photo_id"] is not None
    assert line(ledger, full, 11)["state"] is None  # its item has it
    assert [line(ledger, full, 18)[name] for name in ("uri", "version_id", "photo_id", "state")] == [
        None,
        None,
        None,
        8,
    ]
    assert (line(ledger, full, 30)["uri"], line(ledger, full, 30)["message"]) == (None, "is BAD_LINE.")
    assert line(ledger, full, 31)["uri"] == f"{BUCKET}/x.jpg"
    assert (line(ledger, full, 40)["state"], line(ledger, full, 40)["code"]) == (ItemState.FAILED, Code.GONE)
    assert line(ledger, full, 50)["code"] == Code.LISTED_TWICE  # pages later
    assert line(ledger, full, 51)["state"] == ItemState.SKIPPED_UNCHANGED


def test_places_without_lines_are_numbered_as_they_are_listed(ledger):
    first = page_of([ref("a/1"), ref("a/2")], [Refusal(name="b", code=Code.NO_USER, reason="no.")], last=False)
    job_id = write(ledger, first, page_of([ref("c/3"), ref("c/4")]))
    rows = ledger.all("SELECT line, uri FROM core.job_line WHERE job_id = :job ORDER BY 1", job=job_id)
    assert [row.line for row in rows] == [1, 2, 3, 4, 5]
    assert [row.uri for row in rows] == [
        *(f"{BUCKET}/{key}" for key in ("a/1", "a/2")),
        None,
        f"{BUCKET}/c/3",
        f"{BUCKET}/c/4",
    ]
    assert numbers(first, 7) == [8, 9, 10]


@pytest.mark.parametrize(("bucket", "key"), [("file://", "/photos/a.jpg"), (BUCKET, "a.jpg"), (BUCKET, "/a.jpg")])
def test_an_address_is_spelt_alike_everywhere(ledger, bucket, key):
    spelt = URI.format(bucket="CAST(:bucket AS text)", key="CAST(:key AS text)")
    assert ledger.one(f"SELECT {spelt}", bucket=bucket, key=key) == address(bucket, key)


def test_who_wants_no_results_keeps_no_lines(ledger):
    ledger.list([ref("a/1")])
    assert ledger.all("SELECT * FROM core.job_line") == []


def test_a_job_over_the_ledger_has_its_lines_too(ledger, ledger_settings):
    ledger.tag_all(ledger.list([ref(f"{user}/{n}", user=user) for user in ("ann", "ben") for n in range(4)]), "dog")
    shadow = ledger.register("shadow")
    (photo,) = ledger.all("SELECT photo_id FROM core.photo WHERE key = 'ben/0'")
    request = JobRequest(
        kind="ledger",
        source="photos",
        user_rule="{user}/{photo}",
        outputs=OUTPUTS,
        scope=Scope.ALL,
        rules=Rules(exclude_prefixes=("ann/1", "ben/2")),
    )
    job_id = ledger.database.run(lambda c: jobs.submit(c, request, shadow.model_id))
    heart = Heart(ledger.database, "lister", "ingest", 5)
    list_range(ledger_settings.model_copy(update={"page_keys": 3}), heart, ledger.range_of(job_id), threading.Event())
    rows = ledger.all("SELECT line, uri, photo_id, state FROM core.job_line WHERE job_id = :job ORDER BY 1", job=job_id)
    assert [row.line for row in rows] == list(range(1, 9))
    assert {row.uri for row in rows} == {f"{BUCKET}/{user}/{n}" for user in ("ann", "ben") for n in range(4)}
    assert {row.uri: row.photo_id for row in rows}[f"{BUCKET}/ben/0"] == photo.photo_id
    assert states(ledger, job_id) == {(ItemState.PENDING, Code.NONE): 6, (ItemState.EXCLUDED, Code.NOT_CHOSEN): 2}


def test_an_erased_users_lines_are_blank_and_still_add_up(ledger, full):
    ids = [row.photo_id for row in ledger.all("SELECT photo_id FROM core.photo")]
    nowhere = ledger.one(
        "INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at) "
        "SELECT bucket_id, 'ann/nowhere.jpg', user_id, 'e', 1, now() FROM core.photo LIMIT 1 RETURNING photo_id"
    )
    before = states(ledger, full)
    with ledger.database.transaction() as connection:
        assert forget_lines(connection, [*ids, nowhere]) == 11  # all but one that was erased before, and two refused
        connection.execute(text("DELETE FROM core.job_item"))
    rows = ledger.all("SELECT uri, version_id, photo_id, message FROM core.job_line WHERE line NOT IN (30, 31)")
    assert len(rows) == 12
    assert {tuple(row) for row in rows} == {(None, None, None, None)}
    after = states(ledger, full)
    own = {ItemState.SKIPPED_UNCHANGED, ItemState.EXCLUDED}
    assert {key: n for key, n in after.items() if key[0] in own} == {
        key: n for key, n in before.items() if key[0] in own
    }
    assert after[ItemState.ERASED, Code.NONE] == 1 + 6
    assert after.total() == before.total()


# ---- the accounting identity


def named(ledger):
    with ledger.database.transaction() as connection:
        return {finding.audit for finding in audit.findings(connection)}


def broken(ledger, statement, **values):
    """What the audits name after a statement that is taken back again."""
    connection = ledger.database.engine.connect().execution_options(isolation_level="REPEATABLE READ")
    with connection:
        assert connection.execute(text(statement), values).rowcount == 1, statement
        found = {finding.audit for finding in audit.findings(connection)}
        connection.rollback()
    return found


WITHOUT_ITEMS = {ItemState.SKIPPED_UNCHANGED, ItemState.EXCLUDED, ItemState.ERASED}


def test_each_term_of_the_identity_is_missed_when_it_is_wrong(ledger, full):
    assert named(ledger) == set()
    terms = [key for key, n in ledger.job(full).counts.items() if n]
    assert {state for state, _ in terms} >= {*ItemState} - {ItemState.PENDING, ItemState.RETRY}
    for state, code in terms:
        for by in ("+ 1", "- 1"):
            found = broken(
                ledger,
                f"UPDATE core.job_count SET photos = photos {by} WHERE (job_id, state, code) = (:job, :state, :code)",
                job=full,
                state=int(state),
                code=int(code),
            )
            assert {"job sums", "job lines"} <= found, (state, code)
            listed_only = state in WITHOUT_ITEMS or code in (Code.LISTED_TWICE, Code.GONE)
            assert listed_only or "job counts" in found, (state, code)
    assert broken(ledger, "UPDATE core.list_range SET listed = listed + 1 WHERE job_id = :job", job=full) == {
        "job sums"
    }
    for number in (10, 11, 17, 18, 30, 40):
        which = "WHERE job_id = :job AND line = :line"
        assert broken(ledger, f"DELETE FROM core.job_line {which}", job=full, line=number) == {"job lines"}
        moved = f"UPDATE core.job_line SET state = 3, code = 16 {which}"
        assert broken(ledger, moved, job=full, line=number) == {"job lines"}
    more = "INSERT INTO core.job_line (job_id, line, state, code) VALUES (:job, 99, 4, 0)"
    assert broken(ledger, more, job=full) == {"job lines"}


def test_lines_that_do_not_add_up_are_given_up(ledger, full):
    ledger.execute("DELETE FROM core.job_line WHERE line = 10")
    assert named(ledger) == {"job lines"}
    assert ledger.database.run(repair.lines).changed == {"jobs without lines": 1, "lines deleted": 13}
    assert named(ledger) == set()
    assert any("run the job again for its results" in note for note in ledger.job(full).notes)
    assert ledger.all("SELECT state FROM core.delivery WHERE job_id = :job", job=full) == [(5,)]
    assert ledger.database.run(repair.lines).changed == {}
