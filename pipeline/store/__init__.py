"""Everything that speaks SQL: tables, sessions, the merge transaction, queries. The one home for it."""
