"""What pages across users rest on: whose eyes look, which counts are withheld from them, and rough counts of all.

Theory of operation
    Whoever is bound to nobody sees everybody's photos, counted in `core.category_total`. Whoever is bound to a user
    sees those of users who consent (`core.shared_total`) and their own. To them, what few users have is withheld, and
    what would give it away along with it (`taxonomy.withhold`); their own photos are theirs to see all the same.

    Which categories those are, and in which order a search lists what it finds, follows from the counts of all
    categories. Adding them up and judging them takes a moment, so it is done once per server and at most so often that
    it costs a small part of the time; every count that is shown is read as it is now.
"""

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine

from api.auth import Desk
from api.services import taxonomy_of
from pipeline.profile import CategoryTotal
from pipeline.store import categories
from pipeline.store.policies import active_policy, coarsen_totals
from pipeline.store.revisions import ModelStamp, model_stamp
from taxonomy import kin
from taxonomy.ballot import ballot
from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy
from taxonomy.withhold import NOTHING, Held, withheld

PATIENCE = 30.0  # rough counts serve for so many times as long as it took to make them, whatever changes meanwhile


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """Whose eyes look."""

    user: str | None  # None: tenant-wide
    fewest: int  # what fewer users have is withheld from readers across users

    @classmethod
    def of(cls, desk: Desk) -> "Reader":
        """Whoever sits at the desk."""
        return cls(user=desk.principal.user, fewest=desk.services.settings.fewest_users)


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Counts of all categories at one moment, as the policy shows them."""

    stamp: ModelStamp
    taxonomy: Taxonomy
    policy: Policy
    columns: Mapping[int, int]  # by the ledger's id
    showable: frozenset[int]  # nodes that can be tags, and that the policy shows
    everybody: Mapping[int, int]  # photos by node
    shared: Mapping[int, Held]  # of those who consent, by node
    until: float  # on the monotonic clock: how long it may serve although something has changed
    covers: dict[tuple[str | None, int, bool], tuple[int, ...]] = field(
        default_factory=dict
    )  # as `api.views.cards` found
    _withheld: dict[int, frozenset[int]] = field(default_factory=dict)

    def withheld(self, reader: Reader) -> frozenset[int]:
        """The nodes that are withheld from this reader."""
        if reader.user is None:
            return frozenset()
        if reader.fewest not in self._withheld:
            self._withheld[reader.fewest] = withheld(self.taxonomy, self.showable, self.shared, reader.fewest)
        return self._withheld[reader.fewest]

    def photos(self, reader: Reader) -> Mapping[int, int]:
        """Rough counts of what the reader may be told, by node: to put lists in order."""
        if reader.user is None:
            return self.everybody
        gone = self.withheld(reader)
        return {node: held.photos for node, held in self.shared.items() if node not in gone}


_KEPT: WeakKeyDictionary[Engine, Overview] = WeakKeyDictionary()
_LOCK = threading.Lock()


def overview(connection: Connection, stamp: ModelStamp | None = None) -> Overview:
    """Counts of all categories, made anew where something has changed and the last are not of a moment ago."""
    stamp = model_stamp(connection) if stamp is None else stamp
    kept = _KEPT.get(connection.engine)
    if kept is None or not _serves(kept, stamp):
        with _LOCK:  # one at a time: whoever waited for it finds it made
            kept = _KEPT.get(connection.engine)
            if kept is None or not _serves(kept, stamp):
                kept = _KEPT[connection.engine] = _made(connection, stamp)
    return kept


def _serves(kept: Overview, stamp: ModelStamp) -> bool:
    versions = [(s.model, s.policy_version, s.promotion, s.shown) for s in (kept.stamp, stamp)]
    return versions[0] == versions[1] and (kept.stamp.revision == stamp.revision or time.monotonic() < kept.until)


def _made(connection: Connection, stamp: ModelStamp) -> Overview:
    began = time.monotonic()
    model_id, taxonomy = stamp.model.model_id, taxonomy_of(stamp.model)
    policy = active_policy(connection, taxonomy)
    can_be_tags = ballot(taxonomy, "expected", categories.vague_share(connection, model_id)).showable
    everybody = coarsen_totals(categories.everybodys_photos(connection, model_id), policy)
    shared = judged(categories.shared_photos(connection, model_id), policy, taxonomy)
    now = time.monotonic()
    return Overview(
        stamp=stamp,
        taxonomy=taxonomy,
        policy=policy,
        columns=categories.columns_by_node(connection, model_id),
        showable=frozenset(v for v in can_be_tags.nonzero()[0].tolist() if v not in policy.hidden),
        everybody={total.column: total.photos for total in everybody if total.column < taxonomy.nodes},
        shared=shared,
        until=now + PATIENCE * (now - began),
    )


def judged(found: Mapping[int, tuple[CategoryTotal, int]], policy: Policy, taxonomy: Taxonomy) -> dict[int, Held]:
    """Shared totals of nodes as the policy shows them.

    Users of a category from which the policy takes something are at least those of any category in it, and at least
    those who cannot all have only what is taken.
    """
    shown = coarsen_totals([total for total, _ in found.values()], policy)
    held: dict[int, Held] = {}
    for total in sorted(shown, key=lambda total: -total.column):  # children come after their parents
        if total.column in kin.standing(taxonomy):
            users = found[total.column][1] - sum(
                found[c][1] for c, times in policy.terms.get(total.column, ()) if times > 0 and c in found
            )
            inside = (held[v].users for v in kin.below(taxonomy)[total.column] if v in held)
            held[total.column] = Held(users=max(users, 0, *inside), photos=total.photos)
    return held


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """What a reader is told of how many photos carry a tag, which is also how long the list of them is."""

    photos: int | None  # None: withheld, or no photo can carry it
    withheld: bool
    own: int | None  # the reader's own among them, or all that is shown where the rest is withheld; None: tenant-wide


def counts(connection: Connection, reader: Reader, nodes: Collection[int], over: Overview) -> dict[int, Count]:
    """The exact counts of these nodes as they are now, each of which can be a tag.

    How many users have one is looked at again, too; where the policy takes something from it, the overview says it.
    """
    needed = {*nodes, *(column for node in nodes for column, _ in over.policy.terms.get(node, ()))}
    model_id = over.stamp.model.model_id
    if reader.user is None:
        shown = _by_column(categories.everybodys_photos(connection, model_id, needed), over.policy)
        return {node: Count(photos=shown.get(node, 0), withheld=False, own=None) for node in nodes}
    mine = categories.own_photos(connection, model_id, reader.user, needed)
    own = _by_column(mine.totals, over.policy)
    shared = judged(categories.shared_photos(connection, model_id, needed), over.policy, over.taxonomy)
    gone = over.withheld(reader)
    found = {}
    for node in nodes:
        of_others = shared.get(node, NOTHING)
        few = node in gone or (of_others.users < reader.fewest and node not in over.policy.terms)
        photos = None if few else of_others.photos + (0 if mine.shared else own.get(node, 0))
        found[node] = Count(photos=photos, withheld=few, own=own.get(node, 0))
    return found


def _by_column(totals: Collection[CategoryTotal], policy: Policy) -> dict[int, int]:
    return {total.column: total.photos for total in coarsen_totals(tuple(totals), policy)}
