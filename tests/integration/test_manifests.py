"""Manifests of JSON lines and tables, in files and in S3: versions, 403s, changes under way, and very many lines."""

import csv
import gc
import io
import json
import urllib.parse
from contextlib import contextmanager
from dataclasses import replace
from threading import Event

import pytest
from ledger_helpers import LEASE_SECONDS

from pipeline.errors import PhotoChanged, PhotoGone, SourceError
from pipeline.ledger import jobs
from pipeline.ledger.requests import JobRequest
from pipeline.records import Code, ItemState, PhotoTask
from pipeline.sources.allowed import Allowed, Place
from pipeline.sources.manifest import Manifest
from pipeline.sources.opening import kind_of, open_source
from pipeline.sources.s3 import create_bucket
from pipeline.sources.table import Table
from pipeline.sources.user_rule import UserRule
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.ingest import list_range

RULE = UserRule.parse("{user}/{photo}")
BUCKET = "named-photos"
KEYS = ("ann/1.jpg", "ann/2 +%.jpg", "ben/ü.jpg", 'ben/"a,b"\n.jpg')


@pytest.fixture(scope="module")
def client(access):
    create_bucket(access, BUCKET)
    found = access.client()
    for key in KEYS:
        found.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    yield found
    found.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def put(client):
    """Put a text into S3; returns its address."""

    def put(name, text):
        body = text if isinstance(text, bytes) else text.encode()
        client.put_object(Bucket=BUCKET, Key=name, Body=body)
        return f"s3://{BUCKET}/{name}"

    return put


def jsonl(*entries):
    return "".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in entries)


def table(*rows):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def named(key, **more):
    return {"source-ref": f"s3://{BUCKET}/{key}", **more}


def pages_of(source, limit, cursor=None):
    while True:
        page = source.page(cursor, limit)
        yield page
        if page.last:
            return
        cursor = page.cursor


def listed(source, limit=100, cursor=None):
    pages = list(pages_of(source, limit, cursor))
    return [ref for page in pages for ref in page.refs], [r for page in pages for r in (*page.refusals, *page.gone)]


@contextmanager
def denied(client, action, path):
    statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": f"arn:aws:s3:::{BUCKET}{path}"}
    client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    try:
        yield
    finally:
        client.delete_bucket_policy(Bucket=BUCKET)


# ---- where manifests lie, and what they are


def test_what_was_typed_is_told_apart_by_its_name(tmp_path):
    for name in ("m.jsonl", "t.csv", "manifest.json"):
        (tmp_path / name).write_text("")
    kinds = {
        "s3://abc/p/m.jsonl": "manifest",
        "s3://abc/m.manifest": "manifest",
        "s3://abc/t.csv": "csv",
        "s3://abc/inv/2026-01-01T01-00Z/manifest.json": "inventory",
        "s3://abc/p/m.jsonl/": "s3",
        "s3://abc/t.csv/in": "s3",
        "s3://abc/other.json": "s3",
        "s3://abc/": "s3",
        str(tmp_path / "m.jsonl"): "manifest",
        str(tmp_path / "t.csv"): "csv",
        str(tmp_path / "manifest.json"): "inventory",
        str(tmp_path): "folder",
    }
    assert {typed: kind_of(typed)[0] for typed in kinds} == kinds


@pytest.mark.parametrize("where", ["file", "s3"])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_manifest_in_s3_is_read_as_a_file_is(access, client, put, tmp_path, where, limit):
    text = jsonl(named(KEYS[0], consent=True), "", "no json", *(named(key, user="cleo") for key in KEYS[1:]))
    if where == "file":
        (tmp_path / "m.jsonl").write_text(text)
    source = Manifest(put("lists/m.jsonl", text) if where == "s3" else str(tmp_path / "m.jsonl"), RULE, access)
    source.check()
    refs, (bad,) = listed(source, limit)
    assert [(ref.key, ref.user, ref.line, ref.consent) for ref in refs] == [
        (KEYS[0], "ann", 1, True),
        *((key, "cleo", n, None) for n, key in enumerate(KEYS[1:], start=4)),
    ]
    assert (bad.name, bad.code, bad.line) == ("line 3", Code.BAD_LINE, 3)
    first = next(pages_of(source, limit))
    other = Manifest(source.document.name, RULE, access)  # another process goes on
    assert [ref.line for ref in listed(other, limit, first.cursor)[0]] == [r.line for r in refs[len(first.refs) :]]


