"""The numbers by which answers are cached: they rise with everything that changes what is shown.

Theory of operation
    A *stamp* is what an answer rests on, read by one small statement. As long as it stays the same, so does the answer,
    and whoever has that needs no other. Pages about a user rest on the user's stamp and the model's versions; pages
    across users on the model's stamp with its revision, which also rises when somebody consents, or is erased.

Laws
1. A revision rises in the very transaction that changes something, so nobody sees the one without the other.
2. A transaction that changes nothing raises nothing: a merge that is sent again leaves every cache as it is.
3. Its rows are locked last, after all others of the order in `pipeline/store/merge.py`: first those of users, by id,
   then those of models, by model and slot. Whoever holds one waits for no lock but the next of these, so nobody can
   wait in a circle, and holds it for no longer than a COMMIT takes.
4. A model's revision is the sum of 64 rows, so that transactions that change different photos seldom wait for the same
   one, and of two more: one rises when something changes in how results are shown, the other with all that is no merge.
5. A row is never set back, nor is one of a model deleted: a model that was dropped and returns goes on counting.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.store.queries import ActiveModel


@dataclass(frozen=True, kw_only=True, slots=True)
class UserStamp:
    """A user, as everything that is shown of them is now."""

    user_id: int
    revision: int  # 0: nothing has changed since revisions are counted


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelStamp:
    """A model, as all results of it are now, and the versions by which they are shown."""

    model: ActiveModel  # with the revision of its decision
    policy_version: int  # 0: no policy
    promotion: int  # the newest one
    shown: int  # how often it was changed how results are shown: policies and names; no merge raises it
    revision: int  # of all that; it rises with merges too


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """Whom and what a transaction has changed."""

    users: frozenset[int] = frozenset()
    slots: Mapping[int, int] = field(default_factory=dict)  # by model, that of some photo with another result


SHOWN = 64  # the slot behind those of merges, which are the slots of photos
APART = 65  # and that of what is no merge, for which none shall wait: consents, erasures, repairs, a model's end

_USER = text("""
SELECT u.user_id, coalesce(r.revision, 0) AS revision
FROM core.app_user u LEFT JOIN core.user_revision r USING (user_id)
WHERE u.name = CAST(:user AS text) COLLATE "C" AND u.deleted_at IS NULL""")


def user_stamp(connection: Connection, user: str) -> UserStamp | None:
    """The stamp of the user of that name; None if there is none, or none that this transaction may see."""
    row = connection.execute(_USER, {"user": user}).mappings().first()
    return UserStamp(**row) if row else None


_MODEL = text("""
SELECT m.model_id, m.name, encode(m.fingerprint, 'hex') AS fingerprint, t.name AS taxonomy,
       encode(t.sha256, 'hex') AS taxonomy_sha256,
       (SELECT max(d.revision) FROM core.decision d WHERE d.model_id = m.model_id) AS decision_revision,
       coalesce((SELECT version FROM core.policy WHERE active), 0) AS policy_version,
       (SELECT max(promotion_id) FROM core.promotion) AS promotion,
       risen.shown, risen.revision
FROM core.model m JOIN core.taxonomy t USING (taxonomy_id) CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.revision) FILTER (WHERE r.slot = :shown), 0)::bigint AS shown,
           coalesce(sum(r.revision), 0)::bigint AS revision
    FROM core.model_revision r WHERE r.model_id = m.model_id) AS risen
