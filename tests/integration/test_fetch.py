"""Fetching: as whom we ask, and whose fault it is when the answer is no."""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.errors import PhotoGone, PhotoUnreadable, ServiceDown, SourceError
from pipeline.records import Code, PhotoTask
from pipeline.settings import Settings
from pipeline.sources.allowed import LOCAL
from pipeline.sources.folder import local_version
from pipeline.sources.s3 import S3Access, S3Prefix, create_bucket
from pipeline.sources.user_rule import UserRule
from workers.fetch import Fetcher

RULE = UserRule.parse("{user}/{photo}")
NOBODY = 65534


def task_for(bucket: str, key: str, etag: str, size: int, job_id: int = 1) -> PhotoTask:
    return PhotoTask(
        job_id=job_id,
        shard_id=1,
        photo_id=1,
        content_rev=1,
        bucket=bucket,
        key=key,
        etag=etag,
        size=size,
        version_id=None,
    )


# ---- as whom we ask


@pytest.fixture(scope="module")
def photo(access):
    """An object as it was listed."""
    create_bucket(access, "fetched")
    access.client().put_object(Bucket="fetched", Key="ann/1.jpg", Body=b"hello")
    (ref,) = S3Prefix("s3://fetched", RULE, access).page(None, 10).refs
    return task_for(ref.bucket, ref.key, ref.etag, ref.size)


@pytest.fixture
def no_keys(access, monkeypatch, tmp_path):
    """Access without keys of its own, on a machine where the AWS chain finds none either."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return dataclasses.replace(access, access_key_id=None, secret_access_key=None)


@pytest.mark.parametrize("place", ["environment", "file"])
def test_without_keys_of_its_own_it_reads_as_the_one_that_the_aws_chain_finds(
    no_keys, access, photo, place, monkeypatch, tmp_path
):
    keys = {"aws_access_key_id": access.access_key_id, "aws_secret_access_key": access.secret_access_key}
    if place == "environment":
        for name, value in keys.items():
            monkeypatch.setenv(name.upper(), value)
    else:
        lines = "".join(f"{name} = {value}\n" for name, value in keys.items())
        (tmp_path / "credentials").write_text(f"[default]\n{lines}")
    assert len(S3Prefix("s3://fetched", RULE, no_keys).page(None, 10).refs) == 1
    assert Fetcher(no_keys, 1000)._get(photo) == b"hello"


def test_keys_of_its_own_are_not_mixed_with_those_of_the_environment(access, photo, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "somebody-elses")
    assert Fetcher(access, 1000).fetch(photo) == b"hello"


def test_no_keys_anywhere_is_trouble_and_no_fault_of_the_photo(no_keys, photo):
    with pytest.raises(ServiceDown, match="no S3 credentials"):
        Fetcher(no_keys, 1000)._get(photo)


def test_half_a_pair_of_keys_is_refused(access):
    with pytest.raises(SourceError, match="Half"):
        dataclasses.replace(access, secret_access_key=None).client()


@pytest.mark.parametrize(("bucket", "virtual"), [("plain", "true"), ("with.dots", "false")])
def test_amazons_own_endpoints_need_no_address(bucket, virtual):
    settings = Settings(
        s3_endpoint_url="aws", s3_access_key_id="a", s3_secret_access_key=SecretStr("b"), s3_region="eu-west-1"
    )
    store = Fetcher(S3Access.of(settings), 1000)._store(f"s3://{bucket}")
    assert store.config["region"] == "eu-west-1"
    assert "endpoint" not in store.config
    assert store.config["virtual_hosted_style_request"] == virtual


# ---- closed objects, closed buckets


@contextmanager
def denied(access: S3Access, bucket: str, *statements: tuple[str, str]) -> Iterator[None]:
    """For a while nobody may do this (action, resource under the bucket)."""
    client = access.client()
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Deny", "Principal": "*", "Action": [action], "Resource": [f"arn:aws:s3:::{bucket}{resource}"]}
            for action, resource in statements
        ],
    }
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    try:
        yield
    finally:
        client.delete_bucket_policy(Bucket=bucket)


def test_a_closed_object_in_an_open_bucket_is_forbidden(access, photo):
    fetcher = Fetcher(access, 1000)
    with denied(access, "fetched", ("s3:GetObject", "/ann/*")):
        for ask in (fetcher.fetch, fetcher.look):
            with pytest.raises(PhotoUnreadable, match="may not") as caught:
                ask(photo)
            assert caught.value.code is Code.FORBIDDEN
    assert fetcher.fetch(photo) == b"hello"


def test_a_closed_bucket_is_trouble_and_no_fault_of_the_photo(access, photo):
    fetcher = Fetcher(access, 1000)
    with denied(access, "fetched", ("s3:GetObject", "/*"), ("s3:ListBucket", "")):
        for ask in (fetcher._get, fetcher.look):
            with pytest.raises(ServiceDown):
                ask(photo)


# ---- files


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may enter, as they may not enter pytest's own."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@contextmanager
def not_as_root() -> Iterator[None]:
    """Root reads every file; so be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def put(path: Path, job_id: int = 1) -> PhotoTask:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"hello")
    version = local_version(str(path))
    return task_for(LOCAL, str(path), version.etag, version.size, job_id)


