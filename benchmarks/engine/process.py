"""Measure one configuration in a separate process, with separate memory peaks and threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.engine.measure import Figures, measure
from zoodip_core.base_models.catalog import BaseModelEntry


def measure_apart(
    entry: BaseModelEntry,
    *,
    n: int,
    steps: int,
    device: str,
    threads: int,
    environment: Mapping[str, str] | None = None,
) -> Figures:
    """Run `measure` in a new process; `environment` overrides that of this process."""
    task = {"entry": entry.model_dump(mode="json"), "n": n, "steps": steps, "device": device}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine.process", json.dumps(task)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)} | dict(environment or {}),
        check=True,
        capture_output=True,
        text=True,
    )
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure in the new process, and print one JSON object."""
    task = json.loads(sys.argv[1])
    entry = BaseModelEntry.model_validate(task["entry"])
    figures = measure(entry, device=task["device"], n=task["n"], steps=task["steps"])
    print(json.dumps(figures.__dict__))


if __name__ == "__main__":
    main()
