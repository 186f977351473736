"""Taxonomies, models and decisions in the database, and the map between a taxonomy's columns and the ledger's nodes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.store import promotions
from pipeline.store.policies import refresh_effects
from pipeline.store.revisions import touch_models
from pipeline.store.staging import copy_rows
from taxonomy.decide import Decision
from taxonomy.graph import Taxonomy

MOST_NODES = 32_767  # node ids are smallint and never reused
_KNOWN = ("core.model", "core.taxonomy", "core.category", "core.taxonomy_category", "core.category_closure")
REGISTRAR = 7_420_016  # advisory lock: node ids are given out by one transaction at a time


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A model as the database knows it."""

    model_id: int
    name: str
    decision: Decision  # the newest of the model
    nodes: NDArray[np.int16]  # shape (columns,): ledger node id of each column of the taxonomy

    @property
    def decision_rev(self) -> int:
        """The decision's revision."""
        return self.decision.revision


def register_model(
    connection: Connection, name: str, fingerprint: bytes, taxonomy: Taxonomy, decision: Decision
) -> Registered:
    """Make the model known, with its taxonomy, its partition of the results and the decision that ships with it.

    A shipped decision that differs from the newest one becomes the next revision, unless the newest was calibrated:
    what somebody measured on photos of their own outlives an upgrade.

    The first model ever registered becomes the active one. When its weights or constants change it has another
    fingerprint, so it is another model under the same name: that one becomes active in its place while the active one
    has no results. Once it has, people go on seeing them, until an operator promotes another
    (`pipeline.store.promotions`). A model that was dropped comes back empty.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": REGISTRAR})
    taxonomy_id, renamed = _register_taxonomy(connection, taxonomy)
    known = connection.execute(
        text("SELECT model_id, dropped_at FROM core.model WHERE fingerprint = :f"), {"f": fingerprint}
    ).first()
    model_id = known.model_id if known else _add_model(connection, name, fingerprint, taxonomy_id)
    new = known is None or known.dropped_at is not None
    if new:
        _add_partition(connection, model_id)
        # Autovacuum comes late to small tables: queries would be planned as if there were hundreds of models.
        connection.execute(text(f"ANALYZE {', '.join(_KNOWN)}"))
        refresh_effects(connection, taxonomy)
    _activate(connection, model_id, name)
    _ship_decision(connection, model_id, decision)
    if new or renamed:
        touch_models(connection)  # other names, and a policy may have been completed
    nodes = _nodes_by_column(connection, taxonomy_id)
    return Registered(model_id=model_id, name=name, decision=newest_decision(connection, model_id), nodes=nodes)


def registered_model(connection: Connection, name: str, fingerprint: bytes) -> Registered:
    """The model as `register_model` left it; writes nothing.

    Raises:
        ConfigurationError: it is not registered.
    """
    query = text("SELECT model_id, taxonomy_id FROM core.model WHERE fingerprint = :f AND dropped_at IS NULL")
    row = connection.execute(query, {"f": fingerprint}).first()
    if row is None:
        raise ConfigurationError(
            f"Model {name!r}, as it is here, is not registered; run `pictograph migrate` with PICTOGRAPH_MODEL={name}."
        )
    decision = newest_decision(connection, row.model_id)
    nodes = _nodes_by_column(connection, row.taxonomy_id)
    return Registered(model_id=row.model_id, name=name, decision=decision, nodes=nodes)


def _add_model(connection: Connection, name: str, fingerprint: bytes, taxonomy_id: int) -> int:
    model_id: int = connection.execute(
        text(
            "INSERT INTO core.model (name, fingerprint, taxonomy_id) VALUES (:name, :f, :taxonomy) RETURNING model_id"
        ),
        {"name": name, "f": fingerprint, "taxonomy": taxonomy_id},
    ).scalar_one()
    return model_id


#: Whoever walks the newest photos reads an index alone where all can see what it says, which vacuuming finds out.
VACUUMED = "autovacuum_vacuum_insert_scale_factor = 0.02"


def _add_partition(connection: Connection, model_id: int) -> None:
    """A partition for the results of a model that has none: it is new, or was dropped.

    Raises:
        ConfigurationError: it was dropped, and some of its totals are still there.
    """
    promotions.lock(connection)
    left = """SELECT EXISTS (SELECT FROM core.user_category WHERE model_id = :model)
                  OR EXISTS (SELECT FROM core.category_total WHERE model_id = :model)
                  OR EXISTS (SELECT FROM core.shared_total WHERE model_id = :model)"""
    if connection.execute(text(left), {"model": model_id}).scalar_one():
        raise ConfigurationError(
            "This model is being dropped, or that was broken off; `pictograph models drop NAME --yes` completes it."
        )
    partition = partition_of(model_id)
    connection.execute(
        text(f"""CREATE TABLE IF NOT EXISTS {partition} PARTITION OF core.photo_result FOR VALUES IN ({int(model_id)})
                 WITH ({VACUUMED})""")
    )
    connection.execute(
        text("""UPDATE core.model SET dropped_at = NULL, created_at = now()
                WHERE model_id = :model AND dropped_at IS NOT NULL"""),
        {"model": model_id},
    )


def partition_of(model_id: int) -> str:
    """The table that holds a model's results."""
    return f"core.photo_result_{int(model_id)}"


