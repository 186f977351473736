"""What the pages need more than the pipeline has made: users of strange names with results, and jobs in every state.

The photos are copies of those that the pipeline tagged, and their results copies of its results.
"""

import itertools
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hostile import ADDRESS, FULL, IMAGE, LONG, NAMES, SCRIPT
from sqlalchemy import Connection, text

from api.auth import BUNDLES
from api.views import verdicts
from pipeline.ledger import control, ending, jobs
from pipeline.ledger.listing import finish_range, record_page
from pipeline.ledger.requests import JobRequest, Window
from pipeline.ledger.users import set_consent
from pipeline.ledger.work import RANGES
from pipeline.records import Page, PhotoRef
from pipeline.sources.folder import local_version
from pipeline.store import keys
from pipeline.store.queries import active_model
from pipeline.store.revisions import touch_models, touch_users
from pipeline.store.session import Database

PHOTOS_EACH = 3  # of a user of a strange name
LISTED = 40  # photos of the job that runs
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def furnish(url: str, folder: Path, agreeing: Sequence[str]) -> str:
    """Strange users, some people's consent, words of strange people, and jobs; `folder` takes the copies.

    Returns a key for the first of those who agree.
    """
    with Database(url, "pictograph browser tests", connections=2) as database, database.transaction() as connection:
        for user in agreeing:
            set_consent(connection, user, True)
        _users(connection, folder)
        _words(connection)
        _jobs(connection)
        scopes = sorted(BUNDLES["user"])
        _, key = keys.add(connection, "<b>bold</b> & key", agreeing[0], scopes, by=SCRIPT, seconds=None)
    with Database(url, "pictograph browser tests", connections=1) as database, database.transaction() as connection:
        connection.execute(text("ANALYZE"))
    return key


# ---- users


def _users(connection: Connection, folder: Path) -> None:
    taken = connection.execute(text(_TAGGED)).all()
    source = itertools.cycle(taken)
    for number, name in enumerate(NAMES):
        for photo in itertools.islice(source, PHOTOS_EACH):
            path = folder / f"{number}-{photo.photo_id}{Path(photo.key).suffix}"
            path.parent.mkdir(exist_ok=True)
            os.link(photo.key, path)
            now = local_version(str(path))
            values = {"user": name, "like": photo.photo_id, "key": str(path), "etag": now.etag, "size": now.size}
            connection.execute(text(_COPY), values)
    for statement in _TOTALS:
        connection.execute(text(statement))
    touch_users(connection, connection.execute(text("SELECT user_id FROM core.app_user")).scalars().all())
    touch_models(connection)


_TAGGED = """
SELECT p.photo_id, p.key FROM core.photo p JOIN core.photo_result r USING (photo_id)
WHERE r.headline IS NOT NULL ORDER BY p.photo_id"""
_COPY = """
WITH owner AS (INSERT INTO core.app_user (name) VALUES (:user)
               ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING user_id),
     made AS (INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at, taken_from)
              SELECT p.bucket_id, :key, owner.user_id, :etag, :size, p.taken_at, p.taken_from
              FROM core.photo p, owner WHERE p.photo_id = :like RETURNING photo_id, user_id, taken_at)
INSERT INTO core.photo_result
    (model_id, photo_id, user_id, content_rev, decision_rev, outcome, headline, nodes, masses, tags, taken_at)
SELECT r.model_id, m.photo_id, m.user_id, 1, r.decision_rev, r.outcome, r.headline, r.nodes, r.masses, r.tags,
       m.taken_at
FROM core.photo_result r, made m WHERE r.photo_id = :like"""
_EACH = "core.photo_result r, unnest(r.nodes, r.masses) AS n(node, mass)"
_TAGGED_ONES = "count(*) FILTER (WHERE n.node = ANY (r.tags))"
#: Totals from nothing: what a merge does by deltas.
_TOTALS = (
    "DELETE FROM core.user_category",
    f"""INSERT INTO core.user_category (model_id, user_id, node, photos, mass)
        SELECT r.model_id, r.user_id, n.node, {_TAGGED_ONES}, sum(n.mass) FROM {_EACH} GROUP BY 1, 2, 3""",
    "DELETE FROM core.category_total",
    f"""INSERT INTO core.category_total (model_id, node, slot, photos, mass)
        SELECT r.model_id, n.node, core.slot_of(r.photo_id), {_TAGGED_ONES}, sum(n.mass) FROM {_EACH}
        GROUP BY 1, 2, 3""",
    "DELETE FROM core.shared_total",
    """INSERT INTO core.shared_total (model_id, node, slot, users, photos, mass)
       SELECT c.model_id, c.node, c.user_id % 64, count(*) FILTER (WHERE c.photos > 0), sum(c.photos), sum(c.mass)
       FROM core.user_category c JOIN core.app_user u USING (user_id) WHERE u.shared GROUP BY 1, 2, 3""",
)


def _words(connection: Connection) -> None:
    """Somebody with a strange name says something of the first photo of each of three users."""
    rows = connection.execute(text(_FIRST_PHOTOS)).all()
    for by, row in zip((SCRIPT, IMAGE, LONG[:100]), rows, strict=True):
        verdicts.give(connection, row.photo_id, row.wnid, "confirm", by)


_FIRST_PHOTOS = """
SELECT min(r.photo_id) AS photo_id, (array_agg(c.wnid ORDER BY r.photo_id))[1] AS wnid
FROM core.photo_result r JOIN core.category c ON c.node = r.headline
GROUP BY r.user_id ORDER BY r.user_id LIMIT 3"""


# ---- jobs


def _jobs(connection: Connection) -> None:
    """One in each state that jobs come to without a worker; the pipeline's own has succeeded, or almost."""
    _submit(connection, "s3://photos/new/")
    _running(connection, _submit(connection, f"s3://photos/{IMAGE}/2026/"))
    paused = _submit(connection, f"s3://photos/{LONG}/", window=Window(begins="01:00", ends="06:00"))
    control.pause(connection, paused, SCRIPT, reason=f"{FULL} {ADDRESS}", seconds=86_400)
    going = _submit(connection, "s3://photos/a-prefix/of-somebody/who-likes/deep/folders/and-even/deeper-ones/2026/")
    ending.cancel(connection, going, IMAGE)
    gone = _submit(connection, "s3://photos/gone/")
    ending.cancel(connection, gone, SCRIPT)
    ending.wind_up(connection, gone)
    ending.fail(connection, _submit(connection, "s3://photos/broken/"), f"{SCRIPT} The listing stopped: {FULL}")


def _submit(connection: Connection, source: str, **more: Window) -> int:
    request = JobRequest(kind="s3", source=source, user_rule="{user}/{photo}", **more)
    model = active_model(connection)
    assert model is not None
    return jobs.submit(connection, request, model.model_id)


def _running(connection: Connection, job_id: int) -> None:
    row = connection.execute(text("SELECT range_id FROM core.list_range WHERE job_id = :job"), {"job": job_id}).one()
    lease = RANGES.claim(connection, row.range_id, "lister", 60)
    assert lease is not None
    jobs.start(connection, job_id)
    job = jobs.find(connection, job_id)
    refs = tuple(
        PhotoRef(bucket="s3://photos", key=f"ann/{n:03}.jpg", user="ann", etag="1", size=1, modified_at=DAY)
        for n in range(LISTED)
    )
    page = Page(refs=refs, refusals=(), gone=(), cursor=refs[-1].key, last=True)
    record_page(connection, job, lease, page, None, 512)
    finish_range(connection, job, lease)
