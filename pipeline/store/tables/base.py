"""What the tables share: one metadata, names of constraints, types, and references that are stated, not enforced."""

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    Text,
    func,
)
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


def stated(target: str) -> ForeignKey:
    """A reference that Postgres knows of and does not check (PostgreSQL 18)."""
    return ForeignKey(target, info={"enforced": False})


@compiles(ForeignKeyConstraint)
def _foreign_key(constraint: ForeignKeyConstraint, compiler: DDLCompiler, **options: object) -> str:
    sql = compiler.visit_foreign_key_constraint(constraint, **options)
    return sql if all(key.info.get("enforced", True) for key in constraint.elements) else f"{sql} NOT ENFORCED"


def created() -> Column[object]:
    """When a row was made."""
    return Column("created_at", Moment, nullable=False, server_default=func.now())
