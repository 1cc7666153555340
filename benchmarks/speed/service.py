"""`python -m benchmarks.speed.service`: pictures per second and waiting times of clients, with a real API and worker.

Each client draws one picture after another, with separate seeds. The worker is idle otherwise, or runs searches that
do not end. The embedded model draws on the CPU or on CUDA, as the worker chooses.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import numpy as np

from benchmarks.engine.waiting import at_least
from benchmarks.quantization.__main__ import print_table
from benchmarks.service.parts import SERVICE
from benchmarks.service.processes import api, worker
from benchmarks.service.requests import create_search, demo_photos, wait_for_step

PLACES = ("in the snow", "on the beach", "on grass")
_TIMEOUT_S = 180
_MOST_S = 900
_POLL_S = 0.2  # of a picture that takes longer than a request may wait


@dataclass(frozen=True)
class Load:
    """Waiting times of all pictures of some clients, in seconds, and the duration of the measurement."""

    times_s: Sequence[float]
    seconds: float

    def cells(self) -> list[str]:
        """Return pictures per second, median and 95th percentile."""
        median, late = np.percentile(self.times_s, (50, 95))
        return [f"{len(self.times_s) / self.seconds:.2f}", f"{median:.1f}", f"{late:.1f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.service",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, one_or_more = parser.add_argument, at_least(1)
    add("--clients", type=one_or_more, nargs="+", default=[1, 8, 32], help="numbers of clients")
    add("--searches", type=at_least(0), nargs="+", default=[0, 8], help="numbers of running searches, rising")
    add(
        "--pictures",
        type=one_or_more,
        default=3,
        help="pictures of each client; one alone draws 8 times as many",
    )
    add("--steps", type=one_or_more, default=20, help="denoising steps of a picture")
    options = parser.parse_args(arguments)
    rows = []
    with _service() as port:
        _draw(port, number=0, count=1, steps=options.steps)  # loads the model
        running = 0
        for searches in sorted(options.searches):
            _start_searches(port, range(running, searches))
            running = max(running, searches)
            for clients in options.clients:
                pictures = options.pictures * (8 if clients == 1 else 1)
                load = measure(port, clients=clients, pictures=pictures, steps=options.steps)
                rows.append([str(searches), str(clients), *load.cells()])
                print(*rows[-1], file=sys.stderr, flush=True)
    print_table(("running searches", "clients", "pictures/s", "p50, s", "p95, s"), rows)


@contextmanager
def _service() -> Iterator[int]:
    """Run API and worker; yield the port."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"ZOODIP_DATA_DIR": folder}
        with api(SERVICE, "/livez", environment) as (port, _), worker(port, environment):
            yield port


def _start_searches(port: int, numbers: Sequence[int]) -> None:
    """Start searches that do not end, and wait until all step."""
    made = [
        create_search(port, demo_photos(), token=f"<s{number}>", steps=100_000, n=2) for number in numbers
    ]
    for job in made:
        wait_for_step(port, job["id"], 2)


def measure(port: int, *, clients: int, pictures: int, steps: int) -> Load:
    """Let clients draw this number of pictures each, all clients at once."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        drawn = [
            threads.submit(_draw, port, number=number, count=pictures, steps=steps)
            for number in range(clients)
        ]
        times = [one for future in drawn for one in future.result()]
    return Load(times, time.perf_counter() - started)


def _draw(port: int, *, number: int, count: int, steps: int) -> list[float]:
    """Draw pictures one after another; return the seconds from request to answer.

    Raises:
        RuntimeError: a generation failed, or took 15 minutes.
    """
    times = []
    for seed in range(count):
        body = {
            "prompt": f"a photo of a dog {PLACES[number % 3]}",
            "seed": 1000 * number + seed,
            "steps": steps,
        }
        started = time.perf_counter()
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=_TIMEOUT_S) as client:
            answer = client.post("/v1/generations", json=body, headers={"Prefer": "wait=120"})
            while answer.is_success and answer.json()["status"] in ("queued", "running"):
                if time.perf_counter() - started > _MOST_S:
                    raise RuntimeError(f"the picture was not drawn within {_MOST_S} s")
                time.sleep(_POLL_S)
                answer = client.get(f"/v1/generations/{answer.json()['id']}")
        if not answer.is_success or answer.json()["status"] != "succeeded":
            raise RuntimeError(answer.text)
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
