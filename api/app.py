"""The application, put together from its ports. Nothing is connected to on import."""

from fastapi import FastAPI

from api import document, errors
from api.access.hosts import TrustedHosts, trusted_hosts
from api.access.keyring import Keyring, Secrets
from api.access.limits import Bodies, Compressed, Throttle
from api.auth import not_guarded
from api.drawing import Drawing
from api.envelope import Envelope
from api.jobs.watching import Watching
from api.pages.lasting import Lasting
from api.pages.render import STATIC
from api.routes import (
    categories,
    compare,
    fathom_pages,
    health,
    job_pages,
    jobs,
    models,
    photos,
    profiles,
    review_pages,
    session,
    user_pages,
    verdicts,
)
from api.services import Decoder, Objects, Services, Thumbnails
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.session import Database


def create_app(settings: Settings, database: Database, objects: Objects, decoder: Decoder) -> FastAPI:
    """The HTTP interface and the pages, as an ASGI application. The caller closes what it passes in."""
    if settings.api_open and not settings.api_is_local:
        raise ConfigurationError(
            f"PICTOGRAPH_API_OPEN would let everybody in who reaches {settings.api_host}; it is for addresses of this "
            "machine alone. Leave it out, and make keys with `pictograph keys add`."
        )
    app = FastAPI(
        title="Pictograph",
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these pages would load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a user's name may end with a slash
    )
    app.state.services = Services(
        database=database,
        thumbnails=Thumbnails(database, objects, decoder, settings),
        drawing=Drawing(),
        secrets=Secrets(database),
        keyring=Keyring(database),
        throttle=Throttle(settings.api_requests_per_minute, "too_many_requests", "Too many requests in a minute."),
        failures=Throttle(settings.api_failures_per_minute, "too_many_failures", "Too many wrong keys in a minute."),
        settings=settings,
        watching=Watching(),
    )
    for module in (
        health,
        session,
        jobs,
        photos,
        verdicts,
        profiles,
        compare,
        categories,
        user_pages,
        models,
        job_pages,
        fathom_pages,
        review_pages,
    ):
        app.include_router(module.router, responses=errors.PROBLEMS)
    app.mount("/static", Lasting(directory=STATIC), name="static")
    unguarded = list(not_guarded(app))
    if unguarded:
        raise AssertionError(f"routes that anybody may use, and that api.auth.PUBLIC does not name: {unguarded}")
    errors.install(app)
    document.install(app)
    app.add_middleware(Compressed)
    app.add_middleware(Bodies, most_bytes=settings.api_body_bytes)
    app.add_middleware(TrustedHosts, allowed=trusted_hosts(settings.api_host))
    app.add_middleware(Envelope)
    return app
