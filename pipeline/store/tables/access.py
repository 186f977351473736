"""Who may ask the API, what it signs with, and what people say of tags."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    func,
)

from pipeline.store.tables.base import Bytewise, Moment, created, metadata

api_key = Table(
    "api_key",
    metadata,
    Column("key_id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False, unique=True),
    Column("user_name", Bytewise),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_by", Text, nullable=False),
    created(),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("used_at", Moment),
    comment="Who may ask the API for what. The secret itself was shown once and is stored nowhere.",
)

api_secret = Table(
    "api_secret",
    metadata,
    Column("purpose", Text, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    created(),
    comment="Random bytes with which every server of this ledger signs page tokens and sessions, one row per purpose. "
    "A row that is replaced makes all that was signed with it void.",
)

verdict = Table(
    "verdict",
    metadata,
    Column("photo_id", BigInteger, ForeignKey("core.photo.photo_id", ondelete="CASCADE"), primary_key=True),
    Column("node", SmallInteger, primary_key=True, autoincrement=False),
    Column("verdict", Text, nullable=False),
    Column("content_rev", Integer, nullable=False),
    Column("model_id", SmallInteger, nullable=False),
    Column("decision_rev", Integer, nullable=False),
    Column("headline", SmallInteger),
    Column("given_by", Text, nullable=False),
    Column("given_at", Moment, nullable=False, server_default=func.now()),
    CheckConstraint("verdict in ('confirm', 'reject', 'generalise')", name="verdict"),
    Index("verdict_given_at_idx", "given_at"),
    comment="What a person said of a category and a photo; the newest word counts. Apart from what models say: neither "
    "touches the other. generalise: it is some kind of this, and not what the model named below it.",
)
