"""What tests of the API and of the pages stand on: analysed photos in the store, and clients of real applications."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import text

from api import auth
from api.app import create_app
from api.auth import Desk, Principal
from api.services import services_of
from pipeline.annotate import annotate
from pipeline.ledger.users import set_consent
from pipeline.records import Code, TakenFrom
from pipeline.settings import Settings
from pipeline.sources.allowed import LOCAL
from pipeline.sources.folder import local_version
from pipeline.sources.objects import Objects
from pipeline.sources.s3 import S3Access
from pipeline.store.catalogue import Registered, register_model
from pipeline.store.revisions import touch_model, touch_users
from pipeline.store.session import Database
from taxonomy.decide import Decision, decide
from taxonomy.graph import Taxonomy, load
from taxonomy.rollup import Rollup
from workers.decode.pool import DecodePool

STRANGE = ["Ada Lovelace", "a/b/profile", "tail/", "<script>alert(1)</script>", "日本 ☂", "50% off?#&+", "x\ny", "..a"]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Library:
    """Puts photos of users into the store, analysed, without a job."""

    database: Database
    folder: Path
    taxonomy: Taxonomy = field(default_factory=load)

    def __post_init__(self) -> None:
        with self.database.transaction() as connection:
            self.model: Registered = register_model(connection, "test model", b"\1" * 32, self.taxonomy, Decision())
            connection.execute(
                text("INSERT INTO core.bucket (uri) VALUES (:uri) ON CONFLICT DO NOTHING"), {"uri": LOCAL}
            )

    def add(
        self,
        user: str,
        name: str,
        certain: float = 0.9,
        day: int = 1,
        data: bytes | None = None,
        *,
        seconds: float = 0,
        taken_from: TakenFrom = TakenFrom.EXIF,
    ) -> int:
        """A photo of the label of that name, which the model is this certain of; returns its id.

        It was taken so many days and seconds after noon (UTC) of the first of January 2026.
        """
        path = self.folder / f"{len(list(self.folder.iterdir()))}-{name}.jpg"
        path.write_bytes(jpeg() if data is None else data)
        version = local_version(str(path))
        taken = NOON + timedelta(days=day, seconds=seconds)
        values = {"user": user, "key": str(path), "etag": version.etag, "size": version.size, "taken": taken}
        with self.database.transaction() as connection:
            photo_id: int = connection.execute(text(_PHOTO), {**values, "taken_from": int(taken_from)}).scalar_one()
            connection.execute(text(_RESULT), {"photo": photo_id, **self._annotated(name, certain)})
            for statement in _TOTALS:
                connection.execute(text(statement))
            touch_users(connection, [connection.execute(text(_OWNER), {"photo": photo_id}).scalar_one()])
            touch_model(connection, self.model.model_id)
        return photo_id

    def consent(self, user: str, *, given: bool = True) -> None:
        """What the user says of being seen by others."""
        self.database.run(lambda connection: set_consent(connection, user, given))

    def _annotated(self, name: str, certain: float) -> dict[str, object]:
        label = self.taxonomy.label_nodes.tolist().index(self.taxonomy.find(name)[0])
        probabilities = np.full((1, self.taxonomy.classes), (1 - certain) / (self.taxonomy.classes - 1))
        probabilities[0, label] = certain
        masses = Rollup(self.taxonomy).masses(probabilities)
        (found,) = annotate(decide(masses, self.taxonomy, Decision()), self.model.nodes)
        return {
            "model": self.model.model_id,
            "outcome": int(Code.TAGGED if found.tags else Code.ABSTAINED),
            "headline": found.headline,
            "nodes": list(found.nodes),
            "masses": list(found.masses),
            "tags": list(found.tags),
        }


_PHOTO = """
WITH owner AS (INSERT INTO core.app_user (name) VALUES (:user)
               ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING user_id)
INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at, taken_from)
SELECT b.bucket_id, :key, o.user_id, :etag, :size, :taken, :taken_from
FROM core.bucket b, owner o WHERE b.uri = 'file://' RETURNING photo_id"""
_RESULT = """
INSERT INTO core.photo_result
    (model_id, photo_id, user_id, content_rev, decision_rev, outcome, headline, nodes, masses, tags, taken_at)
SELECT :model, p.photo_id, p.user_id, 1, 1, :outcome, :headline,
       CAST(:nodes AS smallint[]), CAST(:masses AS smallint[]), CAST(:tags AS smallint[]), p.taken_at
FROM core.photo p WHERE p.photo_id = :photo"""
_EACH = "core.photo_result r, unnest(r.nodes, r.masses) AS n(node, mass)"
_TAGGED = "count(*) FILTER (WHERE n.node = ANY (r.tags))"
_OWNER = "SELECT user_id FROM core.photo WHERE photo_id = :photo"
#: Totals from nothing: what a merge does by deltas.
_TOTALS = (
    "DELETE FROM core.user_category",
    f"""INSERT INTO core.user_category (model_id, user_id, node, photos, mass)
        SELECT r.model_id, r.user_id, n.node, {_TAGGED}, sum(n.mass) FROM {_EACH} GROUP BY 1, 2, 3""",
    "DELETE FROM core.category_total",
    f"""INSERT INTO core.category_total (model_id, node, slot, photos, mass)
        SELECT r.model_id, n.node, core.slot_of(r.photo_id), {_TAGGED}, sum(n.mass) FROM {_EACH} GROUP BY 1, 2, 3""",
    "DELETE FROM core.shared_total",
    """INSERT INTO core.shared_total (model_id, node, slot, users, photos, mass)
       SELECT c.model_id, c.node, c.user_id % 64, count(*) FILTER (WHERE c.photos > 0), sum(c.photos), sum(c.mass)
       FROM core.user_category c JOIN core.app_user u USING (user_id) WHERE u.shared
       GROUP BY 1, 2, 3""",
)


def jpeg(width: int = 640, height: int = 480, colour: str = "teal", **options: object) -> bytes:
    """A photograph of nothing."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "JPEG", **options)
    return out.getvalue()


def app_of(settings: Settings, database: Database, decoder: DecodePool) -> FastAPI:
    """The application as it is served, on a database that it reaches as role api."""
    return create_app(settings, database, Objects(S3Access.of(settings)), decoder)


def opened(app: FastAPI) -> TestClient:
    """A client of an application; enter it, so that what the application starts is stopped again."""
    return TestClient(app, base_url="http://127.0.0.1")


def asking_as(app: FastAPI, principal: Principal) -> FastAPI:
    """The same application, whoever asks taken for this principal."""
    for desk in DESKS:
        needed = get_args(desk)[1].dependency

        async def at_its_desk(request: Request) -> Desk:
            return Desk(principal=principal, services=services_of(request))

        app.dependency_overrides[needed] = at_its_desk
    return app


DESKS = (
    auth.ProfileDesk,
    auth.PhotoDesk,
    auth.CategoryDesk,
    auth.VerdictDesk,
    auth.RefreshDesk,
    auth.JobDesk,
    auth.OperatorDesk,
    auth.ModelDesk,
)

#: Makes a client for a principal bound to a user (None: to nobody), with these scopes (none given: all).
ClientAs = Callable[..., TestClient]
