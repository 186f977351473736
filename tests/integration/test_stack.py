"""The embedded stack with its real servers: who may leave, who may be killed, and what must be there afterwards."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import boto3
import psutil
import psycopg2
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import ClientError
from sqlalchemy import make_url

from pictograph import stack
from pictograph.places import servers, uploading
from pictograph.stack import Service, certificate
from pictograph.stack.home import Credentials, Home
from pictograph.stack.ports import Ports
from pictograph.stack.processes import NOBODY, account, left_over
from pictograph.stack.servers import MAY_MAKE_ROLES, Place, Postgres, SeaweedFS
from pictograph.stack.wheels import valkey_binary
from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
SERVERS = frozenset({"postgres", "valkey-server", "weed"})
DATABASE = frozenset({Service.POSTGRES})
PATIENCE_SECONDS = 60.0  # for what takes a moment, on a machine that may be slow and busy
ANSWER_SECONDS = 20  # for one answer of a server, there
REFUSALS = (ssl.SSLError, ConnectionError)  # of who shows no certificate

USER = """
import dataclasses, json, sys, time
from pathlib import Path
from pictograph import stack
with stack.open(Path(sys.argv[1]), need=sys.argv[2:]) as endpoints:
    print(json.dumps(dataclasses.asdict(endpoints)), flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A home, with a space in its name, whose servers run for the whole module."""
    home = tmp_path_factory.mktemp("a home")
    with closing(stack.open(home)) as hold:
        yield home, hold.endpoints
    assert stack.wait_until_stopped(home)


@pytest.fixture
def home(tmp_path):
    """A home of the test's own; nothing of it may be alive afterwards."""
    folder = tmp_path / "home"
    yield folder
    for keeper in keepers_of(folder):
        keeper.terminate()  # it need not wait for its grace
    assert stack.wait_until_stopped(folder)
    assert alive(folder) == []


class User:
    """Another process that uses the stack."""

    def __init__(self, home, need=DATABASE, prefix=()):
        command = [*prefix, sys.executable, "-c", USER, str(home), *need]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        self.endpoints = None

    def wait_ready(self):
        line = self.process.stdout.readline()
        assert line, "the user ended early"
        self.endpoints = stack.Endpoints(**json.loads(line))
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def user():
    """A factory of users that are killed at the end, if they have not been."""
    users = []

    def start(*arguments, **options):
        users.append(User(*arguments, **options))
        return users[-1]

    yield start
    for one in users:
        one.kill()


def alive(home):
    return [process.pid for process in left_over(Home(home).mark, SERVERS)]


def keepers_of(home):
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"pictograph.stack.keeper", str(home)} <= set(process.info["cmdline"] or ())
    ]


def keeper_of(home):
    (keeper,) = keepers_of(home)
    return keeper


def kill_servers(home):
    for pid in alive(home):
        with contextlib.suppress(ProcessLookupError):  # one that has just ended by itself
            os.kill(pid, signal.SIGKILL)


def eventually(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def query(endpoints, sql, commit=False):
    with (
        closing(psycopg2.connect(endpoints.database_url, connect_timeout=ANSWER_SECONDS)) as connection,
        connection.cursor() as at,
    ):
        at.execute(sql)
        if commit:
            connection.commit()
            return None
        return at.fetchone()


def connects(endpoints):
    try:
        return query(endpoints, "SELECT 1") == (1,)
    except psycopg2.OperationalError:
        return False


def s3(endpoints, secret=None):
    return boto3.client(
        "s3",
        endpoint_url=endpoints.s3_endpoint_url,
        aws_access_key_id=endpoints.s3_access_key_id,
        aws_secret_access_key=secret or endpoints.s3_secret_access_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}),
    )


def broker(endpoints):
    return redis.Redis.from_url(endpoints.broker_url)


def write(endpoints):
    query(endpoints, "CREATE SCHEMA core; CREATE TABLE core.t AS SELECT 7 AS seven", commit=True)
    s3(endpoints).create_bucket(Bucket="photos")
    s3(endpoints).put_object(Bucket="photos", Key="a b+ü.jpg", Body=b"bytes")


