"""The server put together: `create_app(settings)`. Importing this module starts and opens nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from nat_core.version import __version__
from server import api, errors, figures, openapi, pages
from server.api import docs, health
from server.broker import Broker
from server.hub import Hub
from server.ingest import Ingestor
from server.life import RunLife
from server.security import Guard
from server.settings import Settings
from server.store import Store
from server.watch import Watch
from web import assets, templating

# One tree for every application of a process: FastAPI works out what a route takes and gives when the tree that it
# hangs in is first asked for it.
ROUTES = APIRouter()
for part in (api.router, health.router, docs.router, figures.router, pages.router):
    ROUTES.include_router(part)


def create_app(settings: Settings) -> FastAPI:
    """The application on its opened and migrated database; its threads start with its lifespan.

    Raises:
        StartError: the database cannot be opened, or was written by another version.
    """
    hub = Hub()
    store = Store(settings, hub)
    life = RunLife(store)
    broker = Broker(settings.redis_url)
    ingestor = Ingestor(broker, store)
    watch = Watch(life, broker, settings.lease_s)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        ingestor.start()
        watch.start()
        try:
            yield
        finally:
            hub.close()
            watch.stop()
            ingestor.stop()
            broker.close()
            store.close()

    app = FastAPI(
        title="natlab",
        version=__version__,
        description="Launch token-budget experiments, watch them, compare them.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.hub = hub
    app.state.store = store
    app.state.life = life
    app.state.broker = broker
    app.state.ingestor = ingestor
    app.add_middleware(Guard, settings=settings)
    errors.install(app)
    openapi.install(app)
    app.router.routes.extend(ROUTES.routes)
    assets.mount(app)
    templating.compile_templates()
    return app
