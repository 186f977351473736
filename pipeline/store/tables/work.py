"""Work that is leased, and who does it."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    false,
    func,
    text,
)

from pipeline.store.tables.base import Bytewise, Moment, metadata

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
