"""Alembic migrations of the ``core`` and ``tags`` schemas."""
