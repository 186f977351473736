"""How profiles, photos and comparisons are asked for: query parameters, and the values that they become."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import BeforeValidator, WithJsonSchema

from api.errors import Problem
from api.views.comparisons import ComparedAsked, DiffAsked, Period, before
from api.views.profiles import Asked, PhotosAsked
from pipeline.compare import MOST
from pipeline.profile import CELLS, MOST_CELLS, MOST_DEPTH, Unit

MONTH = "%Y-%m"
WNID = r"^n[0-9]{8}$"
MOST_PAGE, PAGE = 500, 50


def moment(typed: object) -> datetime:
    """A month, a date or a moment in time, as its first instant; UTC where it names no zone. ValueError: it is none."""
    if isinstance(typed, datetime):
        return typed
    text = str(typed)
    try:
        found = datetime.strptime(text, MONTH) if len(text) == len("2026-01") else datetime.fromisoformat(text)  # noqa: DTZ007
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("no time; write 2026-01, 2026-01-28 or 2026-01-28T18:00Z") from None


def _wnid(typed: object) -> object:
    if re.fullmatch(WNID, str(typed)) is None:
        raise ValueError("no synset id, such as n02084071; /v1/categories?name= looks one up by name")
    return typed


_SCHEMA = {
    "type": "string",
    "pattern": r"^(?!0000)\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|1\d|2[0-8])(T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?Z)?)?$",
    "examples": ["2026-01", "2026-01-28", "2026-01-28T18:00Z"],
}
Time = Annotated[datetime, BeforeValidator(moment), WithJsonSchema(_SCHEMA)]
Cells = Annotated[int, Query(ge=1, le=MOST_CELLS, description="categories shown at most, besides other and unsure")]
Depth = Annotated[
    int, Query(ge=1, le=MOST_DEPTH, description="2 and 3: each category is divided into its own best ones, so often")
]
UnitOf = Annotated[
    Unit, Query(description="what is counted; moments: photos of one burst, at most 60 s apart, count once")
]
Since = Annotated[Time | None, Query(alias="from", description="taken then or later; a month, a date or a time, UTC")]
Until = Annotated[Time | None, Query(alias="to", description="taken before that; a month, a date or a time, UTC")]
AsOf = Annotated[Time | None, Query(description="only of photos that were known then, and are still there")]
Model = Annotated[
    str | None, Query(min_length=1, max_length=200, description="a registered model; unless given, the active one")
]
Wnid = Annotated[str, BeforeValidator(_wnid), WithJsonSchema({"type": "string", "pattern": WNID})]
Under = Annotated[Wnid | None, Query(description="a synset id: what lies inside of that category")]
Most = Annotated[int, Query(ge=1, le=100, description="categories per list, at most")]
PageSize = Annotated[int, Query(ge=1, le=MOST_PAGE, description="entries on a page, at most")]
User = Annotated[str, Path(min_length=1, description="the user's name; in an address, a slash in it is %2F")]
PageToken = Annotated[str | None, Query(description="next_page_token of the page before")]

NAMELIKE = r"^[^\x00]*$"  # what a name may hold; the database would not even take the question

PERIOD_PARAMETERS = ("from", "to")
PROFILE_PARAMETERS = ("k", "depth", "unit", *PERIOD_PARAMETERS, "as_of", "model", "under")
PHOTOS_PARAMETERS = ("under", *PERIOD_PARAMETERS, "model")
PAGE_PARAMETERS = ("page_size", "page_token")
COMPARED_PARAMETERS = ("k", "most", "unit", *PERIOD_PARAMETERS, "model")
AGAINST_PARAMETERS = ("against_from", "against_to")
DIFF_PARAMETERS = (*COMPARED_PARAMETERS, *AGAINST_PARAMETERS)


def in_order(since: datetime | None, until: datetime | None, names: tuple[str, str] = PERIOD_PARAMETERS) -> None:
    """Raise a Problem where a period ends before it has begun."""
    if since is not None and until is not None and until <= since:
        first, last = names
        detail = f"A period must end after it begins; give a later {last}, or an earlier {first}."
        error = {"pointer": f"query.{last}", "code": "invalid_period", "detail": detail}
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", detail, [error])


async def profile_asked(
    k: Cells = CELLS,
    depth: Depth = 1,
    unit: UnitOf = "photos",
    since: Since = None,
    until: Until = None,
    as_of: AsOf = None,
    model: Model = None,
    under: Under = None,
) -> Asked:
    """Which profile is asked for."""
    in_order(since, until)
    return Asked(k=k, depth=depth, unit=unit, since=since, until=until, as_of=as_of, model=model, under=under)


async def photos_asked(
    under: Under = None, since: Since = None, until: Until = None, model: Model = None
) -> PhotosAsked:
    """Which of a user's photos are asked for."""
    in_order(since, until)
    return PhotosAsked(under=under, since=since, until=until, model=model)


ProfileAsked = Annotated[Asked, Depends(profile_asked)]
UserPhotosAsked = Annotated[PhotosAsked, Depends(photos_asked)]


async def compared_asked(
    k: Cells = CELLS,
    most: Most = MOST,
    unit: UnitOf = "photos",
    since: Since = None,
    until: Until = None,
    model: Model = None,
) -> ComparedAsked:
    """How two users are to be compared."""
    in_order(since, until)
    return ComparedAsked(k=k, most=most, unit=unit, since=since, until=until, model=model)


async def diff_asked(
    since: Annotated[Time, Query(alias="from", description="the period begins then; a month, a date or a time, UTC")],
    until: Annotated[Time, Query(alias="to", description="the period ends before that")],
    against_since: Annotated[
        Time | None, Query(alias="against_from", description="with against_to: the period that it is held against")
    ] = None,
    against_until: Annotated[
        Time | None,
        Query(
            alias="against_to",
            description="with against_from; without both it is the period before: as many months, where from and to "
            "are the beginnings of months, else as long",
        ),
    ] = None,
    k: Cells = CELLS,
    most: Most = MOST,
    unit: UnitOf = "photos",
    model: Model = None,
) -> DiffAsked:
    """Which two periods of a user are to be compared."""
    in_order(since, until)
    in_order(against_since, against_until, AGAINST_PARAMETERS)
    period = Period(since=since, until=until)
    if (against_since is None) != (against_until is None):
        missing = AGAINST_PARAMETERS[against_since is not None]
        detail = f"{missing} is missing; give both against_from and against_to, or neither for the period before."
        error = {"pointer": f"query.{missing}", "code": "missing", "detail": detail}
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", detail, [error])
    against = before(period) if against_since is None else Period(since=against_since, until=against_until)
    return DiffAsked(period=period, against=against, k=k, most=most, unit=unit, model=model)


UsersCompared = Annotated[ComparedAsked, Depends(compared_asked)]
PeriodsCompared = Annotated[DiffAsked, Depends(diff_asked)]
