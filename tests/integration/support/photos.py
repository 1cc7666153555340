"""Image files and personalization requests that upload them."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

REQUEST = {"token": "<my-dog>", "initializer": "dog"}


def photo(size: tuple[int, int] = (96, 80), form: str = "PNG", color: str = "teal", **options: Any) -> bytes:
    """Return an encoded image of one color."""
    buffer = BytesIO()
    Image.new("RGB", size, color).save(buffer, form, **options)
    return buffer.getvalue()


def parts(*photos: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Return the `images` parts of a multipart body."""
    return [("images", (f"photo{index}.png", content, "image/png")) for index, content in enumerate(photos)]


def create(
    client: TestClient, *photos: bytes, url: str = "/v1/personalizations", headers: Any = None, **request: Any
) -> Any:
    """Send a personalization request and return the response; `request` overrides its fields."""
    return client.post(
        url,
        files=parts(*(photos or (photo(),))),
        data={"request": json.dumps({**REQUEST, **request})},
        headers=headers,
    )
