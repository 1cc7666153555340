"""Façades: APIs of other services, translated to the services behind `/v1`, for the clients that people have."""

from __future__ import annotations

from fastapi import FastAPI

from api.facades import a1111, openai, replicate


def install(app: FastAPI) -> None:
    """Add the routes of all façades. They are not in the OpenAPI document: others have documented these APIs."""
    for router in (*openai.ROUTERS, *a1111.ROUTERS, *replicate.ROUTERS):
        app.include_router(router)
