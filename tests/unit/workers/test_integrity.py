"""Bytes against the ETag that they were listed with."""

import hashlib

import pytest

from pipeline.errors import ServiceDown
from pipeline.records import PhotoTask
from workers.integrity import Integrity

BODY = b"the photo"


def task(etag, bucket="s3://photos"):
    return PhotoTask(
        job_id=1, shard_id=1, photo_id=1, content_rev=1, bucket=bucket, key="k", etag=etag, size=9, version_id=None
    )


MD5 = hashlib.md5(BODY).hexdigest()


def test_the_right_bytes_pass():
    Integrity("http://store").checked(task(MD5), BODY, set())


def test_damaged_bytes_are_asked_for_again_until_they_are_right():
    integrity, doubted = Integrity("http://store"), set()
    for damaged in (b"the pHoto", b"the phoTo", b"The photo"):
        with pytest.raises(ServiceDown):
            integrity.checked(task(MD5), damaged, doubted)
    integrity.checked(task(MD5), BODY, doubted)


def test_the_same_bytes_twice_are_what_the_store_has():
    integrity, doubted = Integrity("http://store"), set()
    with pytest.raises(ServiceDown):
        integrity.checked(task("0" * 32), BODY, doubted)
    integrity.checked(task("0" * 32), BODY, doubted)
    integrity.checked(task("1" * 32), BODY, set())  # nor is the next photo of that bucket doubted
    with pytest.raises(ServiceDown):
        integrity.checked(task("1" * 32, bucket="s3://another"), BODY, set())


@pytest.mark.parametrize("etag", [f"{MD5}-2", "an opaque word", ""])
def test_an_etag_that_cannot_be_a_sum_says_nothing(etag):
    Integrity("http://store").checked(task(etag), b"anything", set())


@pytest.mark.parametrize("endpoint", [None, "https://store"])
def test_tls_needs_no_help(endpoint):
    Integrity(endpoint).checked(task(MD5), b"anything", set())
