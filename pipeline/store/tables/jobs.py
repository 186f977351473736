"""Jobs and what they did with each photo."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
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
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.store.tables.base import Bytewise, Moment, created, metadata

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
    created(),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("paused_by", Text),
    Column("paused_at", Moment),
    Column("pause_reason", Text),
    Column("pause_until", Moment),
    Column("cancelled_by", Text),
    Column("rested_seconds", Double, nullable=False, server_default=text("0")),
    Column("rules", JSONB, nullable=False, server_default=text("'{}'")),
    Column("most_failed_share", Double),
    Column("window", JSONB),
    Column("keeps_lines", Boolean, nullable=False, server_default=false()),
    Column("decision_revision", Integer),
    Column("retry_of", BigInteger, ForeignKey("core.job.job_id")),
    Column("schedule_id", BigInteger, ForeignKey("core.schedule.schedule_id")),
    Column("idempotency_key", Text, unique=True),
    Column("request_sha256", LargeBinary),
    Column("tidying_at", Moment),
    Column("tidied_at", Moment),
    CheckConstraint(
        "kind in ('s3', 'folder', 'manifest', 'csv', 'inventory', 'events', 'ledger', 'decide')", name="kind"
    ),
    CheckConstraint("scope in ('missing', 'failed', 'stale', 'all')", name="scope"),
    Index("job_open_idx", "job_id", postgresql_where=text("state < 10")),
    Index("job_untidied_idx", "finished_at", postgresql_where=text("tidied_at IS NULL")),
    comment="One run over a source with one model. subtracted: photos gone from the source. refusals: the first few. "
    "rules: which of its photos. most_failed_share: above it the job is stopped. window: when it may run. keeps_lines: "
    "job_line has what became of each line. request_sha256: what idempotency_key was first used for. tidying_at: its "
    "items, lines and entries are gone or going; its counts stay.",
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
    Index("job_item_photo_id_idx", "photo_id"),
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

job_line = Table(
    "job_line",
    metadata,
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), primary_key=True),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    Column("uri", Bytewise),
    Column("version_id", Text),
    Column("photo_id", BigInteger),
    Column("state", SmallInteger),
    Column("code", SmallInteger),
    Column("message", Text),
    Index("job_line_photo_id_idx", "photo_id", postgresql_where=text("photo_id IS NOT NULL")),
    Index("job_line_uri_idx", "uri", postgresql_where=text("photo_id IS NULL AND uri IS NOT NULL")),
    comment="One line of a job's input, kept where results were asked for. No state: job_item has it, by photo_id. "
    "No uri: the line named none, or its user was erased.",
)
