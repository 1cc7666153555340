"""Stub engine without a model: a search is a step counter with a deterministic vector.

Environment variables control it:

- `STUB_STEP_S`, `STUB_DRAW_S`: duration of a step or a generation, in seconds.
- `STUB_FAULT`: path; while this file exists, `gauges` raises an error.
- `STUB_LOG`: file to which each search appends its job id and first step.
- `STUB_CALLS`: file to which each step and generation appends its name and time.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from worker.engine_protocol import Activity, EncodedImage, JobGeneration, JobSearch
from zoodip_core.artifact import Concept
from zoodip_core.errors import InvalidCheckpointError, LossNotFiniteError, OutOfMemoryError
from zoodip_core.personalization.early_stopping import has_stalled
from zoodip_core.personalization.recovery import Recovery
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings

WIDTH = 32
NAN_SEED = 666  # the loss of a search with this seed becomes NaN at step 5
HUGE_SEED = 667  # a search with this seed runs out of memory
POISON_SEED = 668  # a search with this seed kills its worker in its first step
DEFECT_SEED = 669  # a step of a search with this seed fails with an error that nobody expects


class StubSearch:
    """Search that counts steps; its checkpoint and concept depend only on seed and step."""

    def __init__(self, job: Job, state: bytes | None) -> None:
        self._total = job.total_steps
        search_settings = job.request["settings"]
        self.seed, self._may_stop = int(search_settings["seed"]), search_settings["stop"] == "auto"
        self._token = job.token or ""
        try:
            restored = {"step": 0, "fixed_losses": [1.0]} if state is None else json.loads(state)
        except ValueError as error:
            raise InvalidCheckpointError from error
        self.step, self.fixed_losses = int(restored["step"]), list(restored["fixed_losses"])
        self.rows = self.cells = 2
        self.parameters = 1
        self.activity: Activity = "step"

    @property
    def done(self) -> bool:
        """Whether the search has ended."""
        stalled = self._may_stop and has_stalled(self.fixed_losses, share=self.step / self._total)
        return stalled or self.step >= self._total

    def advance(self) -> Exception | None:
        """Run one step, or end a measurement or a preview."""
        if self.activity == "measure":
            self.fixed_losses.append(1.0 / (1 + min(self.step, 40)))  # falls until step 40
        if self.activity != "step":
            self.activity = "step"
            return None
        if self.seed == NAN_SEED and self.step == 5:
            return LossNotFiniteError("The loss is nan at step 5")
        if self.seed == DEFECT_SEED:
            return IndexError("index 1000 is out of bounds")
        self.step += 1
        return None

    def on_recovery(self, notify: Callable[[Recovery], None]) -> None:
        """Do nothing: a stub search does not recover."""

    def begin_measurement(self) -> None:
        """Measure in the next unit of work."""
        self.activity = "measure"

    def state(self) -> bytes:
        """Return the step and the losses as JSON."""
        return json.dumps({"step": self.step, "fixed_losses": self.fixed_losses}).encode()

    def begin_preview(self) -> None:
        """Draw in the next unit of work."""
        self.activity = "preview"

    def take_preview(self) -> bytes:
        """Return a PNG of one color."""
        return _png(self.seed)

    def concept(self) -> Concept:
        """Return a concept whose vector depends on seed and step."""
        vectors = np.random.default_rng(self.seed + self.step).standard_normal((1, WIDTH)).astype(np.float32)
        return Concept(self._token, "sd1", {"clip": vectors}, fingerprint="0" * 64)


class StubGeneration:
    """Generation whose steps follow the clock; its images have one color."""

    def __init__(self, job: Job, draw_s: float) -> None:
        self._job = job
        self._draw_s = draw_s
        self._began_at = time.monotonic()
        self.step = 0
        self.images: list[EncodedImage] = []
        self.withheld: list[int] = []
        self.units = self.unit_cells = self.parameters = 1
        self.decodes_next = False

    @property
    def done(self) -> bool:
        """Whether the images are drawn."""
        return bool(self.images)

    def advance(self) -> None:
        """Wait for at most 0.02 s; draw all images at the end."""
        elapsed_s = time.monotonic() - self._began_at
        if elapsed_s < self._draw_s:
            self.step = int(self._job.total_steps * elapsed_s / self._draw_s)
            time.sleep(0.02)
            return
        self.step = self._job.total_steps
        settings = self._job.request["settings"]
        seeds = [settings["seed"] + k for k in range(settings["n"])]
        prompts = range(len(self._job.request.get("prompts", [settings["prompt"]])))
        self.images = [EncodedImage(_png(seed), seed, index) for index in prompts for seed in seeds]

    def partial_image(self) -> bytes:
        """Return a PNG of one color."""
        return _png(self._job.request["settings"]["seed"])


class StubEngine:
    """Engine of `StubSearch`; environment variables set its speed and faults."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._step_s = float(os.environ.get("STUB_STEP_S", "0"))
        self._draw_s = float(os.environ.get("STUB_DRAW_S", "0"))
        self._log_path = os.environ.get("STUB_LOG")
        self._fault_path = os.environ.get("STUB_FAULT")
        self._calls_path = os.environ.get("STUB_CALLS")

    def begin(self, job: Job, images: Sequence[bytes], state: bytes | None) -> JobSearch:
        """Start or resume a search, and append its first step to `STUB_LOG`."""
        assert all(image.startswith(b"\x89PNG") for image in images)
        search = StubSearch(job, state)
        if self._log_path:
            with Path(self._log_path).open("a") as log:
                log.write(f"{job.id} {search.step}\n")
        return search

    @property
    def overhead_work(self) -> int:
        """Return 0: a step of the stub has no fixed cost."""
        return 0

    def step(
        self, searches: Sequence[JobSearch], turns: Sequence[tuple[JobGeneration, int]]
    ) -> list[Exception | None]:
        """Run one step of each search, and draw a part of each generation."""
        known = [search for search in searches if isinstance(search, StubSearch)]
        if any(search.activity == "step" for search in known):
            self._record_call("step")
            if any(search.seed == POISON_SEED for search in known):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self._step_s)
        errors = [OutOfMemoryError() if one.seed == HUGE_SEED else one.advance() for one in known]
        for generation, _ in turns:
            assert isinstance(generation, StubGeneration)
            generation.advance()
        return [*errors, *[None] * len(turns)]

    def begin_generation(self, job: Job, concepts: Sequence[tuple[ConceptRecord, Concept]]) -> JobGeneration:
        """Start a generation of `STUB_DRAW_S` seconds."""
        self._record_call("draw")
        return StubGeneration(job, self._draw_s)

    def trim(self) -> None:
        """Do nothing: there are no base models."""

    def _record_call(self, call: str) -> None:
        if self._calls_path:
            with Path(self._calls_path).open("a") as calls:
                calls.write(f"{call} {time.time()}\n")

    def gauges(self) -> dict[str, float]:
        """Return no measurements; raise RuntimeError while the file `STUB_FAULT` exists."""
        if self._fault_path is not None and Path(self._fault_path).exists():
            raise RuntimeError
        return {}


def _png(seed: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), (seed % 256, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()
