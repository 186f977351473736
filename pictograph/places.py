"""From settings to servers: what the environment names is used, the rest is the embedded stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from pydantic import SecretStr

from pictograph import stack
from pictograph.stack import Service
from pictograph.stack.attach import OnWait
from pictograph.stack.home import Home
from pictograph.stack.servers import RESULTS
from pipeline.address import parse_uri
from pipeline.errors import ConfigurationError
from pipeline.ledger.requests import JobRequest
from pipeline.settings import PREFIX, Settings
from pipeline.sources.s3 import AMAZON, S3Access, create_bucket

DATABASE = frozenset({Service.POSTGRES})
EVERYTHING = frozenset(Service)


def embedded(settings: Settings) -> frozenset[Service]:
    """The services that the environment does not name."""
    named = {
        Service.POSTGRES: settings.database_url,
        Service.BROKER: settings.broker_url,
        Service.S3: settings.s3_endpoint_url,
    }
    return frozenset(service for service, address in named.items() if address is None)


def own(service: Service) -> bool:
    """Whether the environment leaves this service to the embedded stack, so that all in it is Pictograph's."""
    return service in embedded(Settings.read())


def host_and_port(address: SecretStr | None) -> str:
    """Where a server with such a URL listens, without user and password; "" for None."""
    return urlsplit(address.get_secret_value()).netloc.rpartition("@")[2] if address else ""


def _check_addresses(settings: Settings) -> None:
    """ConfigurationError for an address of a kind that we cannot use, before some library stumbles over it."""
    for name, beginnings in (
        ("database_url", ("postgresql://", "postgres://")),
        ("broker_url", ("redis://", "rediss://")),
        ("s3_endpoint_url", ("http://", "https://")),
    ):
        value = getattr(settings, name)
        address = value.get_secret_value() if isinstance(value, SecretStr) else value
        if address not in (None, AMAZON) and not address.startswith(beginnings):
            raise ConfigurationError(f"{PREFIX}{name.upper()} must begin with {' or '.join(beginnings)}.")
        if name != "database_url" and address is not None:  # libpq has its own: it may name several hosts
            _check_port(name, address)


def _check_port(name: str, address: str) -> None:
    try:
        urlsplit(address).port  # noqa: B018 - computed, and checked, when it is asked for
    except ValueError as exc:
        raise ConfigurationError(
            f"{PREFIX}{name.upper()} cannot be used: a host's name is followed by nothing, or by a colon and a port "
            "from 0 to 65535; write special characters of a password as %XX."
        ) from exc


@contextmanager
def servers(
    settings: Settings, need: frozenset[Service] = EVERYTHING, on_wait: OnWait | None = None
) -> Iterator[Settings]:
    """Settings in which every service of `need` has an address; embedded servers run for as long as the block does.

    At an embedded S3 they may list and read, and write results to the bucket of that name (`uploading` gives more).

    Raises:
        ConfigurationError, ServiceDown: an address is none, or an embedded server is not installed or does not start.
    """
    _check_addresses(settings)
    missing = need & embedded(settings)
    if not missing:
        yield settings
        return
    with stack.open(settings.home, missing, on_wait) as endpoints:
        found: dict[str, object] = {}
        if Service.POSTGRES in missing:
            found["database_url"] = SecretStr(endpoints.database_url)
            found["api_open"] = open_by_itself(settings)
        if Service.BROKER in missing:
            found["broker_url"] = SecretStr(endpoints.broker_url)
        if Service.S3 in missing:
            found["s3_endpoint_url"] = endpoints.s3_endpoint_url
            found["s3_access_key_id"] = endpoints.s3_reader_access_key_id
            found["s3_secret_access_key"] = SecretStr(endpoints.s3_reader_secret_access_key)
            found["output_access_key_id"] = endpoints.s3_results_access_key_id
            found["output_secret_access_key"] = SecretStr(endpoints.s3_results_secret_access_key)
        yield settings.model_copy(update=found)


def open_by_itself(settings: Settings) -> bool:
    """Whether an API over the embedded ledger asks for no keys: where this machine alone reaches it, unless forbidden.

    Its users may read that ledger, and the photos, in the data folder anyway.
    """
    return settings.api_is_local if settings.api_open is None else settings.api_open


def prepare_outputs(settings: Settings, request: JobRequest) -> None:
    """See to it that the embedded S3, if it is in use, takes the results: they have a bucket there.

    Raises:
        ConfigurationError: they are to be written to another one.
    """
    buckets = {parse_uri(each.target)[0] for each in request.outputs if each.target.startswith("s3://")}
    if not buckets or not own(Service.S3):
        return
    if buckets != {RESULTS}:
        raise ConfigurationError(
            f"The embedded S3 takes results in the bucket {RESULTS} alone; write s3://{RESULTS}/..., or to a file."
        )
    create_bucket(S3Access.of(uploading(settings)), RESULTS)


def uploading(settings: Settings) -> Settings:
    """Settings of the embedded stack, which runs, with the right to make buckets and to write; workers lack it."""
    secret = Home(settings.home).known_credentials()
    key, word = secret.s3_access_key_id, SecretStr(secret.s3_secret_access_key)
    return settings.model_copy(update={"s3_access_key_id": key, "s3_secret_access_key": word})
