"""Who wrote the job, the manifest or the photo's row may be nobody's friend: what lies outside is not touched.

Real S3 and real files. The allowlist's decisions by names alone are in tests/unit/pipeline/test_allowed.py.
"""

import dataclasses
import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.errors import PhotoGone, PhotoUnreadable, SourceError
from pipeline.ledger import jobs
from pipeline.ledger.requests import JobRequest
from pipeline.records import Code, ItemState, JobState, PhotoTask
from pipeline.sources import folder as folders
from pipeline.sources.allowed import LOCAL, Allowed, Place
from pipeline.sources.folder import Folder, local_version, read_local
from pipeline.sources.manifest import Manifest
from pipeline.sources.objects import Objects
from pipeline.sources.opening import open_source
from pipeline.sources.s3 import create_bucket
from pipeline.sources.user_rule import UserRule
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.ingest import list_range

RULE = UserRule.parse("{user}/{photo}")
BUCKET = "guarded-photos"
KEYS = ("in/ann/1.jpg", "in/ann/2.jpg", "inn/ben/1.jpg", "top.jpg")
FINISH_SECONDS = 30  # for what would hang for ever if it waited for the other end of a pipe


def allowed(*places):
    return Allowed(places=tuple(map(Place.named, map(str, places))))


def task_for(bucket, key, etag, size):
    return PhotoTask(
        job_id=1, shard_id=1, photo_id=1, content_rev=1, bucket=bucket, key=key, etag=etag, size=size, version_id=None
    )