def test_a_manifest_that_is_overwritten_in_s3_stops_the_listing(access, client, put):
    place = put("lists/changing.jsonl", jsonl(*(named(KEYS[0]) for _ in range(9))))
    source = Manifest(place, RULE, access)
    cursor = source.page(None, 3).cursor
    put("lists/changing.jsonl", jsonl(*(named(KEYS[1]) for _ in range(9))))
    assert len(source.page(cursor, 3).refs) == 3  # it had the rest in hand
    with pytest.raises(SourceError, match="changed"):
        Manifest(place, RULE, access).page(cursor, 3)
    large = put("lists/large.jsonl", jsonl(*("#" * 500_000 for _ in range(12))))
    source = Manifest(large, RULE, access)
    cursor = source.page(None, 1).cursor
    put("lists/large.jsonl", jsonl(named(KEYS[0])))
    with pytest.raises(SourceError, match="changed"):
        list(pages_of(source, 4, cursor))


def test_a_manifest_that_is_not_there_or_empty_is_named(access, client, put):
    with pytest.raises(SourceError, match="no object"):
        Manifest(f"s3://{BUCKET}/lists/never.jsonl", RULE, access).check()
    empty = Manifest(put("lists/empty.jsonl", " \n"), RULE, access)
    with pytest.raises(SourceError, match="empty"):
        empty.check()
    empty.check(may_be_empty=True)
    assert empty.page(None, 10).last


def test_the_place_of_a_manifest_must_be_allowed_and_each_line_too(access, client, put):
    place = put("lists/m.jsonl", jsonl(named(KEYS[0]), named(KEYS[2])))
    only_ann = Allowed(places=(Place.named(f"s3://{BUCKET}/ann"),))
    with pytest.raises(SourceError, match="outside"):
        open_source("manifest", place, RULE, access, only_ann)
    both = Allowed(places=(*only_ann.places, Place.named(f"s3://{BUCKET}/lists")))
    (ref,), (refused,) = listed(open_source("manifest", place, RULE, access, both))
    assert (ref.key, refused.code, refused.uri) == (KEYS[0], Code.OUTSIDE, f"s3://{BUCKET}/{KEYS[2]}")


# ---- what a line may say


def test_an_object_whose_etag_and_size_are_given_is_not_asked_for(access, client, put):
    time = "2026-01-02T03:04:05Z"
    place = put(
        "lists/told.jsonl",
        jsonl(
            named("ann/never was.jpg", etag='"e1"', size=7, last_modified=time),
            named("ann/nor.jpg", etag="e2", size=0),
            named("ann/half.jpg", etag="e2"),
        ),
    )
    (first, second), (gone,) = listed(Manifest(place, RULE, access))
    assert (first.etag, first.size, first.modified_at.isoformat()) == ("e1", 7, "2026-01-02T03:04:05+00:00")
    written = client.head_object(Bucket=BUCKET, Key="lists/told.jsonl")["LastModified"]
    assert (second.etag, second.size, second.modified_at) == ("e2", 0, written)
    assert (gone.name, gone.code) == ("line 3", Code.GONE)


@pytest.mark.parametrize(
    "more",
    [
        {"size": -1, "etag": "e"},
        {"size": True, "etag": "e"},
        {"size": "7", "etag": "e"},
        {"size": 2**63, "etag": "e"},
        {"size": 1, "etag": ""},
        {"size": 1, "etag": "ü"},
        {"size": 1, "etag": 'e"e'},
        {"last_modified": "yesterday"},
        {"consent": "yes"},
        {"version_id": 3},
        {"version_id": "a\0b"},
        {"version_id": "v" * 3000},
        {"user": "\ud800"},
    ],
)
def test_what_a_line_must_not_say_is_refused_with_a_reason(access, client, tmp_path, more):
    (tmp_path / "m.jsonl").write_text(jsonl(named(KEYS[0], **more), named(KEYS[0])))
    (ref,), (refused,) = listed(Manifest(str(tmp_path / "m.jsonl"), RULE, access))
    assert (ref.line, refused.line, refused.code) == (2, 1, Code.BAD_LINE)
    assert refused.reason.isprintable()
    assert len(refused.reason) < 400


# ---- versions


