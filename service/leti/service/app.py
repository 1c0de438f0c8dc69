"""The application: routes over a store, with settings, all handed in."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from fastapi import APIRouter, Depends, FastAPI

from leti.service import dashboard
from leti.service.answering import Answerer
from leti.service.artifacts import ArtifactStore
from leti.service.choosing import Chooser
from leti.service.datasets.intake import Imports
from leti.service.gate import refusing
from leti.service.gate.access import permitted
from leti.service.gate.authentication import Authentication, Authenticator, LoopbackOnly
from leti.service.gate.caching import EntityTags
from leti.service.gate.idempotency import IdempotencyKeys
from leti.service.gate.middleware import BodyLimit, Envelope
from leti.service.gate.observing import Observed
from leti.service.metrics import Metrics
from leti.service.model_files import ModelFiles
from leti.service.planning import Planner
from leti.service.predictor_files import PredictorFiles
from leti.service.readiness import Readiness
from leti.service.routes import (
    campaigns,
    datasets,
    devices,
    documentation,
    drift,
    health,
    jobs,
    latency_tables,
    leases,
    measurements,
    networks,
    platforms,
    predictions,
    predictors,
    reference,
    search,
    tasks,
    tokens,
    uploads,
    workers,
)
from leti.service.routes.lane import Lane
from leti.service.routes.parts import Parts, known_query
from leti.service.searching import Searching
from leti.service.serving import LoadedPredictors
from leti.service.settings import Settings
from leti.service.sources import Sources
from leti.service.store import Store
from leti.service.training import Trainer
from leti.service.uploads.intake import Uploads

GROUPS = (
    predictions,  # matched first: asked most often
    health,
    networks,
    platforms,
    devices,
    campaigns,
    jobs,
    leases,
    measurements,
    predictors,
    datasets,
    tasks,
    search,
    latency_tables,
    drift,
    tokens,
    uploads,
    workers,
)
"""The groups of routes."""


def create_app(store: Store, settings: Settings) -> FastAPI:
    """Return the service over ``store``; closing the store is its owner's business."""
    app = FastAPI(
        title="LETI",
        version=metadata.version("leti"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # where to, the request's own header would say
        dependencies=[Depends(permitted)],  # of routes that are added to it later; the others bring their own
        routes=[Lane([group.router for group in GROUPS], "/v1"), *_router().routes],
    )
    authenticator = Authenticator(store, settings)
    artifacts = ArtifactStore.open(settings)
    models = ModelFiles(artifacts, store)
    predictor_files = PredictorFiles(artifacts)
    loaded = LoadedPredictors(predictor_files)
    sources = Sources(store, loaded)
    answerer = Answerer(store, loaded, models, settings)
    metrics = Metrics(store)
    app.state.parts = Parts(
        settings=settings,
        store=store,
        metrics=metrics,
        readiness=Readiness(store, artifacts),
        authenticator=authenticator,
        artifacts=artifacts,
        models=models,
        uploads=Uploads(store, artifacts, settings),
        imports=Imports(store, artifacts, settings),
        planner=Planner(store, models, settings, Chooser(store, sources)),
        trainer=Trainer(store, loaded, settings, predictor_files),
        answerer=answerer,
        searching=Searching.over(store, loaded, answerer, settings.graph_limits),
    )
    dashboard.install(app, store)
    refusing.install(app)
    documentation.install(app, settings)
    app.add_middleware(EntityTags)
    app.add_middleware(IdempotencyKeys, answers=store.answers)
    app.add_middleware(BodyLimit, settings=settings)
    if settings.auth:
        app.add_middleware(Authentication, authenticator=authenticator, settings=settings)
    else:
        app.add_middleware(LoopbackOnly)
    app.add_middleware(Envelope, settings=settings)
    app.add_middleware(dashboard.ErrorPages)
    app.add_middleware(Observed, metrics=metrics)  # outermost: what is added last comes first
    return app


@cache
def _router() -> APIRouter:
    """Return the routes of every application, made once: they find what is an application's own by the request."""
    router = APIRouter(dependencies=[Depends(permitted)], generate_unique_id_function=documentation.operation_id)
    for group in GROUPS:  # one by one: routers within routers are searched several times over
        router.include_router(group.router, prefix="/v1", dependencies=[Depends(known_query)])
    router.include_router(health.probes)
    router.include_router(reference.router)
    dashboard.add_pages(router)
    return router
