"""Sources on real places: real S3, real folders, real manifests; and what they say when the place is wrong."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.address import parse_uri
from pipeline.errors import (
    AccessDenied,
    ConfigurationError,
    PhotoChanged,
    PhotoGone,
    PhotoUnreadable,
    ServiceDown,
    SourceError,
)
from pipeline.records import Code, PhotoTask
from pipeline.sources.allowed import LOCAL
from pipeline.sources.folder import Folder, local_version, read_local
from pipeline.sources.manifest import MOST_LINE_BYTES, Manifest
from pipeline.sources.objects import Objects
from pipeline.sources.opening import kind_of, open_source
from pipeline.sources.s3 import S3Access, S3Prefix, check_bucket, create_bucket
from pipeline.sources.user_rule import UserRule
from workers.fetch import Fetcher

RULE = UserRule.parse("{user}/{photo}")


def pages_of(source, limit, cursor=None):
    while True:
        page = source.page(cursor, limit)
        yield page
        if page.last:
            return
        assert page.cursor != cursor, "the listing does not advance"
        cursor = page.cursor


def listed(source, limit, cursor=None):
    pages = list(pages_of(source, limit, cursor))
    refs = [ref for page in pages for ref in page.refs]
    refusals = [refusal for page in pages for refusal in page.refusals]
    return refs, refusals, pages


def fill(access, bucket, bodies):
    create_bucket(access, bucket)
    client = access.client(32)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: client.put_object(Bucket=bucket, Key=item[0], Body=item[1]), bodies.items()))
    return client


ODD = [
    "a b/1 2.jpg",
    "a+b/1.jpg",
    "a%20b/1.jpg",
    "a&b/<1>.jpg",
    "ä/ö ü.jpg",
    "🐕/🐈.jpg",
    "q'\"/1.jpg",
    "a-b/1.jpg",
    "a.b/1.jpg",
]
MANY = {f"u{n % 7}/{n:04d}.jpg": b"x" for n in range(2500)}


@pytest.fixture(scope="module")
def crowded(access):
    """2,500 objects and some with odd names, under `in/`; others beside it."""
    bodies = {f"in/{key}": body for key, body in MANY.items()} | {f"in/{key}": key.encode() for key in ODD}
    bodies |= {"in/marker/": b"", "in.jpg": b"x", "in0": b"x", "in-side/1.jpg": b"x", "i": b"x", "in/top.jpg": b"x"}
    fill(access, "crowded", bodies)
    return "crowded"


def test_s3_lists_everything_once_in_pages(access, crowded):
    refs, refusals, pages = listed(S3Prefix("s3://crowded/in", RULE, access), 1000)
    assert len(pages) == 3
    assert sorted(ref.key for ref in refs) == sorted(f"in/{key}" for key in [*MANY, *ODD])
    assert {ref.user for ref in refs} == {key.split("/")[0] for key in [*MANY, *ODD]}
    assert {(r.name, r.code) for r in refusals} == {("in/marker/", Code.NOT_A_PHOTO), ("in/top.jpg", Code.NO_USER)}
    assert all(len(ref.etag) == 32 and ref.modified_at.tzinfo for ref in refs)


def test_s3_resumes_after_any_key(access, crowded):
    source = S3Prefix("s3://crowded/in/", RULE, access)
    refs, _, _ = listed(source, 1000)
    keys = [ref.key for ref in refs]
    for at in (0, 7, len(ODD), 1000, 2499, len(keys) - 2, len(keys) - 1):
        rest, _, _ = listed(source, 700, keys[at])
        assert [ref.key for ref in rest] == keys[at + 1 :]


def test_s3_accounts_for_each_key_in_one_page_at_most(access, crowded):
    """Between them the pages' stretches never hold a key that another page listed."""
    source = S3Prefix("s3://crowded/in/", RULE, access)
    cursor = None
    seen = set()
    spans = []
    for page in pages_of(source, 5):
        spans.append((source.covered(cursor, page), {ref.key for ref in page.refs}))
        cursor = page.cursor
        seen |= {ref.key for ref in page.refs}
        if len(spans) == 12:
            break
    rank = {"bytes": str.encode, "tree": lambda key: key.replace("/", "\1").encode()}
    for span, mine in spans:
        assert span.orders, "no order fits this page: its gaps could not be told"
        within = {k for k in seen if all(rank[o](span.after) < rank[o](k) <= rank[o](span.upto) for o in span.orders)}
        assert within <= mine


