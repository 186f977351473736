"""What one user photographs, by month, by period, by moment; and the photos themselves.

Every function takes the connection of a transaction that says what may be seen (a desk's `transaction`), and raises the
problem of a thing that is not there where there is none, or none that may be seen.

A user's whole time comes from totals that are kept exact, a handful of rows. Everything else is worked out from results
and so is bounded: above `periods.MOST_PHOTOS` the answer is a problem that says what to ask instead.
"""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

from sqlalchemy import Connection

from api.answers import stamped
from api.errors import Problem, not_found
from api.services import taxonomy_of
from pipeline import profile as profiles
from pipeline.errors import ConfigurationError
from pipeline.profile import CELLS, Profile, Unit
from pipeline.store import own_photos, periods, queries
from pipeline.store.own_photos import PhotoSummary, Position, Wanted
from pipeline.store.periods import Month, Selection
from pipeline.store.policies import active_policy, coarsen_totals
from pipeline.store.promotions import find_model
from pipeline.store.queries import ActiveModel
from pipeline.store.revisions import ModelStamp, UserStamp, model_stamp, user_stamp
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy


def _edition() -> str:
    try:
        return version("pictograph")
    except PackageNotFoundError:  # run from its sources
        return ""


EDITION = _edition()  # another release may draw the same numbers otherwise


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Which profile is asked for. Periods are half-open, in UTC, by the time a photo was taken."""

    k: int = CELLS
    depth: int = 1
    unit: Unit = "photos"
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None  # only of photos that were known by then, and are still there
    model: str | None = None  # None: the active one
    under: str | None = None  # a synset id: what lies inside of that category


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """A category by its id and name."""

    wnid: str
    name: str


@dataclass(frozen=True, kw_only=True)
class UserProfile:
    """A user's profile, and what it rests on."""

    user: str
    user_id: int
    asked: Asked
    profile: Profile
    model: ActiveModel
    policy: Policy
    taxonomy: Taxonomy


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A user and a model, as they are now: whoever has an answer of the same needs no other."""

    user: UserStamp
    model: ModelStamp

    @property
    def parts(self) -> tuple[object, ...]:
        """What all that is shown of the user under the model rests on. Merges of other users' photos change none."""
        return self.user, self.model.model, self.model.policy_version, self.model.shown


def standing(connection: Connection, user: str, model: str | None = None) -> Standing:
    """How the user and the model stand; reads no tag table.

    Raises:
        Problem: there is no such user, or no such model with results.
    """
    return Standing(user=known_user(connection, user), model=model_standing(connection, model))


def known_user(connection: Connection, user: str) -> UserStamp:
    """The user's stamp; a Problem where there is no such user, or none that may be seen."""
    found = user_stamp(connection, user)
    if found is None:
        raise not_found(f"There is no user {user!r}.")
    return found


def model_standing(connection: Connection, name: str | None) -> ModelStamp:
    """How the model of that name stands; None: the active one. A Problem where there is none with results."""
    if name is None:
        return model_stamp(connection)
    try:
        return model_stamp(connection, find_model(connection, name).model_id)
    except ConfigurationError as missing:
        raise not_found(f"There is no model {name!r} that has results.") from missing


def profile_etag(stands: Standing, asked: Asked, *more: object) -> str:
    """The strong ETag of an answer that holds this profile; `more`: what else the answer depends on."""
    return stamped(EDITION, *stands.parts, asked, *more)


def user_profile(connection: Connection, user: str, asked: Asked, stands: Standing | None = None) -> UserProfile:
    """The profile that is asked for; `stands`, if it was looked up already in this transaction of one moment.

    Raises:
        Problem: there is no such user, model or category, or too many photos would have to be looked at.
    """
    stands = stands or standing(connection, user, asked.model)
    model = stands.model.model
    taxonomy = taxonomy_of(model)
    policy = active_policy(connection, taxonomy)
    under = 0 if asked.under is None else category(asked.under, taxonomy, policy)
    selection = Selection(
        model_id=model.model_id,
        user_id=stands.user.user_id,
        since=asked.since,
        until=asked.until,
        as_of=asked.as_of,
        unit=asked.unit,
    )
    totals = coarsen_totals(totals_of(connection, selection), policy)
    made = profiles.profile(totals, taxonomy, asked.k, depth=asked.depth, under=under, unit=asked.unit)
    return UserProfile(
        user=user,
        user_id=stands.user.user_id,
        asked=asked,
        profile=made,
        model=model,
        policy=policy,
        taxonomy=taxonomy,
    )


