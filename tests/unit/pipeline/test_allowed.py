"""Which places may be read, decided by names alone; and addresses that could smuggle something in."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.address import parse_uri
from pipeline.errors import ConfigurationError, PhotoUnreadable, SourceError
from pipeline.ledger.requests import JobRequest
from pipeline.records import Code
from pipeline.settings import Settings
from pipeline.sources.allowed import ANYWHERE, LOCAL, Allowed
from pipeline.store import tables

PHOTOS = "s3://photos"


def allowed(*sources):
    return Allowed.of(Settings(sources=sources))


@pytest.mark.parametrize(
    ("place", "bucket", "key", "held"),
    [
        ("s3://photos/ann", PHOTOS, "ann/1.jpg", True),
        ("s3://photos/ann/", PHOTOS, "ann/1.jpg", True),
        ("s3://photos/ann", PHOTOS, "ann//1.jpg", True),
        ("s3://photos/ann", PHOTOS, "ann/...jpg", True),  # dots that lead nowhere
        ("s3://photos/ann", PHOTOS, "anna/1.jpg", False),
        ("s3://photos/ann", PHOTOS, "ann", False),
        ("s3://photos/ann", PHOTOS, "ANN/1.jpg", False),
        ("s3://photos/ann", PHOTOS, "/ann/1.jpg", False),
        ("s3://photos/ann", PHOTOS, "ann/../ben/1.jpg", False),
        ("s3://photos/ann", PHOTOS, "ann/./1.jpg", False),
        ("s3://photos/ann", PHOTOS, "ann/..", False),
        ("s3://photos", PHOTOS, "../other/1.jpg", False),
        ("s3://photos", PHOTOS, "anything", True),
        ("s3://photos", "s3://photos2", "anything", False),
        ("s3://photos/ann", LOCAL, "/ann/1.jpg", False),
        ("/photos/ann", LOCAL, "/photos/ann/1.jpg", True),
        ("/photos/ann/", LOCAL, "/photos/ann/1.jpg", True),
        ("/photos/ann", LOCAL, "/photos/anna/1.jpg", False),
        ("/photos/ann", LOCAL, "/photos/ann", False),
        ("/photos/ann", LOCAL, "/photos/ann/../../etc/passwd", False),
        ("/", LOCAL, "/photos/1.jpg", True),
        ("/", PHOTOS, "1.jpg", False),
    ],
)
def test_a_place_holds_what_lies_below_it_as_a_folder(place, bucket, key, held):
    assert allowed(place).holds(bucket, key) is held
    assert allowed("s3://elsewhere/x", place).holds(bucket, key) is held
    assert ANYWHERE.holds(bucket, key)


@given(st.lists(st.sampled_from(["ann", "anna", "..", ".", "", "1.jpg"]), min_size=1, max_size=6).map("/".join))
def test_whatever_is_held_stays_below_its_place_however_a_server_reads_the_key(key):
    """A server that resolves dots must arrive at the same folder."""
    if allowed("s3://photos/ann").holds(PHOTOS, key):
        here = []
        for part in key.split("/"):
            here = here[:-1] if part == ".." else [*here, part] if part not in ("", ".") else here
        assert here[:1] == ["ann"]


@pytest.mark.parametrize(
    ("kind", "source", "held"),
    [
        ("s3", "s3://photos/ann", True),
        ("s3", "s3://photos/ann/", True),
        ("s3", "s3://photos/ann/2026", True),
        ("s3", "s3://photos/anna", False),
        ("s3", "s3://photos/", False),
        ("s3", "s3://other/ann", False),
        ("s3", "s3://photos/ann/../ben", False),
        ("folder", "/photos", True),
        ("folder", "/photos/2026", True),
        ("folder", "/photos2", False),
        ("folder", "/", False),
        ("folder", "/photos/../etc", False),
        ("manifest", "/photos/some.jsonl", True),
        ("manifest", "/etc/some.jsonl", False),
    ],
)
def test_a_source_must_lie_in_a_place_as_a_whole(kind, source, held):
    places = allowed("s3://photos/ann", "/photos")
    ANYWHERE.check_source(kind, source)
    if held:
        places.check_source(kind, source)
        return
    with pytest.raises(SourceError, match="PICTOGRAPH_SOURCES") as caught:
        places.check_source(kind, source)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_photo_outside_is_refused_with_a_reason():
    with pytest.raises(PhotoUnreadable, match="PICTOGRAPH_SOURCES") as caught:
        allowed("s3://photos/ann").check_photo(PHOTOS, "ben/1.jpg")
    assert caught.value.code is Code.FORBIDDEN


def test_a_place_that_is_a_link_stands_for_what_it_leads_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    places = allowed(str(tmp_path / "link"))
    assert places.holds(LOCAL, str(tmp_path / "real/1.jpg"))
    assert not places.holds(LOCAL, str(tmp_path / "link/1.jpg"))  # photos have paths without links


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("s3://photos/ann", ("s3://photos/ann",)),
        (" s3://photos/ann ,\n /data/my photos,,\n", ("s3://photos/ann", "/data/my photos")),
    ],
)
def test_the_variable_lists_places_and_children_read_the_same(monkeypatch, text, places):
    monkeypatch.setenv("PICTOGRAPH_SOURCES", text)
    settings = Settings.read()
    assert settings.sources == places
    monkeypatch.setenv("PICTOGRAPH_SOURCES", settings.environment()["PICTOGRAPH_SOURCES"])
    assert Settings.read().sources == places


def test_without_the_variable_every_place_may_be_named(monkeypatch):
    monkeypatch.delenv("PICTOGRAPH_SOURCES", raising=False)
    assert Allowed.of(Settings.read()) == ANYWHERE
    assert "PICTOGRAPH_SOURCES" not in Settings.read().environment()


@pytest.mark.parametrize(
    "text", [",", "photos", "./photos", "~/photos", "/photos/../etc", "gs://b/p", "s3://", "http://x/y"]
)
def test_a_list_that_guards_nothing_or_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("PICTOGRAPH_SOURCES", text)
    with pytest.raises(ConfigurationError, match=r"^PICTOGRAPH_SOURCES cannot be used: .*[^.][.]$"):
        Settings.read()


@pytest.mark.parametrize(
    "uri",
    [
        "s3://user@host/photos",
        "s3://key:secret@photos/x",
        "s3://photos:9000/x",
        "s3://10.0.0.7/x",
        "s3://169.254.169.254/latest/meta-data",
        "s3://[::1]/x",
        "s3://Photos/x",
        "s3://photos?endpoint=evil/x",
        "s3://photos#x/y",
        "s3://pho%2Ftos/x",
        "s3://pho..tos/x",
        "s3://-photos/x",
        "s3://photos-/x",
        "s3://ab/x",
        "s3://" + "a" * 64 + "/x",
        "s3://pho\ntos/x",
        "s3://phötos/x",
        "s3://photos\\x",
        "S3://photos/x",
        "http://photos/x",
        "https://s3.amazonaws.com/photos/x",
        "file:///etc/passwd",
        "//photos/x",
        "s3:/photos/x",
        "s3:///x",
    ],
)
def test_an_address_can_name_a_bucket_and_a_prefix_and_nothing_else(uri):
    with pytest.raises(SourceError) as caught:
        parse_uri(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://photos", "s3://my.photos-2026/a b/ü@x:y?z#", "s3://" + "a" * 63 + "/x"])
def test_buckets_names_and_any_prefix_are_taken_literally(uri):
    bucket, prefix = parse_uri(uri)
    assert f"s3://{bucket}/{prefix}".rstrip("/") == uri


def test_a_job_has_no_room_for_a_server_or_for_credentials():
    names = {field.name for field in fields(JobRequest)} | {column.name for column in tables.jobs.job.columns}
    words = ("endpoint", "host", "url", "region", "key", "secret", "credential", "token", "profile")
    assert [name for name in names if any(word in name for word in words)] == ["idempotency_key"]
