"""Settings: the only reader of the environment. Read once at the front door, frozen, passed down."""

import os
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.address import parse_uri
from pipeline.errors import ConfigurationError, SourceError

PREFIX = "PICTOGRAPH_"

PositiveInt = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Every knob, with its unit in its name. Unset service addresses mean the embedded stack."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default_factory=lambda: user_data_path("pictograph"))
    """Data folder of the embedded stack."""

    database_url: SecretStr | None = None
    """postgresql://… (PostgreSQL 18). Unset: embedded."""
    broker_url: SecretStr | None = None
    """redis://… or rediss://… (Redis or Valkey). Unset: embedded."""
    s3_endpoint_url: str | None = None
    """S3 endpoint; "aws" for Amazon's own. Unset: embedded."""
    s3_access_key_id: str | None = None
    """Unset, with an endpoint of one's own: the usual AWS chain (environment, profile, instance role)."""
    s3_secret_access_key: SecretStr | None = None
    s3_region: str = "us-east-1"
    s3_bucket: str = "photos"
    """Bucket that the embedded stack creates and the demonstration fills."""

    sources: Annotated[tuple[str, ...] | None, NoDecode] = None
    """Places that photos may be read from, and all below them: s3://bucket/prefix and absolute folders, separated by
    commas or line ends. Unset: whoever uses these credentials may name any place."""

    outputs: Annotated[tuple[str, ...] | None, NoDecode] = None
    """Places that results may be written to, spelt as `sources`. Unset: whoever submits jobs may name any place."""
    output_access_key_id: str | None = None
    """Who writes results to S3. Unset: who reads photos; embedded: who may write to the bucket `results` alone."""
    output_secret_access_key: SecretStr | None = None
    webhook_secret: SecretStr | None = None
    """Signs the notices of --notify, as Standard Webhooks says: whsec_ and base64, or any text of 24 bytes or more."""

    model: str = "efficientnet-lite0"
    """The model that new jobs pin and that annotate workers serve."""
    models: Path | None = None
    """Folder of the models that `pictograph models add` describes. Unset: `models` in the data folder."""
    runtime: Literal["auto", "openvino", "torch"] = "auto"
    """What runs the model. auto: torch on a GPU, OpenVINO on a CPU where it is installed, else torch."""
    batch_photos: NotNegative = 0
    """Photos per forward pass; 0: by the device and its memory."""
    decode_processes: NotNegative = 0
    """Decode children per worker; 0: by the number of cores."""
    fetch_threads: NotNegative = 0
    """S3 requests in flight per worker; 0: by the number of cores."""
    fetch_bytes: PositiveInt = 256 * 1024 * 1024
    """Bytes of photos that a worker holds between S3 and the decoder, at most."""

    shard_photos: Annotated[int, Field(gt=0, le=512)] = 512
    page_keys: Annotated[int, Field(gt=0, le=1000)] = 1000
    """Keys per listing page, and so per ledger transaction."""
    lease_seconds: Seconds = 90
    tick_seconds: Seconds = 1
    """How often the redriver looks."""
    stale_seconds: Seconds = 120
    """After this long a published shard that nobody claimed is published again."""
    stream_seconds: Seconds = 300
    """How long one task goes on claiming further shards."""
    patience_seconds: Seconds = 86_400
    """How long infrastructure trouble may delay a photo before it is given up."""
    keep_days: Annotated[int, Field(gt=0, le=36_500)] = 90
    """So long after its end the ledger knows what a job did with each photo and line; its counts stay."""
    watchdog_seconds: Seconds = 60
    """A worker that takes no message for so long although some wait, or whose heart stands still, is started anew."""
    breaker_seconds: Seconds = 5
    """A model that does not work is tried again after this; doubled each time, up to ten minutes."""
    max_photo_bytes: PositiveInt = 64 * 1024 * 1024

    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0: any free port."""
    api_open: bool | None = None
    """Whether everybody who reaches the API may do everything without a key: on an address of this machine alone.
    Unset: with the embedded ledger yes, else no."""
    api_requests_per_minute: NotNegative = 12_000
    """Of each key, and of each address without one, to one process of the API; 0: any number."""
    api_failures_per_minute: NotNegative = 30
    """Requests with wrong keys, of each address; 0: any number."""
    api_body_bytes: PositiveInt = 256 * 1024
    """What may be sent to the API in one request."""
    thumbnail_cache_bytes: PositiveInt = 256 * 1024 * 1024
    fewest_users: PositiveInt = 5
    """What fewer users who consent have photos of is withheld from those who may only see their own and such users'."""

    debug: bool = False
    """Show where an unexpected error came from."""

    @field_validator("sources", "outputs", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """One text, as a variable holds it, is a list."""
        if not isinstance(value, str):
            return value
        return tuple(filter(None, map(str.strip, value.replace("\n", ",").split(","))))

    @field_validator("sources", "outputs")
    @classmethod
    def _places(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """ValueError unless each is a place; a list without any would look like a guard and be none."""
        if value is not None and not value:
            raise ValueError("it lists no place")
        for place in value or ():
            _check_place(place)
        return value

    @classmethod
    def read(cls) -> "Settings":
        """The settings of the environment; ConfigurationError naming the variable that cannot be used."""
        try:
            return cls()
        except ValidationError as exc:
            first = exc.errors()[0]
            name = PREFIX + str(first["loc"][0]).upper()
            why = first["msg"].removeprefix("Value error, ").rstrip(".")
            raise ConfigurationError(f"{name} cannot be used: {why}.") from exc

    @classmethod
    def misspelt(cls) -> list[str]:
        """A sentence for each variable of the environment that looks like a setting and is none."""
        known = [PREFIX + name.upper() for name in cls.model_fields]
        sentences = []
        for name in sorted(name for name in os.environ if name.upper().startswith(PREFIX)):
            if name.upper() not in known:
                nearest = get_close_matches(name.upper(), known, n=1)
                hint = f"did you mean {nearest[0]}?" if nearest else "the README lists those that are."
                sentences.append(f"{name} is no setting and is ignored; {hint}")
        return sentences

    @property
    def api_is_local(self) -> bool:
        """Whether the API listens on an address of this machine alone, to which nobody comes from elsewhere."""
        try:
            return ip_address(self.api_host).is_loopback
        except ValueError:
            return self.api_host == "localhost"

    def environment(self) -> dict[str, str]:
        """The variables that make a child process read these same settings, in whatever folder it starts."""
        values: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                values[PREFIX + name.upper()] = _spelt(value)
        return values


def _check_place(place: str) -> None:
    """ValueError unless this is an absolute folder or an S3 address."""
    if place.startswith("/") and ".." not in Path(place).parts:
        return
    if not place.startswith("s3://"):
        raise ValueError(f"{place!r} is neither s3://bucket/prefix nor an absolute folder")
    try:
        parse_uri(place)
    except SourceError as exc:
        raise ValueError(str(exc)) from exc


def _spelt(value: object) -> str:
    """A setting's value as a variable holds it."""
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value.expanduser().absolute() if isinstance(value, Path) else value)
