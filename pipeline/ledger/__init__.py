"""The ledger: which work exists, who holds it, what became of it. Postgres is the queue; the broker is a doorbell."""
