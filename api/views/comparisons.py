"""Two users, or two periods of one, side by side.

Every function takes the connection of a transaction that says what may be seen (a desk's `gallery` for two users, its
`transaction` for one), and raises the problem of a thing that is not there where there is none, or none to be seen.

Before whom two profiles are compared: everybody, for a principal who sees everybody; else those who consent to be seen.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from sqlalchemy import Connection

from api.answers import stamped
from api.errors import Problem
from api.services import taxonomy_of
from api.views.profiles import EDITION, Ref, Standing, known_user, model_standing, totals_of
from pipeline.compare import MOST, WIDEST, ComparedCategory, Comparison, NothingToCompare, apart, compare
from pipeline.profile import CELLS, CategoryTotal, Unit
from pipeline.side_by_side import SharedCell, side_by_side
from pipeline.store import policies, shared
from pipeline.store.periods import Selection
from pipeline.store.policies import active_policy, coarsen_totals
from pipeline.store.queries import ActiveModel
from pipeline.store.revisions import ModelStamp
from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy

LEAST_TOLD = 1e-6  # bits; less is what rounding leaves


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedAsked:
    """How two profiles are to be compared."""

    k: int = CELLS
    most: int = MOST  # entries of a list
    unit: Unit = "photos"
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None  # None: the active one


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """A half-open period, by the time a photo was taken."""

    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two."""

    name: str  # of the user, or the period in words
    period: Period
    photos: int  # analysed


@dataclass(frozen=True, kw_only=True)
class Lists:
    """What people are told: no category lies above another one of its list."""

    both: tuple[ComparedCategory, ...]
    only_a: tuple[ComparedCategory, ...]
    only_b: tuple[ComparedCategory, ...]
    differences: tuple[ComparedCategory, ...]  # where the shares are furthest apart, either way

    def scored(self) -> dict[str, list[tuple[ComparedCategory, float]]]:
        """By the list's name, its categories with the number that orders them."""
        return {
            "both": [(each, each.shared) for each in self.both],
            "only_a": [(each, each.only_a) for each in self.only_a],
            "only_b": [(each, each.only_b) for each in self.only_b],
            "differences": [(each, abs(each.difference)) for each in self.differences],
        }


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two profiles side by side, and what the comparison rests on."""

    a: Side
    b: Side
    asked: ComparedAsked
    cells: tuple[SharedCell, ...]
    comparison: Comparison
    lists: Lists
    widest: tuple[tuple[Ref, float], ...]  # the largest parts of the divergence, in bits
    model: ActiveModel
    policy: Policy
    taxonomy: Taxonomy


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What both sides are seen by."""

    model: ModelStamp
    taxonomy: Taxonomy
    policy: Policy
    background: tuple[CategoryTotal, ...]

    def totals(self, connection: Connection, user_id: int, period: Period, unit: Unit) -> tuple[CategoryTotal, ...]:
        selection = Selection(
            model_id=self.model.model.model_id, user_id=user_id, since=period.since, until=period.until, unit=unit
        )
        return coarsen_totals(totals_of(connection, selection), self.policy)


def _ground(connection: Connection, model: str | None, viewer: str | None) -> _Ground:
    stands = model_standing(connection, model)
    taxonomy = taxonomy_of(stands.model)
    policy = active_policy(connection, taxonomy)
    everybody = policies.population_totals if viewer is None else shared.everybody
    background = coarsen_totals(everybody(connection, stands.model.model_id), policy)
    return _Ground(model=stands, taxonomy=taxonomy, policy=policy, background=background)


def compared_stamp(
    connection: Connection, users: tuple[str, ...], asked: object, model: str | None, *more: object
) -> str:
    """The strong ETag of an answer that holds this comparison; rests on everybody's photos, before whom it is made."""
    stands = model_standing(connection, model)
    parts = [Standing(user=known_user(connection, user), model=stands).parts for user in users]
    return stamped(EDITION, "compared", *parts, stands.revision, asked, *more)


def compared(connection: Connection, a: str, b: str, asked: ComparedAsked, viewer: str | None) -> Compared:
    """Two users side by side, for a principal bound to the user `viewer`; None: to nobody.

    Raises:
        Problem: there is no such user or model, one of the two has no analysed photos, or too many are asked for.
    """
    ids = [known_user(connection, name).user_id for name in (a, b)]
    ground = _ground(connection, asked.model, viewer)
    period = Period(since=asked.since, until=asked.until)
    totals = [ground.totals(connection, user_id, period, asked.unit) for user_id in ids]
    return _compared((a, b), (period, period), totals, asked, ground)