@pytest.fixture
def versions(access):
    """An object's three versions, by their bodies, and a delete marker; then the bucket."""
    bucket, client = "versioned-photos", access.client()
    create_bucket(access, bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = {
        body: client.put_object(Bucket=bucket, Key="ann/1.jpg", Body=body)["VersionId"] for body in (b"1", b"22", b"3")
    }
    ids["marker"] = client.delete_object(Bucket=bucket, Key="ann/1.jpg")["VersionId"]
    ids["bucket"] = bucket
    yield ids
    client.delete_bucket(Bucket=bucket)


def test_a_line_with_a_version_means_these_bytes_whatever_came_later(access, versions, tmp_path):
    uri = f"s3://{versions['bucket']}/ann/1.jpg"
    lines = [{"source-ref": uri, "version_id": versions[body]} for body in (b"1", b"22", "marker")]
    lines += [{"source-ref": uri, "version_id": "0" * 32}, {"source-ref": uri}]
    (tmp_path / "m.jsonl").write_text(jsonl(*lines))
    refs, gone = listed(Manifest(str(tmp_path / "m.jsonl"), RULE, access))
    assert [(ref.version_id, ref.size) for ref in refs] == [(versions[b"1"], 1), (versions[b"22"], 2)]
    assert [(refusal.line, refusal.code) for refusal in gone] == [(n, Code.GONE) for n in (3, 4, 5)]
    assert gone[0].version_id == versions["marker"]
    fetcher = Fetcher(access, 1000)
    tasks = [
        PhotoTask(
            job_id=1,
            shard_id=1,
            photo_id=1,
            content_rev=1,
            bucket=ref.bucket,
            key=key,
            etag=ref.etag,
            size=ref.size,
            version_id=ref.version_id,
        )
        for ref in refs
        for key in (ref.key,)
    ]
    assert [fetcher.fetch(task) for task in tasks] == [b"1", b"22"]
    assert [fetcher.look(task).size for task in tasks] == [1, 2]
    access.client().delete_object(Bucket=versions["bucket"], Key="ann/1.jpg", VersionId=versions[b"22"])
    with pytest.raises((PhotoGone, PhotoChanged)):
        fetcher.fetch(tasks[1])
    with pytest.raises(PhotoGone):
        fetcher.look(tasks[1])


# ---- what is closed to us


def test_one_object_that_is_closed_to_us_fails_and_nothing_else(access, client, put):
    place = put("lists/m.jsonl", jsonl(named(KEYS[0]), named(KEYS[2]), {"source-ref": "s3://no-such/x/y"}))
    with denied(client, "s3:GetObject", "/ann/*"):
        page = Manifest(place, RULE, access).page(None, 10)
    assert [ref.key for ref in page.refs] == [KEYS[2]]
    assert [(failed.line, failed.code) for failed in page.gone] == [(1, Code.FORBIDDEN), (3, Code.GONE)]
    assert page.gone[0].uri == f"s3://{BUCKET}/{KEYS[0]}"


def test_credentials_that_are_wrong_stop_the_listing(access, client, tmp_path):
    """Then nothing is known of any object, and a million failures would say it badly."""
    (tmp_path / "m.jsonl").write_text(jsonl(named(KEYS[0])))
    with pytest.raises(SourceError, match="credentials"):
        Manifest(str(tmp_path / "m.jsonl"), RULE, replace(access, secret_access_key="wrong")).page(None, 10)


# ---- tables


def quoted(key):
    return urllib.parse.quote_plus(key)


@pytest.mark.parametrize("where", ["file", "s3"])
@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    "rows",
    [
        [["bucket", "key", "user"], *([BUCKET, key, "cleo"] for key in KEYS)],
        [["USER", " Bucket ", "key", "note"], *(["cleo", BUCKET, key, "n"] for key in KEYS)],
        [["Bucket", "Key", "VersionId", "user"], *([BUCKET, quoted(key), "", "cleo"] for key in KEYS)],
        [[BUCKET, quoted(key), "", "cleo", "yes"] for key in KEYS],
    ],
)
def test_tables_with_and_without_headers_name_the_same_photos(access, client, put, tmp_path, where, limit, rows):
    (tmp_path / "t.csv").write_text(table(*rows), newline="")
    source = Table(put("lists/t.csv", table(*rows)) if where == "s3" else str(tmp_path / "t.csv"), RULE, access)
    source.check()
    refs, refused = listed(source, limit)
    assert [(ref.key, ref.user) for ref in refs] == [(key, "cleo") for key in KEYS]
    assert refused == []
    cursor = source.page(None, 1).cursor if limit == 1 else source.page(None, 2).cursor
    rest, _ = listed(Table(source.document.name, RULE, access), limit, cursor)
    assert [ref.key for ref in rest] == [ref.key for ref in refs if ref.line > int(cursor.split(":")[0])]


