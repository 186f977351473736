"""What `pictograph doctor` looks at. Each finding says what is so, or what to do."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import redis
from redis.exceptions import RedisError
from sqlalchemy import text

from pictograph.places import own
from pictograph.stack import Service
from pipeline.errors import AccessDenied, ConfigurationError, PictographError, ServiceDown, SourceError
from pipeline.ledger import audit
from pipeline.ledger.audit import AUDITS, Patience
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, check_bucket
from pipeline.store.migrate import current, newest
from pipeline.store.policies import more_along, overdue
from pipeline.store.totals import differences
from taxonomy.errors import TaxonomyError
from workers.ledger import open_database
from workers.models import registry, weights
from workers.models.load import load
from workers.tuning import look, tune

#: What is looked at, and how; the function says what is so, or raises what is wrong.
Check = tuple[str, Callable[[Settings], str]]

OLDEST_POSTGRES = 18_00_00  # RETURNING old and new
RECOUNTED_PHOTOS = 200_000  # as many are recounted in a few seconds, and without being asked
PACKAGES = ("pictograph", "torch", "torchvision", "celery", "sqlalchemy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str
    count: int = 0  # of what an audit of the ledger found, as the next two
    ids: tuple[str, ...] = ()
    repair: str = ""

    def as_dict(self) -> dict[str, object]:
        """For machines."""
        kept = asdict(self)
        return kept if self.count else {name: kept[name] for name in ("what", "ok", "detail")}


def examine(settings: Settings, checks: tuple[Check, ...]) -> list[Finding]:
    """Make the checks; one failure does not keep the others from being made."""
    return [_finding(check, settings) for check in checks]


def _finding(check: Check, settings: Settings) -> Finding:
    what, look = check
    try:
        return Finding(what=what, ok=True, detail=look(settings))
    except (PictographError, TaxonomyError) as exc:
        return Finding(what=what, ok=False, detail=str(exc))


def _versions(_settings: Settings) -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def _postgres(settings: Settings) -> str:
    with open_database(settings, "pictograph doctor") as database:
        with database.transaction() as connection:
            number: int = connection.execute(text("SELECT current_setting('server_version_num')::int")).scalar_one()
        if number < OLDEST_POSTGRES:
            raise ConfigurationError(
                f"Postgres at {database.place} is version {number // 10000}; version 18 or newer is needed."
            )
        revision = current(database)
        if revision != newest():
            raise ConfigurationError(
                f"The database is at revision {revision}, the code needs {newest()}; run `pictograph migrate`."
            )
        return f"{database.place}, version {number // 10000}.{number % 100}, revision {revision}"


def _totals(settings: Settings) -> str:
    with open_database(settings, "pictograph doctor") as database, database.transaction() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        # The statistics' estimate; -1 where nothing was ever counted, none where there is no such table.
        photos: int = (
            connection.execute(
                text("SELECT max(reltuples)::bigint FROM pg_class WHERE oid = to_regclass('core.photo_result')")
            ).scalar_one()
            or 0
        )
        if photos >= RECOUNTED_PHOTOS:
            return f"not recounted (about {photos:,} photos); `pictograph doctor --deep` does it"
        wrong = differences(connection)
    if wrong:
        raise ConfigurationError(
            f"{wrong} rows of the totals differ from a recount of the results; `pictograph doctor --deep` says which, "
            "and how to repair them."
        )
    return "equal to a recount of the results"


def _policy(settings: Settings) -> str:
    """Whether what goes along with the active policy still suffices, photos having come and gone."""
    with open_database(settings, "pictograph doctor") as database, database.transaction() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        more = overdue(connection)
    if more:
        raise ConfigurationError(f"Apply the policy again: {more_along(more)} (`pictograph policy apply`).")
    return "ok"


def _broker(settings: Settings) -> str:
    if settings.broker_url is None:
        raise ConfigurationError("Set PICTOGRAPH_BROKER_URL.")
    try:
        with redis.Redis.from_url(settings.broker_url.get_secret_value(), socket_timeout=5) as client:
            info = client.info("server")
    except ValueError as exc:
        raise ConfigurationError(f"PICTOGRAPH_BROKER_URL cannot be used: {exc}") from exc
    except (RedisError, OSError) as exc:
        raise ServiceDown(f"The broker does not answer ({exc}); check PICTOGRAPH_BROKER_URL, or start it.") from exc
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"{name} {info.get('valkey_version', info.get('redis_version'))}"


def _s3(settings: Settings) -> str:
    access, bucket = S3Access.of(settings), settings.s3_bucket
    try:
        check_bucket(access, bucket)
    except AccessDenied:
        raise
    except SourceError as exc:
        if own(Service.S3):  # the demonstration makes it
            return f"{access.place}, no bucket yet"
        raise ConfigurationError(f"{exc} Create it, or name another with PICTOGRAPH_S3_BUCKET.") from exc
    return f"{access.place}, bucket {bucket}"


def _model(settings: Settings) -> str:
    spec = weights.at_hand(registry.chosen(settings), settings)
    model = load(spec, spec.decision, runtime=settings.runtime, models=registry.folder_of(settings))
    model.verify()
    return f"canaries as measured; {tune(settings, look(), model)}"


def examine_ledger(settings: Settings) -> list[Finding]:
    """Everything that must not be in the ledger, or that nothing is; takes as long as there are photos."""
    began = time.monotonic()
    try:
        with open_database(settings, "pictograph doctor") as database:
            found = audit.lasting(database, Patience.of(settings))
            with database.transaction() as connection:
                photos: int = connection.execute(text("SELECT count(*) FROM core.photo")).scalar_one()
    except PictographError as exc:
        return [Finding(what="ledger", ok=False, detail=str(exc))]
    if not found:
        seconds = time.monotonic() - began
        told = f"{len(AUDITS)} audits of {photos:,} photos found nothing, {seconds:.1f} s"
        return [Finding(what="ledger", ok=True, detail=told)]
    return [Finding(what=f.audit, ok=False, detail=str(f), count=f.count, ids=f.ids, repair=f.repair) for f in found]


def every_check(*, deep: bool = False) -> tuple[Check, ...]:
    """All checks; with `deep` those that `examine_ledger` does not make anyway."""
    return (
        ("versions", _versions),
        ("postgres", _postgres),
        *([] if deep else [("totals", _totals)]),
        ("policy", _policy),
        ("broker", _broker),
        ("s3", _s3),
        ("model", _model),
    )


WITHOUT_SERVERS: tuple[Check, ...] = (("versions", _versions), ("model", _model))
