"""Everything that is held about one user, as they may ask to see it.

Read in one snapshot, as the API's role in the context of that user alone: row-level security lets nobody else's row
through. No policy is applied, since the user gets what is stored and not what is shown. A million photos take no more
memory than one page of them.
"""

import base64
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from pipeline.errors import ConfigurationError
from pipeline.records import WHOLE, Code, ItemState, TakenFrom
from pipeline.store.roles import see_user

PHOTOS_AT_ONCE = 500

_USER = text("SELECT user_id, name, created_at, consent FROM core.app_user WHERE deleted_at IS NULL")
_PHOTOS = text("""
SELECT p.photo_id, b.uri AS bucket, p.key, p.etag, p.version_id, p.size, p.content_rev, p.taken_at, p.taken_from,
       p.created_at, p.gone_at
FROM core.photo p JOIN core.bucket b USING (bucket_id)
WHERE p.user_id = :user AND p.photo_id > :after ORDER BY p.photo_id LIMIT :limit""")
_RESULTS = text("""
SELECT r.photo_id, m.name AS model, encode(m.fingerprint, 'hex') AS fingerprint, r.content_rev, r.decision_rev,
       r.outcome, encode(r.sha256, 'hex') AS sha256,
       (SELECT jsonb_agg(jsonb_build_array(c.wnid, c.name, c.area_only, n.mass, n.node = ANY (r.tags),
                                           coalesce(n.node = r.headline, false)) ORDER BY n.at)
        FROM unnest(r.nodes, r.masses) WITH ORDINALITY AS n(node, mass, at) JOIN core.category c USING (node)) AS held
FROM core.photo_result r JOIN core.model m USING (model_id)
WHERE r.photo_id = ANY (CAST(:photos AS bigint[])) ORDER BY r.photo_id, r.model_id""")
_ITEMS = text("""
SELECT photo_id, job_id, state, code, attempts, message FROM core.job_item
WHERE photo_id = ANY (CAST(:photos AS bigint[])) ORDER BY photo_id, job_id""")
_LINES = text("""
SELECT photo_id, job_id, line, uri, version_id, state, code, message FROM core.job_line
WHERE photo_id = ANY (CAST(:photos AS bigint[])) ORDER BY photo_id, job_id, line""")
_THUMBNAILS = text("""
SELECT photo_id, side, jpeg FROM core.thumbnail
WHERE photo_id = ANY (CAST(:photos AS bigint[])) ORDER BY photo_id, side""")
_VERDICTS = text("""
SELECT v.photo_id, c.wnid, c.name, v.verdict, v.content_rev, m.name AS model,
       encode(m.fingerprint, 'hex') AS fingerprint, v.decision_rev, h.wnid AS headline_wnid, v.given_by, v.given_at
FROM core.verdict v JOIN core.category c USING (node) JOIN core.model m USING (model_id)
LEFT JOIN core.category h ON h.node = v.headline
WHERE v.photo_id = ANY (CAST(:photos AS bigint[])) ORDER BY v.photo_id, v.node""")
_EVENTS = text("""
SELECT p.photo_id, e.sequencer, e.deleted, e.seen_at
FROM core.photo p JOIN core.bucket b USING (bucket_id) JOIN core.object_event e ON e.bucket = b.uri AND e.key = p.key
WHERE p.photo_id = ANY (CAST(:photos AS bigint[])) ORDER BY p.photo_id""")
_TOTALS = text("""
SELECT m.name AS model, encode(m.fingerprint, 'hex') AS fingerprint, c.wnid, c.name, c.area_only, t.photos, t.mass
FROM core.user_category t JOIN core.model m USING (model_id) JOIN core.category c USING (node)
WHERE t.user_id = :user ORDER BY m.model_id, t.node""")


def everything(connection: Connection, user: str) -> Iterator[dict[str, Any]]:
    """JSON objects, each with its `kind`: the user, each photo with all that hangs on it, each total.

    Raises:
        ConfigurationError: there is no such user, or not any more.
    """
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    see_user(connection, user)
    found = connection.execute(_USER).mappings().first()
    if found is None:
        raise ConfigurationError(f"There is no user {user!r}; `pictograph users list` names all of them.")
    yield _facts("user", found)
    after = 0
    while page := _page(connection, found["user_id"], after):
        yield from page
        after = page[-1]["photo_id"]
    for row in connection.execute(_TOTALS, {"user": found["user_id"]}).mappings():
        yield _facts("total", row)


def _page(connection: Connection, user_id: int, after: int) -> list[dict[str, Any]]:
    """The next photos, each with what hangs on it."""
    rows = connection.execute(_PHOTOS, {"user": user_id, "after": after, "limit": PHOTOS_AT_ONCE}).mappings()
    photos = {row["photo_id"]: _facts("photo", row) for row in rows}
    for photo in photos.values():
        photo["taken_from"] = TakenFrom(photo["taken_from"]).name.lower()
    for name, query, told in (
        ("results", _RESULTS, _result),
        ("jobs", _ITEMS, _outcome),
        ("lines", _LINES, _outcome),
        ("thumbnails", _THUMBNAILS, _thumbnail),
        ("verdicts", _VERDICTS, _plain),
        ("events", _EVENTS, _plain),
    ):
        for photo in photos.values():
            photo[name] = []
        for row in connection.execute(query, {"photos": list(photos)}):
            photos[row.photo_id][name].append(told(row))
    return list(photos.values())


def _facts(kind: str, row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row as a mapping
    return {"kind": kind, **{name: _json(value) for name, value in row.items()}}


def _plain(row: Row[Any]) -> dict[str, Any]:
    return {name: _json(value) for name, value in row._mapping.items() if name != "photo_id"}


def _outcome(row: Row[Any]) -> dict[str, Any]:
    facts = _plain(row)
    return {
        **facts,
        "state": None if row.state is None else ItemState(row.state).name.lower(),
        "code": None if row.code is None else Code(row.code).name.lower(),
    }


def _result(row: Row[Any]) -> dict[str, Any]:
    facts = _plain(row)
    names = ("wnid", "name", "area_only", "probability", "shown", "headline")
    held = facts.pop("held") or []
    categories = [dict(zip(names, [*entry[:3], entry[3] / WHOLE, *entry[4:]], strict=True)) for entry in held]
    return {**facts, "outcome": Code(row.outcome).name.lower(), "categories": categories}


def _thumbnail(row: Row[Any]) -> dict[str, Any]:
    return {"side": row.side, "jpeg_base64": base64.b64encode(row.jpeg).decode()}


def _json(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    return value.isoformat() if isinstance(value, datetime) else value
