"""`python -m benchmarks.speed.startup`: how long the commands and the service take until they answer.

Each reading starts a new process. `zoodip serve` runs with SQLite in an empty data folder, without a broker. Cells
are the median and the range over the repeats, which measure the commands in turns.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine.spread import spread
from benchmarks.engine.waiting import at_least
from benchmarks.quantization.__main__ import print_table
from benchmarks.service.processes import free_port, wait_for

ZOODIP = Path(sys.executable).with_name("zoodip")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.startup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=at_least(1), default=5)
    options = parser.parse_args(arguments)
    readings: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        for command in ("--help", "models"):
            readings.setdefault(f"zoodip {command}", []).append(_command_seconds(command))
        for event, seconds in _service_seconds().items():
            readings.setdefault(f"zoodip serve: {event}", []).append(seconds)
    print_table(("command", "time, s"), [[name, spread(times, ".2f")] for name, times in readings.items()])


def _command_seconds(command: str) -> float:
    started = time.perf_counter()
    subprocess.run([ZOODIP, command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _service_seconds() -> dict[str, float]:
    """Start the service on an empty data folder. Return when the API answers, and when it is ready."""
    port, times = free_port(), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        service = subprocess.Popen(
            [ZOODIP, "serve", "--port", str(port)],
            env=os.environ | {"ZOODIP_DATA_DIR": folder, "ZOODIP_LOG_LEVEL": "WARNING"},
        )
        try:
            for event, path in (("the API answers", "/livez"), ("ready", "/readyz")):
                wait_for(f"http://127.0.0.1:{port}{path}")
                times[event] = time.perf_counter() - started
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
    return times


if __name__ == "__main__":
    main()
