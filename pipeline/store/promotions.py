"""Whose results people see: models that are known, and the one of them that is active.

Theory of operation
    The active model is that of the newest row of `core.promotion`; the view `core.active_model` names it. Every reader
    asks once per transaction, so a promotion shows to each as a whole or not at all. A row is never changed: to
    roll back is to insert one more.

Laws
1. Promoting, rolling back and dropping wait for each other: no model becomes active while it is being dropped.
2. Promotions are a stack: to promote is to push, to roll back is to pop. A second rollback goes one further back.
3. Who covers less than 99 % of what the active model has seen is promoted on request only: people would lose photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.records import SEEN, WHOLE

PROMOTER = 7_420_018  # advisory lock: one promotion, rollback or drop at a time
LEAST_COVERAGE = 0.99  # of the photos that the active model has seen, unless asked otherwise
SHORT = 8  # hexadecimal digits by which models of one name are told apart

_SEEN = ", ".join(str(int(code)) for code in sorted(SEEN))


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownModel:
    """A model of the ledger. Several may have one name: as its weights and settings were, and as they are."""

    model_id: int
    name: str
    fingerprint: str  # hexadecimal
    taxonomy: str
    taxonomy_sha256: str  # hexadecimal
    registered_at: datetime
    dropped_at: datetime | None
    active: bool

    @property
    def label(self) -> str:
        """The name by which this very model can be given, whatever others are called."""
        return f"{self.name}@{self.fingerprint[:SHORT]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """Photos of the live corpus, by which of two models have seen them as they are now."""

    photos: int  # that are there
    base: int  # seen by the first
    head: int  # seen by the second
    both: int

    @property
    def share(self) -> float:
        """Of what the first has seen, how much the second has; 1 if the first has seen nothing."""
        return self.both / self.base if self.base else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """What has become active, and in whose place."""

    model: KnownModel
    before: KnownModel | None
    changed: bool  # False: it was active already, and nothing was written
    coverage: Coverage | None = None  # of the model before and this one


_KNOWN = """
SELECT m.model_id, m.name, encode(m.fingerprint, 'hex') AS fingerprint, t.name AS taxonomy,
       encode(t.sha256, 'hex') AS taxonomy_sha256, m.created_at AS registered_at, m.dropped_at,
       a.model_id IS NOT NULL AS active
FROM core.model m JOIN core.taxonomy t USING (taxonomy_id) LEFT JOIN core.active_model a USING (model_id)"""


def known_models(connection: Connection) -> list[KnownModel]:
    """Every model that was ever registered, oldest first; dropped ones too."""
    rows = connection.execute(text(f"{_KNOWN} ORDER BY m.model_id")).mappings()
    return [KnownModel(**row) for row in rows]


def active(connection: Connection) -> KnownModel | None:
    """The active model; None before any was registered."""
    row = connection.execute(text(f"{_KNOWN} WHERE a.model_id IS NOT NULL")).mappings().first()
    return KnownModel(**row) if row else None


def find_model(connection: Connection, name: str, here: str | None = None) -> KnownModel:
    """The model of that name, or NAME@FINGERPRINT, of which the first few digits do.

    Of several with one name it is the one with the fingerprint `here`, as this machine has it; else the newest that was
    not dropped; else the newest.

    Raises:
        ConfigurationError: there is none, with the nearest name; or the digits are of several.
    """
    known = known_models(connection)
    word, _, digits = name.partition("@")
    named = [model for model in known if model.name == word and model.fingerprint.startswith(digits.lower())]
    if not named:
        raise ConfigurationError(_unknown(name, known))
    if digits:
        if len(named) > 1:
            raise ConfigurationError(f"{name} stands for {len(named)} models; give more digits of the fingerprint.")
        return named[0]
    return max(named, key=lambda model: (model.fingerprint == here, model.dropped_at is None, model.model_id))


def _unknown(name: str, known: Sequence[KnownModel]) -> str:
    names = [*dict.fromkeys(model.name for model in known), *(model.label for model in known)]
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else "; `pictograph models list` shows them."
    return f"The ledger has no model {name!r}{hint}"


def coverage(connection: Connection, base: int, head: int) -> Coverage:
    """How much of the live corpus two models have seen, each photo as it is now."""
    query = text(f"""
        SELECT count(*) AS photos, count(b.photo_id) AS base, count(h.photo_id) AS head,
               count(*) FILTER (WHERE b.photo_id IS NOT NULL AND h.photo_id IS NOT NULL) AS both
        FROM core.photo p JOIN core.app_user u USING (user_id)
        LEFT JOIN core.photo_result b ON b.model_id = :base AND b.photo_id = p.photo_id
            AND b.content_rev = p.content_rev AND b.outcome IN ({_SEEN})
        LEFT JOIN core.photo_result h ON h.model_id = :head AND h.photo_id = p.photo_id
            AND h.content_rev = p.content_rev AND h.outcome IN ({_SEEN})
        WHERE p.gone_at IS NULL AND u.deleted_at IS NULL""")
    return Coverage(**connection.execute(query, {"base": base, "head": head}).mappings().one())


def photos_seen(connection: Connection) -> dict[int, int]:
    """By model, how many photos it has seen; from the totals, so that it takes no longer with more photos."""
    query = text(f"""
        SELECT t.model_id, sum(t.mass)::bigint / {WHOLE} FROM core.category_total t JOIN core.model m USING (model_id)
        JOIN core.taxonomy_category root ON (root.taxonomy_id, root.node) = (m.taxonomy_id, t.node)
        WHERE root.position = 0 AND m.dropped_at IS NULL GROUP BY 1""")
    return {model_id: int(photos) for model_id, photos in connection.execute(query)}


def lock(connection: Connection) -> None:
    """Keep others from promoting, rolling back and dropping until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": PROMOTER})


