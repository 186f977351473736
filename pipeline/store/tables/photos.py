"""Photos, their owners, and what belongs to them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from pipeline.store.tables.base import Bytewise, Moment, created, metadata

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
    created(),
    Column("deleted_at", Moment),
    Column("consent", Boolean),
    Column("shared", Boolean, nullable=False, server_default=text("false")),
    # Whoever shows many photos leaves out those of the few users who are being erased.
    Index("app_user_deleted_idx", "user_id", postgresql_where=text("deleted_at IS NOT NULL")),
    Index("app_user_shared_idx", "user_id", postgresql_where=text("shared")),
    comment="An owner of photos. A row with deleted_at is a tombstone: nothing of this user is stored again. consent: "
    "whether others may see this user's photos; NULL: never asked, which counts as no.",
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
    created(),
    Column("gone_at", Moment),
    UniqueConstraint("bucket_id", "key"),
    Index("photo_newest_idx", "user_id", text("taken_at DESC"), text("photo_id DESC")),
    # Photos are counted by the index above, which knows nothing of those that are gone: they are counted by this one.
    Index("photo_gone_idx", "user_id", "taken_at", postgresql_where=text("gone_at IS NOT NULL")),
    comment="A photo. content_rev rises with every change of its bytes; gone_at: no longer at its place.",
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
    Column("lines", BigInteger, nullable=False, server_default=text("0")),
    Column("outputs", BigInteger, nullable=False, server_default=text("0")),
    Column("verdicts", BigInteger, nullable=False, server_default=text("0")),
    comment="A user being erased, or erased: how many rows of each kind were deleted so far.",
)
