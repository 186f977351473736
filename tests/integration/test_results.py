"""The results of a job: one line per input line, in order, the same bytes every time, as the policy shows them."""

import csv
import hashlib
import io
import json

import pytest
from ledger_helpers import NAMES, failed, page_of, ref, wnid
from sqlalchemy import text

from pipeline.errors import ConfigurationError
from pipeline.ledger import jobs, results
from pipeline.ledger.requests import Output
from pipeline.ledger.results import Written
from pipeline.records import Code, Refusal
from pipeline.store.roles import Role

OUTPUT = (Output(target="/results/"),)


def spelt(ledger, job_id, form="jsonl", lines_at_once=results.LINES_AT_ONCE):
    """The results, and what is said of them."""
    with ledger.database.transaction() as connection:
        results.one_snapshot(connection)
        job = jobs.find(connection, job_id)
        written = Written()
        data = b"".join(results.spell(results.lines(connection, job, lines_at_once), form, written))
        said = results.summary(connection, job, "/results/results.jsonl", form, written)
    return data, said


def lines_of(data):
    return [json.loads(line) for line in data.decode().splitlines()]


def refusal(number, code, **more):
    return Refusal(name=f"line {number}", code=code, reason="It is no photo.", line=number, **more)


@pytest.fixture
def listed(ledger, ingest, worker):
    """A job over eight lines of a manifest, done: two tagged, one failed, and the rest as they were listed."""
    ledger.tag_all(ledger.list([ref("ann/old.jpg")]), "cup")
    photos = [
        ref("ann/dog.jpg"),
        ref('ann/odd ü,"\n.jpg'),
        ref("ben/bad.jpg", user="ben"),
        ref("ann/old.jpg"),
        ref("ann/dog.jpg"),
    ]
    numbered = [photo_at(photo, number) for photo, number in zip(photos, (1, 3, 4, 6, 8), strict=True)]
    refused = [refusal(2, Code.BAD_LINE), refusal(5, Code.NOT_CHOSEN, uri="s3://photos/eve/x.jpg")]
    gone = [refusal(7, Code.GONE, uri="s3://photos/ann/gone.jpg", version_id="v7")]
    job_id = ingest.submit(outputs=OUTPUT)
    lease = ingest.claim_range(job_id)
    ingest.write_page(job_id, lease, page_of(numbered, refused, gone))
    ingest.finish(job_id, lease)
    for taken in worker.claim_all(job_id):
        tasks = worker.tasks(taken)
        mine = [failed(t, Code.CORRUPT, "It is cut off.") if "bad" in t.key else worker.tagged(t, "dog") for t in tasks]
        worker.merge(mine, [taken])
    ledger.execute("UPDATE core.job SET state = 11, finished_at = now() WHERE job_id = :id", id=job_id)
    return job_id


def photo_at(photo, number):
    return type(photo)(**{name: getattr(photo, name) for name in photo.__dataclass_fields__} | {"line": number})


