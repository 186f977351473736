"""The corpus of docs/sql.md behind a real server of the API that wants keys, for whoever comes over the network.

Ann and Ben consent to be seen by others. Photos lie in the store, as plain squares of a colour of their own, so that
thumbnails can be made of them. No worker runs: jobs that are started stay as they were created.
"""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from api_helpers import app_of, jpeg
from job_api_helpers import serving
from key_helpers import new_key
from pydantic import SecretStr
from sqlalchemy import text

from pictograph.stack import Endpoints
from pipeline.ledger.users import set_consent
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from pipeline.store.migrate import migrate
from pipeline.store.roles import Role
from pipeline.store.session import Database
from tests.integration.sql_docs import fill
from workers.decode.pool import DecodePool

EMPTY = "DROP SCHEMA IF EXISTS tags, core CASCADE; DROP TABLE IF EXISTS alembic_version"
PHOTOS = "SELECT photo_id, key FROM core.photo JOIN core.bucket USING (bucket_id) WHERE uri = 's3://photos' ORDER BY 1"
STORED = "UPDATE core.photo SET etag = :etag, size = :size WHERE photo_id = :photo"


@dataclass(frozen=True, kw_only=True)
class ApiSite:
    """A server, and keys that open it."""

    url: str
    operator: str  # bound to nobody, for everything
    ann: str  # bound to ann
    database: Database  # as its owner

    def environment(self) -> dict[str, str]:
        """What the examples of docs/api.md need."""
        return {"PICTOGRAPH_URL": self.url, "ANN_KEY": self.ann, "OPERATOR_KEY": self.operator}


@contextmanager
def api_site(endpoints: Endpoints, decoder: DecodePool) -> Iterator[ApiSite]:
    """A site of one's own; what was in the database and in its bucket before is gone, and so is this afterwards."""
    settings = Settings(
        database_url=SecretStr(endpoints.database_url),
        broker_url=SecretStr(endpoints.broker_url),
        s3_endpoint_url=endpoints.s3_endpoint_url,
        s3_access_key_id=endpoints.s3_access_key_id,
        s3_secret_access_key=SecretStr(endpoints.s3_secret_access_key),
        api_open=False,
        api_requests_per_minute=0,
        api_failures_per_minute=0,
        sources=("s3://photos",),
        model="lite",
    )
    with ExitStack() as stack:
        database = stack.enter_context(Database(endpoints.database_url, "api site"))
        _run(database, EMPTY)
        stack.callback(_run, database, EMPTY)
        migrate(database)
        fill(database)
        _store(database, S3Access.of(settings), stack)
        for user in ("ann", "ben"):
            database.run(lambda connection, user=user: set_consent(connection, user, True))
        operator = new_key(database, "operator", name="operator")
        ann = new_key(database, "user", user="ann", name="ann's telephone")
        as_api = stack.enter_context(Database(endpoints.database_url, "pictograph api", 8, role=Role.API))
        served = stack.enter_context(serving(app_of(settings, as_api, decoder)))
        yield ApiSite(url=served.url, operator=operator, ann=ann, database=database)


def _run(database: Database, statement: str) -> None:
    with database.transaction() as connection:
        connection.execute(text(statement))


def _store(database: Database, access: S3Access, stack: ExitStack) -> None:
    """Put bytes where the ledger says that photos lie."""
    create_bucket(access, "photos")
    client = access.client()
    stack.callback(client.delete_bucket, Bucket="photos")  # this server takes what is in it along
    with database.transaction() as connection:
        for photo_id, key in connection.execute(text(PHOTOS)).all():
            data = jpeg(64, 64, f"hsl({photo_id * 37 % 360}, 60%, 50%)")
            found = client.put_object(Bucket="photos", Key=key, Body=io.BytesIO(data))
            values = {"etag": found["ETag"].strip('"'), "size": len(data), "photo": photo_id}
            connection.execute(text(STORED), values)
