"""Wrong use and broken surroundings: one sentence that says what is wrong, never a traceback, nothing on stdout.

What ends at once is run in this process, which takes a fraction of the time.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pictograph import checkup
from pictograph.checkup import Finding
from pictograph.cli import main, work
from pipeline.settings import PREFIX, Settings
from tests.acceptance.conftest import Site

NOWHERE = "127.0.0.1:9"  # the discard port: nobody listens there


Refused = Callable[..., str]


@pytest.fixture
def refused(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Refused]:
    """What a command that fails says on standard error, after the word Error."""

    def attempt(*arguments: object, status: int = 2, **settings: object) -> str:
        named = {PREFIX + name.upper(): str(value) for name, value in settings.items()}
        for name, value in {**site.env, **named}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["pictograph", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed, said = capsys.readouterr()
        assert ended.value.code == status, said
        assert printed == ""
        last = said.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert last.endswith((".", "?"))
        return last

    before = signal.getsignal(signal.SIGTERM)
    yield attempt
    signal.signal(signal.SIGTERM, before)


def test_an_unknown_bucket(refused):
    assert "no bucket no-such-bucket" in refused("tag", "s3://no-such-bucket/x")


def test_a_prefix_that_holds_nothing(site, refused):
    site.new_bucket("hollow")
    assert "nothing under s3://hollow/x/" in refused("tag", "s3://hollow/x")


@pytest.mark.parametrize(
    "source", ["s3://hollow/anna", "s3://hollow", "s3://other/ann/x", "/etc", "s3://hollow/ann/.."]
)
def test_a_place_that_is_not_allowed(refused, source):
    said = refused("tag", source, sources="s3://hollow/ann,/srv/photos")
    assert "PICTOGRAPH_SOURCES" in said
    assert source in said


@pytest.mark.parametrize(
    "source",
    ["s3://me@host/x", "s3://key:secret@photos/x", "s3://10.0.0.7/x", "s3://photos:9000/x", "s3://Photos/x"],
)
def test_an_address_that_says_whom_to_ask_or_who_we_are(refused, source):
    assert "no bucket's name" in refused("tag", source)
    assert "http://photos/x" in refused("tag", "http://photos/x")


def test_a_list_of_places_that_is_none(refused):
    assert "PICTOGRAPH_SOURCES cannot be used" in refused("tag", ".", sources="photos")


def test_wrong_credentials(refused):
    assert "credentials" in refused("tag", "s3://hollow/x", s3_access_key_id="nobody")
    assert "credentials" in refused("tag", "s3://hollow/x", s3_secret_access_key="wrong")


@pytest.mark.parametrize(
    ("action", "resource"), [("s3:ListBucket", "arn:aws:s3:::guarded"), ("s3:GetObject", "arn:aws:s3:::guarded/*")]
)
def test_a_bucket_that_we_may_not_list_or_read(site, refused, action, resource):
    client = site.access.client()
    client.create_bucket(Bucket="guarded")
    client.put_object(Bucket="guarded", Key="ann/1.jpg", Body=b"x")
    denied = {"Effect": "Deny", "Principal": "*", "Action": [action], "Resource": [resource]}
    policy = {"Version": "2012-10-17", "Statement": [denied]}
    client.put_bucket_policy(Bucket="guarded", Policy=json.dumps(policy))
    assert "may not list or read" in refused("tag", "s3://guarded/")
    client.delete_bucket_policy(Bucket="guarded")
    client.delete_object(Bucket="guarded", Key="ann/1.jpg")
    client.delete_bucket(Bucket="guarded")


def test_s3_that_does_not_answer(refused):
    said = refused("tag", "s3://hollow/x", status=1, s3_endpoint_url=f"http://{NOWHERE}")
    assert NOWHERE in said
    assert "does not answer" in said


def test_a_database_that_does_not_answer(refused):
    said = refused("jobs", "list", status=1, database_url=f"postgresql://me@{NOWHERE}/x")
    assert NOWHERE in said
    assert "Connection refused" in said


def test_a_database_that_does_not_know_us(site, refused):
    url = site.env["PICTOGRAPH_DATABASE_URL"]
    assert "PICTOGRAPH_DATABASE_URL" in refused("jobs", "list", database_url=url + "x")
    wrong = url.replace(url.split(":")[2].split("@")[0], "wrong")
    assert "PICTOGRAPH_DATABASE_URL" in refused("jobs", "list", database_url=wrong)


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        (["jobs", "list"], {"database_url": "nonsense"}, "PICTOGRAPH_DATABASE_URL"),
        (["redriver"], {"broker_url": "nonsense"}, "PICTOGRAPH_BROKER_URL"),
        (["redriver"], {"broker_url": "redis://h:notaport"}, "PICTOGRAPH_BROKER_URL"),
        (["worker", "ingest"], {"broker_url": "nonsense"}, "PICTOGRAPH_BROKER_URL"),
        (["tag", "s3://hollow/x"], {"s3_endpoint_url": "nonsense"}, "PICTOGRAPH_S3_ENDPOINT_URL"),
        (["tag", "."], {"batch_photos": "many"}, "PICTOGRAPH_BATCH_PHOTOS"),
        (["worker", "annotate"], {"model": "resnet-0"}, "resnet-0"),
        (["worker", "annotate", "--model", "resnet-0"], {}, "resnet-0"),
        (["api"], {"api_host": "192.0.2.1"}, "192.0.2.1"),
    ],
)
def test_settings_that_cannot_be_used(refused, arguments, settings, named):
    assert named in refused(*arguments, **settings)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["tag", "s3://"], "s3://bucket/prefix"),
        (["tag", "ftp://x/y"], "ftp://x/y"),
        (["tag", "no such folder"], "no such folder"),
        (["tag", __file__], ".jsonl"),
        (["tag", ".", "--user-from", "{photo}"], "{user}"),
        (["tag", ".", "--user-from", "{user}/{user}/{photo}"], "once each"),
        (["tag", ".", "--user-from", "{user}/{picture}/{photo}"], "no other placeholder"),
        (["tag", ".", "--user", ""], "--user"),
        (["tag", ".", "--user", "a\nb"], "--user"),
        (["jobs", "show", "999999"], "pictograph jobs list"),
        (["jobs", "show", "9" * 30], "pictograph jobs list"),
        (["profile", "nobody of that name"], "nobody of that name"),
        (["taxonomy", "show", "xyzzy"], "xyzzy"),
        (["taxonomy", "show", "n00000000"], "n00000000"),
        (["taxonomy", "build", "--wordnet", "/no/wordnet"], "/no/wordnet"),
        (["demo", "--photos", "/no/photos"], "/no/photos"),
    ],
)
def test_arguments_that_mean_nothing(refused, arguments, named):
    assert named in refused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [["tga"], ["tag"], ["tag", ".", "--priority", "high"], ["profile", "x", "--format", "pdf"], ["worker", "x"]],
)
def test_words_that_are_no_command_or_option(site, arguments):
    done = site.run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: pictograph" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_manifest_and_an_empty_folder(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "photos.jsonl").write_text("\n\n")
    assert "empty" in refused("tag", tmp_path / "photos.jsonl")
    assert "empty" in refused("tag", tmp_path / "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read(refused, tmp_path):
    (tmp_path / "ann").mkdir(mode=0)
    assert "permission" in refused("tag", tmp_path)


def test_a_port_that_is_taken(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused("api", api_port=taken.getsockname()[1])
    assert "PICTOGRAPH_API_PORT" in said


def test_doctor_names_each_broken_part_and_checks_the_others(site):
    done = site.run("doctor", "--json", broker_url=f"redis://{NOWHERE}/0", s3_endpoint_url=f"http://{NOWHERE}")
    findings = {finding["what"]: finding for finding in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert {what for what, finding in findings.items() if not finding["ok"]} == {"broker", "s3"}
    assert findings.keys() == {"versions", "postgres", "totals", "policy", "broker", "s3", "model"}
    assert "PICTOGRAPH_BROKER_URL" in findings["broker"]["detail"]


@pytest.fixture
def one_check(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finding]:
    """What one check of the doctor's finds at the site."""

    def check(name: str, **settings: object) -> Finding:
        for variable, value in site.env.items():
            monkeypatch.setenv(variable, value)
        checks = tuple(check for check in checkup.every_check() if check[0] == name)
        (finding,) = checkup.examine(Settings(**settings), checks)
        return finding

    return check