WHERE m.dropped_at IS NULL
  AND m.model_id = coalesce(CAST(:model AS smallint), (SELECT a.model_id FROM core.active_model a))""")


def model_stamp(connection: Connection, model_id: int | None = None) -> ModelStamp:
    """The stamp of the active model, or of another one.

    Raises:
        ConfigurationError: no model is registered, or that one is not, or was dropped.
    """
    row = connection.execute(_MODEL, {"model": model_id, "shown": SHOWN}).mappings().first()
    if row is None and model_id is None:
        raise ConfigurationError("No model is registered yet; run `pictograph migrate`.")
    if row is None:
        raise ConfigurationError(f"There is no model {model_id} with results; `pictograph models list` shows them.")
    values = dict(row)
    own = {name: values.pop(name) for name in ("policy_version", "promotion", "shown", "revision")}
    return ModelStamp(model=ActiveModel(**values), **own)


# A sub-select in key order: the rows are locked as they come.
_TOUCH_USERS = text("""
INSERT INTO core.user_revision AS r (user_id, revision)
SELECT user_id, 1 FROM (SELECT DISTINCT unnest(CAST(:users AS bigint[])) AS user_id) AS touched ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET revision = r.revision + 1, changed_at = now()""")


def touch_users(connection: Connection, user_ids: Collection[int]) -> None:
    """Something that is shown of these users changes in this transaction. Call it last, once (law 3)."""
    if user_ids:
        connection.execute(_TOUCH_USERS, {"users": sorted(user_ids)})


_TOUCH_MODEL = text("""
INSERT INTO core.model_revision AS r (model_id, slot, revision) VALUES (:model, :slot, 1)
ON CONFLICT (model_id, slot) DO UPDATE SET revision = r.revision + 1""")


def touch_model(connection: Connection, model_id: int, slot: int = APART) -> None:
    """Something that is shown of this model's results changes in this transaction. Call it after `touch_users`.

    `slot`: that of the photos, if it is about photos; transactions that name different ones do not wait for each other.
    """
    connection.execute(_TOUCH_MODEL, {"model": model_id, "slot": slot})


_TOUCH_MODELS = text(f"""
INSERT INTO core.model_revision AS r (model_id, slot, revision)
SELECT model_id, {SHOWN}, 1 FROM core.model WHERE dropped_at IS NULL ORDER BY model_id
ON CONFLICT (model_id, slot) DO UPDATE SET revision = r.revision + 1""")


def touch_models(connection: Connection) -> None:
    """How results of every model are shown changes in this transaction, as under another policy or other names."""
    connection.execute(_TOUCH_MODELS)


_TOUCH_MODELS_OF = text("""
INSERT INTO core.model_revision AS r (model_id, slot, revision)
SELECT m.model_id, :slot, 1 FROM core.model m WHERE EXISTS (
    SELECT FROM core.user_category c WHERE c.model_id = m.model_id AND c.user_id = ANY (CAST(:users AS bigint[])))
ORDER BY m.model_id
ON CONFLICT (model_id, slot) DO UPDATE SET revision = r.revision + 1""")


def touch_standing(connection: Connection, user_ids: Collection[int]) -> None:
    """These users begin or cease to be shown to others: touches them, and every model that has totals of them."""
    touch_users(connection, user_ids)
    connection.execute(_TOUCH_MODELS_OF, {"users": sorted(user_ids), "slot": APART})


# The models wait for the users, so that all transactions lock both in one order.
_TOUCH = text("""
WITH users AS (
    INSERT INTO core.user_revision AS r (user_id, revision)
    SELECT user_id, 1 FROM unnest(CAST(:users AS bigint[])) AS user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET revision = r.revision + 1, changed_at = now() RETURNING 1)
INSERT INTO core.model_revision AS r (model_id, slot, revision)
SELECT model_id, slot, 1 FROM unnest(CAST(:models AS smallint[]), CAST(:slots AS smallint[])) AS m (model_id, slot)
WHERE (SELECT count(*) FROM users) >= 0 ORDER BY model_id
ON CONFLICT (model_id, slot) DO UPDATE SET revision = r.revision + 1""")


def touch(connection: Connection, changed: Changed) -> None:
    """Raise the revisions of whom and what this transaction has changed. Call it last, once (law 3)."""
    if changed.users or changed.slots:
        values = {"users": sorted(changed.users), "models": [*changed.slots], "slots": [*changed.slots.values()]}
        connection.execute(_TOUCH, values)