def insert_promotion(
    connection: Connection, model_id: int, by: str, reason: str | None, *, rolled_back: bool = False
) -> None:
    """Make the model the active one, for every reader at once when the transaction commits. Lock first."""
    connection.execute(
        text("""INSERT INTO core.promotion (model_id, promoted_by, reason, rolled_back)
                VALUES (:model, :by, :reason, :rolled_back)"""),
        {"model": model_id, "by": by, "reason": reason, "rolled_back": rolled_back},
    )


def promote(
    connection: Connection, model: KnownModel, by: str, reason: str | None = None, *, partial: bool = False
) -> Promotion:
    """Make a model the active one. If it is, nothing is written.

    Raises:
        ConfigurationError: it was dropped, has no results, or (unless `partial`) covers too little.
    """
    lock(connection)
    model, before = _anew(connection, model), active(connection)
    if before is not None and before.model_id == model.model_id:
        return Promotion(model=model, before=before, changed=False)
    if model.dropped_at is not None:
        raise ConfigurationError(
            f"Model {model.label} was dropped at {model.dropped_at:%Y-%m-%d %H:%M} UTC and has no results; "
            f"`pictograph models shadow {model.name}` registers it again and tags with it."
        )
    found = coverage(connection, before.model_id if before else model.model_id, model.model_id)
    if found.head == 0:
        raise ConfigurationError(
            f"Model {model.label} has no results; `pictograph models shadow {model.name}` tags the live corpus with it."
        )
    if found.share < LEAST_COVERAGE and not partial:
        raise ConfigurationError(
            f"Model {model.label} has seen {found.both:,} of the {found.base:,} photos that the active one has "
            f"({100 * found.share:.1f} %, and {100 * LEAST_COVERAGE:g} % are wanted); run `pictograph models shadow "
            f"{model.name}` until it has, or promote it with --partial."
        )
    insert_promotion(connection, model.model_id, by, reason)
    return Promotion(model=_anew(connection, model), before=before, changed=True, coverage=found)


def rollback(connection: Connection, by: str, reason: str | None = None) -> Promotion:
    """Return to the model that was active before; one without results, or dropped since, is passed over.

    Raises:
        ConfigurationError: there is none to return to.
    """
    lock(connection)
    before = active(connection)
    earlier = _earlier(connection)
    known = {model.model_id: model for model in known_models(connection)}
    seen = photos_seen(connection)
    able = [known[model_id] for model_id in reversed(earlier) if seen.get(model_id)]
    if before is None or not able:
        raise ConfigurationError(
            "No model was active before this one that still has results; `pictograph models promote NAME` takes any."
        )
    target = able[0]
    insert_promotion(connection, target.model_id, by, reason, rolled_back=True)
    found = coverage(connection, before.model_id, target.model_id)
    return Promotion(model=_anew(connection, target), before=before, changed=True, coverage=found)


def _earlier(connection: Connection) -> list[int]:
    """The models below the active one on the stack of promotions, newest last."""
    rows = connection.execute(text("SELECT model_id, rolled_back FROM core.promotion ORDER BY promotion_id"))
    return unwound([(model_id, back) for model_id, back in rows])[:-1]


def unwound(rows: Sequence[tuple[int, bool]]) -> list[int]:
    """The stack of active models after these promotions (model, whether it was returned to), the active one last."""
    stack: list[int] = []
    for model_id, returned in rows:
        if returned:
            stack.pop()
            while stack and stack[-1] != model_id:  # those that were passed over
                stack.pop()
        if not stack or stack[-1] != model_id:
            stack.append(model_id)
    return stack


def _anew(connection: Connection, model: KnownModel) -> KnownModel:
    """The model as it stands under the lock."""
    row = connection.execute(text(f"{_KNOWN} WHERE m.model_id = :model"), {"model": model.model_id}).mappings().one()
    return KnownModel(**row)