def _activate(connection: Connection, model_id: int, name: str) -> None:
    """Make the model the active one if there is none, or one of the same name without a result."""
    active = promotions.active(connection)
    if active is not None and (active.model_id == model_id or active.name != name):
        return  # nearly always: without waiting for who promotes
    promotions.lock(connection)
    active = promotions.active(connection)
    results = "SELECT EXISTS (SELECT FROM core.photo_result WHERE model_id = :model)"
    if active is None or not connection.execute(text(results), {"model": active.model_id}).scalar_one():
        reason = "the first model" if active is None else "the one before had no results"
        promotions.insert_promotion(connection, model_id, "registration", reason)


def _ship_decision(connection: Connection, model_id: int, decision: Decision) -> None:
    """Store a shipped decision: as it is if it is the model's first, else as `register_model` says."""
    query = text(
        "SELECT calibration IS NOT NULL FROM core.decision WHERE model_id = :model ORDER BY revision DESC LIMIT 1"
    )
    calibrated = connection.execute(query, {"model": model_id}).scalar()
    if calibrated is None:
        _insert_decision(connection, model_id, decision, None)
    elif not calibrated:
        newest = newest_decision(connection, model_id)
        if replace(newest, revision=decision.revision) != decision:
            _insert_decision(connection, model_id, replace(decision, revision=newest.revision + 1), None)


_CONSTANTS = tuple(field.name for field in fields(Decision))  # each has its column in core.decision


def newest_decision(connection: Connection, model_id: int) -> Decision:
    """The decision by which a model's photos are decided from now on; ConfigurationError if it has none."""
    query = text(
        f"SELECT {', '.join(_CONSTANTS)} FROM core.decision WHERE model_id = :model ORDER BY revision DESC LIMIT 1"
    )
    row = connection.execute(query, {"model": model_id}).mappings().first()
    if row is None:
        raise ConfigurationError(f"Model {model_id} has no decision; `pictograph migrate` registers the shipped one.")
    return Decision(**row)


def stored_decision(connection: Connection, model_id: int, revision: int) -> Decision:
    """One revision of a model's decision; ConfigurationError if there is none such."""
    query = text(f"SELECT {', '.join(_CONSTANTS)} FROM core.decision WHERE (model_id, revision) = (:model, :revision)")
    row = connection.execute(query, {"model": model_id, "revision": revision}).mappings().one_or_none()
    if row is None:
        newest = newest_decision(connection, model_id).revision
        raise ConfigurationError(f"There is no decision of revision {revision}; the newest one is {newest}.")
    return Decision(**row)


