"""What the API answers about single photos, field by field. Masses are ten-thousandths of a photo."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.versions import Versions
from api.views.naming import Tag, Verdict
from api.views.photos import Explained, PhotoTags, PhotoView
from api.views.review import Queue, ReviewItem
from api.views.verdicts import Given, Verdicts
from pipeline.precision import Promise
from pipeline.records import WHOLE
from pipeline.verdicts import Kind


class TagOut(BaseModel):
    """A category in a photo's list."""

    wnid: str
    name: str
    probability: float | None = Field(
        description="that the photo shows it, 0 to 1, by the model; null where it is under 0.02, and so not stored"
    )
    kind: Literal["tag", "ancestor", "leaf"] = Field(
        description="tag: nothing narrower is listed; ancestor: it lies above a tag; leaf: a label that is no tag"
    )
    headline: bool = Field(description="whether it is the photo's one decided tag")
    verdict: Literal["confirmed", "rejected"] | None = Field(description="what follows from what people said")
    source: Literal["model", "person"] = Field(description="person: only people say so")
    depth: int = Field(description="steps from the root down the display tree")
    parent_wnid: str | None = Field(description="in the display tree; null: the root")

    @classmethod
    def of(cls, tag: Tag) -> "TagOut":
        """The answer for a tag."""
        return cls(
            wnid=tag.wnid,
            name=tag.name,
            probability=None if tag.mass is None else tag.mass / WHOLE,
            kind=tag.kind,
            headline=tag.headline,
            verdict=tag.verdict,
            source=tag.source,
            depth=tag.depth,
            parent_wnid=tag.parent_wnid,
        )


class VerdictOut(BaseModel):
    """What somebody said of a category of a photo."""

    wnid: str
    name: str
    verdict: Literal["confirm", "reject", "generalise"]
    headline_wnid: str | None = Field(description="the headline that was shown then; null: none, or hidden by now")
    given_by: str
    given_at: datetime

    @classmethod
    def of(cls, verdict: Verdict) -> "VerdictOut":
        """The answer for a verdict."""
        return cls(
            wnid=verdict.wnid,
            name=verdict.name,
            verdict=verdict.verdict,
            headline_wnid=verdict.headline_wnid,
            given_by=verdict.given_by,
            given_at=verdict.given_at,
        )


class PhotoOut(BaseModel):
    """A photo."""

    photo_id: int
    user: str | None = Field(description="null unless it is one's own, or one may see everybody's; so bucket and key")
    bucket: str | None
    key: str | None
    size: int = Field(description="bytes")
    taken_at: datetime
    taken_from: Literal["object", "exif", "manifest"] = Field(description="object: when it was stored")
    listed_at: datetime
    content_rev: int = Field(description="rises with every change of the photo's bytes")
    state: Literal["awaiting", "tagged", "abstained", "failed"]
    reason: str | None = Field(description="why it failed; null unless it did")
    stale: bool = Field(description="whether its bytes have changed since the model saw them")
    headline: TagOut | None
    verdicts: list[VerdictOut]
    decision_revision: int | None = Field(description="by which its tags were decided; null: the model has not seen it")
    versions: Versions

    @classmethod
    def of(cls, found: PhotoView) -> "PhotoOut":
        """The answer for a photo."""
        return cls(
            photo_id=found.photo_id,
            user=found.user,
            bucket=found.bucket,
            key=found.key,
            size=found.size,
            taken_at=found.taken_at,
            taken_from=found.taken_from,
            listed_at=found.listed_at,
            content_rev=found.content_rev,
            state=found.state,
            reason=found.reason,
            stale=found.stale,
            headline=None if found.headline is None else TagOut.of(found.headline),
            verdicts=[VerdictOut.of(each) for each in found.verdicts],
            decision_revision=found.decision_revision,
            versions=Versions.of(found.model, found.policy.version),
        )


class CalibrationOut(BaseModel):
    """What promises the precision that was asked for."""

    decision_revision: int = Field(description="of the decision that the calibration stored")
    target: float = Field(
        description="of the photos that show something, so many show no wrong tag; at least what was asked for"
    )
    guarantee: Literal["average", "high-probability"] = Field(
        description="average: an estimate, single calibrations fall on either side; high-probability: in 95 of 100"
    )
    photos: int = Field(description="labelled photos that it was measured on; it holds for photos like them")

    @classmethod
    def of(cls, promise: Promise) -> "CalibrationOut":
        """The answer for a promise."""
        return cls(
            decision_revision=promise.revision,
            target=promise.target,
            guarantee=promise.guarantee,
            photos=promise.photos,
        )


class PhotoTagsOut(BaseModel):
    """A photo's tags: the narrowest first, then what lies above them, then labels."""

    photo_id: int
    state: Literal["awaiting", "tagged", "abstained", "failed"]
    tags: list[TagOut]
    decision_revision: int | None = Field(description="by which they were decided; null: the model has not seen it")
    calibration: CalibrationOut | None = Field(description="null unless min_precision was given")
    versions: Versions

    @classmethod
    def of(cls, found: PhotoTags) -> "PhotoTagsOut":
        """The answer for a photo's tags."""
        return cls(
            photo_id=found.photo_id,
            state=found.state,
            tags=[TagOut.of(tag) for tag in found.tags],
            decision_revision=found.decision_revision,
            calibration=None if found.promise is None else CalibrationOut.of(found.promise),
            versions=Versions.of(found.model, found.policy.version),
        )