def test_s3_of_a_whole_bucket_and_of_a_prefix_that_is_a_folder(access, crowded):
    whole, _, _ = listed(S3Prefix("s3://crowded", RULE, access), 1000)
    assert {"in-side/1.jpg"} == {ref.key for ref in whole if not ref.key.startswith("in/")}
    part, _, _ = listed(S3Prefix("s3://crowded/in/u1", UserRule.parse("{user}/{photo}", "me"), access), 1000)
    assert {ref.key for ref in part} == {f"in/{key}" for key in MANY if key.startswith("u1/")}
    assert {ref.user for ref in part} == {"me"}


class Short:
    """An S3 client of which every answer is short, and every second one empty, as S3 may do."""

    def __init__(self, keys):
        self.keys = keys

    def get_paginator(self, name):
        assert name == "list_objects_v2"
        return self

    def paginate(self, *, StartAfter, **_):  # noqa: N803
        left = [key for key in self.keys if key > StartAfter]
        yield {"IsTruncated": True, "NextContinuationToken": "t"}
        item = {"Size": 1, "ETag": '"e"', "LastModified": datetime.now(UTC)}
        yield {"IsTruncated": len(left) > 1, "Contents": [{"Key": key, **item} for key in left[:1]]}


def test_s3_a_short_page_is_not_the_last_one(access):
    source = S3Prefix("s3://bucket/in", RULE, access)
    source.client = Short([f"in/u/{n}" for n in range(5)])
    refs, _, pages = listed(source, 1000)
    assert [ref.key for ref in refs] == [f"in/u/{n}" for n in range(5)]
    assert [page.last for page in pages] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("uri", "change", "error", "words"),
    [
        ("s3://no-such-bucket/x", {}, SourceError, "no bucket no-such-bucket"),
        ("s3://crowded/nothing", {}, SourceError, "nothing under s3://crowded/nothing/"),
        ("s3://crowded/in", {"secret_access_key": "wrong"}, SourceError, "refuses our credentials"),
        ("s3://crowded/in", {"access_key_id": "wrong"}, SourceError, "refuses our credentials"),
        ("s3://crowded/in", {"endpoint_url": "http://127.0.0.1:9"}, ServiceDown, "does not answer"),
        ("s3://under score!/x", {}, SourceError, "no bucket's name"),
        ("s3://fast--use1-az4--x-s3/x", {}, SourceError, "directory bucket"),
    ],
)
def test_s3_errors_are_one_sentence_that_says_what_to_do(access, crowded, uri, change, error, words):
    with pytest.raises(error, match=words) as caught:
        S3Prefix(uri, RULE, dataclasses.replace(access, **change)).check()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert len(message) < 200


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "http://x/y", "", "bucket/key"])
def test_s3_addresses_need_a_bucket(uri):
    with pytest.raises(SourceError):
        parse_uri(uri)


# ---- fetching what was listed


@pytest.fixture(scope="module")
def fetcher(access):
    return Fetcher(access, 1000)


def task_for(key, etag, size, bucket="s3://odd"):
    return PhotoTask(
        job_id=1, shard_id=1, photo_id=1, content_rev=1, bucket=bucket, key=key, etag=etag, size=size, version_id=None
    )


