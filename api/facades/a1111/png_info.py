"""`png-info`: the metadata of a PNG file that the client sends."""

from __future__ import annotations

import base64
import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.auth import Writer
from api.facades.a1111.errors import A1111Route
from api.facades.a1111.infotext import png_infotext
from api.facades.a1111.png_text import text_chunks
from zoodip_core.errors import InvalidInputError

router = APIRouter(prefix="/sdapi/v1", route_class=A1111Route, include_in_schema=False)

MAX_BODY_BYTES = 8_000_000  # base64 of a file of 6 MB


@router.post("/png-info")
async def png_info(request: Request, caller: Writer) -> dict[str, Any]:
    """Return the infotext and the text chunks of a PNG file, which is not decoded."""
    slots = caller.service.upload_slots
    async with slots.open(caller.owner, is_only_owner=caller.key is None):
        return await slots.run(caller.owner, _read, await _body(request))


async def _body(request: Request) -> bytes:
    """Return the body. It is read here, after the authentication, because it can be large."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes.")
    except ClientDisconnect as error:
        raise HTTPException(400, "The client disconnected.") from error
    return bytes(body)


def _read(body: bytes) -> dict[str, Any]:
    try:
        image = json.loads(body)["image"]
        content = base64.b64decode(image.rpartition(",")[2], validate=True)  # a data URL, or base64 alone
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInputError.mismatch(
            "image", got="another body", expected='{"image": "base64 of a PNG file"}'
        ) from error
    chunks = text_chunks(content)
    return {"info": png_infotext(chunks), "items": chunks, "parameters": {}}
