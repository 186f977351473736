"""What operators order for later: schedules, deliveries, limits; and the events that places send by themselves."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.store.tables.base import Bytewise, Moment, created, metadata

schedule = Table(
    "schedule",
    metadata,
    Column("schedule_id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("window", JSONB),
    Column("request", JSONB, nullable=False),
    Column("next_at", Moment),
    Column("created_by", Text, nullable=False),
    created(),
    Column("removed_at", Moment),
    Index("schedule_name_key", "name", unique=True, postgresql_where=text("removed_at IS NULL")),
    Index("schedule_due_idx", "next_at", postgresql_where=text("removed_at IS NULL")),
    comment="A job that starts by the clock. request: what `pictograph tag` would ask for. "
    "next_at: when it is next due.",
)

firing = Table(
    "firing",
    metadata,
    Column("schedule_id", BigInteger, ForeignKey("core.schedule.schedule_id"), primary_key=True),
    Column("due_at", Moment, primary_key=True),
    Column("fired_at", Moment, nullable=False, server_default=func.now()),
    Column("job_id", BigInteger, ForeignKey("core.job.job_id")),
    Column("missed", Integer, nullable=False, server_default=text("0")),
    Column("note", Text),
    comment="One time that a schedule was due, and the one job that came of it. missed: earlier times that this one "
    "stands for. note: why there is no job.",
)

delivery = Table(
    "delivery",
    metadata,
    Column("delivery_id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False, unique=True, server_default=func.uuidv7()),
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("format", Text),
    Column("state", SmallInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("lease_epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("lease_owner", Text),
    Column("lease_until", Moment),
    Column("published_at", Moment),
    Column("next_attempt_at", Moment),
    created(),
    Column("delivered_at", Moment),
    Column("error", Text),
    Column("facts", JSONB),
    CheckConstraint("kind in ('results', 'webhook')", name="kind"),
    Index("delivery_job_id_idx", "job_id"),
    Index("delivery_open_idx", "delivery_id", postgresql_where=text("state in (0, 1, 2)")),
    comment="Something to be brought somewhere once its job has ended: a results manifest, or the news. event_id: the "
    "same at every attempt. facts: lines and checksum of what was written. Cancelled: given up, error says why.",
)

queue_limit = Table(
    "queue_limit",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("most", Integer, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_at", Moment, nullable=False, server_default=func.now()),
    CheckConstraint("most >= 0", name="most"),
    comment='How many shards of a queue may be worked on at once; queue "*": of all queues together.',
)

object_event = Table(
    "object_event",
    metadata,
    Column("bucket", Bytewise, primary_key=True),
    Column("key", Bytewise, primary_key=True),
    Column("sequencer", Bytewise, nullable=False),
    Column("deleted", Boolean, nullable=False, server_default=false()),
    Column("seen_at", Moment, nullable=False, server_default=func.now()),
    comment="The newest event of an object that was taken in. "
    "One with an older sequencer, or the same, says nothing new.",
)

job_entry = Table(
    "job_entry",
    metadata,
    Column("job_id", BigInteger, ForeignKey("core.job.job_id"), primary_key=True),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    Column("bucket", Bytewise, nullable=False),
    Column("key", Bytewise, nullable=False),
    Column("version_id", Text),
    Column("deleted", Boolean, nullable=False, server_default=false()),
    Index("job_entry_key_idx", "key"),
    Index("job_entry_object_idx", "bucket", "key"),
    comment="An object that a job of kind events is about; its input, kept in the ledger.",
)