def read(endpoints):
    photo = s3(endpoints).get_object(Bucket="photos", Key="a b+ü.jpg")
    return query(endpoints, "SELECT seven FROM core.t"), photo["Body"].read()


WRITTEN = ((7,), b"bytes")


def test_only_the_loopback_address_is_listened_on(shared):
    home, _ = shared
    family = keeper_of(home).children(recursive=True)
    listening = {
        connection.laddr
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    }
    assert {address.ip for address in listening} == {"127.0.0.1"}
    first = Home(home).first_port()
    assert {address.port for address in listening} == set(range(first, first + 10))


def test_a_wrong_secret_is_refused_everywhere(shared):
    _, endpoints = shared
    assert broker(endpoints).ping()
    with pytest.raises(redis.AuthenticationError):
        broker(replace(endpoints, broker_url=endpoints.broker_url.replace("@", "wrong@"))).ping()
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3(endpoints, "wrong").list_buckets()
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(endpoints.database_url, password="wrong", connect_timeout=ANSWER_SECONDS)


def test_workers_may_list_and_read_photos_and_nothing_else(shared):
    _, endpoints = shared
    writer = s3(endpoints)
    writer.create_bucket(Bucket="read-only")
    writer.put_object(Bucket="read-only", Key="ann/1.jpg", Body=b"bytes")
    about = {"Bucket": "read-only", "Key": "ann/1.jpg"}
    key, secret = endpoints.s3_reader_access_key_id, endpoints.s3_reader_secret_access_key
    reader = s3(replace(endpoints, s3_access_key_id=key, s3_secret_access_key=secret))
    assert reader.get_object(**about)["Body"].read() == b"bytes"
    assert reader.head_object(**about)["ContentLength"] == 5
    assert [item["Key"] for item in reader.list_objects_v2(Bucket="read-only")["Contents"]] == ["ann/1.jpg"]
    reader.head_bucket(Bucket="read-only")
    for attempt in (
        lambda: reader.put_object(**about, Body=b"other"),
        lambda: reader.put_object(Bucket="read-only", Key="new.jpg", Body=b"other"),
        lambda: reader.copy_object(Bucket="read-only", Key="copy.jpg", CopySource=about),
        lambda: reader.create_multipart_upload(Bucket="read-only", Key="new.jpg"),
        lambda: reader.delete_object(**about),
        lambda: reader.put_object_tagging(**about, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}),
        lambda: reader.put_bucket_policy(Bucket="read-only", Policy="{}"),
        lambda: reader.create_bucket(Bucket="more"),
        lambda: reader.delete_bucket(Bucket="read-only"),
    ):
        with pytest.raises(ClientError, match=r"AccessDenied|\(403\)"):
            attempt()
    answer = reader.delete_objects(Bucket="read-only", Delete={"Objects": [{"Key": "ann/1.jpg"}]})
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]  # it answers for each object apart
    assert writer.get_object(**about)["Body"].read() == b"bytes"
    writer.delete_bucket(Bucket="read-only")


