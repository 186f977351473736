"""What the API answers about users and what they photograph, field by field; as `api.schemas.versions`."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.schemas.versions import Versions
from api.views.comparisons import Compared, Period, Side
from api.views.profiles import PhotoPage, UserProfile
from pipeline.compare import ComparedCategory
from pipeline.ledger.refresh import Refresh, Refreshing
from pipeline.profile import Cell, Unit
from pipeline.records import WHOLE
from pipeline.side_by_side import SharedCell
from pipeline.store.own_photos import PhotoSummary
from pipeline.store.periods import Month
from pipeline.store.queries import UserSummary

Kind = Literal["category", "other", "unsure"]


class CellOut(BaseModel):
    """One part of a profile."""

    kind: Kind
    wnid: str | None = Field(description="WordNet synset id; null unless kind is category")
    name: str
    photos: int | None = Field(description="distinct photos, or moments, that carry the tag; not additive")
    mass: int = Field(description="ten-thousandths of a photo, or of a moment; additive")
    share: float = Field(description="of the mass of the whole profile, 0 to 1")
    cells: list["CellOut"] = Field(description="what it is divided into, where a depth was asked for; adds up to it")

    @classmethod
    def of(cls, cell: Cell) -> "CellOut":
        """The answer for a cell."""
        return cls(
            kind=cell.kind,
            wnid=cell.wnid,
            name=cell.name,
            photos=cell.photos,
            mass=cell.mass,
            share=round(cell.share, 6),
            cells=[cls.of(each) for each in cell.cells],
        )


class UnderOut(BaseModel):
    """The category that is looked into."""

    wnid: str
    name: str
    path: list[str] = Field(description="synset ids in the display tree, from the broadest shown category down to it")
    share: float = Field(description="of all that was analysed, 0 to 1")

    @classmethod
    def of(cls, cell: Cell) -> "UnderOut":
        """The answer for the cell of a category."""
        return cls(wnid=cell.wnid or "", name=cell.name, path=list(cell.path), share=round(cell.share, 6))


class PeriodOut(BaseModel):
    """A half-open period, by the time a photo was taken; null: without an end on that side."""

    since: datetime | None = Field(serialization_alias="from")
    until: datetime | None = Field(serialization_alias="to")


class ProfileOut(BaseModel):
    """A user's profile."""

    user: str
    unit: Unit
    period: PeriodOut
    as_of: datetime | None = Field(description="only photos known by then are counted; null: all")
    photos: int = Field(description="photos, or moments, analysed; with under, those that carry its tag")
    mass: int = Field(description="of all cells together, exactly")
    under: UnderOut | None
    cells: list[CellOut]
    versions: Versions

    @classmethod
    def of(cls, found: UserProfile) -> "ProfileOut":
        """The answer for a profile."""
        made, asked = found.profile, found.asked
        return cls(
            user=found.user,
            unit=made.unit,
            period=PeriodOut(since=asked.since, until=asked.until),
            as_of=asked.as_of,
            photos=made.photos,
            mass=made.mass,
            under=UnderOut.of(made.under) if made.under else None,
            cells=[CellOut.of(cell) for cell in made.cells],
            versions=Versions.of(found.model, found.policy.version),
        )


class UserOut(BaseModel):
    """A user in a list."""

    name: str
    photos: int


class UsersOut(BaseModel):
    """Users in the byte order of their names."""

    users: list[UserOut]
    next_page_token: str | None = Field(description="give it as page_token for the next page; null on the last one")
    next_after: str | None = Field(description="the last name, for `after`; null on the last page", deprecated=True)

    @classmethod
    def of(cls, found: Sequence[UserSummary], next_page_token: str | None) -> "UsersOut":
        """The answer for a page of users."""
        after = found[-1].name if next_page_token else None
        users = [UserOut(name=u.name, photos=u.photos) for u in found]
        return cls(users=users, next_page_token=next_page_token, next_after=after)


class MonthOut(BaseModel):
    """A month in which photos were taken."""

    month: date = Field(description="its first day")
    photos: int


class MonthsOut(BaseModel):
    """A user's months, oldest first."""

    user: str
    months: list[MonthOut]

    @classmethod
    def of(cls, user: str, found: Sequence[Month]) -> "MonthsOut":
        """The answer for a user's months."""
        return cls(user=user, months=[MonthOut(month=each.month, photos=each.photos) for each in found])


class HeadlineOut(BaseModel):
    """The one category that was decided for a photo."""

    wnid: str
    name: str
    probability: float | None


class OwnPhotoOut(BaseModel):
    """A photo in its owner's list."""

    photo_id: int
    key: str
    taken_at: datetime
    seen: bool = Field(description="whether the model has seen it")
    headline: HeadlineOut | None

    @classmethod
    def of(cls, photo: PhotoSummary) -> "OwnPhotoOut":
        """The answer for a photo."""
        headline = None
        if photo.wnid is not None and photo.headline is not None:
            probability = None if photo.mass is None else photo.mass / WHOLE
            headline = HeadlineOut(wnid=photo.wnid, name=photo.headline, probability=probability)
        return cls(photo_id=photo.photo_id, key=photo.key, taken_at=photo.taken_at, seen=photo.seen, headline=headline)


class OwnPhotosOut(BaseModel):
    """A user's own photos, newest first."""

    user: str
    count: int | None = Field(
        description="photos of the whole list, where a category is asked for and the period is not too long; else null"
    )
    photos: list[OwnPhotoOut]
    next_page_token: str | None = Field(
        description="null on the last page; a page of a rare category may be short, or empty, and not the last"
    )
    versions: Versions

    @classmethod
    def of(cls, found: PhotoPage, next_page_token: str | None) -> "OwnPhotosOut":
        """The answer for a page of photos."""
        return cls(
            user=found.user,
            count=found.count,
            photos=[OwnPhotoOut.of(photo) for photo in found.photos],
            next_page_token=next_page_token,
            versions=Versions.of(found.model, found.policy.version),
        )