@pytest.fixture(scope="module")
def odd(access):
    """Objects under names that clients like to spoil; each holds its own name. (key -> its listed etag and size.)"""
    keys = [*ODD, "tab\there.jpg", "new\nline.jpg", "plain.jpg", "a/b~c.jpg", "%2F.jpg", "#?.jpg"]
    client = fill(access, "odd", {key: key.encode() for key in keys} | {"empty.jpg": b"", "big.jpg": b"x" * 1001})
    found = client.list_objects_v2(Bucket="odd")["Contents"]
    return {item["Key"]: (item["ETag"].strip('"'), item["Size"]) for item in found}


def test_each_listed_key_is_fetched_and_no_other(fetcher, odd):
    for key, (etag, size) in odd.items():
        if key != "big.jpg":
            assert fetcher.fetch(task_for(key, etag, size)) == (b"" if key == "empty.jpg" else key.encode())


def test_what_cannot_be_fetched_is_said(fetcher, odd, access):
    etag, size = odd["plain.jpg"]
    with pytest.raises(PhotoChanged):
        fetcher.fetch(task_for("plain.jpg", "0" * 32, size))
    with pytest.raises(PhotoUnreadable) as caught:
        fetcher.fetch(task_for("big.jpg", *odd["big.jpg"]))
    assert caught.value.code is Code.TOO_LARGE
    with pytest.raises(ServiceDown):  # a body that is not as long as listed is trouble on the way
        fetcher.fetch(task_for("plain.jpg", etag, size + 1))
    away = Fetcher(dataclasses.replace(access, endpoint_url="http://127.0.0.1:9"), 1000)
    with pytest.raises(ServiceDown):
        away.fetch(task_for("plain.jpg", etag, size))


@pytest.mark.parametrize("key", ["never.jpg", "never/", "ne\tver.jpg"])
def test_an_object_that_is_not_there_is_gone(fetcher, odd, key):
    """Some servers answer 412 to If-Match for it: then the engine looks, and finds it gone."""
    with pytest.raises((PhotoGone, PhotoChanged)):
        fetcher.fetch(task_for(key, "0" * 32, 1))
    with pytest.raises(PhotoGone):
        fetcher.look(task_for(key, "0" * 32, 1))


def test_a_bucket_that_is_away_takes_no_photo_with_it(fetcher, access):
    """A deleted or unmounted bucket must not make every photo in it `gone`, and subtract them all."""
    with pytest.raises(ServiceDown, match="no bucket"):
        fetcher.fetch(task_for("1.jpg", "0" * 32, 1, bucket="s3://was-here-before"))


def test_credentials_that_went_bad_are_trouble_not_the_photos_fault(access, odd):
    refused = Fetcher(dataclasses.replace(access, secret_access_key="wrong"), 1000)
    for ask in (refused.fetch, refused.look):
        with pytest.raises(ServiceDown):
            ask(task_for("plain.jpg", *odd["plain.jpg"]))


def test_single_objects_are_read_as_listed(access, odd):
    objects = Objects(access)
    etag, size = odd["plain.jpg"]
    assert objects.read("s3://odd", "plain.jpg", etag, size) == b"plain.jpg"
    assert objects.head("s3://odd", "plain.jpg").etag == etag
    with pytest.raises((PhotoChanged, PhotoGone)):
        objects.read("s3://odd", "plain.jpg", "0" * 32, size)


# ---- folders