def test_who_writes_results_sees_the_bucket_of_results_and_no_other(shared):
    _, endpoints = shared
    admin = s3(endpoints)
    for bucket in ("results", "not-results"):
        admin.create_bucket(Bucket=bucket)
        admin.put_object(Bucket=bucket, Key="there", Body=b"before")
    key, secret = endpoints.s3_results_access_key_id, endpoints.s3_results_secret_access_key
    writer = s3(replace(endpoints, s3_access_key_id=key, s3_secret_access_key=secret))
    writer.put_object(Bucket="results", Key="night/results.jsonl", Body=b"{}")
    begun = writer.create_multipart_upload(Bucket="results", Key="night/large.jsonl")["UploadId"]
    assert writer.list_multipart_uploads(Bucket="results", Prefix="night/")["Uploads"]
    writer.abort_multipart_upload(Bucket="results", Key="night/large.jsonl", UploadId=begun)
    about = {"Bucket": "not-results", "Key": "there"}
    for attempt in (
        lambda: writer.put_object(**about, Body=b"after"),
        lambda: writer.get_object(**about),
        lambda: writer.list_objects_v2(Bucket="not-results"),
        lambda: writer.delete_object(**about),
        lambda: writer.copy_object(Bucket="results", Key="copy", CopySource=about),
        lambda: writer.create_bucket(Bucket="more"),
        lambda: writer.delete_bucket(Bucket="results"),
    ):
        with pytest.raises(ClientError, match=r"AccessDenied|\(403\)"):
            attempt()
    assert admin.get_object(**about)["Body"].read() == b"before"
    for bucket in ("results", "not-results"):
        admin.delete_bucket(Bucket=bucket)


def test_settings_over_the_embedded_servers_read_and_upload_only_where_it_is_asked_for(shared, monkeypatch):
    home, endpoints = shared
    for name in ("DATABASE_URL", "BROKER_URL", "S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"PICTOGRAPH_{name}", raising=False)
    with servers(Settings(home=home)) as settings:
        assert settings.s3_access_key_id == endpoints.s3_reader_access_key_id
        assert settings.output_access_key_id == endpoints.s3_results_access_key_id
        assert settings.broker_url.get_secret_value() == endpoints.broker_url
        assert endpoints.s3_access_key_id not in settings.environment().values()  # what workers are told
        assert uploading(settings).s3_access_key_id == endpoints.s3_access_key_id


def test_inner_ports_serve_nobody_without_a_token(shared):
    home, endpoints = shared
    s3(endpoints).create_bucket(Bucket="private")
    s3(endpoints).put_object(Bucket="private", Key="photo", Body=b"bytes")
    filer = Home(home).first_port() + 8
    with socket.create_connection(("127.0.0.1", filer), ANSWER_SECONDS) as connection:
        connection.sendall(b"GET /buckets/private/photo HTTP/1.0\r\n\r\n")
        assert b" 401 " in connection.recv(1000).splitlines()[0]


@pytest.mark.skipif(shutil.which("openssl", path=os.defpath) is None, reason="without openssl these ports are open")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_master_obeys_nobody_without_our_certificate(shared, scheme):
    home, endpoints = shared
    s3(endpoints).create_bucket(Bucket=f"kept-{scheme}")
    s3(endpoints).put_object(Bucket=f"kept-{scheme}", Key="photo", Body=b"bytes")
    master = Home(home).first_port() + 4
    url = f"{scheme}://127.0.0.1:{master}/col/delete?collection=kept-{scheme}"
    with pytest.raises((*REFUSALS, urllib.error.HTTPError)):
        urllib.request.urlopen(url, timeout=ANSWER_SECONDS, context=ssl._create_unverified_context()).close()
    assert s3(endpoints).get_object(Bucket=f"kept-{scheme}", Key="photo")["Body"].read() == b"bytes"


@pytest.mark.skipif(shutil.which("openssl", path=os.defpath) is None, reason="without openssl these ports are open")
@pytest.mark.parametrize("offset", [3, 5, 7, 9])  # gRPC of S3, master, volume server and filer
def test_no_inner_port_speaks_with_a_stranger(shared, offset):
    home, _ = shared
    port = Home(home).first_port() + offset
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        assert plain.recv(100)[3:4] != b"\4"  # an HTTP/2 server would send its settings
    stranger = ssl._create_unverified_context()
    stranger.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
    with pytest.raises(REFUSALS), stranger.wrap_socket(plain) as secured:
        secured.recv(100)  # TLS 1.3 says only now that it wants to see a certificate


def test_without_openssl_no_certificate_is_asked_for(home, monkeypatch):
    monkeypatch.setattr(certificate, "fresh", lambda: None)
    place = Place(home=Home(home), ports=Ports.block(20_000), credentials=Credentials.fresh(), account=account())
    place.home.create()
    SeaweedFS(place).prepare()
    assert "grpc" not in (home / "s3" / "security.toml").read_text()


def test_no_file_with_a_secret_can_be_read_by_others(shared):
    home, endpoints = shared
    assert stat.S_IMODE((home / "credentials.json").stat().st_mode) == 0o600
    secrets = [endpoints.s3_secret_access_key, *(url.split(":")[2].split("@")[0] for url in (endpoints.broker_url,))]
    for process in (keeper_of(home), *keeper_of(home).children(recursive=True)):
        assert not any(secret in word for word in process.cmdline() for secret in secrets)
    for path in home.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".toml", ".conf", ".pem"} and path.parent.name != "postgres":
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_the_database_owner_owns_no_more_than_the_database(shared):
    _, endpoints = shared
    rights = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
    assert query(endpoints, rights) == (False, True, False)  # it makes the roles that processes take
    assert query(endpoints, "SELECT has_database_privilege('pictograph', 'CREATE')") == (True,)


