"""What wants a look: photos that the model is unsure of, with what it would guess."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

import numpy as np
from sqlalchemy import Connection

from api.views.naming import Ground, Tag, ground, tag_of
from pipeline.store import photos as store
from pipeline.store.catalogue import stored_decision
from pipeline.store.photos import Doubtful, Reason
from pipeline.store.queries import ActiveModel
from pipeline.tags import Listed, TagKind
from taxonomy.ballot import ballot
from taxonomy.decide import Decision, Kept, PhotoDecision, ambiguous
from taxonomy.policy import Policy, coarsen_photo

GUESSES = 4  # categories that a reviewer is offered at most
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewItem:
    """A photo that wants a look. Its owner is the viewer, or the viewer sees everybody's."""

    photo_id: int
    user: str
    taken_at: datetime
    reason: Reason
    shown: Tag | None  # the headline
    guesses: tuple[Tag, ...]  # best first: the best category that can be a tag, then the surest labels
    torn: tuple[Tag, Tag] | None  # two categories far apart that both hold much
    ancestors: tuple[Tag, ...]  # what lies above the best guess and can be a tag, narrowest first


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """Photos that want a look, newest first."""

    items: tuple[ReviewItem, ...]
    after: tuple[datetime, int] | None  # where to look on, also where this page is short; None: nowhere
    model: ActiveModel
    policy: Policy


def queue(
    connection: Connection,
    viewer: str | None,
    limit: int,
    after: tuple[datetime, int] | None = None,
    reasons: Collection[Reason] = REASONS,
) -> Queue:
    """Up to `limit` photos of the user `viewer`, or of everybody, that nobody has said anything of yet.

    Each page looks through a bounded number of the newest photos, so it may be short, or empty, though there are more.
    """
    on = ground(connection)
    walk = store.doubtful(connection, on.model.model_id, viewer, reasons, limit, after)
    revisions = {found.decision_rev for found in walk.found}
    decisions = {revision: stored_decision(connection, on.model.model_id, revision) for revision in revisions}
    items = tuple(_item(found, decisions[found.decision_rev], on) for found in walk.found)
    return Queue(items=items, after=walk.after, model=on.model, policy=on.policy)


def _item(found: Doubtful, decision: Decision, on: Ground) -> ReviewItem:
    seen = coarsen_photo(found.found, on.policy, on.taxonomy)
    masses = dict(zip(seen.columns.tolist(), seen.masses.tolist(), strict=True))

    def tag(node: int) -> Tag:
        headline = node == seen.headline
        kind: TagKind = "tag" if headline else "leaf" if on.taxonomy.leaf_count[node] == 1 else "ancestor"
        entry = Listed(node=node, mass=masses.get(node), kind=kind, headline=headline, standing=None, source="model")
        return tag_of(entry, on)

    guesses = guesses_of(seen, decision, on)
    torn = ambiguous(_alone(seen), on.taxonomy, decision)[0]
    showable = ballot(on.taxonomy, "expected", decision.vague_share).showable
    above = [] if not guesses else [n for n in on.taxonomy.ancestors(guesses[0]) if showable[n] and n in masses]
    return ReviewItem(
        photo_id=found.photo_id,
        user=found.user,
        taken_at=found.taken_at,
        reason=found.reason,
        shown=None if seen.headline is None else tag(seen.headline),
        guesses=tuple(tag(node) for node in guesses),
        torn=None if torn is None else (tag(torn[0]), tag(torn[1])),
        ancestors=tuple(tag(node) for node in sorted(above, key=lambda n: (on.taxonomy.leaf_count[n], n))),
    )


def guesses_of(seen: PhotoDecision, decision: Decision, on: Ground) -> list[int]:
    """What a photo most likely shows: of what can be a tag the category worth most, and the surest labels."""
    votes = ballot(on.taxonomy, "expected", decision.vague_share)
    able = votes.showable[seen.columns]
    nodes, masses = seen.columns[able], seen.masses[able].astype(np.int64)
    if not len(nodes):
        return []
    worths = votes.worths(nodes, masses, min(decision.lam, MOST_LAM), decision.threshold)
    best = int(nodes[np.lexsort((votes.ties(nodes, masses), worths))[-1]])
    surest = sorted(
        (node for node in nodes.tolist() if on.taxonomy.leaf_count[node] == 1 and node != best),
        key=lambda node: (-int(masses[nodes == node][0]), int(on.taxonomy.wnid_rank[node])),
    )
    return [best, *surest][:GUESSES]


MOST_LAM = 20_000  # above it the guess would be as broad as what is shown, or nothing at all


def _alone(seen: PhotoDecision) -> Kept:
    """One photo as a batch."""
    return Kept(columns=seen.columns, masses=seen.masses, ends=np.array([0, len(seen.columns)], dtype=np.int64))