def test_doctor_looks_at_the_configured_bucket_and_no_other(site, one_check):
    site.new_bucket("looked-at")
    assert one_check("s3", s3_bucket="looked-at").detail.endswith("bucket looked-at")
    missing = one_check("s3", s3_bucket="no-such-bucket")
    assert not missing.ok
    assert "no-such-bucket" in missing.detail
    assert "PICTOGRAPH_S3_BUCKET" in missing.detail


def test_doctor_misses_no_bucket_in_an_embedded_s3(site, one_check, monkeypatch):
    monkeypatch.setitem(site.env, "PICTOGRAPH_S3_ENDPOINT_URL", "")  # as if it were ours: an empty variable is none
    found = one_check("s3", s3_bucket="no-such-bucket", s3_endpoint_url=site.access.endpoint_url)
    assert found.ok
    assert found.detail.endswith("no bucket yet")


def test_doctor_recounts_many_photos_only_when_it_is_asked(one_check, monkeypatch):
    assert "equal to a recount" in one_check("totals").detail
    monkeypatch.setattr(checkup, "RECOUNTED_PHOTOS", -1)  # any number is many
    shallow = one_check("totals")
    assert shallow.ok
    assert "--deep" in shallow.detail


def test_a_healthy_site(site):
    site.new_bucket("healthy")
    done = site.run("doctor", s3_bucket="healthy")
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout
    assert "canaries as measured" in done.stdout


