"""Requests of the measurements, as a client sends them."""

from __future__ import annotations

import json
import time
from io import BytesIO
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image

_DEMO = Path(__file__).parents[2] / "zoodip_core/assets/demo"


def new_photo(width: int, height: int, *, noise: bool = False) -> bytes:
    """Return a JPEG file of noise or of one gray."""
    random = np.random.default_rng(0)
    pixels = (
        random.integers(0, 256, (height, width, 3), np.uint8)
        if noise
        else np.full((height, width, 3), 99, np.uint8)
    )
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def demo_photos() -> list[bytes]:
    """Return the reference images of the demo."""
    return [path.read_bytes() for path in sorted(_DEMO.glob("reference-*.png"))]


def create_search(
    port: int,
    photos: list[bytes],
    *,
    token: str = "<bench>",  # noqa: S107 (a concept's token)
    **settings: object,
) -> dict[str, str]:
    """Create a personalization; return the answer."""
    request = json.dumps({"token": token, "initializer": "dog", "settings": settings})
    files = [("images", (f"{k}.jpg", photo)) for k, photo in enumerate(photos)]
    url = f"http://127.0.0.1:{port}/v1/personalizations"
    answer = httpx2.post(url, files=files, data={"request": request}, timeout=120)
    answer.raise_for_status()
    made: dict[str, str] = answer.json()
    return made


def time_of_preview(port: int, job_id: str) -> float:
    """Return the time at which the first preview of a personalization is reported."""
    with httpx2.stream(
        "GET", f"http://127.0.0.1:{port}/v1/personalizations/{job_id}/events", timeout=120
    ) as answer:
        for line in answer.iter_lines():
            if line == "event: preview":
                break
    return time.perf_counter()


def wait_until_done(port: int, job_id: str) -> None:
    """Read the events of a personalization until it has ended."""
    with httpx2.stream(
        "GET", f"http://127.0.0.1:{port}/v1/personalizations/{job_id}/events", timeout=300
    ) as answer:
        for _ in answer.iter_lines():
            continue


def wait_for_step(port: int, job_id: str, step: int) -> None:
    """Wait until a personalization has completed this many steps."""
    url = f"http://127.0.0.1:{port}/v1/personalizations/{job_id}"
    while httpx2.get(url).json()["step"] < step:
        time.sleep(0.05)


def generation_s(port: int, prompt: str) -> float:
    """Return the seconds of the fastest of five generations."""
    times = []
    for seed in range(5):
        started = time.perf_counter()
        body = {"prompt": prompt, "seed": seed}
        url = f"http://127.0.0.1:{port}/v1/generations"
        answer = httpx2.post(url, json=body, headers={"Prefer": "wait=120"}, timeout=130)
        if answer.status_code != 200 or answer.json()["status"] != "succeeded":
            raise RuntimeError(answer.text)
        times.append(time.perf_counter() - started)
    return min(times)
