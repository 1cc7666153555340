"""Keeps an entry in a separate process, with separate memory and threads. Readings are taken on request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any

import torch

from benchmarks.quality.errors import BenchmarkError
from benchmarks.speed.entries import ENTRIES
from benchmarks.speed.reading import Facts, Measured, Reading
from zoodip_core.base_models.catalog import BaseModelEntry


class EntryProcess:
    """An entry in a new process, loaded and warm.

    Raises:
        BenchmarkError: the process ended.
    """

    def __init__(self, name: str, model: BaseModelEntry, device: str, threads: int) -> None:
        task = {"name": name, "model": model.model_dump(mode="json"), "device": device, "threads": threads}
        self._name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.process", json.dumps(task)],
            env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> EntryProcess:
        """Wait until the entry is warm."""
        try:
            self.facts = Facts(**self._answer())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End the process."""
        self._close()

    def read(self, seconds: float) -> Reading:
        """Run steps for at least this time."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the missing answer is the error
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
        return Reading(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            last = (self._errors.read().splitlines() or ["no message"])[-1]
            raise BenchmarkError(f"{self._name}: the process ended with {self._process.wait()}: {last}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def main() -> None:
    """Prepare the entry, print its facts, and print a reading for each line of seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print here
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    measured = Measured(ENTRIES[task["name"]], BaseModelEntry.model_validate(task["model"]), task["device"])
    print(json.dumps(asdict(measured.facts)), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(measured.read(float(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
