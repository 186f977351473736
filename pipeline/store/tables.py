"""The tables of schema `core`, as the migrations leave them (a test compares the two).

State columns hold the integers of `pipeline.records`. Times are the database's. Masses are ten-thousandths of a photo.

References of results and totals are stated and not enforced (`_stated`). Postgres would look up every one of the 30 new
rows that a photo brings, which took nine tenths of a merge. What they say is made true elsewhere: a result is written
only for a photo that the same transaction has joined and locked, whose user it holds locked against erasure, into a
partition that is made with its model; totals come from nothing but results; their nodes are those that the model's
taxonomy registered; and nobody deletes a photo, user, model or category before what refers to it.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler

metadata = MetaData(
    schema="core",
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)

Moment = DateTime(timezone=True)
Bytewise = Text(collation="C")  # S3 lists keys in byte order, so keys compare bytewise here too


def _stated(target: str) -> ForeignKey:
    """A reference that Postgres knows of and does not check (PostgreSQL 18)."""
    return ForeignKey(target, info={"enforced": False})


@compiles(ForeignKeyConstraint)
def _foreign_key(constraint: ForeignKeyConstraint, compiler: DDLCompiler, **options: object) -> str:
    sql = compiler.visit_foreign_key_constraint(constraint, **options)
    return sql if all(key.info.get("enforced", True) for key in constraint.elements) else f"{sql} NOT ENFORCED"


def _now() -> Column[object]:
    return Column("created_at", Moment, nullable=False, server_default=func.now())


bucket = Table(
    "bucket",
    metadata,
    Column("bucket_id", Integer, Identity(always=True), primary_key=True),
    Column("uri", Bytewise, nullable=False, unique=True),
    comment='Where keys are unique: "s3://name", or "file://" for local files.',
)

app_user = Table(
    "app_user",
    metadata,
    Column("user_id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Bytewise, nullable=False, unique=True),
    _now(),
    Column("deleted_at", Moment),
    comment="An owner of photos. A row with deleted_at is a tombstone: nothing of this user is stored again.",
)

taxonomy = Table(
    "taxonomy",
    metadata,
    Column("taxonomy_id", SmallInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("labels", Integer, nullable=False),
    _now(),
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
    _now(),
    Index("model_active_key", "active", unique=True, postgresql_where=text("active")),
    comment="Weights, preprocessing, labels, taxonomy, temperature and noise floor; the fingerprint covers them all.",
)

decision = Table(
    "decision",
    metadata,
    Column("model_id", SmallInteger, ForeignKey("core.model.model_id"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, nullable=False),
    Column("threshold", SmallInteger, nullable=False),
    _now(),
    Column("lam", Integer, nullable=False, server_default=text("0")),
    Column("vague_share", Double, nullable=False, server_default=text("0.4")),
    Column("ambiguous_mass", SmallInteger, nullable=False, server_default=text("3000")),
    Column("keep_mass", SmallInteger, nullable=False, server_default=text("200")),
    Column("calibration", JSONB),
    comment="The constants that turn stored masses into tags; cheap to change, hence apart from the model.",
)

photo = Table(
    "photo",
    metadata,
    Column("photo_id", BigInteger, Identity(always=True), primary_key=True),
    Column("bucket_id", Integer, ForeignKey("core.bucket.bucket_id"), nullable=False),
    Column("key", Bytewise, nullable=False),
    Column("user_id", BigInteger, ForeignKey("core.app_user.user_id"), nullable=False),
    Column("etag", Text, nullable=False),
    Column("version_id", Text),
    Column("size", BigInteger, nullable=False),
    Column("content_rev", Integer, nullable=False, server_default=text("1")),
    Column("taken_at", Moment, nullable=False),
    Column("taken_from", SmallInteger, nullable=False, server_default=text("0")),
    _now(),
    Column("gone_at", Moment),
    UniqueConstraint("bucket_id", "key"),
    Index("photo_newest_idx", "user_id", text("taken_at DESC"), text("photo_id DESC")),
    comment="A photo. content_rev rises with every change of its bytes; gone_at: no longer at its place.",
)

job = Table(
    "job",
    metadata,
    Column("job_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("user_rule", Text, nullable=False),
    Column("fixed_user", Text),
    Column("model_id", SmallInteger, ForeignKey("core.model.model_id"), nullable=False),
    Column("scope", Text, nullable=False, server_default=text("'missing'")),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    Column("keep_missing", Boolean, nullable=False, server_default=false()),
    Column("allow_mass_delete", Boolean, nullable=False, server_default=false()),
    Column("state", SmallInteger, nullable=False),
    Column("error", Text),
    Column("notes", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("refusals", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("subtracted", BigInteger, nullable=False, server_default=text("0")),
    _now(),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("paused_by", Text),
    Column("paused_at", Moment),
    CheckConstraint("kind in ('s3', 'folder', 'manifest')", name="kind"),
    CheckConstraint("scope in ('missing', 'failed', 'stale', 'all')", name="scope"),
    Index("job_open_idx", "job_id", postgresql_where=text("state < 10")),
    comment="One run over a source with one model. subtracted: photos gone from the source. refusals: the first few.",
)

list_range = Table(
    "list_range",
    metadata,
    Column("range_id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), nullable=False),
    Column("cursor", Bytewise),
    Column("listed", BigInteger, nullable=False, server_default=text("0")),
    Column("state", SmallInteger, nullable=False),
    Column("deaths", SmallInteger, nullable=False, server_default=text("0")),
    Column("lease_epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("lease_owner", Text),
    Column("lease_until", Moment),
    Column("published_at", Moment),
    Column("next_attempt_at", Moment),
    Index("list_range_job_id_idx", "job_id"),
    Index("list_range_open_idx", "range_id", postgresql_where=text("state in (0, 1, 2)")),
    comment="A listing in progress; cursor is the checkpoint, written in the transaction of each page.",
)

shard = Table(
    "shard",
    metadata,
    Column("shard_id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), nullable=False),
    Column("model_id", SmallInteger, ForeignKey("core.model.model_id"), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("photos", SmallInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("deaths", SmallInteger, nullable=False, server_default=text("0")),
    Column("lease_epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("lease_owner", Text),
    Column("lease_until", Moment),
    Column("lease_started", Boolean, nullable=False, server_default=false()),
    Column("failures", SmallInteger, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("published_at", Moment),
    Column("next_attempt_at", Moment),
    Column("dead_workers", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("suspicions", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("alone", Boolean, nullable=False, server_default=false()),
    Index("shard_job_id_idx", "job_id"),
    # Neither lease_until nor published_at is indexed: renewing a lease must stay a heap-only update.
    Index(
        "shard_pending_idx",
        "model_id",
        text("priority DESC"),
        text("alone DESC"),
        "shard_id",
        postgresql_where=text("state = 0"),
    ),
    Index("shard_taken_idx", "shard_id", postgresql_where=text("state in (1, 2)")),
    Index("shard_condemned_idx", "shard_id", postgresql_where=text("deaths >= 2 AND state IN (0, 1)")),
    comment="At most 512 photos of a job, claimed and finished together; photos: those open when it was made, or at "
    "its last death. failures: in a row, that no photo explains. dead_workers: whom the deaths were; who comes back "
    "takes his away. suspicions: machines that lost a device over it. alone: never beside another one.",
    postgresql_with={"fillfactor": "70"},
)

job_item = Table(
    "job_item",
    metadata,
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), primary_key=True),
    Column("photo_id", BigInteger, ForeignKey("core.photo.photo_id"), primary_key=True),
    Column("shard_id", BigInteger),
    Column("state", SmallInteger, nullable=False),
    Column("code", SmallInteger, nullable=False, server_default=text("0")),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("first_retry_at", Moment),
    Column("next_attempt_at", Moment),
    Column("message", Text),
    Index("job_item_shard_id_idx", "shard_id", postgresql_where=text("state = 0")),
    Index("job_item_next_attempt_at_idx", "next_attempt_at", postgresql_where=text("state = 1")),
    Index("job_item_failed_idx", "job_id", postgresql_where=text("state = 3")),
    comment="What a job did with a photo.",
)

job_count = Table(
    "job_count",
    metadata,
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), primary_key=True),
    Column("state", SmallInteger, primary_key=True, autoincrement=False),
    Column("code", SmallInteger, primary_key=True, autoincrement=False),
    Column("photos", BigInteger, nullable=False),
    CheckConstraint("photos >= 0", name="photos"),
    comment="Photos of a job by state and code, changed in the transaction that changes the items; exact.",
    postgresql_with={"fillfactor": "70"},
)

job_missing = Table(
    "job_missing",
    metadata,
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), primary_key=True),
    Column("photo_id", BigInteger, ForeignKey("core.photo.photo_id"), primary_key=True),
    Index("job_missing_photo_id_idx", "photo_id"),
    comment="Photos of the ledger that a running listing did not meet; subtracted when it is complete.",
)

worker = Table(
    "worker",
    metadata,
    Column("worker_id", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("started_at", Moment, nullable=False, server_default=func.now()),
    Column("last_seen", Moment, nullable=False, server_default=func.now()),
    Column("last_progress", Moment),
    Column("host", Text, nullable=False, server_default=text("''")),
    Column("process_id", Integer, nullable=False, server_default=text("0")),
    Column("last_rung", Moment),
    Column("trouble", Text),
    Column("trouble_since", Moment),
    comment="A worker process and when it was last heard of. process_id: what a supervisor started, on host. "
    "last_rung: when a message last reached it. trouble: what it waits for.",
)

breaker = Table(
    "breaker",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("opened_at", Moment, nullable=False, server_default=func.now()),
    Column("next_attempt_at", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    comment="A model that does not work on a machine: nobody there serves its queue before next_attempt_at.",
)

erasure = Table(
    "erasure",
    metadata,
    Column("user_id", BigInteger, ForeignKey("core.app_user.user_id"), primary_key=True),
    Column("requested_at", Moment, nullable=False, server_default=func.now()),
    Column("finished_at", Moment),
    Column("photos", BigInteger, nullable=False, server_default=text("0")),
    Column("results", BigInteger, nullable=False, server_default=text("0")),
    Column("thumbnails", BigInteger, nullable=False, server_default=text("0")),
    Column("items", BigInteger, nullable=False, server_default=text("0")),
    comment="A user being erased, or erased: how many rows of each kind were deleted so far.",
)

photo_result = Table(
    "photo_result",
    metadata,
    Column("model_id", SmallInteger, _stated("core.model.model_id"), primary_key=True),
    Column("photo_id", BigInteger, _stated("core.photo.photo_id"), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("content_rev", Integer, nullable=False),
    Column("decision_rev", Integer, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("headline", SmallInteger),
    Column("nodes", ARRAY(SmallInteger), nullable=False),
    Column("masses", ARRAY(SmallInteger), nullable=False),
    Column("tags", ARRAY(SmallInteger), nullable=False),
    Column("sha256", LargeBinary),
    Index("photo_result_tags_idx", "tags", postgresql_using="gin"),
    Index("photo_result_user_id_idx", "user_id"),
    comment="What a model says of a photo: masses of every node with at least 2 %, the shown tags, the headline.",
    postgresql_partition_by="LIST (model_id)",
)

user_category = Table(
    "user_category",
    metadata,
    Column("model_id", SmallInteger, _stated("core.model.model_id"), primary_key=True),
    Column("user_id", BigInteger, _stated("core.app_user.user_id"), primary_key=True),
    Column("node", SmallInteger, _stated("core.category.node"), primary_key=True),
    Column("photos", BigInteger, nullable=False),
    Column("mass", BigInteger, nullable=False),
    CheckConstraint("photos >= 0", name="photos"),
    CheckConstraint("mass >= 0", name="mass"),
    comment="Exact totals of a user: photos that carry the tag (not additive), and mass (additive).",
    postgresql_with={"fillfactor": "70"},
)

category_total = Table(
    "category_total",
    metadata,
    Column("model_id", SmallInteger, _stated("core.model.model_id"), primary_key=True),
    Column("node", SmallInteger, _stated("core.category.node"), primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("photos", BigInteger, nullable=False),
    Column("mass", BigInteger, nullable=False),
    CheckConstraint("photos >= 0", name="photos"),
    CheckConstraint("mass >= 0", name="mass"),
    comment="Exact totals over all users, in 64 slots by photo so that merges of different shards do not queue up.",
    postgresql_with={"fillfactor": "50"},  # every merge changes most rows of a slot: they shall stay on their page
)

policy = Table(
    "policy",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("active", Boolean, nullable=False, server_default=false()),
    _now(),
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

thumbnail = Table(
    "thumbnail",
    metadata,
    Column("photo_id", BigInteger, ForeignKey("core.photo.photo_id", ondelete="CASCADE"), primary_key=True),
    Column("side", SmallInteger, primary_key=True, autoincrement=False),
    Column("content_rev", Integer, nullable=False),
    Column("jpeg", LargeBinary, nullable=False),
    Column("used_at", Moment, nullable=False, server_default=func.now()),
    Index("thumbnail_used_at_idx", "used_at"),
    comment="Small pictures without metadata, made on demand; the least recently used go first.",
)
