"""The application: routes over a store, with settings, all handed in."""

from __future__ import annotations

from importlib import metadata

from fastapi import APIRouter, Depends, FastAPI

from leti.service import problems
from leti.service.choosing import Chooser
from leti.service.middleware import BodyLimit, Envelope
from leti.service.model_files import ModelFiles
from leti.service.planning import Planner
from leti.service.routes import (
    campaigns,
    devices,
    documentation,
    health,
    jobs,
    leases,
    measurements,
    networks,
    platforms,
    predictions,
    predictors,
)
from leti.service.routes.parts import Parts, known_query
from leti.service.serving import Answerer, LoadedPredictors
from leti.service.settings import Settings
from leti.service.sources import Sources
from leti.service.store import Store
from leti.service.training import Trainer

GROUPS = (
    health,
    networks,
    platforms,
    devices,
    campaigns,
    jobs,
    leases,
    measurements,
    predictors,
    predictions,
)
"""The groups of routes."""


def create_app(store: Store, settings: Settings) -> FastAPI:
    """Return the service over ``store``; closing the store is its owner's business."""
    app = FastAPI(
        title="LETI",
        version=metadata.version("leti"),
        description="Latencies of neural networks on devices: measured where known, else predicted.",
        redoc_url=None,
    )
    models = ModelFiles(settings.models, store)
    loaded = LoadedPredictors(settings.predictors)
    sources = Sources(store, loaded)
    app.state.parts = Parts(
        settings=settings,
        store=store,
        models=models,
        planner=Planner(store, models, settings, Chooser(store, sources)),
        trainer=Trainer(store, sources, settings),
        answerer=Answerer(store, loaded, settings),
    )
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(known_query)])
    for group in GROUPS:
        v1.include_router(group.router)
    app.include_router(v1)
    problems.install(app)
    documentation.install(app)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Envelope)  # outermost: what is added last comes first
    return app