def test_a_second_user_gets_the_same_servers_and_the_first_may_leave(home):
    first = stack.open(home, DATABASE)
    with stack.open(home, DATABASE) as endpoints:
        assert endpoints == first.endpoints
        pids = alive(home)
        first.close()
        first.close()
        time.sleep(1.6)  # longer than the keeper's grace
        assert set(pids) & set(alive(home))
        assert connects(endpoints)
    assert stack.wait_until_stopped(home)
    assert alive(home) == []
    assert not connects(endpoints)


def test_the_kill_of_the_only_user_stops_the_servers(home, user):
    one = user(home).wait_ready()
    assert alive(home)
    one.kill()
    assert eventually(lambda: not alive(home))


def test_a_killed_keeper_takes_the_servers_along_and_the_data_stays(home):
    with stack.open(home) as before:
        write(before)
        keeper_of(home).kill()
        assert eventually(lambda: not alive(home))
        with stack.open(home) as after:
            assert after == before
            assert read(after) == WRITTEN
            keeper_of(home).kill()  # and now everything at once, as if the machine went down
            kill_servers(home)
            assert eventually(lambda: not alive(home))
            reused = f"{os.getpid()}\n{home}/postgres\n"  # the old pid is another process's by now
            (home / "postgres" / "postmaster.pid").write_text(reused)
            with stack.open(home) as again:
                assert read(again) == WRITTEN


def test_a_killed_server_comes_back_at_its_address(home):
    with stack.open(home, DATABASE) as endpoints:
        killed = alive(home)
        kill_servers(home)
        assert eventually(lambda: alive(home) and connects(endpoints))
        assert not set(killed) & set(alive(home))


def test_left_over_servers_are_ended_before_new_ones_start(home, tmp_path):
    title = f"{{title}} {Home(home).mark}"
    arguments = [
        valkey_binary(),
        "--port",
        "0",
        "--unixsocket",
        "left.sock",
        "--save",
        "",
        "--proc-title-template",
        title,
    ]
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL) as left:
        assert eventually(lambda: alive(home) == [left.pid])
        # One that merely mentions the mark is no server, and to be left alone.
        stranger = subprocess.Popen([sys.executable, "-c", "input()", Home(home).mark], stdin=subprocess.PIPE)
        with stack.open(home, DATABASE):
            assert left.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_nobody_logs_in_as_the_superuser(shared):
    _, endpoints = shared
    with pytest.raises(psycopg2.OperationalError, match=r"rejects connection|no password supplied"):
        psycopg2.connect(endpoints.database_url.replace("//pictograph", "//postgres"), connect_timeout=ANSWER_SECONDS)


def test_no_password_gets_into_the_log_of_the_database(shared):
    home, endpoints = shared
    statement = "CREATE ROLE somebody PASSWORD 'a-word-of-mine' IN ROLE pg_monitor"
    with pytest.raises(psycopg2.Error, match="pg_monitor"):
        query(endpoints, statement)
    log = (home / "logs" / "postgres.log").read_text()
    assert "pg_monitor" in log
    assert "a-word-of-mine" not in log
    assert make_url(endpoints.database_url).password not in log


