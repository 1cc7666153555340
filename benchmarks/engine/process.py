"""Measure one configuration in a separate process, with separate memory peaks and threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.engine.job import JobFigures, measure_job
from benchmarks.engine.measure import Figures, measure
from zoodip_core.base_models.catalog import BaseModelEntry


def measure_apart(
    entry: BaseModelEntry,
    *,
    n: int,
    steps: int,
    device: str,
    threads: int,
    dequantized_mb: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Figures:
    """Run `measure` in a new process; `environment` overrides that of this process."""
    task = {"entry": entry.model_dump(mode="json"), "n": n, "steps": steps, "device": device}
    task["dequantized_mb"] = dequantized_mb
    return Figures(**_run(task, threads, environment or {}))


def measure_job_apart(entry: BaseModelEntry, *, n: int, device: str, threads: int) -> JobFigures:
    """Run `measure_job` in a new process."""
    task = {"entry": entry.model_dump(mode="json"), "n": n, "device": device}
    return JobFigures(**_run(task, threads, {}))


def _run(task: Mapping[str, Any], threads: int, environment: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine.process", json.dumps(task)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)} | dict(environment),
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure in the new process, and print one JSON object. A task without steps is a whole job."""
    task = json.loads(sys.argv[1])
    entry = BaseModelEntry.model_validate(task.pop("entry"))
    figures = measure(entry, **task) if "steps" in task else measure_job(entry, **task)
    print(json.dumps(figures.__dict__))


if __name__ == "__main__":
    main()
