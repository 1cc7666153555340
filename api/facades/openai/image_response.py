"""Responses and stream events of `POST /v1/images/generations`."""

from __future__ import annotations

import base64
import time
from io import BytesIO
from typing import Any

from PIL import Image

from api.auth import Caller
from api.facades.drawing import read_images
from api.facades.openai.image_request import ImageRequest
from zoodip_core.service.jobs.records import JobSnapshot

_DEFAULT_QUALITY = 100  # of JPEG and WebP, as in OpenAI's API
# OpenAI's clients require this member. The service counts no tokens.
_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


def image_response(caller: Caller, job: JobSnapshot, body: ImageRequest, base_url: str) -> dict[str, Any]:
    """Return the response body of a succeeded generation.

    Args:
        caller: owner of the generation.
        job: the generation.
        body: the request.
        base_url: URL of the service without a slash at its end, for the URLs of images.
    """
    files = read_images(caller, job)
    revised = job.request["settings"]["prompt"]
    data: list[dict[str, Any]]
    if body.returns_urls:
        data = [{"url": f"{base_url}/v1/generations/{job.id}/images/{k}.png"} for k in range(len(files))]
    else:
        data = [{"b64_json": encoded(png, body)} for png in files]
    if revised != body.prompt:
        data = [{**item, "revised_prompt": revised} for item in data]
    return {**_common(job, body, files[0]), "created": int(time.time()), "data": data, "usage": _USAGE}


def completed_events(caller: Caller, job: JobSnapshot, body: ImageRequest) -> list[dict[str, Any]]:
    """Return the final event of each image of a succeeded generation."""
    return [
        image_event(job, body, png, "image_generation.completed") | {"usage": _USAGE}
        for png in read_images(caller, job)
    ]


def partial_event(job: JobSnapshot, body: ImageRequest, png: bytes, index: int) -> dict[str, Any]:
    """Return the event of a partial image."""
    return image_event(job, body, png, "image_generation.partial_image") | {"partial_image_index": index}


def image_event(job: JobSnapshot, body: ImageRequest, png: bytes, kind: str) -> dict[str, Any]:
    """Return the event of one image."""
    return {
        **_common(job, body, png),
        "type": kind,
        "b64_json": encoded(png, body),
        "created_at": int(time.time()),
        "quality": body.quality or "auto",
    }


def encoded(png: bytes, body: ImageRequest) -> str:
    """Return an image in the requested format, in base64."""
    content = png
    if body.format != "png":
        buffer = BytesIO()
        quality = _DEFAULT_QUALITY if body.output_compression is None else body.output_compression
        Image.open(BytesIO(png)).save(buffer, body.format, quality=quality)
        content = buffer.getvalue()
    return base64.b64encode(content).decode()


def _common(job: JobSnapshot, body: ImageRequest, png: bytes) -> dict[str, Any]:
    width, height = Image.open(BytesIO(png)).size
    return {
        "background": "opaque",
        "output_format": "png" if body.returns_urls else body.format,
        "size": f"{width}x{height}",
        "generation_id": job.id,
        "warnings": job.request["warnings"],
    }