class RefreshOut(BaseModel):
    """The jobs that bring a user's new photos."""

    user: str
    job_id: int = Field(description="over the photos that the ledger knows")
    listing_job_id: int | None = Field(description="over the user's place; null: no listing has met the user there")
    submitted: bool = Field(description="whether one of the jobs is new; else all went on already")

    @classmethod
    def of(cls, user: str, found: Refresh) -> "RefreshOut":
        """The answer for what was asked for."""
        return cls(user=user, job_id=found.job_id, listing_job_id=found.listing_job_id, submitted=found.submitted)


class RefreshingOut(BaseModel):
    """How far it is that a user's new photos are looked at."""

    user: str
    state: Literal["never", "running", "ended"] = Field(description="never: nobody asked for it")
    asked_at: datetime | None
    finished_at: datetime | None
    tagged: int = Field(description="photos that were looked at, also those of which nothing is certain")
    failed: int
    waiting: int = Field(description="photos that are met and not looked at yet; more come while the place is listed")

    @classmethod
    def of(cls, user: str, found: Refreshing | None) -> "RefreshingOut":
        """The answer for how it stands; None: nobody asked for it."""
        if found is None:
            return cls(user=user, state="never", asked_at=None, finished_at=None, tagged=0, failed=0, waiting=0)
        same = {name: getattr(found, name) for name in ("asked_at", "finished_at", "tagged", "failed", "waiting")}
        return cls(user=user, state="running" if found.going_on else "ended", **same)


# ---- two side by side


class SideOut(BaseModel):
    """One of the two that are compared."""

    name: str = Field(description="of the user, or the period in words")
    period: PeriodOut
    photos: int = Field(description="photos, or moments, analysed")

    @classmethod
    def of(cls, side: Side) -> "SideOut":
        """The answer for a side."""
        return cls(name=side.name, period=_period(side.period), photos=side.photos)


def _period(period: Period) -> PeriodOut:
    return PeriodOut(since=period.since, until=period.until)


class SharedCellOut(BaseModel):
    """One part of both profiles, in one layout."""

    kind: Kind
    wnid: str | None
    name: str
    share: float = Field(description="the mean of the two: what its area is proportional to")
    share_a: float
    share_b: float
    difference: float = Field(description="share_a - share_b")
    mass_a: int = Field(description="ten-thousandths of a photo, or of a moment; additive")
    mass_b: int
    photos_a: int | None = Field(description="that carry the tag; null unless kind is category")
    photos_b: int | None

    @classmethod
    def of(cls, cell: SharedCell) -> "SharedCellOut":
        """The answer for a cell."""
        shares = {"share": cell.share, "share_a": cell.share_a, "share_b": cell.share_b, "difference": cell.difference}
        return cls(
            kind=cell.kind,
            wnid=cell.wnid,
            name=cell.name,
            mass_a=cell.mass_a,
            mass_b=cell.mass_b,
            photos_a=cell.photos_a,
            photos_b=cell.photos_b,
            **{name: round(share, 6) for name, share in shares.items()},
        )


class ComparedCategoryOut(BaseModel):
    """A category of a list."""

    wnid: str
    name: str
    share_a: float
    share_b: float
    background: float = Field(description="its share of the photos of everybody whom the two are compared before")
    difference: float = Field(description="share_a - share_b")
    score: float = Field(description="what orders the list: bits per photo; in differences, a difference of shares")

    @classmethod
    def of(cls, found: ComparedCategory, score: float) -> "ComparedCategoryOut":
        """The answer for a category with its score."""
        return cls(
            wnid=found.wnid,
            name=found.name,
            share_a=round(found.share_a, 6),
            share_b=round(found.share_b, 6),
            background=round(found.background, 6),
            difference=round(found.difference, 6),
            score=round(score, 6),
        )


class DivergenceOut(BaseModel):
    """Where the two divide what lies inside of a category most differently."""

    wnid: str
    name: str
    divergence: float = Field(description="bits; all parts add up to the whole divergence")


class ComparedOut(BaseModel):
    """Two profiles side by side."""

    a: SideOut
    b: SideOut
    unit: Unit
    similarity: float = Field(description="0 to 1; 1: alike")
    divergence: float = Field(description="1 - similarity; the sum of its parts, of which the widest are given")
    widest: list[DivergenceOut]
    cells: list[SharedCellOut]
    both: list[ComparedCategoryOut] = Field(description="what is remarkable about either of the two")
    only_a: list[ComparedCategoryOut] = Field(description="A's, and neither B's nor everybody's")
    only_b: list[ComparedCategoryOut]
    differences: list[ComparedCategoryOut] = Field(description="where the shares are furthest apart, either way")
    versions: Versions

    @classmethod
    def of(cls, found: Compared) -> "ComparedOut":
        """The answer for a comparison."""
        lists = {
            name: [ComparedCategoryOut.of(each, score) for each, score in entries]
            for name, entries in found.lists.scored().items()
        }
        return cls(
            a=SideOut.of(found.a),
            b=SideOut.of(found.b),
            unit=found.asked.unit,
            similarity=round(found.comparison.similarity, 6),
            divergence=round(found.comparison.divergence, 6),
            widest=[
                DivergenceOut(wnid=ref.wnid, name=ref.name, divergence=round(part, 6)) for ref, part in found.widest
            ],
            cells=[SharedCellOut.of(cell) for cell in found.cells],
            versions=Versions.of(found.model, found.policy.version),
            **lists,
        )
