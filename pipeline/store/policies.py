"""Policies in the database: versions of rules, the one that is active, and what it changes in each taxonomy.

Versions are immutable but for the rules taken along, which follow from the counts of every model at the time a version
is applied; `overdue` says whether they still suffice. The rules are one set for all registered models, and their
effects are stored for each taxonomy, because the views publish them all. Version 0 is no row: no policy. The pure part
lies in `taxonomy.policy` and `taxonomy.disclosure`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.profile import CategoryTotal
from pipeline.store.queries import ActiveModel
from pipeline.store.revisions import touch_models
from pipeline.store.staging import Field, copy_rows
from taxonomy.disclosure import complete
from taxonomy.errors import DamagedTaxonomy
from taxonomy.graph import Taxonomy, load
from taxonomy.policy import Policy, Rule, coarsen_counts, node_of, work_out

WRITER = 7_420_017  # advisory lock: one policy is written or applied at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyVersion:
    """One version, as it is listed."""

    version: int
    active: bool
    created_at: datetime
    applied_at: datetime | None  # the last time; None: never
    rules: tuple[Rule, ...]  # those taken along included, last


@dataclass(frozen=True, kw_only=True, slots=True)
class Touched:
    """What a policy would change for people, counted from stored rows."""

    photos: int  # with at least one tag that is hidden
    users: int  # who have such a photo
    photos_in_part: int  # with at least 2 % in something hidden, tagged or not
    users_in_part: int
    categories: int  # hidden, of those that can be tags


def active_policy(connection: Connection, taxonomy: Taxonomy) -> Policy:
    """The active policy over `taxonomy`; version 0, which changes nothing, if there is none."""
    version = _active(connection)
    return work_out((), taxonomy) if version is None else work_out(_rules(connection, version), taxonomy, version)


def _active(connection: Connection) -> int | None:
    version: int | None = connection.execute(text("SELECT version FROM core.policy WHERE active")).scalar()
    return version


def coarsen_totals(totals: Sequence[CategoryTotal], policy: Policy) -> tuple[CategoryTotal, ...]:
    """Totals of a user, of everybody or of a period as the policy shows them; rows without mass are dropped."""
    if not policy.rules:
        return tuple(totals)
    mass = coarsen_counts({total.column: total.mass for total in totals}, policy)
    photos = coarsen_counts({total.column: total.photos for total in totals}, policy)
    shown = (total for total in totals if mass.get(total.column))
    return tuple(replace(total, mass=mass[total.column], photos=photos[total.column]) for total in shown)


# ---- versions


def versions(connection: Connection) -> list[PolicyVersion]:
    """All versions, newest first."""
    rows = connection.execute(
        text("SELECT version, active, created_at, applied_at FROM core.policy ORDER BY version DESC")
    ).mappings()
    return [PolicyVersion(**row, rules=_rules(connection, row["version"])) for row in rows.all()]


def find(connection: Connection, version: int) -> PolicyVersion:
    """One version.

    Raises:
        ConfigurationError: there is none of that number.
    """
    query = text("SELECT version, active, created_at, applied_at FROM core.policy WHERE version = :version")
    row = connection.execute(query, {"version": version}).mappings().first()
    if row is None:
        raise ConfigurationError(f"There is no policy version {version}; `pictograph policy list` shows them.")
    return PolicyVersion(**row, rules=_rules(connection, version))


def newest(connection: Connection) -> PolicyVersion | None:
    """The version made last, active or not; None before the first."""
    version = connection.execute(text("SELECT max(version) FROM core.policy")).scalar()
    return None if version is None else find(connection, version)


def lock(connection: Connection) -> None:
    """Keep others from writing or applying a policy until the transaction ends; take it before reading the newest."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": WRITER})


def add_version(connection: Connection, rules: Sequence[Rule]) -> PolicyVersion:
    """A new version of exactly these rules (each once, in order; those taken along left out). It is not applied."""
    lock(connection)
    asked = tuple(dict.fromkeys(rule for rule in rules if not rule.taken_along))
    version = connection.execute(
        text(
            "INSERT INTO core.policy (version) SELECT coalesce(max(version), 0) + 1 FROM core.policy RETURNING version"
        )
    ).scalar_one()
    _write_rules(connection, version, asked)
    return find(connection, version)


def _rules(connection: Connection, version: int) -> tuple[Rule, ...]:
    query = text("SELECT wnid, target, taken_along FROM core.policy_rule WHERE version = :version ORDER BY position")
    return tuple(Rule(**row) for row in connection.execute(query, {"version": version}).mappings())


def _write_rules(connection: Connection, version: int, rules: Sequence[Rule]) -> None:
    connection.execute(text("DELETE FROM core.policy_rule WHERE version = :version"), {"version": version})
    for position, rule in enumerate(rules):
        connection.execute(
            text("INSERT INTO core.policy_rule VALUES (:version, :position, :wnid, :target, :along)"),
            {
                "version": version,
                "position": position,
                "wnid": rule.wnid,
                "target": rule.target,
                "along": rule.taken_along,
            },
        )