def test_a_folder_lists_files_only(tmp_path):
    (tmp_path / "ann").mkdir()
    for name in ("ann/1.jpg", "ann/2 ü.jpg", "top.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "ann/link.jpg").symlink_to(tmp_path / "ann/1.jpg")
    (tmp_path / "elsewhere").symlink_to("/")
    os.mkfifo(tmp_path / "ann/pipe.jpg")
    refs, refusals, _ = listed(Folder(str(tmp_path), RULE), 1000)
    assert [ref.key for ref in refs] == [str(tmp_path / "ann/1.jpg"), str(tmp_path / "ann/2 ü.jpg")]
    assert {(os.path.basename(r.name), r.code) for r in refusals} == {
        ("link.jpg", Code.NOT_A_PHOTO),
        ("pipe.jpg", Code.NOT_A_PHOTO),
        ("elsewhere", Code.NOT_A_PHOTO),
        ("top.jpg", Code.NO_USER),
    }


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_names_that_cannot_be_stored_are_refused_once_each_and_stop_nothing(tmp_path, limit):
    """Old folders hold names in Latin-1; a page that is full of them must not be listed for ever."""
    names = [
        b"a.jpg",
        b"b\xe4.jpg",
        b"b\xe5.jpg",
        b"b\xe6.jpg",
        b"c.jpg",
        b"d\xff/1.jpg",
        b"d\xff/2.jpg",
        b"e.jpg",
        b"\xff.jpg",
    ]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")
    refs, refusals, _ = listed(Folder(str(tmp_path), UserRule.parse("{user}/{photo}", "me")), limit)
    assert [os.path.basename(ref.key) for ref in refs] == ["a.jpg", "c.jpg", "e.jpg"]
    assert [refusal.code for refusal in refusals] == [Code.BAD_KEY] * 6
    assert len({refusal.name for refusal in refusals}) == 6


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_folders_that_cannot_be_listed_are_named(tmp_path, what):
    path = tmp_path / "photos"
    if what == "empty":
        path.mkdir()
    if what == "file":
        path.write_bytes(b"x")
    with pytest.raises(SourceError, match="photos"):
        Folder(str(path), RULE).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_folder_without_permission_is_named(tmp_path, mode):
    closed = tmp_path / "ann"
    closed.mkdir()
    (closed / "1.jpg").write_bytes(b"x")
    closed.chmod(mode)
    try:
        with pytest.raises(SourceError, match="permission"):
            Folder(str(tmp_path), RULE).page(None, 10)
    finally:
        closed.chmod(0o700)


def test_a_folder_that_vanishes_stops_the_listing(tmp_path):
    source = Folder(str(tmp_path / "photos"), RULE)
    with pytest.raises(SourceError, match="vanished"):
        source.page(None, 10)


def test_a_file_is_read_as_listed_or_not_at_all(tmp_path):
    path = tmp_path / "1.jpg"
    path.write_bytes(b"hello")
    etag = local_version(str(path)).etag
    assert read_local(str(path), etag, 5) == b"hello"
    path.write_bytes(b"hello!")
    with pytest.raises(PhotoChanged):
        read_local(str(path), etag, 5)
    path.unlink()
    for put in (lambda: None, lambda: path.symlink_to("/etc/passwd"), lambda: os.mkfifo(path), path.mkdir):
        put()
        with pytest.raises(PhotoGone):
            read_local(str(path), etag, 5)
        with pytest.raises(PhotoGone):
            local_version(str(path))
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            path.unlink()


# ---- manifests


@pytest.fixture
def write(tmp_path):
    def lines(*entries):
        path = tmp_path / "some.jsonl"
        path.write_bytes(b"\n".join(e if isinstance(e, bytes) else json.dumps(e).encode() for e in entries) + b"\n")
        return str(path)

    return lines


def test_a_manifest_names_objects_users_and_its_own_mistakes(access, odd, write):
    path = write(
        {"source-ref": "s3://odd/a b/1 2.jpg"},
        b"",
        b"   ",
        {"source-ref": "s3://odd/plain.jpg", "user": "cleo"},
        {"source-ref": "s3://odd/plain.jpg"},  # no user in the key
        {"source-ref": "s3://odd/never/1.jpg"},
        b"no json",
        b"[]",
        b'{"source-ref": 3}',
        {"source-ref": "file:///etc/passwd"},
        {"source-ref": "s3://odd"},
        {"source-ref": "s3://odd/"},
        {"source-ref": "s3://BAD bucket/x/y", "user": "u"},
        {"source-ref": "s3://no-such-bucket/x/y"},
        {"source-ref": "s3://odd/a/nul\0.jpg"},
        b'{"source-ref": "s3://odd/a/\xe4.jpg"}',
        b'{"source-ref": "s3://odd/a/\\ud800.jpg"}',
        {"source-ref": "s3://odd/a/b.jpg", "user": ""},
        {"source-ref": "s3://odd/a/b.jpg", "user": 7},
        {"source-ref": "s3://odd/a/b.jpg", "user": "u" * 3000},
        b"[" * 100_000,
        b"1" * 5_000,
    )
    source = Manifest(path, RULE, access)
    source.check()
    (page,) = pages_of(source, 100)
    assert [(ref.key, ref.user, ref.size) for ref in page.refs] == [
        ("a b/1 2.jpg", "a b", 11),
        ("plain.jpg", "cleo", 9),
    ]
    assert [refusal.name for refusal in page.gone] == ["line 6", "line 14"]
    assert [(r.name.split(" (")[0], r.code) for r in page.refusals] == [
        ("line 5", Code.NO_USER),
        *((f"line {n}", Code.BAD_LINE) for n in (7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22)),
    ]
    assert all("\n" not in refusal.reason for refusal in page.refusals)
    assert source.covered(None, page) is None


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_a_manifest_goes_on_after_any_line(access, odd, write, limit):
    path = write(*({"source-ref": "s3://odd/plain.jpg", "user": f"u{n}"} if n % 3 else b"" for n in range(10)))
    refs, _, pages = listed(Manifest(path, RULE, access), limit)
    assert [ref.user for ref in refs] == ["u1", "u2", "u4", "u5", "u7", "u8"]
    rest, _, _ = listed(Manifest(path, RULE, access), limit, pages[0].cursor)
    assert [ref.user for ref in rest] == [ref.user for ref in refs][len(pages[0].refs) :]


@pytest.mark.parametrize(
    ("make", "words"), [(lambda p: p.write_text("\n \n"), "empty"), (lambda path: path.parent, "read")]
)
def test_a_manifest_that_holds_nothing_or_is_not_there_is_named(tmp_path, access, make, words):
    path = tmp_path / "m.jsonl"
    make(path)
    with pytest.raises(SourceError, match=words):
        Manifest(str(path), RULE, access).check()


def test_a_manifest_is_read_once_from_beginning_to_end(access, odd, write, monkeypatch):
    """Not once per page: what lies before the cursor is passed over without a look."""
    path = write(*({"source-ref": "s3://odd/plain.jpg", "user": f"u{n}"} for n in range(30)))
    source = Manifest(path, RULE, access)
    half = source.page(None, 15)
    text = Path(path).read_bytes()
    end = int(half.cursor.split(":")[1])
    Path(path).write_bytes(b"#" * (end - 1) + text[end - 1 :])
    assert [ref.user for ref in source.page(half.cursor, 50).refs] == [f"u{n}" for n in range(15, 30)]


@pytest.mark.parametrize("change", [lambda text: text[: len(text) // 2], lambda text: b"x" + text])
def test_a_manifest_that_changes_under_the_listing_stops_it(access, odd, write, change):
    path = write(*({"source-ref": "s3://odd/plain.jpg", "user": f"u{n}"} for n in range(10)))
    source = Manifest(path, RULE, access)
    cursor = source.page(None, 8).cursor
    Path(path).write_bytes(change(Path(path).read_bytes()))
    with pytest.raises(SourceError, match="changed"):
        source.page(cursor, 8)


@pytest.mark.parametrize("extra", [0, 1, 5 * 1024 * 1024])
@pytest.mark.parametrize("limit", [1, 100])
def test_a_line_that_is_too_long_is_refused_by_its_number_and_stops_nothing(access, odd, write, limit, extra):
    good = {"source-ref": "s3://odd/plain.jpg", "user": "u"}
    path = write(good, b'"' + b"x" * (MOST_LINE_BYTES - 1 + extra), good)
    refs, (refused,), _ = listed(Manifest(path, RULE, access), limit)
    assert len(refs) == 2
    assert (refused.name, refused.code) == ("line 2", Code.BAD_LINE)
    assert "1,048,576" in refused.reason


def test_the_last_line_of_a_manifest_needs_no_end(access, odd, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"source-ref": "s3://odd/plain.jpg", "user": "u"}')
    refs, _, pages = listed(Manifest(str(path), RULE, access), 1)
    assert (len(refs), len(pages)) == (1, 2)


def test_a_store_that_is_away_stops_the_manifest(write, access):
    path = write({"source-ref": "s3://odd/plain.jpg", "user": "u"})
    away = dataclasses.replace(access, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ServiceDown):
        Manifest(path, RULE, away).page(None, 10)


# ---- places that were emptied


@pytest.mark.parametrize("kind", ["s3", "folder", "manifest"])
def test_an_emptied_place_may_be_listed_on_purpose(access, tmp_path, kind):
    create_bucket(access, "emptied")
    (tmp_path / "photos").mkdir()
    (tmp_path / "m.jsonl").touch()
    place = {"s3": "s3://emptied/in", "folder": str(tmp_path / "photos"), "manifest": str(tmp_path / "m.jsonl")}[kind]
    source = open_source(kind, place, RULE, access)
    with pytest.raises(SourceError):
        source.check()
    source.check(may_be_empty=True)
    page = source.page(None, 100)
    assert (page.refs, page.last) == ((), True)
    if kind != "manifest":  # the whole place is accounted for, so that what was in it can be subtracted
        span = source.covered(None, page)
        assert span.after == source.prefix
        assert span.upto > source.prefix + "ann/1.jpg"


def test_a_place_that_is_not_there_is_refused_even_then(access, tmp_path):
    for source in (Folder(str(tmp_path / "no"), RULE), S3Prefix("s3://no-such-bucket/", RULE, access)):
        with pytest.raises(SourceError, match="There is no"):
            source.check(may_be_empty=True)


# ---- buckets


def test_buckets_are_made_once_and_checked_by_name_only(access, monkeypatch):
    """Well-cut credentials may not list all buckets; so nobody asks for it."""

    def forbidden(*_, **__):
        raise AssertionError("asked for all buckets")

    client = access.client()
    monkeypatch.setattr(type(client), "list_buckets", forbidden)
    monkeypatch.setattr(S3Access, "client", lambda *_: client)
    with pytest.raises(SourceError, match="no bucket made-once"):
        check_bucket(access, "made-once")
    for _ in range(2):
        create_bucket(access, "made-once")
        check_bucket(access, "made-once")


def test_wrong_credentials_do_not_pass_for_a_missing_bucket(access):
    wrong = dataclasses.replace(access, secret_access_key="wrong")
    for ask in (check_bucket, create_bucket):
        with pytest.raises(AccessDenied):
            ask(wrong, "made-once")


# ---- what was typed


def test_sources_are_told_apart_by_what_they_are(tmp_path, monkeypatch, access):
    (tmp_path / "m.jsonl").write_text("{}")
    (tmp_path / "m.txt").write_text("{}")
    (tmp_path / "d.jsonl").mkdir()
    monkeypatch.chdir(tmp_path)
    assert kind_of("s3://abc") == ("s3", "s3://abc/")
    assert kind_of("s3://abc/p") == ("s3", "s3://abc/p")
    assert kind_of("m.jsonl") == ("manifest", str(tmp_path / "m.jsonl"))
    assert kind_of("d.jsonl") == ("folder", str(tmp_path / "d.jsonl"))
    assert kind_of(".") == ("folder", str(tmp_path))
    for wrong in ("m.txt", "nowhere", "gs://b/p", "s3://", "", " "):  # of an unset variable: no folder is meant
        with pytest.raises(ConfigurationError):
            kind_of(wrong)
    kinds = {
        kind: type(open_source(kind, source, RULE, access))
        for kind, source in map(kind_of, ("s3://abc", ".", "m.jsonl"))
    }
    assert kinds == {"s3": S3Prefix, "folder": Folder, "manifest": Manifest}


def test_local_files_are_one_bucket():
    assert LOCAL == "file://"
