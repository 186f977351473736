"""Counters that change by signed amounts: what a transaction collected in a temporary table is added to them.

Law of the file:
1. One upsert in key order takes every lock that a transaction needs on such a table, so two of them cannot deadlock.
2. The upsert adds what is added. What is taken away follows, from rows that are locked by then: an upsert proposes a
   new row before it looks for a conflict, and a CHECK would refuse a negative one.
3. Amounts of one key are summed first; where the sum is zero nothing moves.
"""

from collections.abc import Sequence


def adding(table: str, key: Sequence[str], amounts: Sequence[str], collected: str) -> tuple[str, str]:
    """The two statements that add the `amounts` in `collected` to those of `table`, whose primary key is `key`."""
    columns = ", ".join(key)
    sums = ", ".join(f"sum({a})::bigint AS {a}" for a in amounts)
    net = f"SELECT {columns}, {sums} FROM {collected} GROUP BY {columns}"
    upsert = f"""
INSERT INTO {table} AS t ({columns}, {", ".join(amounts)})
SELECT {columns}, {", ".join(f"greatest({a}, 0)" for a in amounts)} FROM ({net}) net
WHERE {" OR ".join(f"{a} <> 0" for a in amounts)} ORDER BY {columns}
ON CONFLICT ({columns}) DO UPDATE SET {", ".join(f"{a} = t.{a} + EXCLUDED.{a}" for a in amounts)}
WHERE {" OR ".join(f"EXCLUDED.{a} > 0" for a in amounts)}"""
    some_negative = " OR ".join(f"{a} < 0" for a in amounts)
    # The EXISTS is asked once, before anything is summed again: most transactions take nothing away.
    subtract = f"""
UPDATE {table} t SET {", ".join(f"{a} = t.{a} + least(net.{a}, 0)" for a in amounts)} FROM ({net}) net
WHERE EXISTS (SELECT FROM {collected} WHERE {some_negative})
  AND {" AND ".join(f"t.{column} = net.{column}" for column in key)}
  AND ({" OR ".join(f"net.{a} < 0" for a in amounts)})"""
    return upsert, subtract
