"""Whose profile would show other categories under another model: each user's, as the page draws it, under both.

Users come in pages by id, so that memory does not grow with their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from pipeline.model_change import ProfileChange, profile_change
from pipeline.profile import CategoryTotal, Profile, profile
from pipeline.store.policies import coarsen_totals
from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy

PAGE_USERS = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class AsShown:
    """What is needed to draw a user's profile under a model."""

    model_id: int
    taxonomy: Taxonomy
    policy: Policy
    column_of: NDArray[np.int32]  # by ledger node

    def profiles(self, connection: Connection, users: Sequence[int]) -> dict[int, Profile]:
        """The profiles of those of these users whom the model has seen photos of."""
        rows = connection.execute(text(_TOTALS), {"model": self.model_id, "ids": list(users)})
        return {user_id: self._profile(nodes, photos, masses) for user_id, nodes, photos, masses in rows}

    def _profile(self, nodes: Sequence[int], photos: Sequence[int], masses: Sequence[int]) -> Profile:
        columns = self.column_of[list(nodes)].tolist()
        each = zip(columns, photos, masses, strict=True)
        totals = [CategoryTotal(column=column, photos=n, mass=mass) for column, n, mass in each]
        return profile(coarsen_totals(totals, self.policy), self.taxonomy)

    def nothing(self) -> Profile:
        """The profile of who has no photos."""
        return profile((), self.taxonomy)


@dataclass(frozen=True, kw_only=True, slots=True)
class UserChanges:
    """Whose profile shows other categories."""

    users: int  # of whom either model has photos
    changed: int  # the set of categories shown is another one
    share: float  # changed / users
    most: tuple[ProfileChange, ...]  # most categories replaced first, then the largest share of the treemap


_USERS = """
SELECT user_id, name FROM core.app_user WHERE deleted_at IS NULL AND user_id > :after ORDER BY user_id LIMIT :users"""
_TOTALS = """
SELECT user_id, array_agg(node), array_agg(photos), array_agg(mass) FROM core.user_category
WHERE model_id = :model AND user_id = ANY (:ids) AND mass > 0 GROUP BY user_id"""


def user_changes(connection: Connection, base: AsShown, head: AsShown, *, most: int) -> UserChanges:
    """Compare every user's two profiles."""
    users, changed, after = 0, 0, 0
    foremost: list[ProfileChange] = []
    while page := connection.execute(text(_USERS), {"after": after, "users": PAGE_USERS}).all():
        after = page[-1].user_id
        before, then = (side.profiles(connection, [row.user_id for row in page]) for side in (base, head))
        changes = [
            profile_change(row.name, before.get(row.user_id) or base.nothing(), then.get(row.user_id) or head.nothing())
            for row in page
            if row.user_id in before or row.user_id in then
        ]
        users += len(changes)
        others = [change for change in changes if change.replaced]
        changed += len(others)
        foremost = sorted([*foremost, *others], key=_replaced)[:most]
    return UserChanges(users=users, changed=changed, share=changed / users if users else 0.0, most=tuple(foremost))


def _replaced(change: ProfileChange) -> tuple[int, float, str]:
    return -change.replaced, -change.moved, change.user
