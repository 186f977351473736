"""What the API answers, field by field. Names are those of the SQL columns; masses are ten-thousandths of a photo."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.services import UserProfile
from pipeline.ledger.jobs import Job
from pipeline.records import ItemState
from pipeline.store.queries import ActiveModel, UserSummary


class Versions(BaseModel):
    """What an answer rests on: with the same versions and photos it is the same again."""

    model: str
    fingerprint: str
    taxonomy: str
    taxonomy_sha256: str
    decision_revision: int
    policy_version: int  # 0: no policy

    @classmethod
    def of(cls, model: ActiveModel, policy_version: int) -> "Versions":
        """The versions of a model, and of the policy under which it is read."""
        return cls(
            model=model.name,
            fingerprint=model.fingerprint,
            taxonomy=model.taxonomy,
            taxonomy_sha256=model.taxonomy_sha256,
            decision_revision=model.decision_revision,
            policy_version=policy_version,
        )


class CellOut(BaseModel):
    """One part of a profile."""

    kind: Literal["category", "other", "unsure"]
    wnid: str | None = Field(description="WordNet synset id; null unless kind is category")
    name: str
    photos: int | None = Field(description="distinct photos that carry the tag; not additive")
    mass: int = Field(description="ten-thousandths of a photo; additive")
    share: float = Field(description="of the mass of all cells, 0 to 1")


class ProfileOut(BaseModel):
    """A user's profile."""

    user: str
    photos: int = Field(description="photos analysed")
    mass: int = Field(description="of all cells together, exactly")
    cells: list[CellOut]
    versions: Versions

    @classmethod
    def of(cls, found: UserProfile) -> "ProfileOut":
        """The answer for a profile."""
        cells = [
            CellOut(kind=c.kind, wnid=c.wnid, name=c.name, photos=c.photos, mass=c.mass, share=round(c.share, 6))
            for c in found.profile.cells
        ]
        return cls(
            user=found.user,
            photos=found.profile.photos,
            mass=found.profile.mass,
            cells=cells,
            versions=Versions.of(found.model, found.policy.version),
        )


class UserOut(BaseModel):
    """A user in a list."""

    name: str
    photos: int


class UsersOut(BaseModel):
    """Users in the byte order of their names."""

    users: list[UserOut]
    next_after: str | None = Field(description="give it as `after` for the next page; null on the last one")

    @classmethod
    def of(cls, found: Sequence[UserSummary], next_after: str | None) -> "UsersOut":
        """The answer for a page of users."""
        return cls(users=[UserOut(name=u.name, photos=u.photos) for u in found], next_after=next_after)


class JobOut(BaseModel):
    """A job as it stands."""

    job_id: int
    kind: str
    source: str
    user_rule: str
    fixed_user: str | None
    model: str
    state: str
    error: str | None
    notes: list[str]
    listing: bool = Field(description="whether the source is still being listed")
    total: int = Field(description="photos that the listing has met so far")
    counts: dict[str, int] = Field(description="photos by state")
    reasons: dict[str, dict[str, int]] = Field(description="photos by state and reason")
    subtracted: int = Field(description="photos found gone from the source")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> "JobOut":
        """The answer for a job."""
        reasons = {
            state.name.lower(): {code.name.lower(): n for code, n in job.by_code(state).items() if code}
            for state in ItemState
        }
        return cls(
            job_id=job.job_id,
            kind=job.kind,
            source=job.source,
            user_rule=job.user_rule,
            fixed_user=job.fixed_user,
            model=job.model,
            state=job.condition,
            error=job.error,
            notes=list(job.notes),
            listing=job.listing,
            total=job.total,
            counts={state.name.lower(): job.count(state) for state in ItemState if job.count(state)},
            reasons={state: by_code for state, by_code in reasons.items() if by_code},
            subtracted=job.subtracted,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class JobsOut(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobOut]
