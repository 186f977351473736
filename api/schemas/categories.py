"""What the API answers about categories, field by field."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.versions import Versions
from api.views.categories import CategoryView, Children, Found, Shot, Shots
from pipeline.records import WHOLE
from pipeline.store.categories import Person
from pipeline.store.queries import ActiveModel

PHOTOS = Field(
    description="photos that carry the tag and may be seen: as many as /photos lists; null: withheld, or vague"
)
WITHHELD = Field(
    description="too few users who consent have it, or its number would tell that of one that too few have"
)
VAGUE = Field(description="so broad that no photo is tagged with it")
OWN = Field(description="photos of whoever asks that carry the tag; null for keys that are bound to nobody")
FOLLOWING = Field(description="give it as `page_token` for the next page; null on the last one")


class Out(BaseModel):
    """A value that a view gives, field for field."""

    model_config = ConfigDict(from_attributes=True)


class RefOut(Out):
    """A category by its id and name."""

    wnid: str
    name: str


class CountOut(Out):
    """A category, and how many photos carry its tag."""

    wnid: str = Field(description="WordNet synset id")
    name: str
    gloss: str
    photos: int | None = PHOTOS
    withheld: bool = WITHHELD
    vague: bool = VAGUE
    own_photos: int | None = Field(validation_alias="own", description=OWN.description)


class SenseOut(CountOut):
    """One meaning of a name."""

    aliases: list[str]
    path: list[RefOut] = Field(description="in the display tree, root first, without itself")


class CategoriesOut(BaseModel):
    """What a name or the beginning of one may mean."""

    categories: list[SenseOut]
    near: list[str] = Field(description="where there is none of that name: names that look like it")
    versions: Versions

    @classmethod
    def of(cls, found: Found) -> Self:
        """The answer for what was found."""
        senses = [SenseOut.model_validate(sense) for sense in found.senses]
        return cls(categories=senses, near=list(found.near), versions=_versions(found))


class CardOut(CountOut):
    """A category in a row of them."""

    cover: int | None = Field(description="id of a photo that shows it well")


class PersonOut(Out):
    """Somebody who has photos of a category."""

    name: str
    photos: int


class CategoryOut(SenseOut):
    """A category, and what lies around it."""

    depth: int = Field(description="steps from the root down the display tree")
    bits: float = Field(description="its information, log2(labels of the model / its own); 0 at the root")
    labels: int = Field(description="of the model's, at or under it")
    parents: list[RefOut] = Field(description="all categories right above it; that of the path first")
    children: list[CardOut] = Field(description="the first of those right below it; /children has all")
    children_total: int
    siblings: list[CardOut] = Field(description="beside it in the display tree, those with most photos")
    together: list[CardOut] = Field(description="seen on the same photos, most telling first")
    least_users: int = Field(description="what fewer users have is withheld")
    versions: Versions

    @classmethod
    def of(cls, view: CategoryView) -> Self:
        """The answer for a category."""
        fields = {name: getattr(view, name) for name in CategoryView.__slots__}
        return cls.model_validate({**fields, "versions": _versions(view)})


class ChildrenOut(BaseModel):
    """The categories right below one, a page of them: those with most photos first."""

    children: list[CardOut]
    total: int = Field(description="on all pages")
    next_page_token: str | None = FOLLOWING
    versions: Versions

    @classmethod
    def of(cls, found: Children, token: str | None) -> Self:
        """The answer for a page."""
        cards = [CardOut.model_validate(card) for card in found.cards]
        return cls(children=cards, total=found.total, next_page_token=token, versions=_versions(found))


class CategoryPhotoOut(BaseModel):
    """A photo in a category's list."""

    photo_id: int
    user: str
    taken_at: datetime
    probability: float = Field(description="of the category, 0 to 1")
    headline: RefOut | None = Field(description="what it shows above all; of others' photos what may be told of that")
    own: bool = Field(description="whether it is a photo of whoever asks")

    @classmethod
    def of(cls, shot: Shot) -> Self:
        """The answer for a photo."""
        told = shot.headline_wnid is not None and shot.headline is not None
        return cls(
            photo_id=shot.photo_id,
            user=shot.user,
            taken_at=shot.taken_at,
            probability=shot.mass / WHOLE,
            headline=RefOut(wnid=shot.headline_wnid or "", name=shot.headline or "") if told else None,
            own=shot.own,
        )


class CategoryPhotosOut(BaseModel):
    """The photos of a category, a page of them."""

    photos: list[CategoryPhotoOut]
    total: int | None = Field(description="on all pages together; null where min_probability is given, or it is vague")
    withheld: bool = Field(description="only photos of whoever asks are listed")
    ordered: int | None = Field(
        description="how many of the newest were put in order together: behind them come the next ones, in order; "
        "null: the order is that of the whole list"
    )
    next_page_token: str | None = FOLLOWING
    versions: Versions

    @classmethod
    def of(cls, found: Shots, token: str | None, model: ActiveModel, policy_version: int) -> Self:
        """The answer for a page."""
        return cls(
            photos=[CategoryPhotoOut.of(shot) for shot in found.shots],
            total=found.photos,
            withheld=found.withheld,
            ordered=found.ordered,
            next_page_token=token,
            versions=Versions.of(model, policy_version),
        )


class CategoryUsersOut(BaseModel):
    """Who photographs a category most."""

    users: list[PersonOut]
    versions: Versions

    @classmethod
    def of(cls, found: Sequence[Person], model: ActiveModel, policy_version: int) -> Self:
        """The answer for some people."""
        people = [PersonOut.model_validate(person) for person in found]
        return cls(users=people, versions=Versions.of(model, policy_version))


def _versions(found: Found | Children | CategoryView) -> Versions:
    return Versions.of(found.model, found.policy_version)
