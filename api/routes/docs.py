"""`/docs`: interactive API documentation. A package provides its scripts, so browsers need no other host."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_FILES = "/docs-files"


def install(app: FastAPI) -> None:
    """Add the page. Call this after all other routes, because routes are matched in order."""
    app.mount(_FILES, StaticFiles(packages=[("fastapi_offline", "static")]))
    app.add_api_route("/docs", _page, include_in_schema=False)


def _page(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{root}{request.app.openapi_url}",
        title=request.app.title,
        swagger_js_url=f"{root}{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{root}{_FILES}/favicon.png",
    )