def store_decision(
    connection: Connection, model_id: int, decision: Decision, calibration: Mapping[str, object]
) -> Decision:
    """A calibrated decision under the model's next revision, with what it was made from (a JSON object)."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": REGISTRAR})
    made = replace(decision, revision=newest_decision(connection, model_id).revision + 1)
    _insert_decision(connection, model_id, made, json.dumps(calibration, allow_nan=False))
    return made


def _insert_decision(connection: Connection, model_id: int, decision: Decision, calibration: str | None) -> None:
    connection.execute(
        text(f"""INSERT INTO core.decision (model_id, calibration, {", ".join(_CONSTANTS)})
                 VALUES (:model, CAST(:calibration AS jsonb), {", ".join(f":{name}" for name in _CONSTANTS)})"""),
        {"model": model_id, "calibration": calibration, **asdict(decision)},
    )


def _register_taxonomy(connection: Connection, taxonomy: Taxonomy) -> tuple[int, bool]:
    """Its id, and whether categories that were known are called otherwise from now on."""
    digest = bytes.fromhex(taxonomy.sha256)
    query = text("SELECT taxonomy_id FROM core.taxonomy WHERE sha256 = :sha256")
    known = connection.execute(query, {"sha256": digest}).scalar()
    if known is not None:
        return int(known), _rename_categories(connection, taxonomy)
    taxonomy_id: int = connection.execute(
        text("INSERT INTO core.taxonomy (name, sha256, labels) VALUES (:name, :sha256, :n) RETURNING taxonomy_id"),
        {"name": taxonomy.name, "sha256": digest, "n": len(taxonomy.labels)},
    ).scalar_one()
    nodes = _register_categories(connection, taxonomy)
    renamed = _rename_categories(connection, taxonomy)
    _place_categories(connection, taxonomy_id, taxonomy, nodes)
    return taxonomy_id, renamed


def _columns(taxonomy: Taxonomy) -> list[tuple[int, bool]]:
    """(synset index, area only) of each column."""
    plain = [(v, False) for v in range(len(taxonomy.synsets))]
    return plain + [(int(v), True) for v in taxonomy.areas]


def _register_categories(connection: Connection, taxonomy: Taxonomy) -> list[int]:
    rows = connection.execute(text("SELECT wnid, area_only, node FROM core.category")).all()
    known = {(wnid, area_only): node for wnid, area_only, node in rows}
    following = max(known.values(), default=0) + 1
    columns = _columns(taxonomy)
    for v, area_only in columns:
        key = (taxonomy.synsets[v].wnid, area_only)
        if key not in known:
            known[key] = following
            following += 1
            if following > MOST_NODES + 1:
                raise ConfigurationError(
                    f"Taxonomy {taxonomy.name!r} would need more than {MOST_NODES} categories in all; it is not stored."
                )
            synset = taxonomy.synsets[v]
            connection.execute(
                text("INSERT INTO core.category VALUES (:node, :wnid, :area, :name, :lemmas, :gloss)"),
                {
                    "node": known[key],
                    "wnid": synset.wnid,
                    "area": area_only,
                    "name": synset.name,
                    "lemmas": list(synset.lemmas),
                    "gloss": synset.gloss,
                },
            )
    return [known[taxonomy.synsets[v].wnid, area_only] for v, area_only in columns]


def _rename_categories(connection: Connection, taxonomy: Taxonomy) -> bool:
    """Call categories what this taxonomy calls them, for the views and for everything that is stored already.

    A category of several taxonomies is called as in the one that was registered last. Returns whether any changes.
    """
    rows = connection.execute(text("SELECT DISTINCT wnid, name, lemmas, gloss FROM core.category"))
    known = {wnid: (name, lemmas, gloss) for wnid, name, lemmas, gloss in rows}
    changed = [s for s in taxonomy.synsets if known.get(s.wnid) != (s.name, [*s.lemmas], s.gloss)]
    for synset in changed:
        connection.execute(
            text("UPDATE core.category SET name = :name, lemmas = :lemmas, gloss = :gloss WHERE wnid = :wnid"),
            {"wnid": synset.wnid, "name": synset.name, "lemmas": list(synset.lemmas), "gloss": synset.gloss},
        )
    return bool(changed)


def _place_categories(connection: Connection, taxonomy_id: int, taxonomy: Taxonomy, nodes: list[int]) -> None:
    places = []
    for column, (v, _) in enumerate(_columns(taxonomy)):
        parent = taxonomy.display_parent[v]
        above = None if parent < 0 else nodes[parent]
        shown = nodes[taxonomy.shown_as[v]]
        size, bits, depth = int(taxonomy.leaf_count[v]), float(taxonomy.bits[v]), int(taxonomy.depth[v])
        places.append((taxonomy_id, nodes[column], column, size, bits, depth, above, shown))
    _insert(
        connection,
        "taxonomy_category",
        "taxonomy_id smallint, node smallint, position smallint, leaf_count int, bits float8, depth smallint, "
        "display_parent smallint, shown_as smallint",
        places,
    )
    closure = [(taxonomy_id, nodes[a], nodes[d], distance) for a, d, distance in taxonomy.closure.tolist()]
    _insert(
        connection,
        "category_closure",
        "taxonomy_id smallint, ancestor smallint, descendant smallint, distance smallint",
        closure,
    )


def _insert(connection: Connection, table: str, columns: str, rows: Sequence[Sequence[int | float | None]]) -> None:
    copy_rows(connection, f"new_{table}", columns, rows)
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    connection.execute(text(f"INSERT INTO core.{table} ({names}) SELECT {names} FROM new_{table}"))


def nodes_of(connection: Connection, model_id: int) -> NDArray[np.int16]:
    """The ledger's node of each column of a model's taxonomy."""
    query = text("SELECT taxonomy_id FROM core.model WHERE model_id = :model")
    return _nodes_by_column(connection, connection.execute(query, {"model": model_id}).scalar_one())


def _nodes_by_column(connection: Connection, taxonomy_id: int) -> NDArray[np.int16]:
    query = text("SELECT node FROM core.taxonomy_category WHERE taxonomy_id = :id ORDER BY position")
    return np.array(connection.execute(query, {"id": taxonomy_id}).scalars().all(), dtype=np.int16)