def _compared(
    names: tuple[str, str],
    spans: tuple[Period, Period],
    totals: list[tuple[CategoryTotal, ...]],
    asked: ComparedAsked,
    ground: _Ground,
) -> Compared:
    try:
        made = compare(totals[0], totals[1], ground.background, ground.taxonomy)
    except NothingToCompare as empty:
        without = next((name for name, found in zip(names, totals, strict=True) if not found), names[0])
        detail = f"There are no analysed photos of {without}; there is nothing to compare."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "nothing_to_compare", detail) from empty
    return Compared(
        a=Side(name=names[0], period=spans[0], photos=made.photos_a),
        b=Side(name=names[1], period=spans[1], photos=made.photos_b),
        asked=asked,
        cells=side_by_side(totals[0], totals[1], ground.taxonomy, asked.k),
        comparison=made,
        lists=_lists(made, asked.most, ground.taxonomy),
        widest=_widest(made, ground),
        model=ground.model.model,
        policy=ground.policy,
        taxonomy=ground.taxonomy,
    )


def _lists(made: Comparison, most: int, taxonomy: Taxonomy) -> Lists:
    everything = len(made.categories)
    both, only_a, only_b, differences = (
        tuple(each for each in apart(ordered(everything), taxonomy))[:most]
        for ordered in (made.both, made.only_a, made.only_b, made.dissimilar)
    )
    return Lists(both=both, only_a=only_a, only_b=only_b, differences=differences)


def _widest(made: Comparison, ground: _Ground) -> tuple[tuple[Ref, float], ...]:
    found = [(node, part) for node, part in made.widest(len(made.parts)) if part >= LEAST_TOLD]
    synsets = ground.taxonomy.synsets
    told = [(node, part) for node, part in found if node not in ground.policy.hidden][:WIDEST]
    return tuple((Ref(wnid=synsets[node].wnid, name=synsets[node].name), part) for node, part in told)


# ---- two periods of one user


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffAsked:
    """Which two periods of a user are asked for: this one, and what it is held against."""

    period: Period
    against: Period
    k: int = CELLS
    most: int = MOST
    unit: Unit = "photos"
    model: str | None = None


def changed(connection: Connection, user: str, asked: DiffAsked, viewer: str | None) -> Compared:
    """A period of the user (A) beside an earlier one (B): what came is `only_a`, what went is `only_b`.

    Raises:
        Problem: as of `compared`.
    """
    user_id = known_user(connection, user).user_id
    ground = _ground(connection, asked.model, viewer)
    spans = asked.period, asked.against
    totals = [ground.totals(connection, user_id, span, asked.unit) for span in spans]
    how = ComparedAsked(k=asked.k, most=asked.most, unit=asked.unit, model=asked.model)
    return _compared((in_words(spans[0]), in_words(spans[1])), spans, totals, how, ground)


def before(period: Period) -> Period:
    """The period before one that has a beginning and an end: as many months, where it is whole months; else as long."""
    since, until = period.since, period.until
    if since is None or until is None:
        raise ValueError("A period without a beginning or an end has none before it.")
    if _begins_month(since) and _begins_month(until):
        months = 12 * (until.year - since.year) + until.month - since.month
        return Period(since=_months_earlier(since, months), until=since)
    try:
        return Period(since=since - (until - since), until=since)
    except OverflowError:
        return Period(since=datetime.min.replace(tzinfo=UTC), until=since)


def _begins_month(moment: datetime) -> bool:
    return moment.day == 1 and moment.timetz().replace(tzinfo=None) == datetime.min.time()


def _months_earlier(moment: datetime, months: int) -> datetime:
    count = 12 * moment.year + moment.month - 1 - months
    return datetime.min.replace(tzinfo=UTC) if count < 12 else moment.replace(year=count // 12, month=count % 12 + 1)


def in_words(period: Period) -> str:
    """A period as people read it: whole months and days by their names, the last one included."""
    since, until = period.since, period.until
    if since is None or since == until:  # nothing lies before the year 1
        return "all time" if until is None else f"before {_moment(until)}"
    if until is None:
        return f"since {_moment(since)}"
    if _begins_month(since) and _begins_month(until):
        first, last = f"{since:%B %Y}", f"{until - timedelta(days=1):%B %Y}"
        return first if first == last else f"{first} to {last}"
    return f"{_moment(since)} to {_moment(until)}"


def _moment(moment: datetime) -> str:
    midnight = moment.timetz().replace(tzinfo=None) == datetime.min.time()
    return f"{moment:%Y-%m-%d}" if midnight else f"{moment:%Y-%m-%d %H:%M}"