def test_the_owner_of_an_older_folder_may_make_roles_from_now_on(home):
    """Twice: once it is so, nothing is changed any more."""
    may = "SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user"
    with stack.open(home, DATABASE) as endpoints:
        password = make_url(endpoints.database_url).password
    assert stack.wait_until_stopped(home)
    place = Home(home)
    server = Postgres(Place(home=place, ports=None, credentials=None, account=account()))
    server._run(server._alone(server.folder), "ALTER ROLE pictograph NOCREATEROLE\n")
    (server.folder / MAY_MAKE_ROLES).unlink()
    for _ in range(2):
        with stack.open(home, DATABASE) as endpoints:
            assert query(endpoints, may) == (True,)
            assert make_url(endpoints.database_url).password == password
        assert stack.wait_until_stopped(home)
        assert (server.folder / MAY_MAKE_ROLES).exists()


def test_a_database_that_was_half_made_is_made_anew(home):
    (home / "postgres.new").mkdir(parents=True)
    (home / "postgres.new" / "PG_VERSION").write_text("18\n")
    with stack.open(home, DATABASE) as endpoints:
        assert connects(endpoints)


def test_users_who_arrive_at_once_share_one_keeper(home):
    with ThreadPoolExecutor(4) as pool:
        holds = list(pool.map(lambda _: stack.open(home, DATABASE), range(4)))
    assert len({hold.endpoints for hold in holds}) == 1
    assert len(keepers_of(home)) == 1
    for hold in holds:
        hold.close()


def test_users_who_arrive_while_the_keeper_leaves_are_served(home):
    for pause in (1.1, 1.3):  # around its grace and its stopping
        with stack.open(home, DATABASE) as endpoints:
            assert connects(endpoints)
        time.sleep(pause)


def test_a_deleted_home_stops_the_servers(home):
    with stack.open(home, DATABASE):
        shutil.rmtree(home, ignore_errors=True)  # a server may write at the same moment
        assert eventually(lambda: not alive(home))


def test_need_is_what_one_waits_for(home):
    waits = []
    with stack.open(home, DATABASE, waits.append):
        assert waits[0] == DATABASE
        assert waits[-1] == DATABASE
        assert Service.POSTGRES in Home(home).status().ready


def test_a_server_that_cannot_start_is_named_with_its_log(home):
    with stack.open(home, DATABASE):
        keeper_of(home).terminate()
        assert stack.wait_until_stopped(home)
    (home / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServiceDown, match=r"postgres ended with status 1.*postgres\.log says: .*version"):
        stack.open(home)


def test_a_database_without_its_password_is_not_silently_replaced(home):
    with stack.open(home, DATABASE):
        keeper_of(home).terminate()
        assert stack.wait_until_stopped(home)
    (home / "credentials.json").unlink()
    with pytest.raises(ConfigurationError, match="missing"):
        stack.open(home)


def test_a_home_that_cannot_be_made_is_a_configuration_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="PICTOGRAPH_HOME"):
        stack.open(tmp_path / "file" / "home")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_runs_the_servers_as_itself(home, user):
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    # The capability is for reaching this Python and the test's folder only, which may lie below root's own.
    passage = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    one = user(home, stack.ALL, ["setpriv", *ids, *passage, "--"]).wait_ready()
    write(one.endpoints)
    assert read(one.endpoints) == WRITTEN
    assert {psutil.Process(pid).uids().real for pid in alive(home)} == {NOBODY}


@pytest.mark.skipif(os.geteuid() != 0, reason="root only")
def test_root_runs_no_server_as_root_even_below_a_folder_of_its_own(home):
    home.parent.chmod(0o700)
    with stack.open(home, DATABASE):
        assert {psutil.Process(pid).uids().real for pid in alive(home)} == {NOBODY}
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700