def test_every_input_line_is_one_line_in_order(ledger, ingest, listed):
    found = lines_of(spelt(ingest, listed)[0])
    assert [line["line"] for line in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    first = found[0]
    assert (first["source-ref"], first["user"], first["state"], first["code"]) == (
        "s3://photos/ann/dog.jpg",
        "ann",
        "succeeded",
        "tagged",
    )
    assert first["tags"] == [
        {"wnid": wnid("animal"), "name": "animal", "probability": 0.9},
        {"wnid": wnid("dog"), "name": "dog", "probability": 0.9},
    ]
    assert first["attempts"] == 1
    assert [(line["state"], line["code"]) for line in found[1:]] == [
        ("excluded", "bad_line"),
        ("succeeded", "tagged"),
        ("failed", "corrupt"),
        ("excluded", "not_chosen"),
        ("skipped_unchanged", None),
        ("failed", "gone"),
        ("duplicate", "listed_twice"),
    ]
    assert found[1]["source-ref"] is None
    assert found[2]["source-ref"] == 's3://photos/ann/odd ü,"\n.jpg'
    assert found[3]["message"] == "It is cut off."
    assert (found[6]["source-ref"], found[6]["version_id"]) == ("s3://photos/ann/gone.jpg", "v7")
    assert [tag["name"] for tag in found[5]["tags"]] == ["thing", "cup"]  # of the job before
    assert [bool(line["tags"]) for line in found] == [True, False, True, False, False, True, False, True]


def test_the_summary_says_the_same_and_the_sum_is_whole(ledger, ingest, listed):
    data, said = spelt(ingest, listed)
    assert said["results"] == {
        "source-ref": "/results/results.jsonl",
        "format": "jsonl",
        "lines": 8,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert said["every_photo_accounted_for"] is True
    assert said["counts"]["total"] == 8 == sum(n for name, n in said["counts"].items() if name != "total")
    assert sum(group["lines"] for group in said["lines"]) == 8
    assert said["counts"]["failed"] == sum(group["lines"] for group in said["lines"] if group["state"] == "failed")
    assert said["versions"] | {"model_fingerprint": ""} == {
        "model": "small",
        "model_fingerprint": "",
        "taxonomy": "small",
        "decision_revision": 1,
        "policy_version": 0,
    }


def test_a_second_time_and_smaller_pages_give_the_same_bytes(ledger, ingest, listed):
    data, _ = spelt(ingest, listed)
    assert spelt(ingest, listed)[0] == data
    assert spelt(ingest, listed, lines_at_once=3)[0] == data
    assert spelt(ingest, listed, lines_at_once=8)[0] == data


def test_csv_has_the_columns_of_s3_batch_operations(ledger, ingest, listed):
    data, said = spelt(ingest, listed, "csv")
    head, *rows = csv.reader(io.StringIO(data.decode()))
    assert head == ["Bucket", "Key", "VersionId", "TaskStatus", "ErrorCode", "HTTPStatusCode", "ResultMessage"]
    assert len(rows) == 8 == data.count(b"\n") - 1  # no key breaks a line
    assert rows[2][:6] == ["photos", "ann/odd%20%C3%BC%2C%22%0A.jpg", "", "succeeded", "", "200"]
    assert [tag["name"] for tag in json.loads(rows[2][6])] == ["animal", "dog"]
    assert rows[3][:6] == ["photos", "ben/bad.jpg", "", "failed", "corrupt", ""]
    assert rows[6][:6] == ["photos", "ann/gone.jpg", "v7", "failed", "gone", "404"]
    assert rows[1][:4] == ["", "", "", "failed"]
    assert said["results"]["lines"] == 8


def test_what_is_shown_is_what_the_view_for_people_shows(ledger, ingest, listed):
    """The policy hides *dog*: it is shown as *animal*, which counts without it."""
    node = ledger.node
    taxonomy_id = ledger.one("SELECT taxonomy_id FROM core.model WHERE name = 'small'")
    ledger.execute("INSERT INTO core.policy (version, active) VALUES (1, true)")
    effect = "INSERT INTO core.policy_effect VALUES (1, :t, :node, :hidden, :shown, :minus, :times, :owed)"
    try:
        ledger.execute(
            effect, t=taxonomy_id, node=node["dog"], hidden=True, shown=node["animal"], minus=[], times=[], owed=[]
        )
        ledger.execute(
            effect,
            t=taxonomy_id,
            node=node["thing"],
            hidden=False,
            shown=None,
            minus=[node["cup"], node["car"]],
            times=[1, 1],
            owed=[node["car"]],
        )
        data, said = spelt(ingest, listed)
        shown = {line["line"]: [(t["wnid"], t["probability"]) for t in line["tags"]] for line in lines_of(data)}
        people = ledger.all(
            "SELECT l.line, t.wnid, t.probability FROM core.job_line l JOIN tags.photo_tag t USING (photo_id) "
            "WHERE l.job_id = :job AND t.model = 'small' ORDER BY l.line, t.probability DESC, t.wnid",
            job=listed,
        )
        assert [(n, *tag) for n, tags in shown.items() for tag in tags] == [
            (row.line, row.wnid, float(row.probability)) for row in people
        ]
        assert wnid("dog") not in data.decode()
        assert said["versions"]["policy_version"] == 1
    finally:
        ledger.execute("DELETE FROM core.policy_effect; DELETE FROM core.policy")


def test_of_an_erased_user_only_the_line_is_left(ledger, roles, ingest, listed):
    from pipeline.ledger.erase import erase  # noqa: PLC0415 - it is this test's subject alone

    erase(roles[Role.ERASER].database, "ben", batch_photos=10)
    found = lines_of(spelt(ingest, listed)[0])
    assert [line["line"] for line in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (found[3]["source-ref"], found[3]["state"], found[3]["tags"]) == (None, "erased", [])
    assert "ben" not in json.dumps(found)


def test_a_job_that_still_runs_says_what_is_open(ledger, ingest):
    job_id = ingest.list([ref("a.jpg"), ref("b.jpg")], outputs=OUTPUT)
    found = lines_of(spelt(ingest, job_id)[0])
    assert [(line["line"], line["state"], line["tags"]) for line in found] == [(1, "pending", []), (2, "pending", [])]


def test_a_job_without_lines_says_so(ledger, ingest):
    job_id = ingest.list([ref("a.jpg")])
    with pytest.raises(ConfigurationError, match="keeps no lines"):
        results.check_kept(ingest.job(job_id))


def test_what_is_read_is_of_one_moment(ledger, ingest, listed):
    """Whatever is merged in between: no line is from before and another from after."""
    with ingest.database.transaction() as connection:
        results.one_snapshot(connection)
        job = jobs.find(connection, listed)
        pages = results.lines(connection, job, 1)
        first = next(pages)
        ledger.execute("UPDATE core.photo_result SET tags = '{}', outcome = 2")
        rest = [line for page in pages for line in page]
        before = connection.execute(text("SELECT count(*) FROM core.photo_result WHERE tags <> '{}'")).scalar_one()
    assert before == 3
    assert len(first) + len(rest) == 8
    assert rest[-1].tags
    assert NAMES[0] not in {tag.name for tag in rest[-1].tags}
