"""What the stages hand to each other: one frozen value per arrow of the design.

    S3 object ─▶ PhotoRef ─▶ PhotoTask ─▶ bytes ─▶ pixels ─▶ leaf probabilities ─▶ Annotation ─▶ PhotoResult ─▶ rows

Numbers: a *mass* is an integer in ten-thousandths of a photo (10,000 = one whole photo); a *node* is the ledger's
smallint id of a category; a *column* is the dense index of a category within one taxonomy.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

WHOLE = 10_000  # mass of one photo at the root


class ItemState(IntEnum):
    """Where a photo of a job stands. Everything from SUCCEEDED on is terminal."""

    PENDING = 0
    RETRY = 1  # infrastructure trouble; waits for its next attempt
    SUCCEEDED = 2
    FAILED = 3
    SKIPPED_UNCHANGED = 4
    DUPLICATE = 5
    EXCLUDED = 6
    CANCELLED = 7
    ERASED = 8


class Code(IntEnum):
    """Why a photo of a job stands where it stands."""

    NONE = 0
    TAGGED = 1  # succeeded: at least one tag is shown
    ABSTAINED = 2  # succeeded: seen, and nothing was certain enough to show
    UNSUPPORTED = 10  # failed: no image format that we read
    TOO_LARGE = 11  # failed: more bytes or pixels than we accept
    CORRUPT = 12  # failed: an image, but broken or cut off
    GONE = 13  # failed: deleted between listing and reading
    QUARANTINED = 14  # failed: killed the process that touched it, twice
    MODEL_ERROR = 15  # failed: the model's output for it was not finite
    INFRASTRUCTURE = 16  # failed: a server did not answer for a whole day
    FORBIDDEN = 17  # failed: we may not read it, though we may read its place
    NO_USER = 20  # excluded: the key does not match --user-from
    NOT_A_PHOTO = 21  # excluded: a folder marker, no object of its own
    BAD_LINE = 22  # excluded: a manifest line that cannot be read
    BAD_KEY = 23  # excluded: a name that is not valid UTF-8 or holds a NUL
    OUTSIDE = 24  # excluded: a manifest names it, but it lies outside of the places that may be read
    NOT_CHOSEN = 25  # excluded: a rule of the job leaves it out
    NO_CONSENT = 26  # excluded: the job wants consent, and there is none
    LISTED_TWICE = 30  # duplicate: the same object came twice in one job
    SAME_CONTENT = 31  # duplicate: the same bytes were seen before; its tags are theirs, and count for its owner


#: Codes of a photo that the model has seen.
SEEN = frozenset({Code.TAGGED, Code.ABSTAINED})


class JobState(IntEnum):
    """Where a job stands."""

    CREATED = 0
    RUNNING = 1
    PAUSED = 2
    CANCELLING = 3
    SUCCEEDED = 10
    SUCCEEDED_WITH_ERRORS = 11
    FAILED = 12
    CANCELLED = 13

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen in this job."""
        return self >= JobState.SUCCEEDED


class WorkState(IntEnum):
    """Where a shard or a key range stands."""

    PENDING = 0
    QUEUED = 1  # a message was sent
    LEASED = 2
    DONE = 3
    SPLIT = 4
    CANCELLED = 5


class TakenFrom(IntEnum):
    """Where a photo's `taken_at` comes from."""

    OBJECT = 0  # the object's modification time
    EXIF = 1
    MANIFEST = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoRef:
    """A photo as a source lists it."""

    bucket: str  # where keys are unique: "s3://name", or "file://" for local files
    key: str  # object key, or absolute path
    user: str  # owner, computed by the operator's rule
    etag: str  # opaque version of the bytes
    size: int  # bytes
    modified_at: datetime
    version_id: str | None = None  # where the source names one: these bytes are read, whatever came later
    line: int | None = None  # of a manifest; None: the place has no lines, and its entries are counted
    consent: bool | None = None  # as the manifest says; None: it says nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Something a source listed that is not a photo of the job."""

    name: str  # the key, or "line 17"
    code: Code
    reason: str  # one sentence
    line: int | None = None  # as in `PhotoRef`
    uri: str | None = None  # what the line names, where it can be told
    version_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """An object that is not there any more: what the ledger has of it is to be subtracted."""

    bucket: str  # as in `PhotoRef`
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One step of a listing; `cursor` is where the next one starts."""

    refs: tuple[PhotoRef, ...]
    refusals: tuple[Refusal, ...]
    gone: tuple[Refusal, ...]  # named by a manifest, but not there, or closed to us: they failed, as `code` says
    cursor: str
    last: bool
    removed: tuple[Removed, ...] = ()  # told by events; no photos of the job


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoTask:
    """A photo of a claimed shard, ready to be fetched."""

    job_id: int
    shard_id: int
    photo_id: int
    content_rev: int
    bucket: str
    key: str
    etag: str
    size: int  # bytes
    version_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """What an object is now."""

    etag: str
    size: int  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to work on a shard or a range, until the database's clock says otherwise."""

    work_id: int
    job_id: int
    epoch: int
    alone: bool = False  # nothing else may be in hand beside it: should the process die, it was this
    priority: int = 0  # when it was claimed; higher goes first


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """What one photo shows, after roll-up and decision. Nodes are ledger ids, masses ten-thousandths of a photo."""

    nodes: tuple[int, ...]  # every category with at least 2 % of the photo, areas included, root first
    masses: tuple[int, ...]  # parallel to `nodes`
    tags: tuple[int, ...]  # the shown categories, a subset of `nodes`
    headline: int | None  # the one decided tag; None: abstained


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoResult:
    """The engine's last word on one photo, ready to be merged."""

    task: PhotoTask
    state: ItemState
    code: Code
    outcome: Code | None = None  # of a duplicate: what its bytes are, tagged or abstained; None: as `code` says
    annotation: Annotation | None = None  # present iff the model saw the photo, or its bytes under another key
    sha256: bytes | None = None  # of the bytes that were read
    taken_at: datetime | None = None  # from EXIF, if it says
    message: str = ""  # one sentence for a person, where it failed