def test_answers_that_go_into_a_pipe_have_no_colours_and_one_line_per_row(site, tmp_path, photos):
    deep = tmp_path / ("a long name " * 12)
    (deep / "ann").mkdir(parents=True)
    (deep / "ann" / "photo").write_bytes(Path(photos[0]).read_bytes())
    site.tag(deep)
    listed = site.run("jobs", "list", "--limit", "1").stdout
    assert len(listed.splitlines()) == 2  # its head, and one job
    assert str(deep) in listed
    assert "\x1b" not in listed


@pytest.fixture(scope="module")
def pia(site: Site, tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> str:
    """A user with one photo."""
    folder = tmp_path_factory.mktemp("pia")
    (folder / "photo").write_bytes(photos[0].read_bytes())
    site.tag(folder, "--user", "pia [1]")
    return "pia [1]"


@pytest.mark.parametrize(
    ("form", "begins"),
    [("table", "category"), ("json", '{"user": "pia [1]"'), ("svg", "<svg"), ("csv", "kind,wnid,name")],
)
def test_a_profile_in_every_form(site, pia, form, begins):
    assert site.run("profile", pia, "--format", form).stdout.startswith(begins)


def test_a_demonstration_on_an_s3_of_ones_own_leaves_alone_what_is_there(site, refused):
    client = site.access.client()
    client.create_bucket(Bucket="my-own")
    client.put_object(Bucket="my-own", Key="demo/family/1.jpg", Body=b"x")
    assert "demo/family/1.jpg" in refused("demo", "--once", s3_bucket="my-own")
    listed = client.list_objects_v2(Bucket="my-own")["Contents"]
    assert [item["Key"] for item in listed] == ["demo/family/1.jpg"]


def test_a_misspelt_setting_is_named_once(site):
    done = site.run("jobs", "list", bacth_photos=3)
    assert done.returncode == 0
    assert done.stderr.count("PICTOGRAPH_BACTH_PHOTOS") == 1
    assert "PICTOGRAPH_BATCH_PHOTOS?" in done.stderr


def test_a_taxonomy_without_nltk(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    assert "pictograph[wordnet]" in refused("taxonomy", "build")


def test_a_worker_without_torch(refused, monkeypatch):
    monkeypatch.setattr(work, "find_spec", lambda _name: None)
    assert "pictograph[worker]" in refused("worker", "annotate")