def in_time(action):
    """What the action returns or raises, if it ends at all; in a thread, because a hanging `open` cannot be stopped."""
    ended = []

    def run():
        try:
            ended.append((action(), None))
        except Exception as exc:
            ended.append((None, exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(FINISH_SECONDS)
    assert ended, "it hangs"
    value, error = ended[0]
    if error is not None:
        raise error
    return value


@pytest.fixture(scope="module")
def guarded(access):
    """Key -> etag and size, of a bucket of which only ``in/`` may be read."""
    create_bucket(access, BUCKET)
    client = access.client()
    for key in KEYS:
        client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    found = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    yield {item["Key"]: (item["ETag"].strip('"'), item["Size"]) for item in found}
    client.delete_bucket(Bucket=BUCKET)


def manifest(folder, *entries):
    path = folder / "some.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


# ---- the list of places


def test_each_object_that_a_manifest_names_outside_is_excluded_with_its_reason(access, guarded, tmp_path):
    inside = {"source-ref": f"s3://{BUCKET}/in/ann/1.jpg", "user": "ann"}
    outside = [f"s3://{BUCKET}/{key}" for key in ("inn/ben/1.jpg", "top.jpg", "in/ann/../../top.jpg", "in/../top.jpg")]
    outside += ["s3://other-bucket/in/ann/1.jpg"]
    path = manifest(tmp_path, inside, *({"source-ref": uri, "user": "ann"} for uri in outside), inside | {"user": "b"})
    places = allowed(f"s3://{BUCKET}/in", tmp_path)
    page = open_source("manifest", path, RULE, access, places).page(None, 100)
    assert [(ref.key, ref.user) for ref in page.refs] == [("in/ann/1.jpg", "ann"), ("in/ann/1.jpg", "b")]
    assert [(refusal.name, refusal.code) for refusal in page.refusals] == [
        (f"line {n}", Code.OUTSIDE) for n in range(2, 2 + len(outside))
    ]
    assert [uri in refusal.reason for uri, refusal in zip(outside, page.refusals, strict=True)] == [True] * len(outside)
    assert page.gone == ()  # nobody was asked whether they are there


def test_what_lies_outside_is_neither_fetched_nor_looked_at_nor_shown(access, guarded):
    places = allowed(f"s3://{BUCKET}/in")
    fetcher, objects, bucket = Fetcher(access, 1000, places), Objects(access, places), f"s3://{BUCKET}"
    assert fetcher.fetch(task_for(bucket, "in/ann/1.jpg", *guarded["in/ann/1.jpg"])) == b"in/ann/1.jpg"
    assert objects.read(bucket, "in/ann/1.jpg", *guarded["in/ann/1.jpg"]) == b"in/ann/1.jpg"
    for key in ("inn/ben/1.jpg", "top.jpg", "in/ann/../../top.jpg"):
        task = task_for(bucket, key, *guarded.get(key, guarded["top.jpg"]))
        for ask in (fetcher.fetch, fetcher.look, lambda task: objects.read(task.bucket, task.key, task.etag, 7)):
            with pytest.raises(PhotoUnreadable, match="PICTOGRAPH_SOURCES") as caught:
                ask(task)
            assert caught.value.code is Code.FORBIDDEN


def test_a_file_outside_is_not_read_whatever_the_ledger_says(access, tmp_path):
    inside, outside = tmp_path / "in/1.jpg", tmp_path / "inn/1.jpg"
    for path in (inside, outside):
        path.parent.mkdir()
        path.write_bytes(b"hello")
    fetcher = Fetcher(access, 1000, allowed(tmp_path / "in"))
    task = task_for(LOCAL, str(inside), local_version(str(inside)).etag, 5)
    assert fetcher.fetch(task) == b"hello"
    for path in (str(outside), f"{tmp_path}/in/../inn/1.jpg", "/etc/passwd"):
        with pytest.raises(PhotoUnreadable):
            fetcher.fetch(dataclasses.replace(task, key=path))
        with pytest.raises(PhotoUnreadable):
            fetcher.look(dataclasses.replace(task, key=path))


@pytest.mark.parametrize("kind", ["s3", "folder", "manifest"])
def test_a_job_whose_source_lies_outside_is_not_listed_whoever_wrote_its_row(
    ledger, ledger_settings, access, guarded, tmp_path, kind
):
    (tmp_path / "out/ann").mkdir(parents=True)
    (tmp_path / "out/ann/1.jpg").write_bytes(b"x")
    line = {"source-ref": f"s3://{BUCKET}/in/ann/1.jpg", "user": "ann"}
    sources = {"s3": f"s3://{BUCKET}/inn/", "folder": str(tmp_path / "out"), "manifest": manifest(tmp_path, line)}
    request = JobRequest(kind=kind, source=sources[kind], user_rule="{user}/{photo}")
    job_id = ledger.database.run(lambda c: jobs.submit(c, request, ledger.registered.model_id))
    settings = ledger_settings.model_copy(update={"sources": (f"s3://{BUCKET}/in", str(tmp_path / "in"))})
    list_range(settings, Heart(ledger.database, "lister", "ingest", 3), ledger.range_of(job_id), threading.Event())
    job = ledger.job(job_id)
    assert (job.state, job.total) == (JobState.FAILED, 0)
    assert "PICTOGRAPH_SOURCES" in job.error
    assert job.error.endswith(".")


def test_a_source_of_no_known_kind_is_not_opened(access):
    with pytest.raises(SourceError, match="no kind of source"):
        open_source("ftp", f"s3://{BUCKET}/in/", RULE, access)


def test_a_job_counts_what_its_manifest_names_outside(ledger, ledger_settings, guarded, tmp_path):
    keys = ("in/ann/1.jpg", "inn/ben/1.jpg", "top.jpg")
    path = manifest(tmp_path, *({"source-ref": f"s3://{BUCKET}/{key}", "user": "ann"} for key in keys))
    request = JobRequest(kind="manifest", source=path, user_rule="{user}/{photo}")
    job_id = ledger.database.run(lambda c: jobs.submit(c, request, ledger.registered.model_id))
    settings = ledger_settings.model_copy(update={"sources": (f"s3://{BUCKET}/in", str(tmp_path))})
    list_range(settings, Heart(ledger.database, "lister", "ingest", 3), ledger.range_of(job_id), threading.Event())
    job = ledger.job(job_id)
    assert (job.total, job.waiting, job.by_code(ItemState.EXCLUDED)) == (3, 1, {Code.OUTSIDE: 2})


def test_a_manifest_says_neither_whom_to_ask_nor_who_we_are(access, guarded, tmp_path):
    """Whatever else a line holds, our own endpoint answers, under our own name."""
    entry = {"source-ref": f"s3://{BUCKET}/in/ann/1.jpg", "user": "ann", "region": "mars", "bucket": "other"}
    entry |= {"endpoint": "http://127.0.0.1:9", "endpoint_url": "http://127.0.0.1:9", "access_key_id": "me"}
    page = Manifest(manifest(tmp_path, entry), RULE, access).page(None, 10)
    assert [(ref.bucket, ref.key, ref.size) for ref in page.refs] == [(f"s3://{BUCKET}", "in/ann/1.jpg", 12)]


def test_a_manifest_names_no_local_file(access, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"x")
    names = ["/etc/passwd", "../../etc/passwd", "1.jpg", "./1.jpg", f"file://{tmp_path}/1.jpg", "file:///etc/passwd"]
    names += ["s3://../etc/passwd", "s3:///etc/passwd"]
    path = manifest(tmp_path, *({"source-ref": name, "user": "ann"} for name in names))
    page = Manifest(path, RULE, access).page(None, 100)
    assert (page.refs, page.gone) == ((), ())
    assert [refusal.code for refusal in page.refusals] == [Code.BAD_LINE] * len(names)


# ---- local files


def beside(path):
    """A file of the same length and time, so that only the place of its bytes tells it from the other."""
    about = path.stat()
    secret = path.parent.parent.parent / "secret" / path.parent.name / path.name
    secret.parent.mkdir(parents=True)
    secret.write_bytes(b"SECRET"[: about.st_size])
    os.utime(secret, ns=(about.st_atime_ns, about.st_mtime_ns))
    return secret


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos/ann/1.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"public")
    return path


@pytest.mark.parametrize("swapped", ["the file", "its folder", "the root"])
def test_what_became_a_link_since_it_was_listed_is_not_followed(photo, swapped):
    (ref,) = Folder(str(photo.parents[1]), RULE).page(None, 10).refs
    secret = beside(photo)
    level = {"the file": 0, "its folder": 1, "the root": 2}[swapped]
    old, new = [photo, *photo.parents][level], [secret, *secret.parents][level]
    old.rename(f"{old}.aside")
    old.symlink_to(new)
    assert Path(ref.key).read_bytes() == b"SECRET"  # the trap works: same length, same time
    with pytest.raises(PhotoGone, match="link"):
        read_local(ref.key, ref.etag, ref.size)


def test_a_folder_that_becomes_a_link_while_it_is_listed_is_not_entered(photo, monkeypatch):
    """At the worst moment: it was seen to be a folder, and is opened next."""
    secret, opened = beside(photo), folders._open_folder
    swaps = []

    def swap_then_open(prefix):
        if prefix.endswith("/ann/") and not swaps:
            swaps.append(prefix)
            photo.parent.rename(photo.parent.with_name("aside"))
            photo.parent.symlink_to(secret.parent)
        return opened(prefix)

    monkeypatch.setattr(folders, "_open_folder", swap_then_open)
    with pytest.raises(SourceError, match="vanished"):
        Folder(str(photo.parents[1]), RULE).page(None, 10)
    assert swaps


def test_a_folder_that_is_not_where_its_path_says_is_refused(photo):
    root = photo.parents[1]
    (root.parent / "link").symlink_to(root)
    for path in (f"{root.parent}/link", f"{root}/../photos", f"{root.parent}/link/ann"):
        with pytest.raises(SourceError, match="leads to"):
            open_source("folder", path, RULE, None)


@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/proc/self/fd", "/sys/kernel", "/dev"])
def test_the_kernels_folders_hold_no_photos(path):
    with pytest.raises(SourceError, match="no photos"):
        Folder(os.path.realpath(path), RULE)


def put_pipe(path):
    os.mkfifo(path)


def put_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path must be short
        server.bind(path.name)


def put_link(path):
    path.symlink_to("/etc/passwd")


def put_link_to_device(path):
    path.symlink_to("/dev/zero")


def put_device(path):
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # as /dev/zero
    except PermissionError:
        pytest.skip("only root can make a device")


ODD_FILES = [put_pipe, put_socket, put_link, put_link_to_device, put_device]


@pytest.mark.parametrize("put", ODD_FILES)
def test_what_is_no_plain_file_is_neither_listed_nor_read_nor_waited_for(photo, put, monkeypatch):
    monkeypatch.chdir("/")
    (ref,) = Folder(str(photo.parents[1]), RULE).page(None, 10).refs
    photo.unlink()
    put(photo)
    page = in_time(lambda: Folder(str(photo.parents[1]), RULE).page(None, 10))
    assert (page.refs, [refusal.code for refusal in page.refusals]) == ((), [Code.NOT_A_PHOTO])
    with pytest.raises(PhotoGone):
        in_time(lambda: read_local(ref.key, ref.etag, ref.size))
    with pytest.raises(PhotoGone):
        in_time(lambda: local_version(ref.key))


@pytest.mark.parametrize("put", ODD_FILES)
def test_a_manifest_that_is_no_plain_file_is_refused_and_not_waited_for(access, tmp_path, put, monkeypatch):
    monkeypatch.chdir("/")
    put(tmp_path / "m.jsonl")
    source = Manifest(str(tmp_path / "m.jsonl"), RULE, access)
    for ask in (source.check, lambda: source.page(None, 10)):
        with pytest.raises(SourceError, match="no plain file"):
            in_time(ask)


def test_a_manifest_behind_a_link_is_refused(access, tmp_path):
    (tmp_path / "real").mkdir()
    path = manifest(tmp_path / "real", {"source-ref": "s3://photos/1.jpg", "user": "ann"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in (str(tmp_path / "link/some.jsonl"), str(tmp_path / "real/../real/some.jsonl")):
        with pytest.raises(SourceError, match="no plain file"):
            Manifest(name, RULE, access).check()
    Manifest(path, RULE, access).check()


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/mem", "/proc/kmsg"])
def test_what_the_kernel_shows_is_not_read_even_if_the_ledger_names_it(path):
    """They look like empty files; reading one of them would wait, or tell secrets."""
    try:
        version = local_version(os.path.realpath(path))
    except PhotoGone:
        pytest.skip(f"there is no {path} here")
    with suppress(PhotoUnreadable):  # it is closed to us altogether
        assert in_time(lambda: read_local(os.path.realpath(path), version.etag, version.size)) == b""


def test_the_size_that_counts_is_that_of_the_open_file(photo):
    """The ledger's may be anything: no more is read than what the limit says."""
    with photo.open("r+b") as file:
        file.truncate(1 << 40)  # it takes no disk
    version = local_version(str(photo))
    with pytest.raises(PhotoUnreadable) as caught:
        read_local(str(photo), version.etag, 1000)
    assert caught.value.code is Code.TOO_LARGE
