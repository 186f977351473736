"""The application, put together from its ports. Nothing is connected to on import."""

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from api import errors
from api.envelope import Envelope
from api.hosts import TrustedHosts, trusted_hosts
from api.pages.render import STATIC
from api.routes import health, jobs, pages, photos, profiles
from api.services import Decoder, Objects, Services, Thumbnails
from pipeline.settings import Settings
from pipeline.store.session import Database


def create_app(settings: Settings, database: Database, objects: Objects, decoder: Decoder) -> FastAPI:
    """The HTTP interface and the pages, as an ASGI application. The caller closes what it passes in."""
    app = FastAPI(
        title="Pictograph",
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these pages would load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a user's name may end with a slash
    )
    app.state.services = Services(database=database, thumbnails=Thumbnails(database, objects, decoder, settings))
    for module in (health, jobs, photos, profiles, pages):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    errors.install(app)
    app.add_middleware(TrustedHosts, allowed=trusted_hosts(settings.api_host))
    app.add_middleware(Envelope)
    return app
