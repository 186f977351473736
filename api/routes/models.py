"""Models: which there are, and what another one would change."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from api.answers import cacheable
from api.auth import ModelDesk
from api.errors import Problem, not_found
from api.parameters import only
from api.views.models import Difference, difference
from pipeline.errors import ConfigurationError
from pipeline.net_change import NetChange
from pipeline.records import WHOLE
from pipeline.store import promotions
from pipeline.store.promotions import KnownModel
from pipeline.store.standing import Standing, StoredDecision, standings

router = APIRouter(prefix="/v1/models", tags=["models"])

JSON = "application/json"
Name = Annotated[str, Query(min_length=1, max_length=200, description="NAME, or NAME@FINGERPRINT")]


class DecisionOut(BaseModel):
    """How a model's masses become tags."""

    revision: int
    rule: str
    threshold: float = Field(description="least probability of further tags")
    lam: float = Field(description="what a category is worth for being right alone")
    vague_share: float = Field(description="categories with this share of the labels are never shown")
    created_at: datetime

    @classmethod
    def of(cls, found: StoredDecision) -> "DecisionOut":
        """The answer for a decision."""
        same = ("revision", "rule", "vague_share", "created_at")
        values = {name: getattr(found, name) for name in same}
        return cls(**values, lam=found.lam / WHOLE, threshold=found.threshold / WHOLE)


class ModelOut(BaseModel):
    """A model of the ledger."""

    name: str
    label: str = Field(description="the name by which this very model can be given")
    fingerprint: str
    taxonomy: str
    taxonomy_sha256: str
    state: Literal["active", "shadow", "dropped"]
    since: datetime = Field(description="when it came to stand so: promoted, registered or dropped")
    registered_at: datetime
    dropped_at: datetime | None
    photos_seen: int
    decision: DecisionOut | None
    calibration: Mapping[str, Any] | None = Field(description="what the decision's constants rest on")

    @classmethod
    def of(cls, found: Standing) -> "ModelOut":
        """The answer for a model."""
        same = ("name", "label", "fingerprint", "taxonomy", "taxonomy_sha256", "registered_at", "dropped_at")
        decision = found.decision
        return cls(
            **{name: getattr(found.model, name) for name in same},
            state=found.state,
            since=found.since,
            photos_seen=found.photos_seen,
            decision=None if decision is None else DecisionOut.of(decision),
            calibration=None if decision is None else decision.calibration,
        )


class ModelsOut(BaseModel):
    """Models, oldest first."""

    models: list[ModelOut]


class NetChangeOut(BaseModel):
    """A category over all photos that either model has seen."""

    wnid: str
    name: str
    base_photos: int
    head_photos: int
    gained: int = Field(description="net: photos that the head tags with it more than the base")
    lost: int = Field(description="net: photos that it tags less")
    base_mass: int
    head_mass: int

    @classmethod
    def of(cls, found: NetChange) -> "NetChangeOut":
        """The answer for a category."""
        return cls(**{name: getattr(found, name) for name in cls.model_fields})


class DifferenceOut(BaseModel):
    """What would change if the head took the base's place."""

    base: str
    head: str
    same_taxonomy: bool
    policy_version: int = Field(description="0: no policy")
    categories: list[NetChangeOut] = Field(description="from exact totals, as they are now; those that differ")
    report: Mapping[str, Any] | None = Field(
        description="photo by photo, as `pictograph models diff --json` writes it: users and photos that change most"
    )
    report_made_at: datetime | None
    message: str | None = Field(description="why there is no report, and which command makes one")

    @classmethod
    def of(cls, base: KnownModel, head: KnownModel, found: Difference) -> "DifferenceOut":
        """The answer for a comparison."""
        report = found.report
        return cls(
            base=base.label,
            head=head.label,
            same_taxonomy=found.same_taxonomy,
            policy_version=found.policy_version,
            categories=[NetChangeOut.of(change) for change in found.categories],
            report=None if report is None else report.report,
            report_made_at=None if report is None else report.made_at,
            message=found.missing,
        )


@router.get(
    "",
    response_model=ModelsOut,
    dependencies=[only()],
    operation_id="list_models",
)
def list_models(request: Request, desk: ModelDesk) -> Response:
    """Every model that was ever registered: the active one, those in its shadow, those that were dropped."""
    with desk.transaction() as connection:
        found = standings(connection)
    answer = ModelsOut(models=[ModelOut.of(each) for each in found])
    return cacheable(request, answer.model_dump_json(), JSON)


@router.get(
    "/diff",
    response_model=DifferenceOut,
    dependencies=[only("base", "head")],
    responses={404: {"description": "There is no such model."}, 409: {"description": "One of them was dropped."}},
    operation_id="diff_models",
)
def diff_models(request: Request, desk: ModelDesk, base: Name, head: Name) -> Response:
    """What another model would change: categories at once, users and photos as they were compared last."""
    with desk.transaction() as connection:
        first, second = (_model(connection, name) for name in (base, head))
        found = difference(connection, first, second)
    return cacheable(request, DifferenceOut.of(first, second, found).model_dump_json(), JSON)


def _model(connection: Connection, name: str) -> KnownModel:
    try:
        found = promotions.find_model(connection, name)
    except ConfigurationError as missing:
        raise not_found(str(missing)) from missing
    if found.dropped_at is not None:
        detail = f"Model {found.label} was dropped, and its results with it; there is nothing to compare."
        raise Problem(HTTPStatus.CONFLICT, "model_dropped", detail)
    return found
