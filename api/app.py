"""The application: `uvicorn api.app:create_app --factory`."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from api import problems, schemas
from api.metrics import Requests
from api.middleware import RequestIds
from api.routes import concepts, docs, events, generations, personalizations, system
from api.service import start
from zoodip_core import __version__
from zoodip_core.service.logs import configure_logs
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tracing import configure_tracing

_ABOUT = "Personalize a quantized diffusion model with forward passes only, as a service."


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """The service's HTTP side, with settings from the environment unless given."""
    settings = settings or ServiceSettings.from_environment()
    configure_logs(settings.log_level)
    configure_tracing(settings.otlp_endpoint, "zoodip-api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await run_in_threadpool(start, settings)
        app.state.service = service
        gc.freeze()  # what is here now stays: not to be looked through for garbage at every so many requests
        async with service.job_watcher.heard():
            yield
        await service.close()
        gc.unfreeze()  # where one process starts several

    app = FastAPI(
        title="zoodip",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.requests = Requests()
    for module in (personalizations, events, concepts, generations, system):
        app.include_router(module.router)
    docs.install(app)
    problems.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location", "X-Request-Id", "Retry-After"],
        )
    app.add_middleware(RequestIds, requests=app.state.requests)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, object]:
    """The document, with the schemas that routes refer to by hand."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
        known = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (problems.Problem, schemas.PersonalizationRequest):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            known.update(described.pop("$defs", {}))
            known[model.__name__] = described
        known.pop("HTTPValidationError", None)
        known.pop("ValidationError", None)
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema
