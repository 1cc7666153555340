"""`/`: the browser page. It needs no API key; its scripts send the key with their requests to `/v1`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from zoodip_core import __version__
from zoodip_core.base_models.scheduler_names import SCHEDULERS
from zoodip_core.images import MAX_IMAGES
from zoodip_core.images.limits import MIN_SIDE_PX

_FILES = "/page-files"
_HEIC = ".heic,.heif," if find_spec("pillow_heif") else ""
_PHOTO_FILES = f"image/*,{_HEIC}.zip"
"""Files that a browser offers to choose. Not every system counts HEIC photos as images."""
_HEADERS = {
    # Pico's form icons are data: images; results are blob: images, because their requests need the key.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _RevalidatedFiles(StaticFiles):
    """Static files that browsers revalidate, so that an upgrade never mixes scripts of two versions."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Return the file with its caching header."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Add the page. Call this after all other routes, because routes are matched in order."""
    html = _render()
    app.mount(_FILES, _RevalidatedFiles(directory=Path(__file__).parent / "static"))

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers=_HEADERS)


def _render() -> str:
    environment = Environment(
        loader=PackageLoader("api.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        version=__version__,
        files=_FILES.lstrip("/"),
        max_images=MAX_IMAGES,
        photo_files=_PHOTO_FILES,
        min_side_px=MIN_SIDE_PX,
        schedulers=sorted(SCHEDULERS),
    )
