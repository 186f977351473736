"""Where each model of the ledger stands: active, in the shadow or dropped, since when, and how it decides."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, text

from pipeline.store.promotions import KnownModel, known_models, photos_seen

State = Literal["active", "shadow", "dropped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredDecision:
    """The constants that turn a model's masses into tags, of its newest revision."""

    revision: int
    rule: str
    threshold: int  # ten-thousandths of a photo
    lam: int
    vague_share: float
    ambiguous_mass: int
    keep_mass: int
    created_at: datetime
    calibration: Mapping[str, Any] | None  # what the constants rest on; None: they are shipped ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A model, and where it stands."""

    model: KnownModel
    state: State
    since: datetime
    photos_seen: int
    decision: StoredDecision | None  # None: the ledger has none for it


_FACTS = tuple(each.name for each in fields(StoredDecision))
_DECISIONS = f"""
SELECT DISTINCT ON (model_id) model_id, {", ".join(_FACTS)} FROM core.decision ORDER BY model_id, revision DESC"""
_PROMOTED = "SELECT promoted_at FROM core.promotion ORDER BY promotion_id DESC LIMIT 1"


def standings(connection: Connection) -> list[Standing]:
    """Every model that was ever registered, oldest first."""
    seen = photos_seen(connection)
    promoted: datetime | None = connection.execute(text(_PROMOTED)).scalar()
    decisions = {}
    for row in connection.execute(text(_DECISIONS)):
        model_id, *facts = row
        decisions[model_id] = StoredDecision(**dict(zip(_FACTS, facts, strict=True)))
    return [
        Standing(
            model=model,
            state=_state(model),
            since=_since(model, promoted),
            photos_seen=seen.get(model.model_id, 0),
            decision=decisions.get(model.model_id),
        )
        for model in known_models(connection)
    ]


def _state(model: KnownModel) -> State:
    if model.dropped_at is not None:
        return "dropped"
    return "active" if model.active else "shadow"


def _since(model: KnownModel, promoted: datetime | None) -> datetime:
    if model.dropped_at is not None:
        return model.dropped_at
    return promoted if model.active and promoted is not None else model.registered_at