class LabelPartOut(BaseModel):
    """One label's share of a category's mass."""

    wnid: str
    name: str
    mass: int


class ExplanationOut(BaseModel):
    """A category's mass in one photo, taken apart: `mass` is the sum of all `parts`, `withheld` and `rest`."""

    photo_id: int
    wnid: str
    name: str
    probability: float
    mass: int = Field(description="0 where it is under 0.02, and so not stored")
    parts: list[LabelPartOut] = Field(description="labels that hold at least 0.02 of the photo, largest first")
    withheld: int = Field(description="in labels that the policy shows only as something broader")
    rest: int = Field(description="in labels under 0.02 each, and what rounding leaves over")
    tag: bool
    headline: bool
    winner: str | None = Field(description="what the rule chose, be it too vague to be shown; null: nothing")
    torn: tuple[str, str] | None = Field(description="two categories far apart that both hold much")
    rule: str
    lam: float = Field(description="what a category is worth for being right alone")
    threshold: float = Field(description="a tag's least probability, unless it is the headline or lies above it")
    decision_revision: int
    steps: list[str] = Field(description="the same in sentences")
    versions: Versions

    @classmethod
    def of(cls, found: Explained) -> "ExplanationOut":
        """The answer for an explanation."""
        made = found.explanation
        return cls(
            photo_id=made.photo_id,
            wnid=made.wnid,
            name=made.name,
            probability=made.mass / WHOLE,
            mass=made.mass,
            parts=[LabelPartOut(wnid=part.wnid, name=part.name, mass=part.mass) for part in made.parts],
            withheld=made.withheld,
            rest=made.rest,
            tag=made.tag,
            headline=made.headline,
            winner=made.winner,
            torn=made.torn,
            rule=made.rule,
            lam=made.lam / WHOLE,
            threshold=made.threshold / WHOLE,
            decision_revision=made.decision_revision,
            steps=list(made.steps),
            versions=Versions.of(found.model, found.policy.version),
        )


class VerdictIn(BaseModel):
    """What is to be said of a category of a photo."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"node": "n02084071", "verdict": "confirm"}]}
    )

    node: str = Field(pattern=r"^n[0-9]{8}$", description="synset id; /v1/categories?name= resolves names")
    verdict: Kind = Field(
        description="confirm: the photo shows it, and so all above it; reject: it does not, nor anything below it; "
        "generalise: it shows some kind of it, and the headline shown now is wrong if it lies below"
    )


class VerdictsOut(BaseModel):
    """What people say of a photo, oldest first; none contradicts another."""

    photo_id: int
    verdicts: list[VerdictOut]
    versions: Versions

    @classmethod
    def of(cls, found: Verdicts) -> "VerdictsOut":
        """The answer for a photo's verdicts."""
        return cls(
            photo_id=found.photo_id,
            verdicts=[VerdictOut.of(each) for each in found.verdicts],
            versions=Versions.of(found.model, found.policy.version),
        )


class GivenOut(BaseModel):
    """What was said, and what that changed."""

    photo_id: int
    verdict: VerdictOut
    replaced: list[VerdictOut] = Field(description="what it contradicts, or was said of the same category: it is gone")
    verdicts: list[VerdictOut] = Field(description="all that hold now, oldest first")
    versions: Versions

    @classmethod
    def of(cls, given: Given) -> "GivenOut":
        """The answer for a verdict that was given."""
        return cls(
            photo_id=given.now.photo_id,
            verdict=VerdictOut.of(given.verdict),
            replaced=[VerdictOut.of(each) for each in given.replaced],
            verdicts=[VerdictOut.of(each) for each in given.now.verdicts],
            versions=Versions.of(given.now.model, given.now.policy.version),
        )


class ReviewItemOut(BaseModel):
    """A photo that wants a look."""

    photo_id: int
    user: str
    taken_at: datetime
    reason: Literal["abstained", "unsure"] = Field(description="unsure: the headline has a probability under 0.9")
    headline: TagOut | None
    guesses: list[TagOut] = Field(description="best first: what can be a tag, then the surest labels")
    torn: list[TagOut] = Field(description="two categories far apart that both hold much, the better first; or none")
    ancestors: list[TagOut] = Field(description="of the best guess, narrowest first")

    @classmethod
    def of(cls, item: ReviewItem) -> "ReviewItemOut":
        """The answer for a photo of the queue."""
        return cls(
            photo_id=item.photo_id,
            user=item.user,
            taken_at=item.taken_at,
            reason=item.reason,
            headline=None if item.shown is None else TagOut.of(item.shown),
            guesses=[TagOut.of(tag) for tag in item.guesses],
            torn=[TagOut.of(tag) for tag in item.torn or ()],
            ancestors=[TagOut.of(tag) for tag in item.ancestors],
        )


class ReviewOut(BaseModel):
    """Photos that want a look, newest first. A page may be short, or empty, and have a next one all the same."""

    photos: list[ReviewItemOut]
    next_page_token: str | None = Field(description="null on the last page")
    versions: Versions

    @classmethod
    def of(cls, found: Queue, next_page_token: str | None) -> "ReviewOut":
        """The answer for a page of the queue."""
        return cls(
            photos=[ReviewItemOut.of(item) for item in found.items],
            next_page_token=next_page_token,
            versions=Versions.of(found.model, found.policy.version),
        )
