"""What models say of photos, and the totals."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.store.tables.base import Moment, metadata, stated

photo_result = Table(
    "photo_result",
    metadata,
    Column("model_id", SmallInteger, stated("core.model.model_id"), primary_key=True),
    Column("photo_id", BigInteger, stated("core.photo.photo_id"), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("content_rev", Integer, nullable=False),
    Column("decision_rev", Integer, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("headline", SmallInteger),
    Column("nodes", ARRAY(SmallInteger), nullable=False),
    Column("masses", ARRAY(SmallInteger), nullable=False),
    Column("tags", ARRAY(SmallInteger), nullable=False),
    Column("sha256", LargeBinary),
    Column("taken_at", Moment),
    # Days and months too, the months as days long before all others: the newest photos of a category are looked for in
    # the newest of them.
    Index(
        "photo_result_tags_taken_idx",
        "tags",
        text(
            "(ARRAY[timezone('UTC'::text, taken_at)::date, "
            "date_trunc('month'::text, timezone('UTC'::text, taken_at))::date - 1000000])"
        ),
        postgresql_using="gin",
    ),
    # With the tags: the newest photos are walked by without reading their results.
    Index("photo_result_taken_at_idx", "taken_at", "photo_id", postgresql_include=["tags"]),
    Index("photo_result_user_id_idx", "user_id"),
    # Less than half of what the whole takes. No hash index: a photo that everybody has would be one endless bucket.
    Index("photo_result_sha256_idx", text("(substring(sha256, 1, 4)::integer)"), "model_id"),
    comment="What a model says of a photo: masses of every node with at least 2 %, the shown tags, the headline.",
    postgresql_partition_by="LIST (model_id)",
)

user_category = Table(
    "user_category",
    metadata,
    Column("model_id", SmallInteger, stated("core.model.model_id"), primary_key=True),
    Column("user_id", BigInteger, stated("core.app_user.user_id"), primary_key=True),
    Column("node", SmallInteger, stated("core.category.node"), primary_key=True),
    Column("photos", BigInteger, nullable=False),
    Column("mass", BigInteger, nullable=False),
    CheckConstraint("photos >= 0", name="photos"),
    CheckConstraint("mass >= 0", name="mass"),
    # Who photographs something most. It costs a merge 1 to 2 ms per user: rows whose photos change move on their pages.
    Index("user_category_most_idx", "model_id", "node", "photos", "user_id", postgresql_where=text("photos > 0")),
    comment="Exact totals of a user: photos that carry the tag (not additive), and mass (additive).",
    postgresql_with={"fillfactor": "70"},
)

category_total = Table(
    "category_total",
    metadata,
    Column("model_id", SmallInteger, stated("core.model.model_id"), primary_key=True),
    Column("node", SmallInteger, stated("core.category.node"), primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("photos", BigInteger, nullable=False),
    Column("mass", BigInteger, nullable=False),
    CheckConstraint("photos >= 0", name="photos"),
    CheckConstraint("mass >= 0", name="mass"),
    comment="Exact totals over all users, in 64 slots by photo so that merges of different shards do not queue up.",
    postgresql_with={"fillfactor": "50"},  # every merge changes most rows of a slot: they shall stay on their page
)

shared_total = Table(
    "shared_total",
    metadata,
    Column("model_id", SmallInteger, stated("core.model.model_id"), primary_key=True),
    Column("node", SmallInteger, stated("core.category.node"), primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("users", BigInteger, nullable=False),
    Column("photos", BigInteger, nullable=False),
    Column("mass", BigInteger, nullable=False),
    CheckConstraint("users >= 0", name="users"),
    CheckConstraint("photos >= 0", name="photos"),
    CheckConstraint("mass >= 0", name="mass"),
    comment="Exact totals over the users who consent to be seen by others, in 64 slots by user.",
    postgresql_with={"fillfactor": "50"},
)

user_revision = Table(
    "user_revision",
    metadata,
    Column("user_id", BigInteger, stated("core.app_user.user_id"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("changed_at", Moment, nullable=False, server_default=func.now()),
    comment="A number that rises with every transaction that changes anything shown of a user: results, owners, times, "
    "verdicts, consent. Answers about the user are cached by it. No row: nothing has changed yet.",
    postgresql_with={"fillfactor": "70"},
)

model_revision = Table(
    "model_revision",
    metadata,
    Column("model_id", SmallInteger, stated("core.model.model_id"), primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    comment="Numbers of which one rises with every transaction that changes results of the model; their sum is the "
    "model's revision. In slots, so that merges do not queue up.",
    postgresql_with={"fillfactor": "50"},
)

model_report = Table(
    "model_report",
    metadata,
    Column("base_model_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("head_model_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("made_at", Moment, nullable=False, server_default=func.now()),
    Column("report", JSONB, nullable=False),
    comment="The newest comparison of two models over the photos that both have seen, as `pictograph models diff` made "
    "it.",
)
