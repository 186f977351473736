"""What a job did with each photo, in pages by photo id.

Only what the job worked on, or was to work on, has an item. What its listing settled by itself (unchanged, left out,
listed twice) is counted, and is written line by line where results were asked for (`pipeline.ledger.results`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from pipeline.records import Code, ItemState
from pipeline.sources.source import address

#: Failures of which the bytes may be looked at by anybody: the photo itself was not to blame.
PRESENTABLE = frozenset({Code.NONE, Code.TAGGED, Code.ABSTAINED, Code.SAME_CONTENT, Code.MODEL_ERROR})


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A photo of a job, and where it stands there."""

    photo_id: int
    user: str
    uri: str
    state: ItemState
    code: Code
    message: str | None
    attempts: int
    next_attempt_at: datetime | None

    @property
    def presentable(self) -> bool:
        """Whether a small picture of it can be made, as far as the job knows."""
        return self.code in PRESENTABLE


# The page is found by the job's own index before anything is joined.
_ITEMS = """
SELECT i.photo_id, u.name AS user, b.uri AS bucket, p.key, i.state, i.code, i.message, i.attempts, i.next_attempt_at
FROM (SELECT photo_id, state, code, message, attempts, next_attempt_at FROM core.job_item
      WHERE job_id = :job AND photo_id > :after {chosen} ORDER BY photo_id LIMIT :limit) i
JOIN core.photo p USING (photo_id) JOIN core.bucket b USING (bucket_id) JOIN core.app_user u USING (user_id)
WHERE u.deleted_at IS NULL ORDER BY i.photo_id"""
_COUNTED = "SELECT EXISTS (SELECT FROM core.job_count WHERE job_id = :job AND photos > 0 {chosen})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemPage:
    """Some of the items, and from which photo on there may be more."""

    items: tuple[Item, ...]
    following: int | None  # None: there are no more


def page(
    connection: Connection,
    job_id: int,
    *,
    state: ItemState | None = None,
    code: Code | None = None,
    after: int = 0,
    limit: int,
) -> ItemPage:
    """The next photos of a job that are in this state, for this reason.

    Of erased users none are shown, so that a page may be shorter than `limit` and still not the last one.
    """
    chosen = "" if state is None else f"AND state = {int(state)}"  # a literal, for the indexes of one state
    chosen += "" if code is None else f" AND code = {int(code)}"
    values = {"job": job_id, "after": after, "limit": limit + 1}
    if not connection.execute(text(_COUNTED.format(chosen=chosen)), values).scalar():
        return ItemPage(items=(), following=None)  # what nobody counted need not be looked for
    rows = connection.execute(text(_ITEMS.format(chosen=chosen)), values).mappings().all()
    items = tuple(_item(dict(row)) for row in rows)
    more = len(items) > limit
    return ItemPage(items=items[:limit], following=items[limit - 1].photo_id if more else None)


def _item(row: dict[str, Any]) -> Item:
    uri = address(row.pop("bucket"), row.pop("key"))
    return Item(**{**row, "uri": uri, "state": ItemState(row["state"]), "code": Code(row["code"])})
