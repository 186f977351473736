"""What is known before any photo: taxonomies, categories, models, decisions, policies."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.store.tables.base import Moment, created, metadata

taxonomy = Table(
    "taxonomy",
    metadata,
    Column("taxonomy_id", SmallInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("labels", Integer, nullable=False),
    created(),
    comment="A built hypernym graph; immutable.",
)

category = Table(
    "category",
    metadata,
    Column("node", SmallInteger, primary_key=True, autoincrement=False),
    Column("wnid", Text, nullable=False),
    Column("area_only", Boolean, nullable=False),
    Column("name", Text, nullable=False),
    Column("lemmas", ARRAY(Text), nullable=False),
    Column("gloss", Text, nullable=False),
    UniqueConstraint("wnid", "area_only"),
    comment="A synset, under an id that is never reused. area_only: its mass over the display tree, never a tag.",
)

taxonomy_category = Table(
    "taxonomy_category",
    metadata,
    Column("taxonomy_id", SmallInteger, ForeignKey("core.taxonomy.taxonomy_id"), primary_key=True),
    Column("node", SmallInteger, ForeignKey("core.category.node"), primary_key=True),
    Column("position", SmallInteger, nullable=False),
    Column("leaf_count", Integer, nullable=False),
    Column("bits", Double, nullable=False),
    Column("depth", SmallInteger, nullable=False),
    Column("display_parent", SmallInteger, ForeignKey("core.category.node")),
    Column("shown_as", SmallInteger, ForeignKey("core.category.node"), nullable=False),
    UniqueConstraint("taxonomy_id", "position"),
    comment="A category's place in one taxonomy; position is its column in the taxonomy's matrices.",
)

category_closure = Table(
    "category_closure",
    metadata,
    Column("taxonomy_id", SmallInteger, ForeignKey("core.taxonomy.taxonomy_id"), primary_key=True),
    Column("ancestor", SmallInteger, ForeignKey("core.category.node"), primary_key=True),
    Column("descendant", SmallInteger, ForeignKey("core.category.node"), primary_key=True),
    Column("distance", SmallInteger, nullable=False),
    comment="Every pair of a category and a category above it; distance 0 is the category itself.",
)

model = Table(
    "model",
    metadata,
    Column("model_id", SmallInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("taxonomy_id", SmallInteger, ForeignKey("core.taxonomy.taxonomy_id"), nullable=False),
    Column("active", Boolean, nullable=False, server_default=false()),
    created(),
    Column("dropped_at", Moment),
    Index("model_active_key", "active", unique=True, postgresql_where=text("active")),
    comment="Weights, preprocessing, labels, taxonomy, temperature and noise floor; the fingerprint covers them all. "
    "active: not read any more since there are promotions, to go in a later release. dropped_at: its results are gone.",
)

promotion = Table(
    "promotion",
    metadata,
    Column("promotion_id", BigInteger, Identity(always=True), primary_key=True),
    Column("model_id", SmallInteger, ForeignKey("core.model.model_id"), nullable=False),
    Column("promoted_at", Moment, nullable=False, server_default=func.now()),
    Column("promoted_by", Text, nullable=False),
    Column("rolled_back", Boolean, nullable=False, server_default=false()),
    Column("reason", Text),
    comment="Whose results people see: the model of the newest row. rolled_back: it was returned to, not promoted.",
)

decision = Table(
    "decision",
    metadata,
    Column("model_id", SmallInteger, ForeignKey("core.model.model_id"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, nullable=False),
    Column("threshold", SmallInteger, nullable=False),
    created(),
    Column("lam", Integer, nullable=False, server_default=text("0")),
    Column("vague_share", Double, nullable=False, server_default=text("0.4")),
    Column("ambiguous_mass", SmallInteger, nullable=False, server_default=text("3000")),
    Column("keep_mass", SmallInteger, nullable=False, server_default=text("200")),
    Column("calibration", JSONB),
    comment="The constants that turn stored masses into tags; cheap to change, hence apart from the model.",
)

policy = Table(
    "policy",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("active", Boolean, nullable=False, server_default=false()),
    created(),
    Column("applied_at", Moment),
    Index("policy_active_key", "active", unique=True, postgresql_where=text("active")),
    comment="Rules under which subtrees are shown as ancestors; at most one version is active. None is: no policy.",
)

policy_rule = Table(
    "policy_rule",
    metadata,
    Column("version", Integer, ForeignKey("core.policy.version"), primary_key=True),
    Column("position", SmallInteger, primary_key=True, autoincrement=False),
    Column("wnid", Text, nullable=False),
    Column("target", Text),
    Column("taken_along", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("version", "wnid", "target", postgresql_nulls_not_distinct=True),
    comment="wnid and all below it are shown as target; no target: as the nearest category that may be shown. "
    "taken_along: not asked for, but needed so that no hidden count can be had by subtraction.",
)

policy_effect = Table(
    "policy_effect",
    metadata,
    Column("version", Integer, ForeignKey("core.policy.version"), primary_key=True),
    Column("taxonomy_id", SmallInteger, ForeignKey("core.taxonomy.taxonomy_id"), primary_key=True),
    Column("node", SmallInteger, ForeignKey("core.category.node"), primary_key=True),
    Column("hidden", Boolean, nullable=False),
    Column("shown_as", SmallInteger, ForeignKey("core.category.node")),
    Column("minus", ARRAY(SmallInteger), nullable=False),
    Column("times", ARRAY(SmallInteger), nullable=False),
    Column("owed_to", ARRAY(SmallInteger), nullable=False),
    comment="What an applied policy changes in one taxonomy: a hidden node and what it is shown as, or a shown node "
    "and the nodes whose mass and photos, so many times each, are subtracted. A photo with a tag in owed_to does not "
    "carry this one.",
)