def test_bad_rows_are_named_and_the_rest_is_done(access, client, tmp_path):
    rows = [
        "bucket,key,user,consent,version_id,etag,size",
        f"{BUCKET},{KEYS[0]},ann,no",
        f"{BUCKET}",
        f"{BUCKET},",
        f",{KEYS[0]}",
        f"{BUCKET}/ann,1.jpg",
        f'{BUCKET},"unclosed',
        f"{BUCKET},{KEYS[0]},ann,perhaps",
        f"{BUCKET},{KEYS[0]},ann,,,e,x",
        f"{BUCKET},{KEYS[0]},1,2,3,4,5,6,7,8",
        "",
        f"{BUCKET},nobody.jpg",
        f"{BUCKET},{KEYS[2]}",
    ]
    (tmp_path / "t.csv").write_bytes("\n".join(rows).encode() + b"\n" + BUCKET.encode() + b",ann/\xe4.jpg\n")
    refs, refused = listed(Table(str(tmp_path / "t.csv"), RULE, access))
    assert [(ref.line, ref.consent) for ref in refs] == [(2, False), (13, None)]
    assert [(r.line, r.code) for r in refused] == [
        *((n, Code.BAD_LINE) for n in (3, 4, 5, 6, 7, 8, 9, 10)),
        (12, Code.NO_USER),
        (14, Code.BAD_LINE),
    ]
    assert all(r.name == f"line {r.line}" for r in refused)
    assert r"\udce4" in refused[-1].reason


# ---- very many lines, and a job of them


def test_three_bad_lines_among_very_many_are_named_and_the_rest_is_done(access, client, tmp_path, monkeypatch):
    """Of few objects, each asked for once per page; and what is held in memory does not grow with the lines."""
    path, bad, count = tmp_path / "many.jsonl", {7_000: "{", 43_001: '{"source-ref": 1}', 99_999: "\udcff"}, 100_000
    with path.open("w", errors="surrogateescape") as file:
        for n in range(1, count + 1):
            file.write(bad.get(n) or json.dumps(named(KEYS[n % 2], user=f"u{n % 9}")))
            file.write("\n")
    source, asked, page, seen, refused = Manifest(str(path), RULE, access), [], None, 0, []
    real = source._lookup.client.head_object
    monkeypatch.setattr(source._lookup.client, "head_object", lambda **about: (asked.append(about), real(**about))[1])
    held = []
    while page is None or not page.last:
        page = source.page(page and page.cursor, 1000)
        seen += len(page.refs)
        refused += page.refusals
        if len(asked) in (20, 2 * count // 1000):
            held.append(len(gc.get_objects()))
    assert seen == count - 3
    assert [r.name for r in refused] == [f"line {n}" for n in bad]
    assert len(asked) == 2 * -(-count // 1000)
    assert held[-1] < held[0] + 5_000


def test_a_job_over_a_manifest_accounts_for_every_line(ledger, ledger_settings, client, put):
    lines = [named(KEYS[0]), "no json", named(KEYS[0]), named("ann/never.jpg"), named("top.jpg"), named(KEYS[2])]
    request = JobRequest(kind="manifest", source=put("lists/job.jsonl", jsonl(*lines)), user_rule="{user}/{photo}")
    job_id = ledger.database.run(lambda c: jobs.submit(c, request, ledger.registered.model_id))
    heart = Heart(ledger.database, "lister", "ingest", LEASE_SECONDS)
    with denied(client, "s3:GetObject", "/ben/*"):
        list_range(ledger_settings, heart, ledger.range_of(job_id), Event())
    job = ledger.job(job_id)
    assert job.error is None
    assert job.total == len(lines)
    assert job.counts == {
        (ItemState.PENDING, Code.NONE): 1,
        (ItemState.DUPLICATE, Code.LISTED_TWICE): 1,
        (ItemState.EXCLUDED, Code.BAD_LINE): 1,
        (ItemState.EXCLUDED, Code.NO_USER): 1,
        (ItemState.FAILED, Code.GONE): 1,
        (ItemState.FAILED, Code.FORBIDDEN): 1,
    }
    ledger.tag_all(job_id, "dog")
    ledger.check()