def totals_of(connection: Connection, selection: Selection) -> tuple[profiles.CategoryTotal, ...]:
    """The exact totals of the selection; a Problem where it holds too many photos to be looked at now."""
    if selection.whole:
        return queries.user_totals(connection, selection.model_id, selection.user_id)
    refuse_many(connection, selection)
    return periods.totals_of(connection, selection)


def refuse_many(connection: Connection, selection: Selection) -> None:
    """Raise a Problem where more photos would have to be looked at than anybody should wait for."""
    if periods.photos_in(connection, selection) > periods.MOST_PHOTOS:
        detail = f"That is more than {periods.MOST_PHOTOS:,} photos; ask for a shorter period with from and to."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_photos", detail)


def category(wnid: str, taxonomy: Taxonomy, policy: Policy) -> int:
    """The node of a synset id; a Problem where there is none, or none that may be named."""
    try:
        node = taxonomy.node(wnid)
    except UnknownSynset:
        node = None
    if node is None or node in policy.hidden:
        raise not_found(f"There is no category {wnid!r}.")
    return node


def trail(found: UserProfile) -> tuple[Ref, ...]:
    """From the broadest shown category down to the one that is looked into, itself last; nothing where none is."""
    if found.profile.under is None:
        return ()
    nodes = [found.taxonomy.node(wnid) for wnid in found.profile.under.path]
    shown = [node for node in nodes if node not in found.policy.hidden]
    return tuple(Ref(wnid=found.taxonomy.synsets[v].wnid, name=found.taxonomy.synsets[v].name) for v in shown)


def covers(connection: Connection, found: UserProfile) -> dict[int, int]:
    """By category of the profile's cells, a photo of the user and of the period that shows it best."""
    column = found.taxonomy.area_column
    areas = {cell.node: int(column[cell.node]) for cell in found.profile.cells if cell.node is not None}
    asked = found.asked
    return queries.covers(connection, found.model.model_id, found.user_id, areas, asked.since, asked.until)


def months(connection: Connection, user: str) -> tuple[Month, ...]:
    """The months in which the user took photos, oldest first; a Problem where there is no such user."""
    return periods.months(connection, known_user(connection, user).user_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotosAsked:
    """Which of a user's photos are asked for. Periods are half-open, in UTC."""

    under: str | None = None  # a synset id: those that carry its tag
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None  # None: the active one


@dataclass(frozen=True, kw_only=True)
class PhotoPage:
    """A page of a user's photos, newest first."""

    user: str
    photos: tuple[PhotoSummary, ...]
    after: Position | None  # where the next page begins; None: this is the last one
    count: int | None  # of the whole list, exactly; None: not counted, as no category or too long a period was asked
    model: ActiveModel
    policy: Policy


def photos(connection: Connection, user: str, asked: PhotosAsked, after: Position | None, limit: int) -> PhotoPage:
    """A page of the user's own photos.

    Raises:
        Problem: there is no such user, model or category.
    """
    stands = standing(connection, user, asked.model)
    model, user_id = stands.model.model, stands.user.user_id
    taxonomy = taxonomy_of(model)
    policy = active_policy(connection, taxonomy)
    tag = None if asked.under is None else int(taxonomy.shown_as[category(asked.under, taxonomy, policy)])
    wanted = Wanted(limit=limit, tag=tag, since=asked.since, until=asked.until, after=after)
    found = own_photos.user_photos(connection, model.model_id, user_id, wanted)
    selection = Selection(model_id=model.model_id, user_id=user_id, since=asked.since, until=asked.until)
    count = None if tag is None else _count(connection, selection, tag, policy)
    return PhotoPage(user=user, photos=found.photos, after=found.after, count=count, model=model, policy=policy)


def _count(connection: Connection, selection: Selection, tag: int, policy: Policy) -> int | None:
    """How many photos of the selection carry a tag as it is shown; None where they are too many to be counted now."""
    if not selection.whole and periods.photos_in(connection, selection) > periods.MOST_PHOTOS:
        return None
    shown = coarsen_totals(totals_of(connection, selection), policy)
    return next((total.photos for total in shown if total.column == tag), 0)
