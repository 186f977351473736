"""The other way to store what a photo shows: a row per photo and category, beside a row per photo, of the same data.

Both are filled from stored results in transactions of the same photos, by an upsert that writes only what differs, with
the indexes that the same questions need: by photo, and by tag. Neither keeps totals.
"""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.store.catalogue import Registered
from pipeline.store.session import Database

BATCH = 4096

_TABLES = {
    "arrays": """
CREATE TABLE {schema}.arrays (photo_id bigint PRIMARY KEY, nodes smallint[] NOT NULL, masses smallint[] NOT NULL,
                              tags smallint[] NOT NULL);
CREATE INDEX ON {schema}.arrays USING gin (tags)""",
    "rows": """
CREATE TABLE {schema}.rows (photo_id bigint, node smallint, mass smallint NOT NULL, tag boolean NOT NULL,
                            PRIMARY KEY (photo_id, node));
CREATE INDEX ON {schema}.rows (node, photo_id) WHERE tag""",
}
_FILL = {
    "arrays": """
INSERT INTO {schema}.arrays AS t SELECT photo_id, nodes, masses, tags FROM core.photo_result
WHERE model_id = :model AND photo_id BETWEEN :first AND :last ORDER BY 1
ON CONFLICT (photo_id) DO UPDATE SET nodes = EXCLUDED.nodes, masses = EXCLUDED.masses, tags = EXCLUDED.tags
WHERE (t.nodes, t.masses, t.tags) IS DISTINCT FROM (EXCLUDED.nodes, EXCLUDED.masses, EXCLUDED.tags)""",
    "rows": """
INSERT INTO {schema}.rows AS t SELECT photo_id, node, mass, node = ANY (tags) FROM (
    SELECT photo_id, tags, unnest(nodes) AS node, unnest(masses) AS mass FROM core.photo_result
    WHERE model_id = :model AND photo_id BETWEEN :first AND :last) AS r ORDER BY 1, 2
ON CONFLICT (photo_id, node) DO UPDATE SET mass = EXCLUDED.mass, tag = EXCLUDED.tag
WHERE (t.mass, t.tag) IS DISTINCT FROM (EXCLUDED.mass, EXCLUDED.tag)""",
}
_BOTH = {
    "arrays": "SELECT count(*) FROM {schema}.arrays WHERE tags @> CAST(ARRAY[:one, :other] AS smallint[])",
    "rows": "SELECT count(*) FROM {schema}.rows a JOIN {schema}.rows b USING (photo_id) "
    "WHERE a.node = :one AND b.node = :other AND a.tag AND b.tag",
}
_FREQUENT = """
SELECT node FROM core.category_total WHERE model_id = :model GROUP BY 1 ORDER BY sum(photos) DESC LIMIT 12"""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How one way did."""

    photos_per_s: float
    bytes_per_photo: float
    both_ms: float  # counting the photos that carry two frequent tags, in the mean
    again_per_s: float  # the same once more, which writes nothing


def compare(database: Database, registered: Registered, photos: int) -> dict[str, Way]:
    """Store the first photos both ways."""
    return {name: database.run(lambda c, name=name: _way(c, name, registered.model_id, photos)) for name in _TABLES}


def _way(connection: Connection, name: str, model_id: int, photos: int) -> Way:
    def run(template: str, **values: object) -> object:
        return connection.execute(text(template.format(schema="compared")), values)

    run("CREATE SCHEMA IF NOT EXISTS {schema}")
    run("DROP TABLE IF EXISTS {schema}." + name)
    run(_TABLES[name])
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        for first in range(1, photos, BATCH):
            run(_FILL[name], model=model_id, first=first, last=min(first + BATCH - 1, photos))
        seconds.append(time.perf_counter() - began)
    run("ANALYZE {schema}." + name)
    size = connection.execute(text(f"SELECT pg_total_relation_size('compared.{name}')")).scalar_one()
    frequent = connection.execute(text(_FREQUENT), {"model": model_id}).scalars().all()
    pairs = [(one, other) for one in frequent for other in frequent if one < other]
    began = time.perf_counter()
    for one, other in pairs:
        run(_BOTH[name], one=one, other=other)
    both = (time.perf_counter() - began) / len(pairs) * 1000
    run("DROP TABLE {schema}." + name)
    return Way(
        photos_per_s=photos / seconds[0], bytes_per_photo=size / photos, both_ms=both, again_per_s=photos / seconds[1]
    )
