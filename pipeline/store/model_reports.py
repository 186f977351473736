"""Comparisons of two models that were made before, kept so that nobody waits for them: the newest of each pair.

Laws
1. What is kept names nobody: users and photos stand in it by their numbers, and get their names when it is read. So
   whoever is erased is gone from it as well, and a page shows no more of it than its reader may see.
2. A policy holds when a report is read, too: one that was made under another policy is none.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from pipeline.store.model_diff import ModelDiff
from pipeline.store.promotions import KnownModel

MOST_KEPT = 500  # users, photos and categories of a report


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptReport:
    """A comparison as it was made."""

    made_at: datetime
    policy_version: int  # that was active then; 0: none
    report: Mapping[str, Any]  # as `pictograph models diff --json` writes it


_POLICY = "coalesce((SELECT version FROM core.policy WHERE active), 0)"
_KEEP = """
INSERT INTO core.model_report AS r (base_model_id, head_model_id, report)
VALUES (:base, :head, CAST(:report AS jsonb))
ON CONFLICT (base_model_id, head_model_id) DO UPDATE SET report = excluded.report, made_at = now()"""
_IDS = """
SELECT name, user_id FROM core.app_user
WHERE name = ANY (CAST(:names AS text[]) COLLATE "C") AND deleted_at IS NULL"""


def keep(connection: Connection, base: KnownModel, head: KnownModel, found: ModelDiff, policy_version: int) -> None:
    """Keep a comparison in the place of the one before; no more of its lists than `MOST_KEPT`."""
    facts = asdict(found)
    facts["categories"] = facts["categories"][:MOST_KEPT]
    facts["coverage"]["share"] = found.coverage.share
    names = [each.user for each in found.users.most[:MOST_KEPT]]
    numbers = {row.name: row.user_id for row in connection.execute(text(_IDS), {"names": names})}
    users = [row | {"user": numbers[row["user"]]} for row in facts["users"]["most"] if row["user"] in numbers]
    facts["users"]["most"] = users[:MOST_KEPT]
    facts["moved"] = [{k: v for k, v in row.items() if k not in ("user", "key")} for row in facts["moved"][:MOST_KEPT]]
    facts["policy_version"] = policy_version
    values = {"base": base.model_id, "head": head.model_id, "report": json.dumps(facts)}
    connection.execute(text(_KEEP), values)


def policy_version(connection: Connection) -> int:
    """The active policy's version; 0: there is none."""
    found: int = connection.execute(text(f"SELECT {_POLICY}")).scalar_one()
    return found


_KEPT = """
SELECT made_at, report FROM core.model_report WHERE base_model_id = :base AND head_model_id = :head"""
_USERS = "SELECT user_id, name FROM core.app_user WHERE user_id = ANY (CAST(:ids AS bigint[])) AND deleted_at IS NULL"
_PHOTOS = """
SELECT p.photo_id, u.name, p.key FROM core.photo p JOIN core.app_user u USING (user_id)
WHERE p.photo_id = ANY (CAST(:ids AS bigint[])) AND u.deleted_at IS NULL"""


def kept(connection: Connection, base: int, head: int) -> KeptReport | None:
    """The newest comparison of two models, with the names that its reader may see; None if there is none."""
    row = connection.execute(text(_KEPT), {"base": base, "head": head}).first()
    if row is None:
        return None
    facts = dict(row.report)
    facts["users"] = {**facts["users"], "most": _named(connection, facts["users"]["most"])}
    facts["moved"] = _placed(connection, facts["moved"])
    version = facts.pop("policy_version")
    return KeptReport(made_at=row.made_at, policy_version=version, report=facts)


def _named(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = connection.execute(text(_USERS), {"ids": [row["user"] for row in rows]})
    names = {row.user_id: row.name for row in found}
    return [{**row, "user": names[row["user"]]} for row in rows if row["user"] in names]


def _placed(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = connection.execute(text(_PHOTOS), {"ids": [row["photo_id"] for row in rows]})
    places = {photo_id: {"user": user, "key": key} for photo_id, user, key in found}
    return [{**row, **places[row["photo_id"]]} for row in rows if row["photo_id"] in places]
