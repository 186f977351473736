"""Single photos as people see them: what is known of one, its tags, and why it has one.

Every function takes the connection of a transaction that says what may be seen (a desk's `gallery` or `transaction`),
and raises the problem of a thing that is not there where there is none, or none that may be seen.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Literal

import numpy as np
from sqlalchemy import Connection

from api.errors import Problem, not_found
from api.views.naming import Ground, Tag, Verdict, ground, named_verdicts, node_of, nodes_of, tag_of
from pipeline.explain import Coarsened, Explanation, explain
from pipeline.precision import Promise, keeps, targets
from pipeline.records import SEEN, WHOLE, Code, TakenFrom
from pipeline.store import photos as store
from pipeline.store import verdicts as verdict_store
from pipeline.store.evidence import Evidence, photo_evidence
from pipeline.store.photos import Neighbour, PhotoRow, PhotoStamp
from pipeline.store.queries import ActiveModel
from pipeline.tags import Wishes, listed
from pipeline.verdicts import shown
from taxonomy.decide import Decision, Kept, PhotoDecision, decide_kept
from taxonomy.policy import Policy, coarsen_photo

State = Literal["awaiting", "tagged", "abstained", "failed"]
Time = Literal["object", "exif", "manifest"]
TIMES: dict[TakenFrom, Time] = {TakenFrom.OBJECT: "object", TakenFrom.EXIF: "exif", TakenFrom.MANIFEST: "manifest"}
NEIGHBOURS = 3  # photos of the same user shown before and after one


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoView:
    """A photo. Whose it is and where it lies is for its owner, and for who sees everybody's."""

    photo_id: int
    user: str | None
    bucket: str | None
    key: str | None
    size: int  # bytes
    taken_at: datetime
    taken_from: Time  # "object": when it was stored; "exif"; "manifest"
    listed_at: datetime
    content_rev: int
    state: State
    reason: str | None  # why it failed, as in tags.reason
    stale: bool  # its bytes have changed since the model saw them
    headline: Tag | None
    tags: tuple[Tag, ...]  # all that are shown, the narrowest first
    verdicts: tuple[Verdict, ...]  # oldest first
    decision_revision: int | None  # by which it was decided; None: not seen
    model: ActiveModel
    policy: Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Which tags of a photo are asked for, as an address says it."""

    min_precision: float | None = None
    min_probability: float = 0.0
    under: tuple[str, ...] = ()  # synset ids
    not_under: tuple[str, ...] = ()
    max_labels: int | None = None
    ancestors: bool = False
    leaves: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoTags:
    """A photo's tags as they were asked for."""

    photo_id: int
    state: State
    tags: tuple[Tag, ...]
    decision_revision: int | None  # of the constants that decided them; None: not seen
    promise: Promise | None  # by which they were decided anew; None: no precision was asked for
    model: ActiveModel
    policy: Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """Why a photo has, or has not, a tag."""

    explanation: Explanation
    model: ActiveModel
    policy: Policy


def photo(connection: Connection, photo_id: int, viewer: str | None) -> PhotoView:
    """A photo, for a principal bound to the user `viewer`; None: to nobody, who sees everything."""
    on = ground(connection)
    row = _row(connection, on, photo_id)
    spoken = verdict_store.of_photo(connection, on.model.model_id, photo_id)
    evidence = _evidence(connection, on, row)
    seen = _NOTHING if evidence is None else coarsen_photo(evidence.found, on.policy, on.taxonomy)
    vague_share = (Decision() if evidence is None else evidence.decision).vague_share
    words = shown((each.word for each in spoken), on.policy, on.taxonomy)
    entries = listed(seen, words, Wishes(ancestors=True), on.taxonomy, vague_share)
    tags = tuple(tag_of(entry, on) for entry in entries)
    mine = viewer is None or viewer == row.user
    return PhotoView(
        photo_id=row.photo_id,
        user=row.user if mine else None,
        bucket=row.bucket if mine else None,
        key=row.key if mine else None,
        size=row.size,
        taken_at=row.taken_at,
        taken_from=TIMES[TakenFrom(row.taken_from)],
        listed_at=row.listed_at,
        content_rev=row.content_rev,
        state=state_of(row.outcome),
        reason=row.outcome.name.lower() if row.outcome is not None and row.outcome not in SEEN else None,
        stale=row.stale,
        headline=next((tag for tag in tags if tag.headline), None),
        tags=tags,
        verdicts=named_verdicts(spoken, on),
        decision_revision=None if evidence is None else row.decision_rev,
        model=on.model,
        policy=on.policy,
    )