@pytest.fixture
def files(access):
    return Fetcher(access, 1000)


def test_a_closed_file_in_an_open_folder_is_forbidden(files, folder):
    task = put(folder / "ann/1.jpg")
    (folder / "ann/1.jpg").chmod(0)
    with not_as_root(), pytest.raises(PhotoUnreadable, match="permission") as caught:
        files.fetch(task)
    assert caught.value.code is Code.FORBIDDEN


def test_a_closed_folder_is_trouble_and_no_fault_of_the_photo(files, folder):
    task = put(folder / "ann/1.jpg")
    (folder / "ann").chmod(0)
    for ask in (files.fetch, files.look):
        with not_as_root(), pytest.raises(ServiceDown):
            ask(task)


def test_a_folder_that_became_a_link_leads_nowhere(files, folder):
    task = put(folder / "root/ann/1.jpg")
    assert files.fetch(task) == b"hello"
    (folder / "root/ann").rename(folder / "elsewhere")
    (folder / "root/ann").symlink_to(folder / "elsewhere")  # the very same file, outside of what was listed
    with pytest.raises(PhotoGone, match="links are not followed"):
        files.fetch(task)


@pytest.mark.parametrize("left", ["nothing", "mount point", "user's folder"])
def test_a_root_that_vanished_takes_no_photo_with_it(files, folder, left):
    """An unplugged or unmounted disk: also after some of its photos were read."""
    tasks = [put(folder / f"root/ann/{n}.jpg") for n in range(3)]
    assert files.fetch(tasks[0]) == b"hello"
    shutil.rmtree(folder / "root")
    (folder / {"nothing": ".", "mount point": "root", "user's folder": "root/ann"}[left]).mkdir(
        parents=True, exist_ok=True
    )
    for task in tasks:
        for ask in (files.fetch, files.look):
            with pytest.raises(ServiceDown, match="mounted"):
                ask(task)


def test_a_deleted_file_is_gone_while_something_is_beside_it(files, folder):
    task, _ = put(folder / "ann/1.jpg"), put(folder / "ann/2.jpg")
    os.unlink(task.key)
    for ask in (files.fetch, files.look):
        with pytest.raises(PhotoGone):
            ask(task)


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_users_last_photo_is_gone_once_another_of_the_job_was_read(files, folder, with_folder):
    last, other, stranger = put(folder / "ann/1.jpg"), put(folder / "bob/1.jpg"), put(folder / "cleo/1.jpg", job_id=2)
    os.unlink(last.key)
    if with_folder:
        os.rmdir(folder / "ann")
    files.fetch(stranger)  # of another job, and so perhaps of another disk
    with pytest.raises(ServiceDown):
        files.fetch(last)
    files.fetch(other)
    with pytest.raises(PhotoGone):
        files.fetch(last)
