"""`python -m benchmarks.service.uploads`: peak memory of the API while many clients upload large photos at once."""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx2
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.service.processes import api

_SIDE_RATIO = 4 / 3
_TIMEOUT_S = 3_600.0
_SAMPLE_S = 0.1


class PeakMemory:
    """Peak resident memory of a process and its children, in MB: the sum of the peaks of all processes."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._peaks: dict[int, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def root_mb(self) -> float:
        """Peak of the process itself."""
        return self._peaks[self._root.pid]

    @property
    def children_mb(self) -> float:
        """Sum of the peaks of its children."""
        return sum(self._peaks.values()) - self.root_mb

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            for process in (self._root, *self._root.children(recursive=True)):
                peak = _peak_mb(process.pid)
                self._peaks[process.pid] = max(peak, self._peaks.get(process.pid, 0.0))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--photos", type=int, default=6, help="photos of each upload")
    parser.add_argument("--megapixels", type=float, default=40.0)
    parser.add_argument("--format", choices=("JPEG", "PNG", "WEBP", "AVIF"), default="JPEG")
    given = parser.parse_args()
    photo = make_photo(given.megapixels, given.format)
    with (
        tempfile.TemporaryDirectory() as folder,
        api("api.app:create_app", "/livez", {"ZOODIP_DATA_DIR": folder}) as (port, process),
        PeakMemory(process.pid) as memory,
        ThreadPoolExecutor(given.clients) as threads,
    ):
        started = time.perf_counter()
        uploads = [
            threads.submit(_upload, port, number, photo, given.photos) for number in range(given.clients)
        ]
        for upload in uploads:
            upload.result()
        seconds = time.perf_counter() - started
    rows = {
        "uploads": f"{given.clients} × {given.photos} {given.format} photos of {given.megapixels:g} megapixels",
        "all accepted within": f"{seconds:.0f} s",
        "peak memory: API + decoders": f"{memory.root_mb:.0f} + {memory.children_mb:.0f} MB",
    }
    table = Table("what", "measured")
    for row in rows.items():
        table.add_row(*row)
    Console(width=130).print(table)
    print(json.dumps(rows))


def make_photo(megapixels: float, image_format: str) -> bytes:
    """Return an encoded photo of smooth gradients with an aspect ratio of 4:3."""
    height = round((megapixels * 1e6 / _SIDE_RATIO) ** 0.5)
    size = (round(height * _SIDE_RATIO), height)
    bands = [Image.radial_gradient("L").rotate(angle).resize(size) for angle in (0, 45, 90)]
    buffer = BytesIO()
    Image.merge("RGB", bands).save(buffer, image_format)
    return buffer.getvalue()


def _upload(port: int, number: int, photo: bytes, photos: int) -> None:
    """Create a personalization; retry while the service is busy."""
    request = json.dumps({"token": f"<t{number}>", "initializer": "dog", "settings": {"steps": 10}})
    files = [("images", (f"{index}.jpg", photo)) for index in range(photos)]
    url = f"http://127.0.0.1:{port}/v1/personalizations"
    while True:
        answer = httpx2.post(url, files=files, data={"request": request}, timeout=_TIMEOUT_S)
        if answer.status_code not in (429, 503):
            answer.raise_for_status()
            return
        time.sleep(float(answer.headers["Retry-After"]))


def _peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = status.partition("VmHWM:")[2].split()
    return int(found[0]) / 1000 if found else 0.0


if __name__ == "__main__":
    main()
