"""Base models, health checks and metrics."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from api import schemas, serializers
from api.auth import Admin, Reader
from api.metrics import CONTENT_TYPE, render
from api.problems import problems
from api.service import CurrentService
from zoodip_core.base_models.safety_checker import safety_checker_state
from zoodip_core.service import worker_registry

router = APIRouter(tags=["service"])


@router.get(
    "/v1/base-models",
    summary="List base models",
    response_model=schemas.BaseModelList,
    responses=problems(),
)
def base_models(caller: Reader) -> Response:
    """Return all base models of the catalog."""
    infos, enabled = [], caller.service.settings.safety_checker
    for entry in caller.service.base_models.catalog.entries:
        facts = caller.service.base_models.complete_facts(entry.name)
        infos.append(
            schemas.BaseModelInfo(
                id=entry.name,
                family=entry.family if facts is None else facts.family,
                precision=str(entry.precisions),
                default=entry.default,
                side_px=None if facts is None else facts.side_px,
                fingerprint=None if facts is None else facts.fingerprint,
                safety_checker=None if facts is None else safety_checker_state(facts.folder, enabled=enabled),
            )
        )
    return serializers.reply(schemas.BaseModelList(data=infos))


@router.get("/livez", summary="Check liveness", response_model=schemas.Liveness, responses=problems())
async def livez() -> Response:
    """Return 200 if this process responds. Needs neither a thread nor the database, which may be busy."""
    return serializers.reply(schemas.Liveness())


@router.get(
    "/readyz",
    summary="Check readiness",
    response_model=schemas.Readiness,
    responses={503: {"model": schemas.Readiness, "description": "No worker is ready"}},
)
def readyz(service: CurrentService) -> Response:
    """Return 200 if a worker is ready: it reports itself, and its engine makes progress.

    Otherwise `waits_for` says what the service waits for, such as the first report of a worker that starts.
    """
    with service.database.read() as connection:
        now = time.time()
        workers = worker_registry.ready(connection, now, service.settings)
        awaited = None if workers else worker_registry.awaited(connection, now, service.settings)
    body = schemas.Readiness(
        status="ok" if workers else "unavailable", workers=len(workers), waits_for=awaited
    )
    return serializers.reply(body, 200 if workers else 503)


@router.get(
    "/metrics",
    summary="Get metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Metrics in Prometheus text format"},
        **problems(),
    },
)
def metrics(request: Request, caller: Admin) -> Response:
    """Return metrics in Prometheus text format. They cover all owners, so a key needs the scope `admin`."""
    return Response(render(caller.service, request.app.state.request_metrics), media_type=CONTENT_TYPE)