# ---- applying


def closed(connection: Connection, rules: Sequence[Rule], taxonomy: Taxonomy) -> tuple[Rule, ...]:
    """The rules, and what must go along now so that no published count, of any model, gives a hidden one away.

    `taxonomy` is at hand; those of other models are loaded.

    Raises:
        ConfigurationError: the taxonomy of a registered model is not here.
        BadPolicy: a rule would hide nothing, or nothing is left to hide something among.
    """
    asked = tuple(rule for rule in rules if not rule.taken_along)
    return _completed(connection, asked, _published(connection, taxonomy))


def apply(connection: Connection, version: int, taxonomy: Taxonomy) -> Policy:
    """Make a version the active one, for every reader at once when the transaction commits; 0 ends all policy.

    The policy is given as it is over `taxonomy`; its effects are stored for the taxonomy of every registered model.

    Raises:
        ConfigurationError: there is no such version, or the taxonomy of a registered model is not here.
        BadPolicy: nothing is left to hide something among.
    """
    lock(connection)
    rules = () if version == 0 else _enforce(connection, version, taxonomy)
    connection.execute(text("UPDATE core.policy SET active = false WHERE active"))
    if version:
        connection.execute(
            text("UPDATE core.policy SET active = true, applied_at = now() WHERE version = :version"),
            {"version": version},
        )
    touch_models(connection)
    return work_out(rules, taxonomy, version)


def refresh_effects(connection: Connection, taxonomy: Taxonomy) -> None:
    """Let the active policy, if there is one, hold for `taxonomy` too, of which a model was just registered.

    Waits for whoever applies a policy, so that neither misses the other's. Raises as `apply` does.
    """
    lock(connection)
    version = _active(connection)
    if version is not None:
        _enforce(connection, version, taxonomy)


def overdue(connection: Connection) -> int:
    """How many more categories must go along with the active policy, photos having come and gone since it was applied.

    0 if there is no policy. Raises as `apply` does.
    """
    version = _active(connection)
    if version is None:
        return 0
    stored = _rules(connection, version)
    return len(_completed(connection, stored, _published(connection))) - len(stored)


def more_along(count: int) -> str:
    """What `overdue` found, in words."""
    return f"{count:,} more {'category' if count == 1 else 'categories'} must go along now"


def _enforce(connection: Connection, version: int, taxonomy: Taxonomy) -> tuple[Rule, ...]:
    """Store what goes along with a version now, and its effects in every published taxonomy; its rules."""
    rules = closed(connection, find(connection, version).rules, taxonomy)
    _write_rules(connection, version, rules)
    for each in dict.fromkeys(published for _, published in _published(connection, taxonomy)):
        write_effects(connection, work_out(rules, each, version), each)
    return rules


def _published(connection: Connection, known: Taxonomy | None = None) -> list[tuple[int, Taxonomy]]:
    """Every model with results, with its taxonomy: `known` if it is that one, else the one loaded by its name."""
    query = text("""
        SELECT m.model_id, m.name AS model, t.name, encode(t.sha256, 'hex') AS sha256
        FROM core.model m JOIN core.taxonomy t USING (taxonomy_id) WHERE m.dropped_at IS NULL ORDER BY m.model_id""")
    found = []
    for row in connection.execute(query):
        taxonomy = known if known is not None and known.sha256 == row.sha256 else _loaded(row.name)
        if taxonomy is None or taxonomy.sha256 != row.sha256:
            raise ConfigurationError(
                f"Taxonomy {row.name!r} of model {row.model!r} is not here as it was registered, so a policy cannot be"
                " worked out for it; run this with the release that registered it."
            )
        found.append((row.model_id, taxonomy))
    return found


def _loaded(name: str) -> Taxonomy | None:
    try:
        return load(name)
    except DamagedTaxonomy:
        return None


def _completed(
    connection: Connection, rules: tuple[Rule, ...], models: Sequence[tuple[int, Taxonomy]]
) -> tuple[Rule, ...]:
    """The rules with what must go along, once no model asks for more."""
    asked = [rule for rule in rules if not rule.taken_along]
    tables = []
    for model_id, taxonomy in models:
        everybody = {total.column: total.photos for total in population_totals(connection, model_id)}
        tables.append((taxonomy, everybody, _users_with(connection, model_id, asked, taxonomy)))
    before = None
    while rules != before:
        before = rules
        for taxonomy, everybody, users in tables:
            rules = complete(rules, taxonomy, everybody, users)
    return rules


def write_effects(connection: Connection, policy: Policy, taxonomy: Taxonomy) -> None:
    """Store what the policy changes in one taxonomy, for the SQL views; replaces what is stored."""
    sha256 = bytes.fromhex(taxonomy.sha256)
    taxonomy_id = connection.execute(
        text("SELECT taxonomy_id FROM core.taxonomy WHERE sha256 = :sha256"), {"sha256": sha256}
    ).scalar_one()
    nodes = _nodes(connection, taxonomy_id)
    connection.execute(
        text("DELETE FROM core.policy_effect WHERE version = :version AND taxonomy_id = :taxonomy"),
        {"version": policy.version, "taxonomy": taxonomy_id},
    )
    rows = [(policy.version, taxonomy_id, *_effect(column, policy, taxonomy, nodes)) for column in policy.lost]
    copy_rows(
        connection,
        "new_policy_effect",
        "version int, taxonomy_id smallint, node smallint, hidden boolean, shown_as smallint, minus smallint[], "
        "times smallint[], owed_to smallint[]",
        rows,
    )
    connection.execute(text("INSERT INTO core.policy_effect SELECT * FROM new_policy_effect"))
    connection.execute(text("TRUNCATE new_policy_effect"))


def _effect(column: int, policy: Policy, taxonomy: Taxonomy, nodes: NDArray[np.int16]) -> tuple[Field, ...]:
    hidden = column in policy.hidden
    shown_as = policy.shown_as.get(column) if column < taxonomy.nodes else None
    terms = policy.terms.get(column, ())
    owed = [] if hidden else [tag for tag in policy.shown_as if taxonomy.label_sets[tag] <= policy.lost[column]]
    return (
        int(nodes[column]),
        hidden,
        None if shown_as is None else int(nodes[shown_as]),
        [int(nodes[c]) for c, _ in terms],
        [times for _, times in terms],
        [int(nodes[tag]) for tag in owed if taxonomy.shown_as[tag] == tag],
    )


def _nodes(connection: Connection, taxonomy_id: int) -> NDArray[np.int16]:
    query = text("SELECT node FROM core.taxonomy_category WHERE taxonomy_id = :id ORDER BY position")
    return np.array(connection.execute(query, {"id": taxonomy_id}).scalars().all(), dtype=np.int16)


# ---- counting


def population_totals(connection: Connection, model_id: int) -> tuple[CategoryTotal, ...]:
    """The exact totals over all users, by column."""
    query = text("""
        SELECT tc.position, sum(t.photos)::bigint, sum(t.mass)::bigint
        FROM core.category_total t JOIN core.model m USING (model_id)
        JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.node) = (m.taxonomy_id, t.node)
        WHERE t.model_id = :model GROUP BY tc.position HAVING sum(t.mass) > 0 ORDER BY tc.position""")
    rows = connection.execute(query, {"model": model_id})
    return tuple(CategoryTotal(column=column, photos=photos, mass=mass) for column, photos, mass in rows)


def touched(connection: Connection, model: ActiveModel, policy: Policy, taxonomy: Taxonomy) -> Touched:
    """What the policy changes for people under the model; reads stored rows only."""
    tags = [node for node in policy.shown_as if taxonomy.shown_as[node] == node]
    query = text("""
        WITH hidden AS (
            SELECT array_agg(tc.node) AS nodes, array_agg(tc.node) FILTER (WHERE tc.position = ANY (:tags)) AS tags
            FROM core.taxonomy_category tc JOIN core.model m USING (taxonomy_id)
            WHERE m.model_id = :model AND tc.position = ANY (:nodes))
        SELECT count(*) FILTER (WHERE r.tags && h.tags) AS photos,
               count(DISTINCT r.user_id) FILTER (WHERE r.tags && h.tags) AS users,
               count(*) AS photos_in_part, count(DISTINCT r.user_id) AS users_in_part
        FROM core.photo_result r, hidden h WHERE r.model_id = :model AND r.nodes && h.nodes""")
    values = {"model": model.model_id, "nodes": list(policy.shown_as), "tags": tags}
    row = connection.execute(query, values).mappings().one()
    return Touched(**row, categories=len(tags))


def _users_with(
    connection: Connection, model_id: int, rules: Sequence[Rule], taxonomy: Taxonomy
) -> list[dict[int, int]]:
    """The tables of the users who have a tagged photo in a subtree of the rules: photos by column."""
    found = (node_of(rule.wnid, taxonomy) for rule in rules)
    tops = [int(taxonomy.shown_as[node]) for node in found if node is not None]
    query = text("""
        SELECT uc.user_id, tc.position, uc.photos
        FROM core.user_category uc JOIN core.model m USING (model_id)
        JOIN core.taxonomy_category tc ON (tc.taxonomy_id, tc.node) = (m.taxonomy_id, uc.node)
        WHERE uc.model_id = :model AND uc.photos > 0 AND uc.user_id IN (
            SELECT own.user_id FROM core.user_category own
            JOIN core.taxonomy_category top ON (top.taxonomy_id, top.node) = (m.taxonomy_id, own.node)
            WHERE own.model_id = :model AND own.photos > 0 AND top.position = ANY (:tops))
        ORDER BY uc.user_id, tc.position""")
    tables: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for user, column, photos in connection.execute(query, {"model": model_id, "tops": tops}):
        tables[user][column] = photos
    return list(tables.values())
