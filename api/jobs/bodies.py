"""What is asked of jobs, field by field. Names are those of the SQL columns."""

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StrictFloat

from pipeline.ledger.requests import Scope
from pipeline.sources.source import storable


def _kept(text: str) -> str:
    if not storable(text):
        raise ValueError("it holds characters that cannot be kept")
    return text


MOST_RULES = 100  # of one kind
Text = Annotated[str, AfterValidator(_kept)]
Word = Annotated[Text, Field(min_length=1, max_length=1024)]
Address = Annotated[Text, Field(min_length=1, max_length=2000)]
Words = Annotated[tuple[Word, ...], Field(max_length=MOST_RULES)]
Hour = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", description="hours and minutes")]


#: By which lists are narrowed: `open` is what has not ended. What a listing settles by itself has no items.
JobStates = Literal[
    "open",
    "ended",
    "created",
    "running",
    "paused",
    "cancelling",
    "succeeded",
    "succeeded_with_errors",
    "failed",
    "cancelled",
]
ItemStates = Literal[
    "pending",
    "retry",
    "succeeded",
    "failed",
    "skipped_unchanged",
    "duplicate",
    "excluded",
    "cancelled",
    "erased",
]
ItemCodes = Literal[
    "tagged",
    "abstained",
    "unsupported",
    "too_large",
    "corrupt",
    "gone",
    "quarantined",
    "model_error",
    "infrastructure",
    "forbidden",
    "same_content",
]


class _Asked(BaseModel):
    """What somebody asks: a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RulesIn(_Asked):
    """Which photos of a source. An exclusion wins over an inclusion."""

    include_prefixes: Words = ()
    exclude_prefixes: Words = ()
    include_users: Words = ()
    exclude_users: Words = ()
    need_consent: StrictBool = False


class WindowIn(_Asked):
    """The hours of each day in which a job may run; one that ends before it begins goes over midnight."""

    begins: Hour
    ends: Hour
    timezone: Text = Field(default="UTC", max_length=100, description="of the IANA database")


class OutputIn(_Asked):
    """Where what became of each line is written when the job has ended."""

    target: Address = Field(description="s3://bucket/prefix/ or s3://bucket/key; {job} stands for the job's number")
    format: Literal["jsonl", "csv"] | None = Field(default=None, description="null: by the target's ending, or jsonl")


class JobIn(_Asked):
    """A job, as `pictograph tag` takes it. Either `source` or `manifest`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"source": "ledger:user:ann", "dry_run": True}]})

    source: Address | None = Field(
        default=None, description="s3://bucket/prefix/; or ledger:photos, ledger:user:NAME, ledger:job:NUMBER"
    )
    manifest: Address | None = Field(
        default=None, description="s3://bucket/key of JSON lines, CSV, or an S3 inventory's manifest.json"
    )
    user_from: Text = Field(default="{user}/{photo}", max_length=500, description="how a key names its owner")
    user: Text | None = Field(default=None, max_length=500, description="whose all photos are")
    scope: Scope = Scope.MISSING
    rules: RulesIn = RulesIn()
    model: Text | None = Field(default=None, max_length=200, description="NAME or NAME@FINGERPRINT; null: the server's")
    priority: int = Field(default=0, strict=True, ge=-100, le=100, description="higher goes first")
    window: WindowIn | None = None
    most_failed_share: StrictFloat | None = Field(default=None, ge=0, le=1, description="above it the job is stopped")
    keep_missing: StrictBool = Field(default=False, description="keep what is gone from the source")
    allow_mass_delete: StrictBool = Field(
        default=False, description="subtract what is gone even if it is more than 20 %"
    )
    outputs: tuple[OutputIn, ...] = Field(default=(), max_length=10)
    notify: tuple[Address, ...] = Field(default=(), max_length=10, description="addresses told when it has ended")
    dry_run: StrictBool = Field(default=False, description="answer with a forecast, and write nothing")


class PauseIn(_Asked):
    """Why a job is to rest, and until when."""

    reason: Text | None = Field(default=None, min_length=1, max_length=500)
    until: AwareDatetime | None = Field(default=None, description="when it goes on by itself; null: when resumed")


class ResumeIn(_Asked):
    """How a job is to go on."""

    ignore_window: StrictBool = Field(default=False, description="take its window off the job for good")


class RetryIn(_Asked):
    """How failures are to be tried again."""

    everything: StrictBool = Field(
        default=False, description="also what is corrupt or no image, although its bytes are same"
    )
    outputs: tuple[OutputIn, ...] = Field(default=(), max_length=10)
