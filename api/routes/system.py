"""Base models, liveness, readiness, metrics."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from sqlalchemy import text

from api import schemas, serializers
from api.auth import Operator, Reader
from api.metrics import CONTENT_TYPE, render
from api.problems import problems
from api.service import InService
from zoodip_core.service import worker_registry

router = APIRouter(tags=["service"])


@router.get("/v1/base-models", response_model=schemas.BaseModelList, responses=problems())
def base_models(caller: Reader) -> Response:
    """The catalogue."""
    infos = []
    for entry in caller.service.base_models.catalog.entries:
        facts = caller.service.base_models.whole(entry.name)
        infos.append(
            schemas.BaseModelInfo(
                id=entry.name,
                family=entry.family if facts is None else facts.family,
                precision=entry.precision,
                default=entry.default,
                side_px=None if facts is None else facts.side_px,
                fingerprint=None if facts is None else facts.fingerprint,
            )
        )
    return serializers.reply(schemas.BaseModelList(data=infos))


@router.get("/livez", response_model=schemas.Health, responses=problems())
def livez(service: InService) -> Response:
    """200 while this process answers and its database does."""
    with service.database.read() as connection:
        connection.execute(text("SELECT 1"))
    return serializers.reply(schemas.Health(status="ok"))


@router.get(
    "/readyz",
    response_model=schemas.Health,
    responses={503: {"model": schemas.Health, "description": "No worker looks for work"}},
)
def readyz(service: InService) -> Response:
    """200 once a worker consumes: it looked for work within the last lease, however long that process exists."""
    with service.database.read() as connection:
        workers = worker_registry.consuming(connection, time.time(), service.settings.lease_s)
    status: int = 200 if workers else 503
    body = schemas.Health(status="ok" if workers else "unavailable", workers=len(workers))
    return serializers.reply(body, status)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "All metrics"}, **problems()},
)
def metrics(request: Request, caller: Operator) -> Response:
    """Prometheus' text format. They tell of every owner's jobs, so a key needs the scope `admin`."""
    return Response(render(caller.service, request.app.state.requests), media_type=CONTENT_TYPE)