def tags(connection: Connection, photo_id: int, asked: Asked) -> PhotoTags:
    """A photo's tags, as asked for; none where the model has not seen it and nobody said anything.

    Raises:
        Problem: there is no such photo or category, or no calibration promises so high a precision.
    """
    on = ground(connection)
    wishes = Wishes(
        least_mass=round(asked.min_probability * WHOLE),
        under=nodes_of("under", asked.under, on),
        not_under=nodes_of("not_under", asked.not_under, on),
        ancestors=asked.ancestors,
        leaves=asked.leaves,
        most=asked.max_labels,
    )
    row = _row(connection, on, photo_id)
    promise = None if asked.min_precision is None else _promise(connection, on, asked.min_precision)
    spoken = verdict_store.of_photo(connection, on.model.model_id, photo_id)
    words = shown((each.word for each in spoken), on.policy, on.taxonomy)
    evidence = _evidence(connection, on, row)
    decision = Decision() if evidence is None else evidence.decision
    found = _NOTHING if evidence is None else evidence.found
    if promise is not None:
        decision, found = promise.decision, decided_by(found, promise.decision, on)
    entries = listed(coarsen_photo(found, on.policy, on.taxonomy), words, wishes, on.taxonomy, decision.vague_share)
    return PhotoTags(
        photo_id=photo_id,
        state=state_of(row.outcome),
        tags=tuple(tag_of(entry, on) for entry in entries),
        decision_revision=None if evidence is None else decision.revision,
        promise=promise,
        model=on.model,
        policy=on.policy,
    )


def explanation(connection: Connection, photo_id: int, wnid: str) -> Explained:
    """Why the photo has, or has not, the tag of that synset id.

    Raises:
        Problem: there is no such photo or category, the model has not seen the photo, or the policy hides the category.
    """
    on = ground(connection)
    node = node_of(wnid, on)
    evidence = _evidence(connection, on, _row(connection, on, photo_id))
    if evidence is None:
        raise Problem(HTTPStatus.CONFLICT, "photo_not_seen", f"The model has not seen photo {photo_id}, or not yet.")
    try:
        made = explain(evidence, node, on.taxonomy, on.policy)
    except Coarsened as hidden:
        raise Problem(HTTPStatus.CONFLICT, "category_hidden", str(hidden)) from hidden
    return Explained(explanation=made, model=on.model, policy=on.policy)


def neighbours(
    connection: Connection, photo_id: int, count: int = NEIGHBOURS
) -> tuple[tuple[Neighbour, ...], tuple[Neighbour, ...]]:
    """Photos that the same user took before it and after it, nearest first."""
    before, after = store.neighbours(connection, photo_id, count)
    return tuple(before), tuple(after)


def stamp(connection: Connection, photo_id: int) -> PhotoStamp:
    """What every answer about the photo rests on, beside the model's stamp; reads no result."""
    found = store.photo_stamp(connection, photo_id)
    if found is None:
        raise no_photo(photo_id)
    return found


def no_photo(photo_id: int) -> Problem:
    """The problem of a photo that is not there, or not to be seen."""
    return not_found(f"There is no photo {photo_id}.")


def state_of(outcome: Code | None) -> State:
    """Where the photo stands with the model."""
    if outcome is None:
        return "awaiting"
    if outcome is Code.TAGGED:
        return "tagged"
    return "abstained" if outcome is Code.ABSTAINED else "failed"


def decided_by(found: PhotoDecision, decision: Decision, on: Ground) -> PhotoDecision:
    """The photo decided anew, from what is stored of it."""
    enough = found.masses >= decision.keep_mass
    ends = np.array([0, int(enough.sum())], dtype=np.int64)
    kept = Kept(columns=found.columns[enough], masses=found.masses[enough], ends=ends)
    return replace(decide_kept(kept, on.taxonomy, decision)[0], columns=found.columns, masses=found.masses)


_NOTHING = PhotoDecision(
    columns=np.array([], dtype=np.int32),
    masses=np.array([], dtype=np.int16),
    tags=np.array([], dtype=np.int32),
    headline=None,
)


def _row(connection: Connection, on: Ground, photo_id: int) -> PhotoRow:
    row = store.photo_row(connection, on.model.model_id, photo_id)
    if row is None:
        raise no_photo(photo_id)
    return row


def _evidence(connection: Connection, on: Ground, row: PhotoRow) -> Evidence | None:
    """What the model saw; None where it has not."""
    return photo_evidence(connection, on.model.model_id, row.photo_id) if row.outcome in SEEN else None


def _promise(connection: Connection, on: Ground, asked: float) -> Promise:
    known = store.promises(connection, on.model.model_id)
    found = keeps(known, asked)
    if found is not None:
        return found
    there = ", ".join(f"{target:g}" for target in targets(known))
    detail = f"No calibration of model {on.model.name} promises a precision of {asked:g}; " + (
        f"those that there are promise {there}." if there else "`pictograph calibrate` on labelled photos makes one."
    )
    error = {"pointer": "query.min_precision", "code": "not_promised", "detail": detail}
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "precision_not_promised", detail, [error])
