"""FastAPI application. `python -m api` serves it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from api import facades, problems
from api.head_requests import HeadMiddleware
from api.metrics import RequestMetrics
from api.middleware import RequestMiddleware
from api.page import route as page
from api.requests.bodies import InspectionRequest, PersonalizationRequest
from api.routes import (
    concepts,
    docs,
    events,
    generations,
    inspections,
    personalizations,
    system,
    usage,
    vocabulary,
)
from api.service import Service, start_service
from zoodip_core import __version__
from zoodip_core.service.logs import configure_logs
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tracing import configure_tracing

_ABOUT = "Personalize a quantized diffusion model with forward passes only, as a service."


def create_app(settings: ServiceSettings | None = None, service: Service | None = None) -> FastAPI:
    """Create the application.

    Args:
        settings: settings of the service; None reads them from the environment.
        service: state that the application uses and closes; None starts it with the application.
    """
    settings = settings or ServiceSettings.from_environment()
    configure_logs(settings.log_level)
    configure_tracing(settings.otlp_endpoint, "zoodip-api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = await run_in_threadpool(start_service, settings) if service is None else service
        app.state.service = running
        gc.freeze()  # existing objects are permanent, so the garbage collector does not need to scan them
        async with running.job_watcher.listen():
            yield
        await running.close()
        gc.unfreeze()  # for processes that start several applications

    app = FastAPI(
        title="zoodip",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header, which the client controls
    )
    app.state.request_metrics = RequestMetrics()
    for module in (personalizations, events, concepts, generations, inspections, system, usage, vocabulary):
        app.include_router(module.router)
    facades.install(app)
    docs.install(app)
    page.install(app)
    problems.install(app)
    _add_middleware(app, settings)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_middleware(app: FastAPI, settings: ServiceSettings) -> None:
    """Add the middleware; the last one sees each request first."""
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location", "X-Request-Id", "Retry-After"],
        )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(RequestMiddleware, metrics=app.state.request_metrics)


def _openapi(app: FastAPI) -> dict[str, object]:
    """Return the OpenAPI document, including the schemas that routes reference by name."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
        components = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (problems.Problem, PersonalizationRequest, InspectionRequest):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            components.update(schema.pop("$defs", {}))
            components[model.__name__] = schema
        components.pop("HTTPValidationError", None)
        components.pop("ValidationError", None)
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema
