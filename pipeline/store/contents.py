"""What a model has said of the same bytes before, whoever's they were: found by the SHA-256 of a photo's content.

Law of the file: what is taken over is exactly what looking again would say. So a result counts here only if it follows
from the bytes alone (no quarantine, no defect of the model's), if it is of what its photo holds now, and if all is
stored that the decision in use would keep. Nothing refers to where it came from: the two photos live and go apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.records import SEEN, Annotation, Code, TakenFrom
from pipeline.store.catalogue import Registered

#: What follows from the bytes alone, for one model.
OF_CONTENT = SEEN | {Code.UNSUPPORTED, Code.TOO_LARGE, Code.CORRUPT}

#: Results of one content that are considered: of a picture that a million people have, not all are read to find one.
MOST_CONSIDERED = 16
#: For one question. It takes milliseconds, unless the index is still being made: then looking again is cheaper.
MOST_SECONDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A photo with the same bytes, as it is stored."""

    photo_id: int
    decision_rev: int
    outcome: Code
    annotation: Annotation | None  # present iff the model saw it
    taken_at: datetime | None  # as its EXIF says


_SEEN = ", ".join(str(int(code)) for code in sorted(SEEN))
_OF_CONTENT = ", ".join(str(int(code)) for code in sorted(OF_CONTENT))

# The index is of the first four bytes, and asked once for each of the wanted contents. Who has failed already is asked
# for again because something may have changed since, such as a decoder: no photo takes over a failure of its own kind.
_FIND = text(f"""
SET LOCAL statement_timeout = '{MOST_SECONDS}s';
SELECT w.photo_id AS wanted, f.photo_id, f.decision_rev, f.outcome, f.headline, f.nodes, f.masses, f.tags, f.taken_at
FROM unnest(CAST(:photos AS bigint[]), CAST(:contents AS bytea[])) AS w(photo_id, sha256)
CROSS JOIN LATERAL (
    SELECT c.*, CASE WHEN p.taken_from = {TakenFrom.EXIF} THEN p.taken_at END AS taken_at
    FROM (SELECT r.photo_id, r.content_rev, r.decision_rev, r.outcome, r.headline, r.nodes, r.masses, r.tags
          FROM core.photo_result r WHERE r.model_id = :model AND r.sha256 = w.sha256
            AND substring(r.sha256, 1, 4)::integer = substring(w.sha256, 1, 4)::integer LIMIT {MOST_CONSIDERED}) AS c
    JOIN core.photo p USING (photo_id)
    JOIN core.app_user u USING (user_id)
    JOIN core.decision d ON d.model_id = :model AND d.revision = c.decision_rev
    WHERE c.outcome IN ({_OF_CONTENT}) AND c.content_rev = p.content_rev AND p.gone_at IS NULL
      AND p.taken_from <> {TakenFrom.MANIFEST} AND u.deleted_at IS NULL
      AND (c.outcome IN ({_SEEN}) AND d.keep_mass <= :keep_mass
           OR c.outcome NOT IN ({_SEEN}) AND NOT EXISTS (
               SELECT FROM core.photo_result own WHERE own.model_id = :model AND own.photo_id = w.photo_id
               AND own.outcome NOT IN ({_SEEN})))
    ORDER BY c.outcome IN ({_SEEN}) DESC, c.decision_rev = :decision DESC LIMIT 1) AS f""")


def find(connection: Connection, registered: Registered, contents: Mapping[int, bytes]) -> dict[int, Known]:
    """For each of these photos, by id with the SHA-256 of its bytes, a result that it may take over, if there is one.

    One of this decision, where there is any; of another one it is to be decided anew.

    Raises:
        ServiceDown: there is no answer within `MOST_SECONDS`.
    """
    rows = connection.execute(
        _FIND,
        {
            "model": registered.model_id,
            "decision": registered.decision_rev,
            "keep_mass": registered.decision.keep_mass,
            "photos": list(contents),
            "contents": list(contents.values()),
        },
    )
    return {
        row.wanted: Known(
            photo_id=row.photo_id,
            decision_rev=row.decision_rev,
            outcome=Code(row.outcome),
            annotation=_annotation(row.headline, row.nodes, row.masses, row.tags),
            taken_at=row.taken_at,
        )
        for row in rows
    }


def _annotation(
    headline: int | None, nodes: Sequence[int], masses: Sequence[int], tags: Sequence[int]
) -> Annotation | None:
    if not nodes:
        return None  # a failure's
    return Annotation(nodes=tuple(nodes), masses=tuple(masses), tags=tuple(tags), headline=headline)
