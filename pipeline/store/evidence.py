"""What is stored about one photo, with the decision that decided it."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.records import Code
from pipeline.store.catalogue import stored_decision
from taxonomy.decide import Decision, PhotoDecision


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A photo as a model saw it and a decision decided it."""

    photo_id: int
    key: str
    user: str
    decision: Decision
    found: PhotoDecision  # by column


def photo_evidence(connection: Connection, model_id: int, photo_id: int) -> Evidence:
    """The stored result of a photo under a model.

    Raises:
        ConfigurationError: there is no such photo (or its owner is erased), or the model has not seen it.
    """
    query = text("""
        SELECT p.key, u.name AS user, r.outcome, r.decision_rev, stored.*
        FROM core.photo p JOIN core.app_user u USING (user_id)
        LEFT JOIN core.photo_result r ON r.model_id = :model AND r.photo_id = p.photo_id
        LEFT JOIN LATERAL (
            SELECT array_agg(tc.position ORDER BY tc.position) AS columns,
                   array_agg(n.mass ORDER BY tc.position) AS masses,
                   array_agg(tc.position ORDER BY array_position(r.tags, n.node))
                       FILTER (WHERE n.node = ANY (r.tags)) AS tags,
                   min(tc.position) FILTER (WHERE n.node = r.headline) AS headline
            FROM unnest(r.nodes, r.masses) AS n(node, mass)
            JOIN core.model m ON m.model_id = r.model_id
            JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.node) = (m.taxonomy_id, n.node)) AS stored ON true
        WHERE p.photo_id = :photo AND p.gone_at IS NULL AND u.deleted_at IS NULL""")
    row = connection.execute(query, {"model": model_id, "photo": photo_id}).mappings().first()
    if row is None:
        raise ConfigurationError(f"There is no photo {photo_id}; `tags.photo` lists their numbers.")
    if row["outcome"] not in (Code.TAGGED, Code.ABSTAINED):
        raise ConfigurationError(f"The model has not seen photo {photo_id}; `pictograph jobs list` tells what failed.")
    found = PhotoDecision(
        columns=np.array(row["columns"], dtype=np.int32),
        masses=np.array(row["masses"], dtype=np.int16),
        tags=np.array(row["tags"] or [], dtype=np.int32),
        headline=row["headline"],
    )
    return Evidence(
        photo_id=photo_id,
        key=row["key"],
        user=row["user"],
        decision=stored_decision(connection, model_id, row["decision_rev"]),
        found=found,
    )
